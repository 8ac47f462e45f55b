"""Many pictures and questions, answered in one run that can be killed and gone on with.

In: folders, patterns, pictures and tables (CSV, JSON Lines, Parquet), and a bundle's name. Out: a
file of JSON Lines or Parquet with a row for each row of the input. Equal pictures are encoded once,
and processes of their own answer. How a command line tells of it is not known here. pyarrow is
imported when Parquet is read or written.
"""

from edge_et.batch.answering import RowAnswerer, failed
from edge_et.batch.parquet import answer_cell, answer_types, import_pyarrow
from edge_et.batch.pictures import sha256_of
from edge_et.batch.run import BatchProgress, BatchSummary, answer_all, value_type

__all__ = [
    "BatchProgress",
    "BatchSummary",
    "RowAnswerer",
    "answer_all",
    "answer_cell",
    "answer_types",
    "failed",
    "import_pyarrow",
    "sha256_of",
    "value_type",
]
