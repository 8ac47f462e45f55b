"""Export a PEFT LoRA adapter to a GGUF adapter that llama.cpp applies at run time.

In: adapter_model.safetensors and adapter_config.json, and the model they belong to, as a Hugging
Face folder or as a GGUF. Out: a GGUF with the A and B matrices of every adapted linear. The rows
of B follow the row order of the base model's GGUF.
"""

import math
import re
from functools import partial
from pathlib import Path
from typing import Literal

from edge_et.export.errors import (
    UnreadableCheckpointError,
    UnsupportedModelError,
)
from edge_et.export.steps import (
    Progress,
    StepReport,
    Stopwatch,
    atomic_output,
    needing_extra,
    no_progress,
)

with needing_extra("export"):
    import gguf
    import msgspec
    import numpy as np
    from numpy.typing import NDArray

    from edge_et.export.checkpoint.checkpoint_folder import (
        TensorFiles,
        open_tensor_files,
        read_json,
    )
    from edge_et.export.families.llm_family import Family, LlmConfig, gguf_name, tensor_shapes
    from edge_et.export.families.llm_registry import config_of_gguf, family_of
    from edge_et.export.families.vlm_registry import read_llm
    from edge_et.export.llm.gguf_writer import GgufTensor, write_gguf
    from edge_et.export.llm.llama_logits import require_runs

_PEFT_PREFIX = "base_model.model."


class AdapterConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of adapter_config.json that decide what the matrices mean."""

    peft_type: str
    r: int
    lora_alpha: float
    target_modules: list[str] | str
    use_rslora: bool = False
    use_dora: bool = False
    fan_in_fan_out: bool = False
    lora_bias: bool = False
    bias: str = "none"
    rank_pattern: dict[str, int] | None = None
    alpha_pattern: dict[str, float] | None = None
    modules_to_save: list[str] | None = None
    layers_to_transform: list[int] | int | None = None

    @property
    def alpha(self) -> float:
        """What llama.cpp divides by the rank to get the scale."""
        return self.lora_alpha * math.sqrt(self.r) if self.use_rslora else self.lora_alpha


def export_lora(
    adapter: Path,
    base: Path,
    out: Path,
    *,
    dtype: Literal["F32", "F16"] = "F16",
    progress: Progress = no_progress,
) -> StepReport:
    """Convert a PEFT adapter to a GGUF adapter.

    Args:
        adapter: the PEFT folder.
        base: the model it was trained on: a Hugging Face folder, or a GGUF, in which case
            llama.cpp must also accept the result on it.
        out: the GGUF adapter to write, replaced if it exists.
        dtype: how the matrices are stored.
        progress: told the bytes written.

    Returns:
        What was written; `details` tells rank, alpha and how many linears are adapted.

    Raises:
        CheckpointError: adapter or base cannot be used; its children tell why.
        NativeModelError: llama.cpp refuses the adapter. Nothing is left behind.
    """
    watch = Stopwatch()
    adapter_config = _read_adapter_config(adapter)
    config = read_llm(base).config if base.is_dir() else config_of_gguf(base)
    family = family_of(config)
    if not family.takes_adapters:
        raise UnsupportedModelError(
            f"{base} is of {config.architectures[0]}: adapters for it are not supported; merge the "
            "adapter with peft and export the result"
        )
    shapes = _adapted(adapter_config, tensor_shapes(family, config))
    with atomic_output(out) as temporary:
        tensors = open_tensor_files([adapter / "adapter_model.safetensors"])
        tensors.require(_peft_shapes(shapes, adapter_config.r))
        write_gguf(
            temporary,
            gguf.MODEL_ARCH_NAMES[family.architecture],
            partial(_add_metadata, alpha=adapter_config.alpha),
            _plan(family, config, tensors, shapes, adapter_config.r, dtype),
            progress,
        )
        tensors.require_all_read()
        if not base.is_dir():
            require_runs(base, temporary)
    return StepReport(
        name=f"adapter {dtype}",
        path=out,
        size_bytes=out.stat().st_size,
        seconds=watch.seconds,
        details={
            "rank": adapter_config.r,
            "alpha": adapter_config.alpha,
            "adapted_linears": len(shapes),
        },
    )


def _read_adapter_config(folder: Path) -> AdapterConfig:
    path = folder / "adapter_config.json"
    try:
        config = msgspec.convert(read_json(path), AdapterConfig)
    except msgspec.ValidationError as err:
        raise UnreadableCheckpointError(f"{path}: {err}") from err
    lost = {
        f"peft_type {config.peft_type!r}": config.peft_type != "LORA",
        f"r {config.r}": config.r < 1,
        f"bias {config.bias!r}": config.bias != "none",
        "use_dora": config.use_dora,
        "fan_in_fan_out": config.fan_in_fan_out,
        "lora_bias": config.lora_bias,
        "rank_pattern": bool(config.rank_pattern),
        "alpha_pattern": bool(config.alpha_pattern),
        "modules_to_save": bool(config.modules_to_save),
        "layers_to_transform": config.layers_to_transform is not None,
    }
    if unsupported := [setting for setting, present in lost.items() if present]:
        raise UnsupportedModelError(f"{path} asks for {', '.join(unsupported)}: not supported")
    return config


def _adapted(
    config: AdapterConfig, shapes: dict[str, tuple[int, ...]]
) -> dict[str, tuple[int, int]]:
    """Find the linears that the adapter is for: name of the weight -> output and input width."""
    adapted: dict[str, tuple[int, int]] = {}
    for name, shape in shapes.items():
        if not name.endswith(".weight") or not _targeted(
            name.removesuffix(".weight"), config.target_modules
        ):
            continue
        if len(shape) != 2 or name == "model.embed_tokens.weight":
            raise UnsupportedModelError(f"the adapter is for {name}, which is not a linear")
        adapted[name] = (shape[0], shape[1])
    if not adapted:
        raise UnsupportedModelError(
            f"the adapter is for {config.target_modules}: the base model has no such linear"
        )
    return adapted


def _targeted(module: str, targets: list[str] | str) -> bool:
    # As PEFT does it: a string is a pattern for the whole name, a list holds ends of names.
    if isinstance(targets, str):
        try:
            return re.fullmatch(targets, module) is not None
        except re.error as err:
            raise UnreadableCheckpointError(f"target_modules {targets!r}: {err}") from err
    return any(module == target or module.endswith(f".{target}") for target in targets)


def _peft_names(name: str) -> tuple[str, str]:
    module = _PEFT_PREFIX + name.removesuffix(".weight")
    return f"{module}.lora_A.weight", f"{module}.lora_B.weight"


def _peft_shapes(adapted: dict[str, tuple[int, int]], rank: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for name, (outputs, inputs) in adapted.items():
        name_a, name_b = _peft_names(name)
        shapes[name_a] = (rank, inputs)
        shapes[name_b] = (outputs, rank)
    return shapes


def _plan(
    family: Family,
    config: LlmConfig,
    tensors: TensorFiles,
    adapted: dict[str, tuple[int, int]],
    rank: int,
    dtype: Literal["F32", "F16"],
) -> list[GgufTensor]:
    def load_b(name: str, name_b: str) -> NDArray[np.float32]:
        return family.gguf_values(name, tensors.read(name_b), config)

    planned = []
    for name, (outputs, inputs) in adapted.items():
        name_a, name_b = _peft_names(name)
        mapped = gguf_name(family, config, name)
        planned += [
            GgufTensor(
                name=f"{mapped}.lora_a",
                shape=(rank, inputs),
                storage=dtype,
                load=partial(tensors.read, name_a),
            ),
            GgufTensor(
                name=f"{mapped}.lora_b",
                shape=(outputs, rank),
                storage=dtype,
                load=partial(load_b, name, name_b),
            ),
        ]
    return planned


def _add_metadata(writer: gguf.GGUFWriter, *, alpha: float) -> None:
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, alpha)
