"""A subject of the benchmark: it answers both questions about the picture by forced decoding.

In: a `Job`. Out: a `Heard` for each question. `edge_et.benchmarks.runtime` has the runtime itself,
`edge_et.benchmarks.rivals` other programs; `edge_et.benchmarks.engines` lists them all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from msgspec import Struct

from edge_et.benchmarks.document import OpenedModel, Tokens, Work


class Job(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What one process is to do.

    Attributes:
        bundle: its folder.
        engine: a key of `edge_et.benchmarks.engines.ENGINES`.
        threads: threads of tower and language models.
        reuse: whether anything is kept from stage to stage and from question to question.
        warm: whether two questions about the picture are measured behind a pass that does not
            count, or the first one alone, with import and load.
        work: the same for every configuration.
        llama_server: path of the program; None: there is none.
        cache_dir: a folder for what survives the process; None: nothing does.
    """

    bundle: str
    engine: str
    threads: int
    reuse: bool
    warm: bool
    work: Work
    llama_server: str | None = None
    cache_dir: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """One answer, as a program hears it; times are those of `perf_counter`, seconds.

    Attributes:
        asked: when the question was put.
        seconds: phases before the prefill that can be told apart: image and vision, or none; they
            began at `asked`.
        extraction: when each token of stage 1 came.
        thinking: when each token of stage 2 came that stands before the answer.
        answered: when the last token of the answer was there.
        tokens: how much work it was.
    """

    asked: float
    seconds: Mapping[str, float]
    extraction: Sequence[float]
    thinking: Sequence[float]
    answered: float
    tokens: Tokens


class Subject(Protocol):
    """Something opened over a bundle."""

    @property
    def versions(self) -> Mapping[str, str]:
        """Versions of programs that take part, by name; those of packages are known anyway."""

    @property
    def models(self) -> Sequence[OpenedModel]:
        """Language models as they were opened; empty where another program did it."""

    def ask(self, question: str, *, fresh: bool) -> Heard:
        """Answer a question about the picture of the work.

        Args:
            question: the question.
            fresh: whether nothing may be found in a cache, as if the picture were a new one.
                Emptying the caches is no part of the answer's time.

        Raises:
            EdgeETError: it cannot.
        """

    def peak_memory_bytes(self) -> int:
        """Return the most resident memory that the process which does the work had so far."""

    def close(self) -> None:
        """End it."""
