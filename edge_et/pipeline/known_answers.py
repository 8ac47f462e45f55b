"""What the models of a bundle compute, held against what they computed when it was made.

In: a bundle. Out: its `KnownAnswers`, for whoever makes one; or how far the tower and the language
models are from those here, with the engine, the form of weights and the KV cache that a load would
use. What is near enough stands in the bundle. docs/bundle.md defines the picture and the numbers.
"""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge_et.bundle import (
    Bundle,
    KnownAnswers,
    KnownModel,
    KnownToken,
    KnownTower,
    LanguageModelSpec,
    VisionSpec,
)
from edge_et.image import VisionTower, to_pixel_values
from edge_et.llm import Engine, LanguageModel, Tokenizer, default_engine, installed_engines
from edge_et.options import KvType, LoadOptions
from edge_et.pipeline.device_profile import apply_profile
from edge_et.pipeline.engine_choice import choose
from edge_et.pipeline.engine_probe import probe_ids, probe_settings
from edge_et.pipeline.prepared_weights import open_prepared_weights
from edge_et.pipeline.settings import Settings
from edge_et.threads import available_cpus

Role = Literal["perceiver", "reasoner"]
ROLES: Final[tuple[Role, ...]] = ("perceiver", "reasoner")

_TOWER_VALUES = 48
_PLACES = 4  # of the prompt, evenly spaced
_TOP = 6

# Of the mini's tower, whose weights are int8, the cosine without ONNX Runtime's optimizations is
# 0.9999 and the largest difference 0.025 of the largest value; with a grey level more or less in
# most pixels 0.9998 and 0.058.
_MIN_COSINE = 0.99
_MAX_DIFFERENCE = 0.15

# Of the mini, from llama.cpp with the files as they are and a KV cache in F16: in F32 and q8_0
# 0.004 nats; of the other engine with converted weights 0.007, and in q8_0 0.015. Without its
# adapter it is 1.8.
_MAX_KL = 0.1

_FEW_ROWS = 8  # a batch of so many is computed by other kernels than a prompt in one batch


@dataclass(frozen=True, slots=True, kw_only=True)
class TowerDistance:
    """How far a tower is from the one that the bundle was made with.

    Attributes:
        cosine: of the values and the known ones.
        difference: the largest one, as a share of the largest known value.
        is_right: whether that is near enough.
    """

    cosine: float
    difference: float
    is_right: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDistance:
    """How far a language model is from the one that the bundle was made with, opened in some way.

    Attributes:
        engine: by which engine.
        is_converted: whether from other weights than the bundle's own.
        kv_type: number type of its KV cache.
        flash_attention: whether attention never made its whole matrix.
        kl: mean KL divergence, nats, of the worse of two ways to read the prompt; infinite where a
            number was not finite.
        is_right: whether that is near enough.
    """

    engine: str
    is_converted: bool
    kv_type: KvType
    flash_attention: bool
    kl: float
    is_right: bool


def make_known_answers(bundle: Bundle) -> KnownAnswers:
    """Compute what the models of a bundle answer, from its files as they are.

    Args:
        bundle: from `edge_et.load_bundle`.

    Raises:
        ModelFileError: a model cannot be used.
        VisionRunError: the tower failed.
        EngineError: no engine is installed.
        DecodeError: a language model failed.
    """
    spec = bundle.manifest.vision
    features = _tower_features(bundle, spec, available_cpus())
    values = _picked(features, min(_TOWER_VALUES, features.size))
    tower = KnownTower(
        values=tuple(_rounded(value) for value in values),
        min_cosine=_MIN_COSINE,
        max_difference=_MAX_DIFFERENCE,
    )
    return KnownAnswers(
        tower=tower if np.abs(values).max() > 0 else None,
        **{role: _make_known_model(bundle, model) for role, model in models_of(bundle)},
    )


def models_of(bundle: Bundle) -> list[tuple[Role, LanguageModelSpec]]:
    """Return the language models of a bundle with their roles."""
    found = ((role, getattr(bundle.manifest, role)) for role in ROLES)
    return [(role, spec) for role, spec in found if spec is not None]


