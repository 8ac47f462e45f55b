"""Measure latency: fresh processes for each configuration, all with the same work.

In: a bundle and what is to be done with it. Out: a `Document`.
"""

import functools
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

from edge_et.benchmarks.bounds import describe_bundle, measure_bounds
from edge_et.benchmarks.compare_documents import is_same_work
from edge_et.benchmarks.document import Document, Work
from edge_et.benchmarks.picture import DRAWN_SIZE, draw_picture, drawn_name
from edge_et.benchmarks.rounds import Rounds
from edge_et.benchmarks.sensors import commit, describe_machine, versions
from edge_et.benchmarks.subject import Job
from edge_et.bundle import Bundle, file_ref
from edge_et.errors import BenchError
from edge_et.export.steps import Progress, no_progress
from edge_et.image import load_image
from edge_et.options import EngineName
from edge_et.threads import choose_threads

QUESTIONS = ("What is the shape in the middle?", "How many colours are there, and which?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """One configuration to measure.

    Attributes:
        key: for the command line.
        name: for tables.
        note: what it does.
        engine: a key of `edge_et.benchmarks.engines.ENGINES`.
        reuse: whether anything is kept from stage to stage and from question to question; rivals
            do it their own way.
        restarts: whether something survives the process, so that a restart is worth measuring.
    """

    key: str
    name: str
    note: str
    engine: str
    reuse: bool
    restarts: bool = False


RUNTIME = Setup(
    key="edge-et",
    name="edge-et",
    note="this runtime as it is loaded where nobody names an engine, caches kept",
    engine="edge-et",
    reuse=True,
    restarts=True,
)

RUNTIMES = (
    RUNTIME,
    *(
        Setup(
            key=engine,
            name=f"edge-et, {engine}",
            note=f"this runtime loaded with engine={engine!r}, caches kept",
            engine=engine,
            reuse=True,
            restarts=True,
        )
        for engine in get_args(EngineName)
    ),
)
"""This runtime as it chooses its engine, and with each one."""

BASELINES = (
    Setup(
        key="reuse-off",
        name="edge-et, reuse off",
        note="the first one again, all caches emptied between stages and questions",
        engine="edge-et",
        reuse=False,
    ),
    Setup(
        key="torch",
        name="PyTorch float32",
        note=(
            "transformers runs the language models in float32, dequantized from the same files "
            "while they load, and keeps nothing between stages and questions, as generate() does "
            "not; the vision tower runs in ONNX Runtime as in the others"
        ),
        engine="torch-float32",
        reuse=False,
    ),
    Setup(
        key="torch-bf16",
        name="PyTorch bfloat16",
        note="the same in bfloat16, loaded as float32 first; processors with instructions for it",
        engine="torch-bfloat16",
        reuse=False,
    ),
    Setup(
        key="mtmd",
        name="llama-cpp-python MTMD",
        note=(
            "MTMDChatHandler in one process: the tower in llama.cpp, Q8_0; flash attention on, "
            "batches of 512; it reads the whole conversation in every call, picture included"
        ),
        engine="mtmd",
        reuse=True,
    ),
    Setup(
        key="llama-server",
        name="llama-server",
        note=(
            "over HTTP on this machine: the tower in llama.cpp, Q8_0; one slot with its prompt "
            "cache, flash attention as it chooses itself, no warm-up; load is from its start until "
            "it answers /health"
        ),
        engine="llama-server",
        reuse=True,
    ),
    Setup(
        key="openvino-int8",
        name="OpenVINO GenAI int8",
        note=(
            "VLMPipeline on other random weights of the same dimensions, matrices of language "
            "model and tower in int8, with its own settings, which keep the KV cache; the tower "
            "runs for every question"
        ),
        engine="openvino-int8",
        reuse=True,
    ),
    Setup(
        key="openvino-int4",
        name="OpenVINO GenAI int4",
        note=(
            "the same; matrices of the language model's layers in int4, its embeddings and the "
            "tower in int8"
        ),
        engine="openvino-int4",
        reuse=True,
    ),
)


def run_latency(
    bundle: Bundle,
    *,
    threads: int | None,
    samples: int,
    extraction_tokens: int,
    thinking_tokens: int,
    answer_tokens: int,
    picture: Path | None = None,
    drawn_size: tuple[int, int] = DRAWN_SIZE,
    runtimes: Sequence[Setup] = (RUNTIME,),
    baselines: Sequence[Setup] = BASELINES,
    busy: int = 0,
    expected: Document | None = None,
    llama_server: Path | None = None,
    arguments: Sequence[str] = (),
    progress: Progress = no_progress,
) -> Document:
    """Measure a bundle.

    Args:
        bundle: the bundle.
        threads: as for `edge_et.load`, without a profile.
        samples: of every figure, at least 1; each takes processes of its own.
        extraction_tokens: to write in stage 1, at least 2.
        thinking_tokens: to write in stage 2 before the answer, at least 2.
        answer_tokens: to write as the answer, at least 1.
        picture: a file; None: one is drawn here.
        drawn_size: its width and height, pixels.
        runtimes: of `RUNTIMES`, at least one; the first one has to be measurable.
        baselines: measured behind them; reuse is turned off for the first of them.
        busy: processes beside which warm answers are measured once more; 0: they are not.
        expected: what is measured has to be the same work with as many threads; None: it is any.
        llama_server: the program that is a baseline of this name; None: there is none.
        arguments: of the command line, for the document.
        progress: told what is measured.

    Raises:
        OptionError: `threads` is out of its range.
        ImageError: the picture cannot be used; a child says why.
        BenchError: this runtime itself cannot be measured, or is not what is expected.
    """
    threads = choose_threads(threads)
    machine = describe_machine()
    setups = (
        *runtimes,
        *(
            replace(setup, engine=runtimes[0].engine) if setup.engine == RUNTIME.engine else setup
            for setup in baselines
        ),
    )
    with tempfile.TemporaryDirectory(prefix="edge-et-bench-") as folder:
        if picture is None:
            picture = draw_picture(Path(folder) / drawn_name(drawn_size), drawn_size)
        load_image(picture)  # to be refused here rather than in every process
        work = Work(
            picture=str(picture),
            picture_sha256=file_ref(picture).sha256,
            questions=QUESTIONS,
            extraction_tokens=extraction_tokens,
            thinking_tokens=thinking_tokens,
            answer_tokens=answer_tokens,
        )
        if expected is not None:
            _check_expected(expected, work, threads)

        def new_rounds(setup: Setup) -> Rounds:
            job = Job(
                bundle=str(bundle.folder),
                engine=setup.engine,
                threads=threads,
                reuse=setup.reuse,
                warm=True,
                work=work,
                llama_server=None if llama_server is None else str(llama_server),
            )
            return Rounds(
                name=setup.name,
                note=setup.note,
                job=job,
                cache_dir=Path(folder) / setup.key if setup.restarts else None,
                busy=busy,
            )

        total = samples * len(setups) + 1
        progress("bounds of the machine", 0, total)
        bounds = measure_bounds(threads)
        every = [new_rounds(setup) for setup in setups]
        for done in range(1, total):
            rounds = every[(done - 1) % len(every)]
            if rounds.absent is not None:
                continue
            try:
                rounds.run_one(functools.partial(_tell_round, progress, rounds.name, done, total))
            except BenchError as err:
                if rounds is every[0]:
                    raise
                rounds.absent = str(err)
    known = versions()
    for rounds in every:
        known |= rounds.versions
    return Document(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=commit(),
        versions=known,
        machine=machine,
        bundle=describe_bundle(bundle),
        threads=threads,
        busy=busy,
        arguments=tuple(arguments),
        work=work,
        bounds=bounds,
        configurations=tuple(rounds.configuration() for rounds in every),
    )


def _check_expected(expected: Document, work: Work, threads: int) -> None:
    """Refuse work that cannot be compared with that of another document.

    Raises:
        BenchError: the work is another one, or the number of threads.
    """
    if not is_same_work(expected.work, work):
        raise BenchError(
            f"the stored document asks about another picture, {expected.work.picture}, or other "
            "questions; give that picture with --image, or store a new document"
        )
    if threads != expected.threads:
        raise BenchError(
            f"the stored document is of {expected.threads} threads, this process has CPUs for "
            f"{threads}; store a document of this machine"
        )


def _tell_round(progress: Progress, name: str, done: int, total: int, what: str) -> None:
    progress(f"{name}, {what}", done, total)
