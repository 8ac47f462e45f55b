"""In what precision a device trains: bfloat16 where it has instructions for it."""

import torch

from edge_et.benchmarks.torch_kv_cache import has_bfloat16


def training_dtype(device: torch.device) -> torch.dtype:
    """Return bfloat16, or float32 for a CPU that would emulate it, which is slower.

    Args:
        device: what trains.
    """
    if device.type == "cpu" and not has_bfloat16():
        return torch.float32
    return torch.bfloat16


def working_precision(device: torch.device) -> torch.autocast:
    """Make the context in which forward passes run."""
    dtype = training_dtype(device)
    return torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16)