def tower_distance(bundle: Bundle, known: KnownTower) -> TowerDistance:
    """Run the tower of a bundle and compare.

    Args:
        bundle: from `edge_et.load_bundle`.
        known: what its tower should compute.

    Raises:
        ModelFileError: the tower cannot be opened.
        VisionRunError: it failed.
    """
    expected = np.array(known.values)
    features = _tower_features(bundle, bundle.manifest.vision, available_cpus())
    found = _picked(features, len(expected)).astype(np.float64)
    norms = float(np.linalg.norm(found) * np.linalg.norm(expected))
    cosine = float(found @ expected) / norms if norms else 0.0
    difference = float(np.abs(found - expected).max() / np.abs(expected).max())
    is_right = cosine >= known.min_cosine and difference <= known.max_difference
    return TowerDistance(cosine=cosine, difference=difference, is_right=is_right)


def model_distance(bundle: Bundle, role: Role, known: KnownModel) -> ModelDistance:
    """Open a language model as a load without further options does, and compare.

    Args:
        bundle: from `edge_et.load_bundle`.
        role: which model.
        known: what it should compute.

    Raises:
        ModelFileError: it cannot be used.
        EngineError: no engine can be used for it.
        DecodeError: it failed.
    """
    profiled, profile = apply_profile(bundle)
    settings = Settings.of(LoadOptions(), profile)
    spec = _spec(profiled, role)
    tokenizer = Tokenizer(profiled.path(spec.tokenizer))
    choice = choose(
        profiled,
        spec,
        engines=installed_engines(),
        asked=settings.engine,
        converts=True,
        prepared=open_prepared_weights(),
        kv_type=settings.kv_type,
        flash_attention=settings.flash_attention,
        tokenizer=tokenizer,
    )
    with ExitStack() as held:
        if choice.file is not None:
            held.callback(choice.file.close)
        return _distance(
            known,
            tokenizer,
            choice.engine,
            choice.weights,
            choice.adapter,
            choice.spec,
            is_converted=choice.weights != bundle.path(_spec(bundle, role).weights),
            kv_type=settings.kv_type,
            flash_attention=settings.flash_attention,
        )


def other_distances(
    bundle: Bundle, role: Role, known: KnownModel, engines: list[Engine], off: ModelDistance
) -> Iterator[ModelDistance]:
    """Open a model that was found to be off in other ways, from its files as they are.

    Args:
        bundle: from `edge_et.load_bundle`.
        role: which model.
        known: what it should compute.
        engines: those that may be opened.
        off: what was found.

    Yields:
        Its distance with each engine and a KV cache in F16; the engine that was found to be off is
        the first.

    Raises:
        ModelFileError: it cannot be used.
        EngineError: an engine cannot be opened.
        DecodeError: it failed.
    """
    spec = _spec(bundle, role)
    tokenizer = Tokenizer(bundle.path(spec.tokenizer))
    adapter = None if spec.adapter is None else bundle.path(spec.adapter)
    as_stored = (off.is_converted, off.kv_type, off.flash_attention) == (False, "f16", False)
    for engine in sorted(engines, key=lambda engine: engine.name != off.engine):
        if adapter is not None and not engine.applies_adapters:
            continue
        if engine.name == off.engine and as_stored:
            continue
        yield _distance(
            known,
            tokenizer,
            engine,
            bundle.path(spec.weights),
            adapter,
            spec,
            is_converted=False,
            kv_type="f16",
            flash_attention=False,
        )


