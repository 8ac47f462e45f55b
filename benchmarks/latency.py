"""The benchmark of latency: one fresh process a configuration, all of them with the same work.

In: a bundle and what is to be done with it. Out: a `Document`.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from edge_et.benchmarks.bounds import describe_bundle, measure_bounds
from edge_et.benchmarks.document import Configuration, Document, Measured, Work
from edge_et.benchmarks.picture import draw_picture
from edge_et.benchmarks.sensors import commit, describe_machine, versions
from edge_et.benchmarks.subject import Job
from edge_et.bundle import Bundle, file_ref
from edge_et.errors import BenchError
from edge_et.image import load_image

QUESTIONS = ("What is the shape in the middle?", "How many colours are there, and which?")

Tell = Callable[[str, int, int], None]
"""Called with what is going on, how much is done, and how much there is."""


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


OURS = Setup(
    key="edge-et",
    name="edge-et",
    note="this runtime: llama.cpp and ONNX Runtime, caches kept",
    engine="llama.cpp",
    reuse=True,
    restarts=True,
)

BASELINES = (
    Setup(
        key="reuse-off",
        name="edge-et, reuse off",
        note="the same, all caches emptied between stages and questions",
        engine="llama.cpp",
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
    threads: int,
    samples: int,
    extraction_tokens: int,
    thinking_tokens: int,
    answer_tokens: int,
    picture: Path | None = None,
    baselines: Sequence[Setup] = BASELINES,
    llama_server: Path | None = None,
    arguments: Sequence[str] = (),
    tell: Tell = lambda what, done, total: None,
) -> Document:
    """Measure a bundle.

    Args:
        bundle: the bundle.
        threads: threads of tower and language models, at least 1.
        samples: of every figure, at least 1; a cold one takes a process of its own.
        extraction_tokens: to write in stage 1, at least 2.
        thinking_tokens: to write in stage 2 before the answer, at least 2.
        answer_tokens: to write as the answer, at least 1.
        picture: a file; None: one of 640 x 480 pixels, drawn here.
        baselines: measured behind this runtime itself.
        llama_server: the program that is a baseline of this name; None: there is none.
        arguments: of the command line, for the document.
        tell: told about the progress.

    Raises:
        ImageError: the picture cannot be used; a child says why.
        BenchError: this runtime itself cannot be measured.
    """
    machine = describe_machine()
    setups = (OURS, *baselines)
    with tempfile.TemporaryDirectory(prefix="edge-et-bench-") as folder:
        if picture is None:
            picture = draw_picture(Path(folder) / "drawn-640x480.png")
        load_image(picture)  # to be refused here rather than in every process
        work = Work(
            picture=str(picture),
            picture_sha256=file_ref(picture).sha256,
            questions=QUESTIONS,
            extraction_tokens=extraction_tokens,
            thinking_tokens=thinking_tokens,
            answer_tokens=answer_tokens,
        )

        def new_job(setup: Setup) -> Job:
            return Job(
                bundle=str(bundle.folder),
                engine=setup.engine,
                threads=threads,
                reuse=setup.reuse,
                samples=samples,
                work=work,
                llama_server=None if llama_server is None else str(llama_server),
            )

        known = versions()
        total = len(setups) * (samples + 1) + 1
        tell("bounds of the machine", 0, total)
        bounds = measure_bounds(threads)
        configurations: list[Configuration] = []
        for index, setup in enumerate(setups):
            done = 1 + index * (samples + 1)

            def progress(what: str, step: int, done: int = done, name: str = setup.name) -> None:
                tell(f"{name}, {what}", done + step, total)

            try:
                found = _measure(setup, new_job(setup), progress, known)
            except BenchError as err:
                if index == 0:
                    raise
                found = Configuration(name=setup.name, note=setup.note, absent=str(err))
            configurations.append(found)
    return Document(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=commit(),
        versions=known,
        machine=machine,
        bundle=describe_bundle(bundle),
        threads=threads,
        arguments=tuple(arguments),
        work=work,
        bounds=bounds,
        configurations=tuple(configurations),
    )


def _measure(
    setup: Setup, job: Job, progress: Callable[[str, int], None], known: dict[str, str]
) -> Configuration:
    """Measure one configuration: a fresh process for each cold sample, one for all warm ones.

    Args:
        setup: the configuration.
        job: of the warm process.
        progress: told what is done, and how much of it.
        known: versions, to which those are added that the processes tell.

    Raises:
        BenchError: a process failed.
    """
    cold = []
    for index in range(job.samples):
        progress("cold", index)
        cold.append(_run_worker(msgspec.structs.replace(job, samples=0)))
    restart = []
    if setup.restarts:
        progress("restart", job.samples)
        with tempfile.TemporaryDirectory(prefix="edge-et-bench-") as folder:
            again = msgspec.structs.replace(job, samples=0, cache_dir=folder)
            _run_worker(again)  # leaves the picture there
            restart = [_run_worker(again) for _ in range(job.samples)]
    progress("warm", job.samples)
    warm = _run_worker(job)
    known |= warm.versions
    return Configuration(
        name=setup.name,
        note=setup.note,
        absent=None,
        cold=tuple(sample for measured in cold for sample in measured.first),
        restart=tuple(sample for measured in restart for sample in measured.first),
        first=warm.first,
        second=warm.second,
        peak_memory_bytes=tuple(measured.peak_memory_bytes for measured in (*cold, *restart, warm)),
    )


def _run_worker(job: Job) -> Measured:
    """Run a worker process to its end.

    Raises:
        BenchError: it failed; the message is what it said last.
    """
    done = subprocess.run(
        [sys.executable, "-m", "edge_et.benchmarks.worker"],
        input=msgspec.json.encode(job),
        capture_output=True,
    )
    if done.returncode < 0:
        raise BenchError(f"the process was ended by signal {-done.returncode}; out of memory?")
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise BenchError(said or f"the process ended with status {done.returncode}")
    return msgspec.json.decode(done.stdout, type=Measured)
