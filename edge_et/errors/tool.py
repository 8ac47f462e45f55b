"""Errors of the tools."""

from edge_et.errors.base import EdgeETError


class ToolError(EdgeETError):
    """A tool that makes bundles failed."""


class MissingExtraError(ToolError):
    """A package of an optional extra is not installed."""

    def __init__(self, module: str, extra: str, otherwise: str = "") -> None:
        self.module = module
        self.extra = extra
        super().__init__(f'{module} is not installed: pip install "edge-et[{extra}]"{otherwise}')


class TuningError(ToolError):
    """A step of the tuning recipe cannot be done."""


class AssetError(ToolError):
    """Drawings for training scenes cannot be fetched, or are not the pinned ones."""


class BenchError(ToolError):
    """A measurement cannot be taken, or the document of one cannot be read."""
