"""What a second context buys, and how soon a call ends that is cancelled.

In: a bundle. Out: seconds until an urgent question begins beside one that is being answered, until
a cancelled call has ended, and the throughput of two contexts beside one. It runs in this process:
what is measured are moments within calls, not loads or memory.
"""

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
from msgspec import Struct
from PIL import Image
from rich.console import Console
from rich.table import Table

from edge_et.benchmarks.document import Machine
from edge_et.benchmarks.picture import draw_picture
from edge_et.benchmarks.sensors import describe_machine
from edge_et.bundle import Bundle
from edge_et.cancellation import CancelToken
from edge_et.errors import BenchError, CancelledError
from edge_et.keywords import OptionValues
from edge_et.pipeline import ExtractThink, load
from edge_et.results import Progress

MOMENTS = {
    "encode": ("vision", "encode"),
    "prefill": ("extract", "prefill"),
    "extract": ("extract", "decode"),
    "think": ("think", "decode"),
}
"""Of a call, by name: what its progress says."""

_QUESTION = "How many red things are there, and where?"
_URGENT = "Is somebody at the door?"
_PATIENCE_S = 600.0
_LEAST_WAIT_S = 1e-6
_WORK: OptionValues = {
    "max_extraction_tokens": 32,
    "max_thinking_tokens": 48,
    "max_answer_tokens": 8,
}


class Samples(Struct, frozen=True, kw_only=True):
    """One figure.

    Attributes:
        measure: what it is.
        moment: of the call beside it, or of the call itself; empty where it is a whole one.
        seconds: all samples.
    """

    measure: str
    moment: str
    seconds: tuple[float, ...]


class ConcurrencyDocument(Struct, frozen=True, kw_only=True):
    """What was measured.

    Attributes:
        bundle: name and version.
        machine: where.
        threads: of the models.
        samples: all figures.
        throughput: questions a second of two contexts, by those of one; each of two callers.
    """

    bundle: str
    machine: Machine
    threads: int | None
    samples: tuple[Samples, ...]
    throughput: tuple[float, ...]


def measure_concurrency(
    bundle: Bundle, *, threads: int | None, samples: int, progress: Callable[[str, int, int], None]
) -> ConcurrencyDocument:
    """Measure.

    Args:
        bundle: what is loaded, once with one context and once with two.
        threads: of the models; None: all CPUs of this process.
        samples: of every figure.
        progress: is told what is measured, and how much of it.
    """
    taken: list[Samples] = []
    with TemporaryDirectory() as folder:
        pictures = _pictures(Path(folder), samples)
        work = len(MOMENTS) * 2 + 1
        with load(bundle.folder, threads=threads, contexts=2) as pipe:
            for number, moment in enumerate(MOMENTS):
                progress(f"an urgent question during {moment}", number, work)
                taken.append(_urgent(pipe, moment, pictures, samples))
            for number, moment in enumerate(MOMENTS, len(MOMENTS)):
                progress(f"cancelling during {moment}", number, work)
                taken.append(_cancelled(pipe, moment, pictures, samples))
        progress("throughput", work - 1, work)
        throughput = tuple(_throughput(bundle, threads, pictures, samples))
    return ConcurrencyDocument(
        bundle=f"{bundle.manifest.name} {bundle.manifest.version}",
        machine=describe_machine(),
        threads=threads,
        samples=tuple(taken),
        throughput=throughput,
    )


def print_concurrency(document: ConcurrencyDocument, console: Console) -> None:
    """Print a document as tables, in milliseconds."""
    machine = document.machine
    console.print(f"{document.bundle}; {machine.cpu}, {machine.cores} cores", highlight=False)
    table = Table("until", "during", "median ms", "most ms")
    for one in document.samples:
        figures = (f"{1000 * value:.1f}" for value in (median(one.seconds), max(one.seconds)))
        table.add_row(one.measure, one.moment, *figures)
    console.print(table)
    ratio = median(document.throughput)
    console.print(
        f"throughput of two contexts, by that of one: {ratio:.3f} "
        f"({min(document.throughput):.3f} to {max(document.throughput):.3f})",
        highlight=False,
    )


