"""One row: a picture and a question in, the fields of an answer out.

In: an open pipeline, a picture, a question. Out: plain values; an error is one of them. Where rows
come from and go to is not known here.
"""

import logging
from collections.abc import Mapping
from time import perf_counter
from typing import Any, Final

import msgspec

from edge_et.errors import EdgeETError
from edge_et.image import ImageSource
from edge_et.options import parse_options
from edge_et.pipeline import ExtractThink, Session

OF_ANSWER: Final = (
    "text",
    "extraction",
    "reasoning",
    "details",
    "value",
    "shares",
    "logprobs",
    "confidence",
    "finish_reasons",
)
"""The fields that a row has of an answer; see `edge_et.Answer`. After an error they are null."""

FIELDS: Final = ("row", *OF_ANSWER, "seconds", "picture_sha256", "error")
"""What a row of the output has beside the columns of the input."""

_OF_PICTURE: Final = ("max_tiles", "pooling")

logger = logging.getLogger(__name__)


class RowAnswerer:
    """Answers rows; a picture that is the one before again is not encoded again."""

    def __init__(self, pipe: ExtractThink, options: Mapping[str, object] | None = None) -> None:
        """Begin without a picture.

        Args:
            pipe: an open pipeline.
            options: of every call, by name, as for `edge_et.answer`.

        Raises:
            OptionError: one of them is unknown or out of its range.
        """
        given = msgspec.structs.asdict(parse_options(options or {}))
        self._of_picture = {name: given.pop(name) for name in _OF_PICTURE}
        self._of_question = given
        self._pipe = pipe
        self._session: Session | None = None
        self._sha256: str | None = None

    def answer(self, image: ImageSource, question: str, sha256: str) -> dict[str, Any]:
        """Answer one question.

        Args:
            image: as for `edge_et.answer`, but one.
            question: one or more sentences.
            sha256: tells the picture from others; any text that does.

        Returns:
            `OF_ANSWER` as `Answer.to_dict` has them, None after an error; ``seconds``,
            ``picture_sha256``, and ``error``: None, or its ``type`` and ``message``. Plain values,
            ready for JSON.
        """
        started = perf_counter()
        try:
            if self._session is None or self._sha256 != sha256:
                self._session = None
                self._session = self._pipe.session(image, **self._of_picture)
                self._sha256 = sha256
            answer = self._session.answer(question, **self._of_question).to_dict()
        except Exception as err:
            if not isinstance(err, EdgeETError | MemoryError):
                logger.exception("a row failed by a fault of edge-et")
            return failed(err, sha256, perf_counter() - started)
        return {
            **{name: answer[name] for name in OF_ANSWER},
            "seconds": round(perf_counter() - started, 3),
            "picture_sha256": sha256,
            "error": None,
        }


def failed(err: Exception, sha256: str | None, seconds: float = 0.0) -> dict[str, Any]:
    """Return the fields of a row that has an error instead of an answer.

    Args:
        err: what was raised.
        sha256: of the picture; None: it could not be read.
        seconds: how long that took.
    """
    return {
        **dict.fromkeys(OF_ANSWER),
        "seconds": round(seconds, 3),
        "picture_sha256": sha256,
        "error": {"type": type(err).__name__, "message": str(err)},
    }
