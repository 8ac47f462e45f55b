"""A process that answers: `main` is what it runs.

In: over a connection, how to open the bundle, then tasks. Out: the fields of each row, as soon as
it is answered. It ends when its parent closes the connection, or ends. Where rows go to is not
known here.
"""

import logging
import os
import sys
import threading
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from edge_et.batch.answering import RowAnswerer
from edge_et.bundle import load_bundle
from edge_et.errors import EdgeETError
from edge_et.options import parse_load_options
from edge_et.pipeline import load, prepare

READY: Final = "ready"
DONE: Final = "done"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """How a worker opens the bundle.

    Attributes:
        folder: the bundle's.
        load_options: keywords of `edge_et.load`.
        options: of every call, by name.
        prepares: whether what makes loads faster is made before.
    """

    folder: Path
    load_options: dict[str, Any]
    options: dict[str, Any]
    prepares: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """The rows about one picture.

    Attributes:
        sha256: of the picture.
        picture: a path, or the bytes of a file.
        rows: numbers and questions.
        died_at: a row at which a worker died; None: none did.
    """

    sha256: str
    picture: Any
    rows: tuple[tuple[int, Any], ...]
    died_at: int | None = None


def main() -> None:
    """Answer tasks until the parent wants no more."""
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    with Connection(int(sys.argv[1])) as connection:
        try:
            opening: Opening = connection.recv()
            if opening.prepares:
                _prepare(opening)
            pipe = load(opening.folder, **opening.load_options)
        except (EdgeETError, OSError, MemoryError) as err:
            connection.send(err)
            return
        with pipe:
            answerer = RowAnswerer(pipe, opening.options)
            connection.send(READY)
            try:
                while True:
                    task: Task = connection.recv()
                    for number, question in task.rows:
                        fields = answerer.answer(task.picture, question, task.sha256)
                        connection.send((number, fields))
                    connection.send(DONE)
            except (EOFError, OSError):  # the parent has closed its end
                return


def _prepare(opening: Opening) -> None:
    """Make what loads use from then on, so that all workers, and later runs, round alike."""
    try:
        prepare(load_bundle(opening.folder), parse_load_options(opening.load_options))
    except (EdgeETError, OSError, MemoryError) as err:
        logger.warning("nothing is prepared: %s", err)


def _end_with_the_parent() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(1)
