import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tiny.engine import about_llama_cpp

from edge_et.bundle import Bundle, LanguageModelSpec, load_bundle
from edge_et.errors import MemoryBudgetError
from edge_et.llm import default_engine
from edge_et.options import LoadOptions
from edge_et.pipeline import MemoryPlan, Settings, kv_cache_bytes, plan_memory
from edge_et.pipeline.engine_choice import EngineChoice

ENOUGH = 10**12
STEP = 250_000  # between limits that are tried

pytestmark = about_llama_cpp


class Chooser:
    """Opens every model as it is stored, and notes of which it was asked."""

    def __init__(self, bundle: Bundle) -> None:
        self.asked: list[bool] = []
        self._bundle = bundle

    def __call__(self, spec: LanguageModelSpec, converts: bool) -> EngineChoice:
        self.asked.append(converts)
        weights = self._bundle.path(spec.weights)
        return EngineChoice(engine=default_engine(), weights=weights, adapter=None, spec=spec)


def planned(folder: Path, limit: int, settings: Settings | None = None, **said: Any) -> MemoryPlan:
    bundle = with_long_contexts(load_bundle(folder))
    options = LoadOptions(max_memory_bytes=limit, **said)
    return plan_memory(
        bundle,
        settings or Settings.of(options, None),
        options,
        choose_engine=Chooser(bundle),
        held_bytes=lambda: 50_000_000,
    )


def with_long_contexts(bundle: Bundle) -> Bundle:
    """Return a bundle with contexts that can be shortened."""
    spec = msgspec.structs.replace(bundle.manifest.perceiver, context_length=8192)
    manifest = msgspec.structs.replace(bundle.manifest, perceiver=spec)
    return dataclasses.replace(bundle, manifest=manifest)


def lowered(folder: Path) -> Sequence[MemoryPlan]:
    """Return the plans for lower and lower limits, until there is none."""
    plans = [planned(folder, ENOUGH)]
    limit = plans[0].peak_bytes + 20_000_000
    while True:
        try:
            plans.append(planned(folder, limit))
        except MemoryBudgetError:
            return plans
        limit -= STEP


def test_with_memory_enough_a_bundle_is_opened_as_without_a_limit(tiny_bundle: Path) -> None:
    plan = planned(tiny_bundle, ENOUGH)
    bundle, settings = load_bundle(tiny_bundle), Settings()
    assert plan.settings(settings) == settings
    assert plan.bundle(with_long_contexts(bundle)) == with_long_contexts(bundle)
    assert plan.image_kv_bytes == LoadOptions().image_kv_bytes
    assert plan.converts_weights


def test_a_plan_stays_below_its_limit(tiny_bundle: Path) -> None:
    for plan in lowered(tiny_bundle):
        room = plan.limit_bytes - plan.peak_bytes
        assert room >= 0
        assert plan.image_kv_bytes <= room
        assert plan.peak_bytes <= sum(plan.parts.values()) + plan.image_cache_bytes
        assert plan.max_pixels >= 1_000_000


def test_what_costs_least_is_given_up_first(tiny_bundle: Path) -> None:
    plans = lowered(tiny_bundle)
    ways = [
        (plan.keeps_tower, plan.maps_weights, plan.batch_positions, plan.context_lengths == (8192,))
        for plan in plans
    ]
    assert list(dict.fromkeys(ways)) == [
        (True, False, None, True),
        (True, False, 64, True),
        (False, True, 64, True),
        (False, True, 64, False),
    ]


def test_a_context_keeps_room_for_a_picture_and_all_budgets(tiny_bundle: Path) -> None:
    manifest = load_bundle(tiny_bundle).manifest
    (least,) = lowered(tiny_bundle)[-1].context_lengths
    budgets = manifest.extract.max_extraction_tokens + manifest.think.max_thinking_tokens
    assert manifest.vision.image_tokens_per_tile + budgets < least < 8192


def test_contexts_and_the_type_of_kv_caches_are_the_callers(tiny_bundle: Path) -> None:
    bundle = with_long_contexts(load_bundle(tiny_bundle))
    for kv_type in ("f16", "f32"):
        plan = planned(tiny_bundle, ENOUGH, kv_type=kv_type, contexts=3)
        assert plan.parts["KV caches"] == kv_cache_bytes(bundle, kv_type, 3)
    with pytest.raises(MemoryBudgetError, match="fewer contexts") as refused:
        planned(tiny_bundle, 60_000_000, contexts=3)
    assert "kv_type='q8_0'" in str(refused.value)


def test_a_refusal_tells_numbers_before_any_engine_is_asked(tiny_bundle: Path) -> None:
    bundle = load_bundle(tiny_bundle)
    chooser = Chooser(bundle)
    options = LoadOptions(max_memory_bytes=60_000_000)
    with pytest.raises(MemoryBudgetError) as refused:
        plan_memory(
            bundle,
            Settings(),
            options,
            choose_engine=chooser,
            held_bytes=lambda: 50_000_000,
        )
    err = refused.value
    assert chooser.asked == []
    assert err.limit_bytes == 60_000_000 < err.needed_bytes
    assert {"process", "tokenizers", "KV caches", "batches", "weights", "tower"} == set(err.parts)
    assert f"needs {math.ceil(err.needed_bytes / 1e6)} MB at least" in str(err)
    assert "max_memory_bytes is 60 MB" in str(err)


def needed(folder: Path, limit: int) -> int:
    """Return what a refusal asks for."""
    with pytest.raises(MemoryBudgetError) as refused:
        planned(folder, limit, convert_weights=False)
    return refused.value.needed_bytes


def test_what_a_refusal_asks_for_is_enough(tiny_bundle: Path) -> None:
    enough = needed(tiny_bundle, 60_000_000)
    assert planned(tiny_bundle, enough, convert_weights=False).peak_bytes <= enough
    assert needed(tiny_bundle, enough - 1) == enough


def test_a_limit_just_below_is_told_as_less_than_what_is_needed() -> None:
    err = MemoryBudgetError(328_600_000, 328_599_999, parts={"weights": 300_000_000})
    assert "needs 329 MB at least" in str(err)
    assert "max_memory_bytes is 328 MB" in str(err)


def test_copies_for_a_cache_folder_are_counted(tiny_bundle: Path, tmp_path: Path) -> None:
    without = planned(tiny_bundle, ENOUGH)
    kept = planned(tiny_bundle, ENOUGH, cache_dir=str(tmp_path))
    assert kept.peak_bytes - without.peak_bytes == kept.parts["copies for cache_dir"] > 0


def test_stored_weights_are_taken_where_converted_ones_do_not_fit(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    bundle = load_bundle(tiny_bundle)
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(60_000_000)

    def choose(spec: LanguageModelSpec, converts: bool) -> EngineChoice:
        choice = Chooser(bundle)(spec, converts)
        if not converts:
            return choice
        return EngineChoice(engine=choice.engine, weights=choice.weights, adapter=large, spec=spec)

    def plan(limit: int) -> MemoryPlan:
        return plan_memory(
            bundle,
            Settings(),
            LoadOptions(max_memory_bytes=limit),
            choose_engine=choose,
            held_bytes=lambda: 50_000_000,
        )

    most = plan(ENOUGH)
    assert most.converts_weights
    # The tower that is not kept, and fewer rows, make up for less than the large file.
    assert not plan(most.peak_bytes - 40_000_000).converts_weights
