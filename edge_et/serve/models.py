"""The bundles that a server answers with: loaded when they are asked for, unloaded later.

In: names and folders. Out: a loaded pipeline for as long as a request needs it. What requests do
with it is not known here.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any

from edge_et.available_memory import available_bytes
from edge_et.bundle import MANIFEST_NAME, Bundle, Manifest, find_bundle, load_bundle
from edge_et.errors import MemoryBudgetError, OptionError
from edge_et.options import parse_load_options
from edge_et.pipeline import (
    ExtractThink,
    Settings,
    aload,
    apply_profile,
    kv_cache_bytes,
    manifest_sha256,
    plan_memory,
)
from edge_et.serve.errors import RequestError
from edge_et.serve.settings import ServeSettings

logger = logging.getLogger(__name__)

_TAG = ":latest"


@dataclass(slots=True, kw_only=True, eq=False)
class ServedModel:
    """A bundle under its name.

    Attributes:
        name: the manifest's.
        bundle: what is on disk.
        size_bytes: of all files.
        modified: when the manifest was last written, UTC.
        digest: SHA-256 of the manifest, hexadecimal.
        pipeline: the loaded bundle; None: it is not loaded.
        users: requests that have it.
        keep_alive_s: seconds that it stays after the last one; below 0: for ever.
        used_at: when the last one ended, on the clock of `time.monotonic`.
        loading: held while it is loaded or unloaded.
        unloading: what will unload it; None: nothing will.
    """

    name: str
    bundle: Bundle
    size_bytes: int
    modified: datetime
    digest: str
    keep_alive_s: float
    pipeline: ExtractThink | None = None
    users: int = 0
    used_at: float = 0.0
    loading: asyncio.Lock
    unloading: asyncio.TimerHandle | None = None

    @property
    def manifest(self) -> Manifest:
        """The bundle's."""
        return self.bundle.manifest

    @property
    def is_loaded(self) -> bool:
        """Whether its pipeline is open."""
        return self.pipeline is not None

    @property
    def context_length(self) -> int:
        """Positions of the context that reads pictures."""
        return self.manifest.perceiver.context_length

    @property
    def marks_thoughts(self) -> bool:
        """Whether its reasoner can be told to think or not to."""
        return self.manifest.think.thoughts is not None


