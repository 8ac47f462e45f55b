import hashlib
import logging
import os
import resource
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny.alarms import check_handlers_pass

from edge_et.store import Snapshots, SnapshotStore
from edge_et.store.files import PARTIAL_PREFIX

SIZE = 1000
HEADER_BYTES = 88


def key_of(number: int) -> str:
    return hashlib.sha256(bytes([number])).hexdigest()


def content(number: int, size: int = SIZE) -> NDArray[np.uint8]:
    return np.random.default_rng(number).integers(0, 256, size, np.uint8)


def entry(folder: Path, number: int) -> Path:
    return folder / f"{key_of(number)}.snapshot"


def used_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def new_store(folder: Path, entries: int = 8) -> SnapshotStore:
    return SnapshotStore(folder, entries * (SIZE + HEADER_BYTES))


def holds(store: SnapshotStore, number: int, size: int = SIZE) -> bool:
    data = store.read(key_of(number))
    assert data is None or np.array_equal(data, content(number, size))
    return data is not None


def test_what_is_written_is_read_by_another_process_too(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "there yet"
    new_store(folder).write(key_of(1), content(1))
    data = new_store(folder).read(key_of(1))
    assert data is not None
    assert data.flags.writeable
    assert data.ctypes.data % 8 == 0  # float32 rows are read in place
    assert holds(new_store(folder), 1)
    assert not holds(new_store(folder), 2)
    assert [path.name for path in folder.iterdir()] == [f"{key_of(1)}.snapshot"]
    assert folder.stat().st_mode & 0o077 == 0


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def cut_in_the_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:50])


def prolonged(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def huge(path: Path) -> None:
    os.truncate(path, 2**40)  # sparse: no disk has it, and no memory either


def of_another_key(path: Path) -> None:
    new_store(path.parent).write(key_of(2), content(2))
    entry(path.parent, 2).replace(path)


def foreign(path: Path) -> None:
    path.write_bytes(b"GGUF" * 500)


def a_link(path: Path) -> None:
    real = path.with_name("elsewhere")
    path.replace(real)
    path.symlink_to(real)


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)  # whoever opens it waits for ever


def byte_changed(offset: int) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[offset] ^= 1
        path.write_bytes(data)

    return change


