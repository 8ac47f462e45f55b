"""The benchmark of latency: fresh processes for each configuration, all with the same work.

In: a bundle and what is to be done with it. Out: a `Document`.
"""

import functools
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from edge_et.benchmarks.bounds import describe_bundle, measure_bounds
from edge_et.benchmarks.document import Document, Work
from edge_et.benchmarks.picture import draw_picture
from edge_et.benchmarks.rounds import Turns
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
        samples: of every figure, at least 1; each takes processes of its own.
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

        def new_turns(setup: Setup) -> Turns:
            job = Job(
                bundle=str(bundle.folder),
                engine=setup.engine,
                threads=threads,
                reuse=setup.reuse,
                warm=True,
                work=work,
                llama_server=None if llama_server is None else str(llama_server),
            )
            cache_dir = Path(folder) / "restart" if setup.restarts else None
            return Turns(name=setup.name, note=setup.note, job=job, cache_dir=cache_dir)

        total = samples * len(setups) + 1
        tell("bounds of the machine", 0, total)
        bounds = measure_bounds(threads)
        every = [new_turns(setup) for setup in setups]
        for done in range(1, total):
            turns = every[(done - 1) % len(every)]
            if turns.absent is not None:
                continue
            try:
                turns.take(functools.partial(_tell_turn, tell, turns.name, done, total))
            except BenchError as err:
                if turns is every[0]:
                    raise
                turns.absent = str(err)
    known = versions()
    for turns in every:
        known |= turns.versions
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
        configurations=tuple(turns.configuration() for turns in every),
    )


def _tell_turn(tell: Tell, name: str, done: int, total: int, what: str) -> None:
    tell(f"{name}, {what}", done, total)
