from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from tiny.fakes import ForcedKVCache

from edge_et.bundle import FileRef, LanguageModelSpec, read_manifest
from edge_et.image import ImageTokens
from edge_et.llm import (
    ImagePromptCache,
    ImageSegment,
    Position,
    Segment,
    TokenSegment,
    common_prefix,
    positions_of,
)
from edge_et.options import KvType
from edge_et.store import Snapshots, SnapshotStore

BEFORE, BEHIND = TokenSegment((1, 2, 3)), TokenSegment((4, 5, 6, 7))


class FakeCache:
    """Knows its positions; what it copies is how many there are."""

    shape = ForcedKVCache.shape

    def __init__(
        self, context_length: int = 64, kv_type: KvType = "f16", engine: str = "llama 1"
    ) -> None:
        self.context_length = context_length
        self.kv_type: KvType = kv_type
        self.engine = engine
        self.held: list[Position] = []
        self.refuses = False

    def save(self, positions: Sequence[Position]) -> NDArray[np.uint8] | None:
        if common_prefix(self.held, positions) < len(positions):
            return None
        size_bytes = self.shape.kv_bytes(len(positions), self.kv_type)
        return np.full(size_bytes, len(positions), np.uint8)

    def restore(self, positions: Sequence[Position], data: NDArray[np.uint8]) -> bool:
        assert data.nbytes == self.shape.kv_bytes(len(positions), self.kv_type)
        assert set(data.tolist()) == {len(positions)}
        self.held = [] if self.refuses else list(positions)
        return not self.refuses


@pytest.fixture(scope="module")
def spec(tiny_bundle: Path) -> LanguageModelSpec:
    return read_manifest(tiny_bundle / "bundle.json").perceiver


@pytest.fixture
def snapshots(tmp_path: Path) -> Iterator[Snapshots]:
    snapshots = Snapshots(SnapshotStore(tmp_path, 10**6), {"threads": 1})
    yield snapshots
    snapshots.close()


def image(value: float = 1.0, count: int = 4, digest: str = "a") -> ImageSegment:
    return ImageSegment(ImageTokens(np.full((count, 8), value, np.float32), digest))


def evaluate(prefixes: ImagePromptCache, cache: FakeCache, segments: list[Segment]) -> int:
    """Do as a context does, and return how many positions it need not evaluate."""
    wanted = positions_of(segments)
    found = prefixes.recall(cache, segments, common_prefix(cache.held, wanted))
    assert cache.held[:found] == wanted[:found]
    cache.held = wanted
    return found


def after_a_call(
    snapshots: Snapshots, spec: LanguageModelSpec, segments: list[Segment]
) -> ImagePromptCache:
    prefixes = ImagePromptCache(snapshots, spec)
    evaluate(prefixes, FakeCache(), segments)
    snapshots.close()
    return prefixes


def test_the_prompt_up_to_its_image_comes_back(
    snapshots: Snapshots, spec: LanguageModelSpec
) -> None:
    after_a_call(snapshots, spec, [BEFORE, image(), BEHIND])
    anew = ImagePromptCache(snapshots, spec)
    for question in (BEHIND, BEFORE):
        cache = FakeCache()
        assert evaluate(anew, cache, [BEFORE, image(), question]) == 7
        assert evaluate(anew, cache, [BEFORE, image(), BEHIND]) >= 7
    cache = FakeCache()
    evaluate(anew, cache, [BEFORE, image(2.0, digest="b"), BEHIND])
    assert evaluate(anew, cache, [BEFORE, image(), BEHIND]) == 7  # instead of the other picture


def test_what_is_written_behind_an_image_is_no_part_of_it(
    snapshots: Snapshots, spec: LanguageModelSpec
) -> None:
    prefixes = ImagePromptCache(snapshots, spec)
    cache = FakeCache()
    evaluate(prefixes, cache, [BEFORE, image(), BEHIND])
    cache.held = [*cache.held, ("generated", 9)]
    snapshots.close()
    assert evaluate(prefixes, FakeCache(), [BEFORE, image()]) == 7


def test_every_other_content_and_setting_is_another_entry(
    snapshots: Snapshots, spec: LanguageModelSpec, tmp_path: Path
) -> None:
    prefixes = after_a_call(snapshots, spec, [BEFORE, image(), BEHIND])
    others: list[list[Segment]] = [
        [image(), BEHIND],
        [BEHIND, image()],
        [TokenSegment(BEFORE.ids, generated=True), image()],
        [BEFORE, image(2.0)],  # another content under the same name
        [BEFORE, image(count=3), BEHIND],
        [BEFORE, image(), BEHIND, image()],
    ]
    for segments in others:
        assert evaluate(prefixes, FakeCache(), segments) == 0
    for cache in (
        FakeCache(context_length=65),
        FakeCache(kv_type="f32"),
        FakeCache(engine="prebuilt 1"),
    ):
        assert evaluate(prefixes, cache, [BEFORE, image()]) == 0
    ref = FileRef(path="x.gguf", size_bytes=1, sha256="0" * 64)
    for field in ("weights", "adapter"):
        other = ImagePromptCache(snapshots, msgspec.structs.replace(spec, **{field: ref}))
        assert evaluate(other, FakeCache(), [BEFORE, image()]) == 0
    elsewhere = Snapshots(SnapshotStore(tmp_path, 10**6), {"threads": 2})
    assert evaluate(ImagePromptCache(elsewhere, spec), FakeCache(), [BEFORE, image()]) == 0
    assert evaluate(prefixes, FakeCache(), [BEFORE, image(digest="z")]) == 7  # the same content


