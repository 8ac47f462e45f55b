"""Many pictures and questions, answered in one run that can be killed and gone on with.

In: folders, patterns, pictures and tables (CSV, JSON Lines, Parquet), and a bundle's name. Out: a
file of JSON Lines or Parquet with a row for each row of the input. Equal pictures are encoded once,
and processes of their own answer. How a command line tells of it is not known here. pyarrow is
imported when Parquet is read or written.
"""

from edge_et.batch.answering import RowAnswerer
from edge_et.batch.run import BatchProgress, BatchSummary, answer_all

__all__ = ["BatchProgress", "BatchSummary", "RowAnswerer", "answer_all"]
