import numpy as np
import pytest
from tiny.fakes import FakeTower

from edge_et.errors import ClosedError
from edge_et.image import DeferredTower, ImageTokens, Tower
from edge_et.image.vision_tower import ImageTokenCache


def image(digest: str, count: int = 4) -> ImageTokens:
    return ImageTokens(np.zeros((count, 8), np.float32), digest)


def test_the_images_used_last_are_kept() -> None:
    cache = ImageTokenCache(limit_bytes=2 * 4 * 8 * 4)
    first = image("a")
    cache.put(first)
    cache.put(image("b"))
    assert cache.get("a") is first
    cache.put(image("c"))
    assert (cache.get("a"), cache.get("b")) == (first, None)
    assert cache.get("c") is not None


def test_an_image_over_the_limit_is_not_kept() -> None:
    cache = ImageTokenCache(limit_bytes=100)
    cache.put(image("a"))
    assert cache.get("a") is None
    cache.put(image("b", count=3))
    assert cache.get("b") is not None


def test_a_cleared_cache_has_room_again() -> None:
    cache = ImageTokenCache(limit_bytes=4 * 8 * 4)
    cache.put(image("a"))
    cache.clear()
    cache.put(image("b"))
    assert (cache.get("a") is None, cache.get("b") is None) == (True, False)


def test_a_deferred_tower_is_opened_once_and_not_before_it_runs() -> None:
    towers: list[FakeTower] = []

    def opened() -> Tower:
        towers.append(FakeTower())
        return towers[-1]

    tile = np.ones((3, 4, 4), np.float32)
    tower = DeferredTower(opened)
    assert towers == []
    for _ in range(2):
        assert np.shape(tower.encode([tile]).features) == (1, 16, 32)
    assert [found.runs for found in towers] == [2]
    tower.close()
    tower.close()
    assert towers[0].closed
    with pytest.raises(ClosedError):
        tower.encode([tile])
    DeferredTower(opened).close()
    assert len(towers) == 1


def test_a_tower_that_makes_room_is_open_for_one_picture_at_a_time() -> None:
    events: list[str] = []

    class Told(FakeTower):
        def close(self) -> None:
            events.append("closed")

    def opened() -> Tower:
        events.append("opened")
        return Told()

    tile = np.ones((3, 4, 4), np.float32)
    tower = DeferredTower(opened, lambda: events.append("room"))
    tower.rest()
    assert events == []
    for _ in range(2):
        tower.encode([tile])
        tower.encode([tile])
        tower.rest()
        tower.rest()
    assert events == 2 * ["room", "opened", "closed", "room"]
    tower.close()
    assert len(events) == 8
    with pytest.raises(ClosedError):
        tower.encode([tile])


def test_a_picture_that_two_calls_have_made_is_counted_once() -> None:
    cache = ImageTokenCache(limit_bytes=100)
    tokens = [ImageTokens(np.zeros((2, 8), np.float32), "same") for _ in range(2)]
    for one in tokens:
        cache.put(one)
    assert cache.get("same") is tokens[0]
    other = ImageTokens(np.zeros((1, 8), np.float32), "other")
    cache.put(other)
    assert (cache.get("same"), cache.get("other")) == (tokens[0], other)