def test_prompts_without_an_image_are_not_kept(
    snapshots: Snapshots, spec: LanguageModelSpec, tmp_path: Path
) -> None:
    prefixes = after_a_call(snapshots, spec, [BEFORE, BEHIND])
    assert evaluate(prefixes, FakeCache(), [BEFORE, BEHIND]) == 0
    assert list(tmp_path.iterdir()) == []


def test_what_is_too_large_is_not_even_copied(tmp_path: Path, spec: LanguageModelSpec) -> None:
    row_bytes = FakeCache.shape.kv_bytes(1, "f16")
    snapshots = Snapshots(SnapshotStore(tmp_path, 4 * 6 * row_bytes), {})
    after_a_call(snapshots, spec, [BEFORE, image(), BEHIND])
    assert list(tmp_path.iterdir()) == []


def test_an_image_gone_before_the_call_ends_is_not_kept(
    snapshots: Snapshots, spec: LanguageModelSpec, tmp_path: Path
) -> None:
    prefixes, cache = ImagePromptCache(snapshots, spec), FakeCache()
    evaluate(prefixes, cache, [BEFORE, image(), BEHIND])
    cache.held = positions_of([BEFORE, image(count=2)])
    snapshots.close()
    assert list(tmp_path.iterdir()) == []


def test_what_the_cache_refuses_is_made_again(
    snapshots: Snapshots, spec: LanguageModelSpec, tmp_path: Path
) -> None:
    prefixes, cache = after_a_call(snapshots, spec, [BEFORE, image()]), FakeCache()
    cache.held = positions_of([BEFORE])
    cache.refuses = True
    assert evaluate(prefixes, cache, [BEFORE, image()]) == 0
    assert list(tmp_path.iterdir()) == []
    snapshots.close()
    assert evaluate(prefixes, FakeCache(), [BEFORE, image()]) == 7


def take_turns(prefixes: ImagePromptCache, cache: FakeCache, prompts: list[list[Segment]]) -> int:
    """Evaluate prompts one after the other and have their images kept; count what was found."""
    found = 0
    for prompt in prompts:
        found += evaluate(prefixes, cache, prompt)
        prefixes.keep(cache, prompt, prompts)
    return found


def several(count: int) -> list[list[Segment]]:
    return [[BEFORE, image(digest=str(number)), BEHIND] for number in range(count)]


def test_an_older_copy_makes_room_before_another_is_made(spec: LanguageModelSpec) -> None:
    first, second = several(2)
    cache = FakeCache()
    prefixes = ImagePromptCache(None, spec, cache.shape.copy_bytes(7, "f16"))
    take_turns(prefixes, cache, [first])
    beside = []

    class Watched(FakeCache):
        def save(self, positions: Sequence[Position]) -> NDArray[np.uint8] | None:
            beside.append(prefixes.copied(cache, first))
            return super().save(positions)

    take_turns(prefixes, Watched(), [second])
    assert beside == [0]
    assert prefixes.copied(cache, second) == 7


def test_pictures_that_take_turns_come_back_from_memory(spec: LanguageModelSpec) -> None:
    prefixes, cache = ImagePromptCache(None, spec, 10**6), FakeCache()
    first = take_turns(prefixes, cache, several(3))
    assert first == 2 * len(BEFORE)
    assert prefixes.copied(cache, several(3)[0]) == 7
    assert take_turns(prefixes, cache, several(3)) == 3 * 7
    assert take_turns(prefixes, FakeCache(context_length=65), several(1)) == 0
    prefixes.clear()
    assert prefixes.copied(cache, several(3)[0]) == 0
    assert evaluate(prefixes, FakeCache(), several(3)[0]) == 0


def test_more_pictures_than_there_is_room_for_do_not_drive_out_each_other(
    spec: LanguageModelSpec,
) -> None:
    row_bytes = FakeCache.shape.kv_bytes(1, "f16")
    prefixes, cache = ImagePromptCache(None, spec, 7 * row_bytes + 1), FakeCache()
    take_turns(prefixes, cache, several(3))
    for _ in range(2):
        cache.held = []
        # One copy, and of the others the three positions before the image, which stay.
        assert take_turns(prefixes, cache, several(3)) == 7 + 2 * len(BEFORE)
    others = [[BEFORE, image(digest="new"), BEHIND]]
    take_turns(prefixes, cache, others)  # nobody wants the former ones any more
    cache.held = []
    assert take_turns(prefixes, cache, others) == 7


def test_one_picture_at_a_time_is_not_copied(spec: LanguageModelSpec) -> None:
    prefixes, cache = ImagePromptCache(None, spec, 10**6), FakeCache()
    for prompt in several(2) * 2:
        assert evaluate(prefixes, cache, prompt) <= len(BEFORE)
    assert evaluate(prefixes, FakeCache(), several(1)[0]) == 0


def test_snapshots_are_written_of_pictures_that_made_room_for_others(
    snapshots: Snapshots, spec: LanguageModelSpec
) -> None:
    prefixes, cache = ImagePromptCache(snapshots, spec, 10**6), FakeCache()
    take_turns(prefixes, cache, several(3))
    cache.held = []
    snapshots.close()
    anew = ImagePromptCache(snapshots, spec)
    assert [evaluate(anew, FakeCache(), prompt) for prompt in several(3)] == [7, 7, 7]


def test_a_copy_that_the_cache_refuses_is_forgotten(spec: LanguageModelSpec) -> None:
    prefixes, cache = ImagePromptCache(None, spec, 10**6), FakeCache()
    take_turns(prefixes, cache, several(2))
    cache.refuses = True
    assert evaluate(prefixes, cache, several(2)[0]) == 0
    cache.refuses, cache.held = False, []
    assert evaluate(prefixes, cache, several(2)[0]) == 0