DAMAGES = {
    damage.__name__: damage
    for damage in (
        truncated,
        emptied,
        cut_in_the_header,
        prolonged,
        huge,
        of_another_key,
        foreign,
        a_link,
        a_pipe,
    )
} | {
    f"byte {offset}": byte_changed(offset)
    for offset in (0, 15, 16, 47, 48, 55, 56, 87, HEADER_BYTES, HEADER_BYTES + SIZE - 1)
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_deleted_and_can_be_written_again(tmp_path: Path, damage: str) -> None:
    store = new_store(tmp_path)
    store.write(key_of(1), content(1))
    DAMAGES[damage](entry(tmp_path, 1))
    assert store.read(key_of(1)) is None
    assert not os.path.lexists(entry(tmp_path, 1))
    store.write(key_of(1), content(1))
    assert holds(store, 1)


def test_a_folder_in_an_entrys_place_stays_and_harms_nobody(tmp_path: Path) -> None:
    store = new_store(tmp_path, entries=4)
    (entry(tmp_path, 1) / "somebody's").mkdir(parents=True)
    assert store.read(key_of(1)) is None
    for number in range(1, 7):
        store.write(key_of(number), content(number))
    assert store.read(key_of(1)) is None
    assert (entry(tmp_path, 1) / "somebody's").is_dir()
    assert holds(store, 6)


def test_what_was_unused_for_longest_goes_first(tmp_path: Path) -> None:
    store = new_store(tmp_path, entries=4)
    for number in range(4):
        store.write(key_of(number), content(number))
        os.utime(entry(tmp_path, number), (1000 + number, 1000 + number))
    assert holds(store, 0)  # used now
    store.write(key_of(4), content(4))
    assert [holds(store, number) for number in range(5)] == [True, False, True, True, True]
    assert used_bytes(tmp_path) == 4 * (SIZE + HEADER_BYTES)


def test_what_belongs_to_others_is_neither_counted_nor_deleted(tmp_path: Path) -> None:
    store = new_store(tmp_path, entries=4)
    foreign = tmp_path / "photo.jpg"
    foreign.write_bytes(bytes(100_000))
    os.utime(foreign, (0, 0))
    for number in range(6):
        store.write(key_of(number), content(number))
    assert foreign.stat().st_size == 100_000
    assert len(list(tmp_path.iterdir())) == 5


def test_nothing_larger_than_a_quarter_of_the_budget_is_kept(tmp_path: Path) -> None:
    for limit, kept in (
        (0, False),
        (4 * (SIZE + HEADER_BYTES) - 1, False),
        (4 * (SIZE + HEADER_BYTES), True),
    ):
        store = SnapshotStore(tmp_path / str(limit), limit)
        store.write(key_of(1), content(1))
        assert (store.accepts(SIZE), holds(store, 1)) == (kept, kept)


def test_remains_of_a_killed_write_are_never_read_and_cleared_away(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    for name, age_s in (("old", 7200), ("new", 10)):
        folder = tmp_path / f"{PARTIAL_PREFIX}{name}"
        folder.mkdir()
        (folder / entry(tmp_path, 1).name).write_bytes(b"half")
        changed_s = time.time() - age_s
        os.utime(folder, (changed_s, changed_s))
    assert store.read(key_of(1)) is None
    store.write(key_of(2), content(2))
    assert not (tmp_path / f"{PARTIAL_PREFIX}old").exists()
    assert (tmp_path / f"{PARTIAL_PREFIX}new").exists()  # somebody may be writing it


def test_a_disk_that_refuses_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_bytes(b"")
    for folder in (tmp_path / "file", tmp_path / "file" / "under it"):
        caplog.clear()
        store = new_store(folder)
        with caplog.at_level(logging.WARNING):
            for number in range(3):
                assert not holds(store, number)
                store.write(key_of(number), content(number))
        assert len(caplog.records) == 1
        assert str(folder) in caplog.text


def test_a_disk_that_gets_full_leaves_nothing_behind(tmp_path: Path) -> None:
    store = new_store(tmp_path, entries=1000)
    store.write(key_of(1), content(1))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SIZE + HEADER_BYTES, hard))
    try:
        store.write(key_of(2), content(2, 50_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in tmp_path.iterdir()] == [entry(tmp_path, 1).name]
    assert holds(store, 1)
    store.write(key_of(2), content(2, 50_000))
    assert holds(store, 2, 50_000)


def test_several_writers_share_a_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = [0] * 4

    def work(worker: int) -> None:
        store = new_store(tmp_path, entries=5)
        random = np.random.default_rng(worker)
        for _ in range(150):
            number = int(random.integers(0, 8))
            if holds(store, number):
                found[worker] += 1
            else:
                store.write(key_of(number), content(number))

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert min(found) > 0
    assert caplog.records == []  # nobody saw half an entry, or lost one that he was reading
    new_store(tmp_path, entries=5).write(key_of(9), content(9))
    assert used_bytes(tmp_path) <= 5 * (SIZE + HEADER_BYTES)


def test_keys_tell_everything_apart(tmp_path: Path) -> None:
    def key(kind: str = "kv", threads: int = 1, **facts: str) -> str:
        return Snapshots(new_store(tmp_path), {"threads": threads}).key(kind, **facts)

    keys = [
        key(content="a"),
        key(content="b"),
        key("image tokens", content="a"),
        key(threads=2, content="a"),
        key(digest="a"),
        key(content="a", digest="a"),
    ]
    assert len(set(keys)) == len(keys)
    assert keys[0] == key(content="a")


def test_writing_waits_for_the_end_of_a_call_and_nobody_for_the_writing(tmp_path: Path) -> None:
    snapshots = Snapshots(new_store(tmp_path), {})
    copied: list[int] = []

    def copy(number: int) -> NDArray[np.uint8]:
        copied.append(number)
        return content(number)

    snapshots.later(key_of(1), lambda: copy(1))
    snapshots.later(key_of(2), lambda: None)  # gone when it was to be copied
    assert copied == []
    snapshots.settle()
    assert copied == [1]
    snapshots.close()
    assert holds(snapshots.store, 1)
    assert not holds(snapshots.store, 2)
    snapshots.later(key_of(3), lambda: copy(3))
    snapshots.close()
    snapshots.close()
    assert holds(snapshots.store, 3)
    assert copied == [1, 3]


class SlowStore(SnapshotStore):
    """A disk that writes when it is told to."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, 100_000)
        self.go_on = threading.Event()

    def write(self, key: str, data: NDArray[np.uint8]) -> None:
        assert self.go_on.wait(10)
        super().write(key, data)


def test_a_slow_disk_keeps_fewer(tmp_path: Path) -> None:
    store = SlowStore(tmp_path)
    snapshots = Snapshots(store, {})
    for number in range(3):
        snapshots.later(key_of(number), lambda number=number: content(number))
        snapshots.settle()
    store.go_on.set()
    snapshots.close()
    assert [holds(store, number) for number in range(3)] == [True, False, False]


def test_what_a_handler_raises_while_an_entry_is_read_comes_as_it_is(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path, 10**9)
    store.write(key_of(1), np.zeros(20_000_000, np.uint8))
    check_handlers_pass(lambda: store.read(key_of(1)), after_s=0.03)
    assert store.read(key_of(1)) is not None
