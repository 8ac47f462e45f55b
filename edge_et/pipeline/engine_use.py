"""Which engine a load opens each model of a bundle with, and what makes the next load faster.

In: a bundle. Out: an `EngineUse` for each of its models; or, with `prepare`, also what loads leave
for later, done at once. Nothing stays open.
"""

from dataclasses import dataclass
from typing import Literal

from edge_et.bundle import Bundle, LanguageModelSpec
from edge_et.errors import DecodeError, EngineError
from edge_et.llm import installed_engines
from edge_et.options import LoadOptions
from edge_et.pipeline.device_profile import apply_profile
from edge_et.pipeline.engine_choice import MAX_MERGED_BYTES, REFERENCE, EngineChoice, choose
from edge_et.pipeline.engine_probe import PROBE_TOKENS
from edge_et.pipeline.prepared_weights import open_prepared_weights
from edge_et.pipeline.settings import Settings
from edge_et.weights import merged_bytes, no_step

Form = Literal[
    "as stored", "as stored, adapter beside them", "merged, in Q8_0", "decided by the first load"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineUse:
    """How a load opens a model on this machine.

    Attributes:
        role: perceiver or reasoner.
        engine: its name in `load(engine=)`; None: none can open it.
        package: the distribution that brings it, with its version; None: likewise.
        weights: their form; None: likewise.
        why: why the other engine is not used, or none.
    """

    role: str
    engine: str | None
    package: str | None
    weights: Form | None
    why: str

    def __str__(self) -> str:
        """Tell it to people."""
        if self.engine is None:
            return self.why
        return f"{self.engine} ({self.package}), weights {self.weights}; {self.why}"


def engine_uses(bundle: Bundle) -> list[EngineUse]:
    """Tell how a load without further options opens the models of a bundle.

    What was prepared is looked at, and an engine that it suffices for is asked what it computes, as
    a load does. Nothing is prepared.

    Args:
        bundle: from `edge_et.load_bundle`.

    Raises:
        ModelFileError: a model cannot be used.
    """
    profiled, profile = apply_profile(bundle)
    settings = Settings.of(LoadOptions(), profile)
    return [_use(profiled, role, spec, settings) for role, spec in _models(profiled)]


def prepare(bundle: Bundle, options: LoadOptions | None = None) -> list[EngineUse]:
    """Make now what a load would make behind its first answer, and compare engines; seconds.

    Args:
        bundle: from `edge_et.load_bundle`.
        options: of the load; None: it has none. `convert_weights` is taken for granted.

    Returns:
        How such loads open its models from now on.

    Raises:
        EngineError: no engine can be used for a model.
        ModelFileError: a model cannot be used.
        DecodeError: a model cannot have the KV caches that the profile asks for.
    """
    asked = options or LoadOptions()
    profiled, profile = apply_profile(bundle) if asked.use_profile else (bundle, None)
    settings = Settings.of(asked, profile)
    for _, spec in _models(profiled):
        choice = choose_on_machine(profiled, spec, settings, converts=True, makes=True)
        if choice.later is not None:
            choice.later(no_step)
    return [_use(profiled, role, spec, settings) for role, spec in _models(profiled)]


def bytes_to_prepare(bundle: Bundle) -> int:
    """Return about how many bytes loads of a bundle will still write into the user's caches.

    Args:
        bundle: from `edge_et.load_bundle`.

    Raises:
        ModelFileError: a model cannot be used.
    """
    profiled, profile = apply_profile(bundle)
    settings = Settings.of(LoadOptions(), profile)
    prepared, total = open_prepared_weights(), 0
    for _, spec in _models(profiled):
        try:
            choice = choose_on_machine(profiled, spec, settings, converts=True, makes=False)
        except (EngineError, DecodeError):  # nothing will be made for it
            continue
        if choice.later is None:
            continue
        total += PROBE_TOKENS * spec.vocabulary_size * 2  # the reference, float16
        if (found := prepared.find_merged(spec)) is not None:
            found.close()
        elif (size := merged_bytes(profiled.path(spec.weights))) <= MAX_MERGED_BYTES:
            total += size
    return total


def choose_on_machine(
    bundle: Bundle, spec: LanguageModelSpec, settings: Settings, *, converts: bool, makes: bool
) -> EngineChoice:
    """Choose as a load does, with what is installed and prepared on this machine; hold nothing.

    Args:
        bundle: a bundle.
        spec: one of its models.
        settings: of the load.
        converts: as for `edge_et.pipeline.engine_choice.choose`, like `makes`.
        makes: likewise.

    Raises:
        EdgeETError: as for `edge_et.pipeline.engine_choice.choose`.
    """
    choice = choose(
        bundle,
        spec,
        engines=installed_engines(),
        asked=settings.engine,
        converts=converts,
        prepared=open_prepared_weights(),
        makes=makes,
        kv_type=settings.kv_type,
        flash_attention=settings.flash_attention,
    )
    if choice.file is not None:
        choice.file.close()
    return choice


def _models(bundle: Bundle) -> list[tuple[str, LanguageModelSpec]]:
    specs = {"perceiver": bundle.manifest.perceiver, "reasoner": bundle.manifest.reasoner}
    return [(role, spec) for role, spec in specs.items() if spec is not None]


def _use(bundle: Bundle, role: str, spec: LanguageModelSpec, settings: Settings) -> EngineUse:
    try:
        choice = choose_on_machine(bundle, spec, settings, converts=True, makes=False)
    except (EngineError, DecodeError) as err:
        return EngineUse(role=role, engine=None, package=None, weights=None, why=str(err))
    engine = choice.engine
    return EngineUse(
        role=role,
        engine=engine.name,
        package=f"{engine.package} {engine.version}",
        weights=_form(choice),
        why=_why(choice),
    )


def _form(choice: EngineChoice) -> Form:
    if choice.file is not None:
        return "merged, in Q8_0"
    if choice.later is not None and choice.engine.name != REFERENCE:
        return "decided by the first load"
    return "as stored" if choice.adapter is None else "as stored, adapter beside them"


def _why(choice: EngineChoice) -> str:
    """Say why the other engine is not used."""
    other = "prebuilt" if choice.engine.name == REFERENCE else REFERENCE
    if other not in [engine.name for engine in installed_engines()]:
        return f"{other} is not installed"
    if choice.refused:
        return f"not {other}: {'; '.join(choice.refused)}"
    if other == REFERENCE:
        return "not llama: prebuilt is right here, and goes first"
    if choice.later is not None:
        return "prebuilt was not compared yet: the first answer prepares it, or `edge-et doctor`"
    return "prebuilt cannot be compared: the user's caches cannot be written"
