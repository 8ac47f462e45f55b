import numpy as np

from edge_et.llm.prefix_memory import PrefixMemory


def data(size_bytes: int, value: int = 1) -> np.ndarray:
    return np.full(size_bytes, value, np.uint8)


def kept(memory: PrefixMemory, *keys: str) -> list[str]:
    return [key for key in keys if memory.get(key) is not None]


def test_what_was_unused_for_longest_makes_room() -> None:
    memory = PrefixMemory(10)
    memory.put("a", data(4), ())
    memory.put("b", data(4, 2), ())
    assert memory.get("a") is not None
    memory.put("c", data(4), ())
    assert kept(memory, "a", "b", "c") == ["a", "c"]
    memory.clear()
    assert kept(memory, "a", "b", "c") == []


def test_what_stands_beside_stays_and_the_rest_makes_room() -> None:
    memory = PrefixMemory(10)
    for key in "abc":
        memory.put(key, data(3), ())
    memory.put("d", data(3), {"a", "b", "x"})
    assert kept(memory, "a", "b", "c", "d") == ["a", "b", "d"]
    assert not memory.has_room(5, {"a", "b"})
    memory.put("e", data(5), {"a", "b"})
    assert kept(memory, "a", "b", "d", "e") == ["a", "b", "d"]


def test_nothing_is_kept_over_the_limit() -> None:
    memory = PrefixMemory(0)
    memory.put("a", data(1), ())
    assert not memory.has_room(1, ())
    assert memory.get("a") is None


def test_what_is_of_no_use_is_dropped() -> None:
    memory = PrefixMemory(10)
    memory.put("a", data(1), ())
    memory.drop("a")
    memory.drop("a")
    assert memory.get("a") is None
