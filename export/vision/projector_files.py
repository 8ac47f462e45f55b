"""Save and load a projector: projector.json has its widths, projector.safetensors its weights."""

from pathlib import Path
from typing import Annotated

import msgspec
import torch
from safetensors.torch import save_file

from edge_et.export.checkpoint.checkpoint_folder import open_tensor_files, read_json
from edge_et.export.errors import UnreadableCheckpointError
from edge_et.export.families.llm_family import Count
from edge_et.export.steps import atomic_output
from edge_et.export.vision.projector import PixelShuffleProjector

CONFIG_NAME = "projector.json"
WEIGHTS_NAME = "projector.safetensors"


class ProjectorConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Constructor arguments of `PixelShuffleProjector`."""

    vision_width: Count
    factor: Count
    hidden: Count
    llm_width: Count
    places: Annotated[int, msgspec.Meta(ge=0)] = 0


def save_projector(projector: PixelShuffleProjector, folder: Path) -> None:
    """Write a projector; its weights become float32.

    Args:
        projector: the module.
        folder: where the two files go; made if need be.
    """
    config = ProjectorConfig(
        vision_width=projector.vision_width,
        factor=projector.factor,
        hidden=projector.hidden,
        llm_width=projector.llm_width,
        places=projector.places,
    )
    weights = {
        name: tensor.detach().to("cpu", torch.float32).contiguous()
        for name, tensor in projector.state_dict().items()
    }
    with atomic_output(folder / WEIGHTS_NAME) as temporary:
        save_file(weights, temporary)
    with atomic_output(folder / CONFIG_NAME) as temporary:
        temporary.write_bytes(msgspec.json.format(msgspec.json.encode(config)) + b"\n")


def load_projector(folder: Path) -> PixelShuffleProjector:
    """Read a projector.

    Args:
        folder: holds the two files.

    Returns:
        The module, float32, in evaluation mode.

    Raises:
        CheckpointError: a file is missing or damaged, or the tensors are others.
    """
    path = folder / CONFIG_NAME
    try:
        config = msgspec.convert(read_json(path), ProjectorConfig)
    except msgspec.ValidationError as err:
        raise UnreadableCheckpointError(f"{path}: {err}") from err
    projector = PixelShuffleProjector(**msgspec.structs.asdict(config))
    open_tensor_files([folder / WEIGHTS_NAME]).fill(projector)
    return projector.eval()