class _Beside:
    """A call in a thread of its own, of which it is known how far it is."""

    def __init__(self, pipe: ExtractThink, picture: Path, moment: str) -> None:
        self.cancel = CancelToken()
        self.ended_at = 0.0
        self.was_cancelled = False
        self._moment = MOMENTS[moment]
        self._reached = threading.Event()
        self._thread = threading.Thread(target=self._ask, args=(pipe, picture))
        self._thread.start()

    def wait_for_moment(self) -> None:
        """Return when the call is at the moment, some way into a step."""
        self._reached.wait(_PATIENCE_S)

    def end(self) -> None:
        """Wait for the end of the call."""
        self._thread.join(_PATIENCE_S)

    def _ask(self, pipe: ExtractThink, picture: Path) -> None:
        try:
            pipe.answer(picture, _QUESTION, cancel=self.cancel, on_progress=self._note, **_WORK)
        except CancelledError:
            self.was_cancelled = True
        self.ended_at = time.perf_counter()

    def _note(self, progress: Progress) -> None:
        if (progress.stage, progress.phase) == self._moment:
            self._reached.set()


def _urgent(pipe: ExtractThink, moment: str, pictures: Sequence[Path], samples: int) -> Samples:
    """Measure how long an urgent question about a known picture waits for its first step."""
    known = pipe.encode_image(pictures[-1])
    seconds = []
    for number in range(samples):
        pipe.clear()
        beside = _Beside(pipe, pictures[number], moment)
        beside.wait_for_moment()
        time.sleep(0.01 + 0.01 * number / samples)
        begun: list[float] = []
        asked_at = time.perf_counter()
        pipe.answer(
            known,
            _URGENT,
            priority=1,
            on_progress=lambda _: begun.append(time.perf_counter()),  # noqa: B023
            **_WORK,
        )
        seconds.append(begun[0] - asked_at)
        beside.end()
    return Samples(measure="an urgent question begins", moment=moment, seconds=tuple(seconds))


def _cancelled(pipe: ExtractThink, moment: str, pictures: Sequence[Path], samples: int) -> Samples:
    """Measure how long a call goes on after it was cancelled."""
    seconds: list[float] = []
    wait_s = 0.02
    for picture in itertools.cycle(pictures[:samples]):
        pipe.clear()
        beside = _Beside(pipe, picture, moment)
        beside.wait_for_moment()
        time.sleep(wait_s)
        cancelled_at = time.perf_counter()
        beside.cancel.cancel()
        beside.end()
        if beside.was_cancelled:
            seconds.append(beside.ended_at - cancelled_at)
        else:  # it was over already
            wait_s /= 2
        if len(seconds) == samples:
            break
        if wait_s < _LEAST_WAIT_S:
            raise BenchError(f"calls end before they can be cancelled during {moment}")
    return Samples(measure="a cancelled call has ended", moment=moment, seconds=tuple(seconds))


def _throughput(
    bundle: Bundle, threads: int | None, pictures: Sequence[Path], samples: int
) -> Iterator[float]:
    """Compare two callers of two contexts with the same questions one by one, in turns."""
    with (
        load(bundle.folder, threads=threads) as one,
        load(bundle.folder, threads=threads, contexts=2) as two,
        ThreadPoolExecutor(2) as callers,
    ):
        asked = [*pictures[:2], *pictures[:2]]

        def ask(pipe: ExtractThink, picture: Path) -> None:
            pipe.answer(picture, _QUESTION, **_WORK)

        for number in range(samples + 1):
            one.clear()
            start = time.perf_counter()
            for picture in asked:
                ask(one, picture)
            alone_s = time.perf_counter() - start
            two.clear()
            start = time.perf_counter()
            list(callers.map(lambda picture: ask(two, picture), asked))
            together_s = time.perf_counter() - start
            if number:  # the first one reads the weights from the disk
                yield alone_s / together_s


def _pictures(folder: Path, count: int) -> list[Path]:
    """Draw pictures that differ, so that none is known from before."""
    drawn = np.asarray(Image.open(draw_picture(folder / "picture.png")))
    paths = [folder / f"{number}.png" for number in range(count + 2)]
    for number, path in enumerate(paths):
        Image.fromarray(np.roll(drawn, 20 * number, axis=1)).save(path)
    return paths
