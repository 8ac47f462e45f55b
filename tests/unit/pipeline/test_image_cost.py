import pytest
from tiny.anyres import LLAVA
from tiny.fakes import ForcedKVCache

from edge_et.errors import OptionError
from edge_et.image import plan_image
from edge_et.pipeline import image_cost
from edge_et.pipeline.image_cost import Calibration

SHAPE = ForcedKVCache.shape


def test_a_picture_costs_its_tiles_and_its_tokens() -> None:
    plan = plan_image(LLAVA, (640, 480))
    cost = image_cost(plan, SHAPE, "f16", None)
    assert (cost.tiles, cost.image_tokens, cost.seconds) == (5, 2929, None)
    assert cost.kv_bytes == 2929 * 2 * 2 * (8 + 8) * 2
    assert image_cost(plan, SHAPE, "f32", None).kv_bytes == 2 * cost.kv_bytes


def test_seconds_are_those_measured_times_the_work() -> None:
    plan = plan_image(LLAVA, (640, 480))
    measured = Calibration(tile_seconds=3.0, prefill_positions=2929, prefill_seconds=7.0)
    assert image_cost(plan, SHAPE, "f16", measured).seconds == 5 * 3.0 + 7.0
    short = Calibration(tile_seconds=0.0, prefill_positions=64, prefill_seconds=1.0)
    seconds = image_cost(plan, SHAPE, "f16", short).seconds
    assert seconds is not None
    assert seconds > 2929 / 64  # attention grows with what came before


def test_every_budget_makes_it_cheaper() -> None:
    measured = Calibration(tile_seconds=1.0, prefill_positions=64, prefill_seconds=1.0)

    def seconds(**options: int) -> float:
        found = image_cost(plan_image(LLAVA, (1920, 1080), **options), SHAPE, "f16", measured)
        assert found.seconds is not None
        return found.seconds

    assert seconds() > seconds(max_tiles=5) > seconds(max_tiles=1)
    assert seconds() > seconds(pooling=2)


def test_a_calibration_that_is_none_is_refused() -> None:
    for calibration in ("x", 5, (1.0, 64, 1.0)):
        with pytest.raises(OptionError, match=r"calibration=.*measure"):
            image_cost(plan_image(LLAVA, (64, 48)), SHAPE, "f16", calibration)  # type: ignore[arg-type]
