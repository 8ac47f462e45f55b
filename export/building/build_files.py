"""The steps of a build that make large files: vision graph and language models.

In: a checkpoint that has been read, evaluation prompts. Out: files in a work folder, and what was
measured. Of the modules of export, only this one, `build_bundle` and `evaluation_prompts` know
`edge_et.quantize`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import get_args

import numpy as np
from PIL import Image

from edge_et.bundle import Processing
from edge_et.export.building.bundle_plan import PlanOptions
from edge_et.export.building.evaluation_prompts import Prompt
from edge_et.export.building.vlm_checkpoint import VisionLanguageModel, export_vlm_vision
from edge_et.export.errors import (
    ParityError,
    QuantizationError,
    TensorValueError,
    UnknownQuantizationError,
)
from edge_et.export.llm.export_llm import export_llm
from edge_et.export.llm.gguf_writer import Storage
from edge_et.export.steps import Progress, StepReport, release_memory
from edge_et.image import split_tiles, to_pixel_values
from edge_et.quantize.example_dialogues import EXAMPLES
from edge_et.quantize.importance_matrix import collect_importance
from edge_et.quantize.pictures import read_pictures
from edge_et.quantize.quantize_llm import quantize_llm, require_type
from edge_et.quantize.quantize_vision import quantize_vision

FLOATS = get_args(Storage)
VISION_QUANTIZATIONS = ("none", "int8")
MOST_PICTURES = 16
"""Pictures of a folder that are looked at; each takes seconds."""

# Static quantization needs a second set of pictures, and was no better where it was tried.
_INT8_METHODS = ("dynamic", "weight-only")

# A weight with its scales in the largest quantized types, Q8_0 and int8.
_QUANTIZED_BYTES = 1.07
_FLOAT_BYTES = {"F32": 4.0, "F16": 2.0, "BF16": 2.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions(PlanOptions):
    """What a build may be told.

    Attributes:
        quantization: of the language models: one of `edge_et.quantize.quantize_llm.TYPES`, with
            `importance` of `TYPES_BY_IMPORTANCE` too; or F32, F16 or BF16.
        vision_quantization: `int8` or `none`.
        pictures: folder with JPEG, PNG or WebP files of the kind that the bundle is for; the tower
            is evaluated on the first 16, and the importance matrix collected from them too. None:
            drawn ones.
        importance: whether to round weights by what matters for prompts of both stages.
    """

    quantization: str = "Q4_K_M"
    vision_quantization: str = "int8"
    pictures: Path | None = None
    importance: bool = False

    def check(self) -> None:
        """Refuse what cannot be done, before hours of work.

        Raises:
            QuantizationError: an unknown type or method, one that needs an importance matrix, or a
                folder without pictures.
            ImageError: a picture cannot be read.
            OptionError: a number is out of range.
        """
        if self.quantization not in FLOATS:
            require_type(self.quantization, with_importance=self.importance)
        if self.vision_quantization not in VISION_QUANTIZATIONS:
            raise UnknownQuantizationError(self.vision_quantization, VISION_QUANTIZATIONS)
        PlanOptions.check(self)  # super() does not work in a class with slots
        if not sum(1 for _ in self.load_pictures()):
            raise QuantizationError(f"{self.pictures} holds no pictures")

    @property
    def weight_bytes(self) -> float:
        """Bytes of one weight of a language model in the bundle, at most."""
        return _FLOAT_BYTES.get(self.quantization, _QUANTIZED_BYTES)

    @property
    def tower_weight_bytes(self) -> float:
        """Bytes of one weight of the tower in the bundle, at most."""
        return 4.0 if self.vision_quantization == "none" else _QUANTIZED_BYTES

    def load_pictures(self) -> Iterator[Image.Image]:
        """Give the first pictures of the folder, or the drawn ones, one at a time.

        Raises:
            QuantizationError: not a folder.
            ImageError: a picture cannot be read.
        """
        if self.pictures is None:
            return (example.picture() for example in EXAMPLES)
        return islice(read_pictures(self.pictures), MOST_PICTURES)


class FileBuilder:
    """Makes the files of a bundle in a work folder, and collects what was measured.

    Attributes:
        folder: where files are made.
        reports: of the steps so far.
    """

    def __init__(self, folder: Path, options: BuildOptions, progress: Progress) -> None:
        """Begin with nothing done."""
        self.folder = folder
        self.reports: list[StepReport] = []
        self._options = options
        self._progress = progress

    def add(self, role: str, report: StepReport) -> None:
        """Remember what was measured of a model, before the next step."""
        release_memory()
        self.reports.append(replace(report, name=f"{role} {report.name}"))

    def vision(self, vlm: VisionLanguageModel) -> Path:
        """Make the vision graph, and quantize it if wanted; each picture is one tile for that.

        Args:
            vlm: the checkpoint.

        Raises:
            ParityError: a graph differs too much from what it was made of.
        """
        exact = self.folder / "vision-float32.onnx"
        self.add("perceiver", export_vlm_vision(vlm, exact, progress=self._progress))
        if self._options.vision_quantization == "none":
            return exact
        pictures = self._options.load_pictures()
        tiles = np.stack([_whole_picture(picture, vlm.vision.processing) for picture in pictures])
        small = self.folder / "vision-int8.onnx"
        for method in _INT8_METHODS:
            try:
                result = quantize_vision(
                    exact, small, tiles, tiles[:1], method=method, progress=self._progress
                )
            except ParityError:
                if method == _INT8_METHODS[-1]:
                    raise
            else:
                self.add("perceiver", result.chosen)
                break
        exact.unlink()
        return small

    def language_model(
        self,
        role: str,
        checkpoint: Path,
        evaluation_prompts: Callable[[], list[Prompt]],
        calibration_prompts: Callable[[], list[Prompt]],
    ) -> Path:
        """Make a GGUF, and quantize it if wanted.

        Args:
            role: `perceiver` or `reasoner`.
            checkpoint: its folder.
            evaluation_prompts: gives the prompts that the quantized model is compared with its
                source on.
            calibration_prompts: gives those that the importance matrix is collected on.

        Raises:
            ParityError: the float model differs too much from its checkpoint.
            QuantizationError: llama.cpp refuses to quantize.
        """
        quantization = self._options.quantization
        if quantization in FLOATS:
            return self._export(role, checkpoint, quantization)
        try:
            exact = self._export(role, checkpoint, "F16")
        except TensorValueError:  # BF16 has the range of float32, if not the precision of F16
            exact = self._export(role, checkpoint, "BF16")
        importance = None
        if self._options.importance:
            importance = collect_importance(exact, calibration_prompts(), progress=self._progress)
        out = self.folder / f"{role}.gguf"
        report = quantize_llm(
            exact,
            out,
            quantization,
            prompts=evaluation_prompts(),
            importance=importance,
            progress=self._progress,
        )
        self.add(role, report)
        exact.unlink()
        return out

    def _export(self, role: str, checkpoint: Path, dtype: str) -> Path:
        out = self.folder / f"{role}-{dtype}.gguf"
        self.add(role, export_llm(checkpoint, out, dtype=dtype, progress=self._progress))
        return out


def _whole_picture(picture: Image.Image, processing: Processing) -> np.ndarray:
    (tile,) = split_tiles(picture, processing.of_one_size, None)
    return to_pixel_values(tile, processing)