class ModelRegistry:
    """The bundles of a server, each loaded at most once."""

    def __init__(self, settings: ServeSettings) -> None:
        """Read the manifests and check the files; nothing is loaded.

        Args:
            settings: name the bundles, and how they are loaded.

        Raises:
            BundleError: one of them cannot be used.
            OptionError: two of them have one name, or one needs more memory than is granted.
            EngineError: as for `edge_et.pipeline.plan_memory`, where memory is limited.
        """
        self._settings = settings
        self._models: dict[str, ServedModel] = {}
        self._unloading: set[asyncio.Task[None]] = set()
        for name in settings.bundles:
            model = _read(name, settings)
            if model.name in self._models:
                expected = f"another `name` than {model.name!r} in its bundle.json: that is taken"
                raise OptionError("bundles", name, expected)
            self._models[model.name] = model
        if settings.max_memory_bytes is not None:
            for model in self.all():
                _check_memory(model, settings)

    def all(self) -> tuple[ServedModel, ...]:
        """Return them in the order in which they were named."""
        return tuple(self._models.values())

    def find(self, name: str) -> ServedModel:
        """Return the bundle of a name; of an empty one the first.

        Args:
            name: perhaps with ``:latest`` behind it, as clients of Ollama have it.

        Raises:
            RequestError: there is none.
        """
        if not name:
            return self.all()[0]
        model = self._models.get(name) or self._models.get(name.removesuffix(_TAG))
        if model is None:
            known = ", ".join(self._models)
            message = f"there is no model of that name; this server has {known}"
            raise RequestError(404, "model_not_found", message)
        return model

    @asynccontextmanager
    async def lease(
        self, model: ServedModel, keep_alive_s: float | None = None
    ) -> AsyncIterator[ExtractThink]:
        """Have a bundle loaded while the block runs.

        Args:
            model: which.
            keep_alive_s: until the next request says otherwise; None: the server's default.

        Raises:
            EdgeETError: it cannot be loaded.
        """
        # The next request without one must not find that of a client that wanted it unloaded.
        model.keep_alive_s = self._settings.keep_alive_s if keep_alive_s is None else keep_alive_s
        model.users += 1
        try:
            _cancel_unloading(model)
            async with model.loading:
                if model.pipeline is None:
                    model.pipeline = await self._load(model)
            yield model.pipeline
        finally:
            model.users -= 1
            model.used_at = monotonic()
            if not model.users and model.keep_alive_s >= 0:
                loop = asyncio.get_running_loop()
                model.unloading = loop.call_later(model.keep_alive_s, self._unload_later, model)

    async def unload(self, model: ServedModel) -> None:
        """Free a bundle, as soon as no request has it."""
        model.keep_alive_s = 0.0
        await self._unload(model)

    async def close(self) -> None:
        """Free all bundles; no request has one any more."""
        for model in self.all():
            _cancel_unloading(model)
            await self._unload(model)

    async def _load(self, model: ServedModel) -> ExtractThink:
        settings = self._settings
        await self._make_room(model)
        logger.info("loading %s", model.name)
        return await aload(model.bundle.folder, **_load_options(settings))

    async def _make_room(self, model: ServedModel) -> None:
        """Free bundles that no request has, those unused for longest first, until one fits.

        Where the memory of the process is limited all of them go: a plan counts what is held when
        it is made, and they would grow.
        """
        needed_bytes = model.size_bytes + kv_cache_bytes(
            model.bundle, "f16", self._settings.contexts
        )
        idle = [other for other in self.all() if other.is_loaded and not other.users]
        for other in sorted(idle, key=lambda other: other.used_at):
            free_bytes = available_bytes()
            is_limited = self._settings.max_memory_bytes is not None
            if not is_limited and (free_bytes is None or free_bytes >= needed_bytes):
                return
            logger.info("unloading %s: memory is short", other.name)
            await self._unload(other)

    def _unload_later(self, model: ServedModel) -> None:
        task = asyncio.create_task(self._unload(model))
        self._unloading.add(task)  # an event loop does not hold its tasks
        task.add_done_callback(self._unloading.discard)

    async def _unload(self, model: ServedModel) -> None:
        async with model.loading:
            if model.users or model.pipeline is None:
                return
            pipeline, model.pipeline = model.pipeline, None
            await asyncio.to_thread(pipeline.close)


def _load_options(settings: ServeSettings) -> dict[str, Any]:
    """Return what every bundle is loaded with."""
    return {
        "threads": settings.threads,
        "contexts": settings.contexts,
        "max_waiting": settings.max_waiting,
        "max_images": settings.max_images,
        "max_pixels": settings.max_pixels,
        "max_memory_bytes": settings.max_memory_bytes,
        "cache_dir": settings.cache_dir,
    }


def _check_memory(model: ServedModel, settings: ServeSettings) -> None:
    """Refuse a bundle that no request could have loaded.

    Raises:
        OptionError: it needs more memory than is granted.
    """
    options = parse_load_options(_load_options(settings))
    bundle, profile = apply_profile(model.bundle)
    try:
        plan_memory(bundle, Settings.of(options, profile), options)
    except MemoryBudgetError as err:
        expected = f"enough for {model.name!r}, and {err}"
        raise OptionError("max_memory_bytes", settings.max_memory_bytes, expected) from err


def _cancel_unloading(model: ServedModel) -> None:
    if model.unloading is not None:
        model.unloading.cancel()
        model.unloading = None


def _read(name: str, settings: ServeSettings) -> ServedModel:
    bundle = load_bundle(find_bundle(name))
    manifest_path = Path(bundle.folder, MANIFEST_NAME)
    return ServedModel(
        name=bundle.manifest.name,
        bundle=bundle,
        size_bytes=sum({file.path: file.ref.size_bytes for file in bundle.files}.values()),
        modified=datetime.fromtimestamp(manifest_path.stat().st_mtime, UTC),
        digest=manifest_sha256(bundle),
        keep_alive_s=settings.keep_alive_s,
        loading=asyncio.Lock(),
    )