def known_picture(height: int, width: int) -> NDArray[np.uint8]:
    """Draw the picture that towers are compared with: stripes, and squares with curves in them.

    Args:
        height: H of a tile, pixels.
        width: W of a tile, pixels.

    Returns:
        [H,W,3] uint8, red, green and blue.
    """
    y, x = np.mgrid[0:height, 0:width]
    squares = (x // 16 + y // 16) % 2
    waves = (3 * x + y, 2 * x + 5 * y, x * y // 16 + 128 * squares)
    return np.stack([255 - np.abs(wave % 511 - 255) for wave in waves], axis=-1).astype(np.uint8)


def _tower_features(bundle: Bundle, spec: VisionSpec, threads: int) -> NDArray[np.float32]:
    """Return what the tower makes of the known picture as a tile, [S,D] float32."""
    processing = spec.processing
    tile = Image.fromarray(known_picture(processing.height, processing.width))
    with closing(VisionTower(bundle.path(spec.graph), spec, threads)) as tower:
        return tower.encode([to_pixel_values(tile, processing)]).features[0]


def _picked(features: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    return features.ravel()[np.arange(count) * features.size // count]


def _make_known_model(bundle: Bundle, spec: LanguageModelSpec) -> KnownModel:
    tokenizer = Tokenizer(bundle.path(spec.tokenizer))
    ids = probe_ids(bundle.manifest, spec, tokenizer)
    adapter = None if spec.adapter is None else bundle.path(spec.adapter)
    (logits,) = _logits(
        default_engine(), bundle.path(spec.weights), adapter, spec, ids, "f16", False, (_FEW_ROWS,)
    )
    tokens = []
    for place in range(1, _PLACES + 1):
        position = len(ids) * place // _PLACES - 1
        logprobs = _log_softmax(logits[position, : tokenizer.size])
        top = np.argsort(-logprobs, kind="stable")[:_TOP]
        tokens.append(
            KnownToken(
                position=position,
                ids=tuple(top.tolist()),
                # Adding 0 makes 0 of -0.
                logprobs=tuple(min(0.0, _rounded(number)) + 0.0 for number in logprobs[top]),
            )
        )
    return KnownModel(prompt=tuple(ids.tolist()), tokens=tuple(tokens), max_kl=_MAX_KL)


def _distance(
    known: KnownModel,
    tokenizer: Tokenizer,
    engine: Engine,
    weights: Path,
    adapter: Path | None,
    spec: LanguageModelSpec,
    *,
    is_converted: bool,
    kv_type: KvType,
    flash_attention: bool,
) -> ModelDistance:
    """Compute with a model, with few rows at once and with all of them, and compare."""
    ids = np.array(known.prompt, np.int32)
    ways = _logits(
        engine, weights, adapter, spec, ids, kv_type, flash_attention, (_FEW_ROWS, len(ids))
    )
    kl = max(_divergence(known, logits[:, : tokenizer.size]) for logits in ways)
    return ModelDistance(
        engine=engine.name,
        is_converted=is_converted,
        kv_type=kv_type,
        flash_attention=flash_attention,
        kl=kl,
        is_right=kl <= known.max_kl,
    )


def _logits(
    engine: Engine,
    weights: Path,
    adapter: Path | None,
    spec: LanguageModelSpec,
    ids: NDArray[np.int32],
    kv_type: KvType,
    flash_attention: bool,
    batches: tuple[int, ...],
) -> list[NDArray[np.float32]]:
    """Return the logits [n, V] behind each id, once for each number of rows at once."""
    settings = probe_settings(kv_type, flash_attention=flash_attention)
    model = LanguageModel(
        weights, spec, engine=engine, adapter=adapter, token_count=spec.vocabulary_size
    )
    with closing(model):
        return [model.all_logits(ids, settings, batch_positions=rows) for rows in batches]


def _divergence(known: KnownModel, logits: NDArray[np.float32]) -> float:
    """Return the mean KL divergence of what was found, nats; all other tokens count as one."""
    found = []
    for token in known.tokens:
        row = logits[token.position]
        if not np.isfinite(row).all() or max(token.ids) >= len(row):
            return inf
        expected, given = np.array(token.logprobs), _log_softmax(row)[list(token.ids)]
        rest = [max(1e-9, 1 - float(np.exp(part).sum())) for part in (expected, given)]
        named = float((np.exp(expected) * (expected - given)).sum())
        found.append(named + rest[0] * float(np.log(rest[0] / rest[1])))
    return float(np.mean(found))


def _log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - float(logits.max())
    return np.asarray(shifted - np.log(np.exp(shifted).sum()))


def _rounded(number: float) -> float:
    return float(f"{number:.5g}")


def _spec(bundle: Bundle, role: Role) -> LanguageModelSpec:
    return next(spec for name, spec in models_of(bundle) if name == role)
