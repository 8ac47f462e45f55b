"""What `edge-et train run` is told: a TOML file with the stages of a training, in order.

The stages of the paper (section 4: connector, instruction, captioning, extraction) are text stages
that differ in what learns and in what is taught; before them comes the alignment, which needs no
LLM. docs/tuning.md explains every key.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import msgspec

from edge_et.errors import TuningError
from edge_et.tuning.training.train import Part

Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]
Positive: TypeAlias = Annotated[int, msgspec.Meta(ge=1)]
Rate: TypeAlias = Annotated[float, msgspec.Meta(gt=0, le=1)]
Share: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=1)]
Name: TypeAlias = Annotated[str, msgspec.Meta(pattern="^[a-z][a-z0-9_-]{0,31}$")]


class AlignStage(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="align",
):
    """The vocabulary-aligned stage; see `align.AlignSettings`.

    Attributes:
        name: of its checkpoint.
        scenes: rounded up to whole shards.
    """

    name: Name
    scenes: Positive
    epochs: Positive = 3
    scenes_per_step: Positive = 32
    projector_rate: Rate = 1e-3
    tower_rate: Rate = 1e-4


class NamesStage(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="names",
):
    """The stage that teaches the closer look; see `train_closer_look`.

    Attributes:
        name: of its checkpoint.
        scenes: of things; rounded up to whole files of cut-outs.
        epochs: times each thing is seen.
    """

    name: Name
    scenes: Positive
    epochs: Positive = 2


class TextStage(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="text",
):
    """A stage that teaches to write; see `train.TrainSettings` and `scene_source.Mixture`.

    Attributes:
        name: of its checkpoint.
        scenes: rounded up to whole shards.
    """

    name: Name
    scenes: Positive
    steps: Positive
    train: tuple[Part, ...]
    scenes_per_step: Positive = 16
    accumulate: Positive = 1
    extractions: Count = 0
    captions: Count = 0
    direct: Count = 0
    practice: Count = 0
    lookups: Count = 0
    think_share: Share = 0.25
    llm_rate: Rate = 5e-4
    projector_rate: Rate = 1e-4
    tower_rate: Rate = 2e-5
    warmup: Positive = 20
    cooldown: Share = 0.5
    kept: Share = 0.0


class TrainConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole training.

    Attributes:
        work: folder of features, checkpoints and curves; relative to the file.
        assets: folder of downloads; relative to the file.
        stage: in order. No two see the same scenes: a head remembers those that it was aligned on
            better than it will ever see others.
        adapter: a LoRA as GGUF, to go on from; relative to the file. None starts afresh.
        head: weights of a vision head as safetensors, to go on from; relative to the file. None
            starts with the tower as it is and a new projector.
        first_scene: seed of the first scene, a multiple of 256: a training that goes on from
            another one may begin behind the scenes which that one saw.
        seed: of weights, batches and questions.
    """

    work: str
    assets: str
    stage: Annotated[tuple[AlignStage | NamesStage | TextStage, ...], msgspec.Meta(min_length=1)]
    adapter: str | None = None
    head: str | None = None
    first_scene: Count = 0
    seed: Count = 0


def load_config(path: Path) -> TrainConfig:
    """Read a configuration; its paths come back resolved.

    Args:
        path: the TOML file.

    Raises:
        TuningError: it cannot be read, or a key is unknown, missing, or of a wrong value.
    """
    try:
        config = msgspec.toml.decode(path.read_bytes(), type=TrainConfig)
    except OSError as err:
        raise TuningError(f"{path} cannot be read: {err.strerror}") from err
    except (msgspec.DecodeError, UnicodeDecodeError) as err:
        raise TuningError(f"{path}: {err}") from err
    names = [stage.name for stage in config.stage]
    if len(set(names)) < len(names):
        raise TuningError(f"{path}: two stages have the same name")
    if config.first_scene % 256:
        raise TuningError(f"{path}: first_scene is {config.first_scene}, not a multiple of 256")
    for stage in config.stage:
        if not isinstance(stage, NamesStage) and 256 % stage.scenes_per_step:
            raise TuningError(f"{path}: scenes_per_step of stage {stage.name!r} must divide 256")
        if isinstance(stage, TextStage) and not (
            stage.extractions + stage.captions + stage.direct + stage.practice
        ):
            raise TuningError(
                f"{path}: stage {stage.name!r} teaches nothing; "
                "set extractions, captions, direct or practice"
            )
    if isinstance(config.stage[-1], NamesStage):
        raise TuningError(
            f"{path}: a stage must follow {names[-1]!r}, to learn what names look like"
        )
    return msgspec.structs.replace(
        config,
        work=str(path.parent / config.work),
        assets=str(path.parent / config.assets),
        adapter=None if config.adapter is None else str(path.parent / config.adapter),
        head=None if config.head is None else str(path.parent / config.head),
    )
