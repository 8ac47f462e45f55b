import numpy as np

from edge_et.vision import ImageTokenCache, ImageTokens


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
