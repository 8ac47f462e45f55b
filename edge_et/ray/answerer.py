"""What answers rows in an actor of Ray, where a bundle is loaded once.

In: tables of Arrow. Out: the same rows, in the same order, with the fields of an answer; questions
about one picture follow one another. Where the rows come from, and which of them meet here, is not
known.
"""

import logging
import os
from pathlib import Path
from time import perf_counter
from typing import Any, Final, Unpack

from edge_et.batch import (
    RowAnswerer,
    answer_cell,
    answer_types,
    failed,
    import_pyarrow,
    sha256_of,
    value_type,
)
from edge_et.bundle import find_bundle, load_bundle
from edge_et.errors import EdgeETError, ImageError
from edge_et.keywords import OptionValues, with_options
from edge_et.options import parse_options
from edge_et.pipeline import load, prepare
from edge_et.ray.library import import_ray

IMAGE: Final = "image"
QUESTION: Final = "question"

logger = logging.getLogger(__name__)


class Answerer:
    """Answers tables of rows; Ray Data makes one in each actor of its `map_batches`."""

    @with_options
    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        *,
        image: str = IMAGE,
        question: str = QUESTION,
        ask: str | None = None,
        **options: Unpack[OptionValues],
    ) -> None:
        """Load the bundle, with as many threads as Ray has given CPUs to the actor.

        Args:
            model: as for `edge_et.load`, on the machine of the actor.
            image: the column of pictures: paths on the machine of the actor, or bytes of files.
            question: the column of questions.
            ask: the question of all rows; None: each row has its own.
            options: as for `edge_et.answer`.

        Raises:
            EdgeETError: as for `edge_et.load`.
        """
        self._options = parse_options(options)
        self._image, self._question, self._ask = image, question, ask
        folder = find_bundle(model)
        _prepare(folder)
        self._rows = RowAnswerer(load(folder, threads=_own_cpus()), options)

    def __call__(self, table: Any) -> Any:
        """Answer the rows of a table.

        Args:
            table: a `pyarrow.Table` with the columns.

        Returns:
            It with columns for what `edge-et batch` tells of a row, where there is no answer null.
        """
        pictures = table.column(self._image)
        questions = None if self._ask is not None else table.column(self._question)
        answers: list[dict[str, Any]] = [{}] * len(pictures)
        for rows in _rows_by_picture(pictures):
            picture = pictures[rows[0]].as_py()
            asked = [self._ask if questions is None else questions[row].as_py() for row in rows]
            for row, answer in zip(rows, self._answers(picture, asked), strict=True):
                answers[row] = answer
        pa = import_pyarrow()
        for name, kind in answer_types(value_type(self._options)).items():
            field = pa.field(name, kind)
            cells = [answer_cell(answer[name], field) for answer in answers]
            table = table.append_column(field, pa.array(cells, kind))
        return table

    def _answers(self, picture: Any, questions: list[Any]) -> list[dict[str, Any]]:
        """Answer the questions about one picture."""
        started = perf_counter()
        try:
            sha256 = sha256_of(picture)
        except ImageError as err:
            return [failed(err, None, perf_counter() - started) for _ in questions]
        return [self._rows.answer(picture, question, sha256) for question in questions]


def _prepare(folder: Path) -> None:
    """Make now what is made behind first answers otherwise: it rounds differently."""
    try:
        prepare(load_bundle(folder))
    except (EdgeETError, OSError, MemoryError) as err:
        logger.warning("nothing is prepared: %s", err)


def _own_cpus() -> int:
    """Return the whole CPUs that Ray has given this actor, as it counts them for OpenMP."""
    given = import_ray().get_runtime_context().get_assigned_resources()
    return max(1, int(given.get("CPU", 1)))


def _rows_by_picture(pictures: Any) -> list[list[int]]:
    """Return the numbers of rows by their pictures, in the order of each picture's first row."""
    found: dict[object, list[int]] = {}
    for row, picture in enumerate(pictures):
        value = picture.as_py()
        key = sha256_of(value).encode() if isinstance(value, bytes) else value
        found.setdefault(key if isinstance(key, str | bytes) else row, []).append(row)
    return list(found.values())
