"""LoRA adapters on disk: back from a bundle's GGUF, and out the way PEFT saves them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edge_et.errors import TuningError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraSettings:
    """The shape of an adapter.

    Attributes:
        rank: of the two matrices of each linear layer.
        alpha: what they make is scaled by alpha / rank.
        linears: names of the layers that have one, as PEFT's `target_modules`.
    """

    rank: int
    alpha: int
    linears: tuple[str, ...]


def read_adapter(adapter: Path, base: Path) -> dict[str, Tensor]:
    """Read what `edge_et.export.llm.export_lora.export_lora` wrote.

    Args:
        adapter: the GGUF of the adapter.
        base: the GGUF of the model that it is for; its config decides the order of rows.

    Returns:
        The adapter as PEFT's state dict, float32.

    Raises:
        TuningError: the file holds something else than an adapter for this model.
    """
    import torch
    from gguf import GGUFReader

    from edge_et.export.families.llm_family import gguf_name, tensor_shapes
    from edge_et.export.families.llm_registry import config_of_gguf, family_of

    config = config_of_gguf(base)
    family = family_of(config)
    stored = {tensor.name: tensor.data for tensor in GGUFReader(adapter).tensors}
    state = {}
    for name, shape in tensor_shapes(family, config).items():
        mapped = gguf_name(family, config, name)
        if f"{mapped}.lora_a" not in stored:
            continue
        module = "base_model.model." + name.removesuffix(".weight")
        # The order of rows that export made, as numbers; sorting them undoes it.
        numbers = np.arange(shape[0], dtype=np.float32)[:, None]
        order = family.gguf_values(name, numbers, config)[:, 0].argsort()
        for half in ("A", "B"):
            values = stored.pop(f"{mapped}.lora_{half.lower()}").astype(np.float32)
            values = values if half == "A" else values[order]
            state[f"{module}.lora_{half}.weight"] = torch.from_numpy(values)
    if stored or not state:
        raise TuningError(f"{adapter} is no LoRA adapter for {base}: {sorted(stored)[:3]}")
    return state


def save_peft_adapter(adapter: dict[str, Tensor], lora: LoraSettings, folder: Path) -> Path:
    """Write an adapter the way PEFT saves it.

    Args:
        adapter: PEFT's state dict.
        lora: its shape.
        folder: made if need be.

    Returns:
        The folder.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: tensor.cpu().contiguous() for name, tensor in adapter.items()},
        folder / "adapter_model.safetensors",
    )
    config = {
        "peft_type": "LORA",
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "target_modules": list(lora.linears),
    }
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=1))
    return folder
