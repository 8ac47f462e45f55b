"""The document of a benchmark: what `edge-et bench --json` prints and everything else here reads.

All times are seconds of wall time, all sizes bytes. docs/benchmarks.md tells what the phases are.
"""

from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from edge_et.errors import BenchError

FORMAT: Final = "edge-et-bench"
FORMAT_VERSION: Final = 1

PHASES = (
    "import",
    "load",
    "image",
    "vision",
    "prefill",
    "extract",
    "handover",
    "think",
    "answer",
)
"""In the order in which they happen; the first two in a fresh process alone."""

Temperature = Literal["cold", "restart", "first", "second", "busy first", "busy second"]
"""A fresh process; one that finds the picture in the folder of an earlier one; a warm one and a new
picture; a warm one and the picture asked about last; the last two beside busy processes."""

TEMPERATURES: tuple[Temperature, ...] = (
    "cold",
    "restart",
    "first",
    "second",
    "busy first",
    "busy second",
)

Seconds = Annotated[float, Meta(ge=0)]
Count = Annotated[int, Meta(ge=0)]


class Tokens(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How much work one answer was."""

    image: Annotated[Count, Meta(description="Image tokens of the picture.")]
    prompt_evaluated: Annotated[Count, Meta(description="Positions of stage 1's prompt evaluated.")]
    prompt_reused: Annotated[Count, Meta(description="Those that the KV cache held already.")]
    extraction: Annotated[Count, Meta(description="Tokens written in stage 1.")]
    handover_evaluated: Annotated[
        Count, Meta(description="Positions of stage 2 evaluated, the answer marker included.")
    ]
    handover_reused: Annotated[Count, Meta(description="Those that the KV cache held already.")]
    thinking: Annotated[Count, Meta(description="Tokens written in stage 2 before the answer.")]
    answer: Annotated[Count, Meta(description="Tokens of the answer.")]


class Sample(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One question answered once."""

    phases_s: Annotated[dict[str, Seconds], Meta(description="By name; they follow each other.")]
    first_extraction_s: Annotated[Seconds, Meta(description="Until stage 1's first token.")]
    first_thinking_s: Annotated[Seconds, Meta(description="Until stage 2's first token.")]
    total_s: Annotated[Seconds, Meta(description="Until the answer was complete.")]
    tokens: Tokens
    energy_j: Annotated[Seconds | None, Meta(description="CPU packages, joules; null: unreadable.")]
    temperature_c: Annotated[
        float | None, Meta(description="Hottest sensor behind it, Celsius; null: unreadable.")
    ]


class OpenedModel(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A language model as a configuration of this runtime opened it."""

    role: Literal["perceiver", "reasoner"]
    engine: Annotated[str, Meta(description="Name of the engine that runs it.")]
    engine_version: str
    weights: Annotated[
        Literal["as stored", "merged Q8_0"],
        Meta(description="Those of the bundle, or made of them and their LoRA on this machine."),
    ]
    file_bytes: Annotated[Count, Meta(description="Of weights and LoRA.")]
    token_bytes: Annotated[Count, Meta(description="Of them, what is read for one token.")]


class Measured(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What one worker process measured."""

    first: tuple[Sample, ...]
    second: tuple[Sample, ...]
    peak_memory_bytes: Count
    versions: dict[str, str]
    models: tuple[OpenedModel, ...] = ()


class Configuration(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One way of doing the work, and what was measured of it."""

    name: str
    note: Annotated[str, Meta(description="What is done, and with what.")]
    absent: Annotated[str | None, Meta(description="Why nothing was measured; null: it was.")]
    cold: tuple[Sample, ...] = ()
    restart: Annotated[
        tuple[Sample, ...], Meta(description="Empty where nothing survives the process.")
    ] = ()
    first: tuple[Sample, ...] = ()
    second: tuple[Sample, ...] = ()
    busy_first: Annotated[
        tuple[Sample, ...], Meta(description="As first, beside the document's busy processes.")
    ] = ()
    busy_second: Annotated[tuple[Sample, ...], Meta(description="As second, beside them.")] = ()
    busy_ratios: Annotated[
        dict[str, tuple[float, ...]],
        Meta(
            description="By first and second: seconds of an answer beside them over those without."
        ),
    ] = {}
    peak_memory_bytes: Annotated[
        tuple[Count, ...], Meta(description="Peak resident memory of each process, cold ones first")
    ] = ()
    models: Annotated[
        tuple[OpenedModel, ...], Meta(description="Empty for PyTorch and other programs.")
    ] = ()

    def samples(self, temperature: Temperature) -> tuple[Sample, ...]:
        """Return the samples of one temperature."""
        found: tuple[Sample, ...] = getattr(self, temperature.replace(" ", "_"))
        return found


class Work(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What every configuration has to do."""

    picture: Annotated[str, Meta(description="Path of the picture.")]
    picture_sha256: str
    questions: Annotated[tuple[str, str], Meta(description="Asked one after the other.")]
    extraction_tokens: Annotated[int, Meta(ge=2)]
    thinking_tokens: Annotated[int, Meta(ge=2)]
    answer_tokens: Annotated[int, Meta(ge=1)]


class Machine(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where it was measured."""

    cpu: str
    cores: Annotated[int | None, Meta(description="Physical cores; null: unknown.")]
    logical_cpus: int
    memory_bytes: int
    system: str
    load_average: Annotated[
        float | None, Meta(description="Processes that ran in the minute before; null: unknown.")
    ]


class Model(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a language model's file says about its cost."""

    role: Literal["perceiver", "reasoner"]
    weight_bytes: Annotated[int, Meta(description="Weights that are read for one token.")]
    shape: Annotated[
        dict[str, int | dict[str, int]],
        Meta(
            description="Fields of edge_et.llm.model_shape.ModelShape, but for those that are None."
        ),
    ]


class BundleInfo(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What was measured."""

    name: str
    version: str
    sha256: Annotated[str, Meta(description="Of bundle.json, which holds those of all files.")]
    models: tuple[Model, ...]
    tower_bytes: Annotated[
        Count | None, Meta(description="Files of the vision tower; null: of an earlier version.")
    ] = None
    kv_cache_bytes: Annotated[
        Count | None, Meta(description="All KV caches, in F16; null: of an earlier version.")
    ] = None


class Bounds(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What this machine can do at most, measured with as many threads as the rest."""

    memory_bytes_per_s: Annotated[float, Meta(gt=0, description="Reading, from main memory.")]
    gemm_flops_per_s: Annotated[float, Meta(gt=0, description="float32 matrix product of numpy.")]


class Document(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One run of the benchmark."""

    format: Literal["edge-et-bench"] = FORMAT
    format_version: Literal[1] = FORMAT_VERSION
    created: Annotated[str, Meta(description="UTC, ISO 8601.")]
    commit: Annotated[
        str | None, Meta(description="Of edge-et's checkout, '+' behind it if changed; null: none.")
    ]
    versions: Annotated[dict[str, str], Meta(description="Of Python, packages, programs.")]
    machine: Machine
    bundle: BundleInfo
    threads: int
    busy: Annotated[
        Count, Meta(description="Processes that computed beside the busy samples; 0: no such ones.")
    ] = 0
    arguments: Annotated[tuple[str, ...], Meta(description="Of the command line.")]
    work: Work
    bounds: Bounds
    configurations: tuple[Configuration, ...]


def read_document(path: Path) -> Document:
    """Read what `edge-et bench --json` printed.

    Args:
        path: the file.

    Raises:
        BenchError: it cannot be read, or is no such document.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Document)
    except OSError as err:
        raise BenchError(f"{path} cannot be read: {err.strerror}") from err
    except (msgspec.DecodeError, UnicodeDecodeError) as err:
        raise BenchError(f"{path} is no document of edge-et bench --json: {err}") from err
