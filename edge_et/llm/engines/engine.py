"""What is known of an engine before its library is opened."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from edge_et.errors import EngineError
from edge_et.llm.batch_rules import BatchRules
from edge_et.llm.engines.native_library import NativeLibrary
from edge_et.options import EngineName, KvType

UNKNOWN: Final = "unknown"
"""Version of a package that tells none, as in a frozen program."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """An installed engine.

    Attributes:
        name: what `load(engine=)` knows it as.
        title: of what evaluates, for messages.
        package: the distribution that brings it.
        version: of that distribution.
        build: tells builds of one version apart, by the files of the library.
        rules: how its batches are cut.
        flash_rules: the same where attention is flash attention.
        kv_types: number types of a KV cache that it computes with.
        applies_adapters: whether a model with a LoRA beside it comes out right.
        missing: instruction sets that its library needs and this CPU does not have.
        open: returns its library, opened once; raises an `EngineError` where that cannot be.
    """

    name: EngineName
    title: str
    package: str
    version: str
    build: str
    rules: BatchRules
    flash_rules: BatchRules
    kv_types: tuple[KvType, ...]
    applies_adapters: bool
    missing: tuple[str, ...] = ()
    open: Callable[[], NativeLibrary]

    @property
    def tells_version(self) -> bool:
        """Whether its version is known, so that what it computed may be kept for later."""
        return self.version != UNKNOWN

    def has_no(self, kv_type: KvType) -> EngineError:
        """Return the error that says that it does not compute with KV caches of a number type."""
        return EngineError(
            self.name,
            f"the engine {self.name!r} has no KV caches in {kv_type}: "
            f"choose kv_type={' or '.join(self.kv_types)}, or engine='llama'",
        )

    def __str__(self) -> str:
        """Name it with its package and version."""
        return f"{self.name} ({self.package} {self.version})"
