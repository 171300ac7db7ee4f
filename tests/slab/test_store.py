"""Stores: batches of objects by key, sealed when full, given back whole, named when hit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Hashable, Iterator

import pytest

from wofs.errors import NoBackend, StaleHandle
from wofs.slab import Shelf, Store
from wofs.slab.store import BATCH_BYTES, SLOT_BYTES

KINDS = ("inode", "block")


@pytest.fixture
def store() -> Iterator[Store]:
    made = Store.create(64 << 20, "memfd", "metadata", KINDS)
    yield made
    made.close()


def filled(shelf: Shelf, count: int, size: int = 500) -> None:
    for number in range(count):
        shelf.put(0, ((number, number, 0, number.to_bytes(4, "little") * (size // 4)),))


def test_what_was_put_is_read_back(store: Store) -> None:
    shelf = store.shelf("inode", 1 << 20)
    filled(shelf, 100)
    for number in range(100):
        data = number.to_bytes(4, "little") * 125
        assert shelf.read(number, 0, number, 0) == data
        view = shelf.view(number, 0, number, 0)
        assert view is not None
        assert view.readonly
        assert view == data
    assert shelf.read_many([5, 200, 7], 0) == [b"\5\0\0\0" * 125, None, b"\7\0\0\0" * 125]
    assert store.verify() == []


def test_a_spoiled_index_leads_to_nothing(store: Store) -> None:
    """Every place that is not the object's own, also those of other objects."""
    shelf = store.shelf("inode", 1 << 20)
    filled(shelf, 50)
    places = shelf._young.places
    good = dict(places)
    for wrong in (*(good[n] for n in range(1, 50)), 8, 1 << 20, 1 << 40, 2**64 - 16, good[0] + 16):
        places[0] = wrong
        assert shelf.read(0, 0, 0, 0) is None
        assert shelf.view(0, 0, 0, 0) is None
    places[0] = good[0]
    assert shelf.read(0, 1, 0, 0) is None, "another kind"
    assert shelf.read(0, 0, 0, 1) is None, "another key"
    assert shelf.read(0, 0, 0, 0) is not None


def test_full_batches_are_sealed_and_the_oldest_given_back(store: Store) -> None:
    limit = 4 * BATCH_BYTES
    shelf = store.shelf("inode", limit)
    filled(shelf, 20_000)
    stats = shelf.stats()
    assert stats.given_back > 30
    assert stats.bytes <= limit + 2 * BATCH_BYTES
    assert stats.sealed >= stats.batches - 1
    assert shelf.read(0, 0, 0, 0) is None
    assert shelf.read(19_999, 0, 19_999, 0) is not None
    assert sum(r.bytes_used for r in store.ranges()) == stats.bytes_used


def test_what_is_used_stays(store: Store) -> None:
    shelf = store.shelf("inode", 2 * BATCH_BYTES)
    filled(shelf, 1)
    for number in range(1, 5000):
        shelf.put(0, ((number, number, 0, bytes(500)),))
        assert shelf.read(0, 0, 0, 0) is not None
    assert shelf.stats().given_back > 5


def test_a_large_object_has_a_batch_of_its_own_and_goes_on_living(store: Store) -> None:
    shelf = store.shelf("map", 1 << 20)
    data = os.urandom(3 << 20)
    shelf.put(1, (("big", 7, 0, data),))
    for number in range(3000):
        shelf.put(0, ((number, number, 0, bytes(500)),))
        if not number % 50:
            assert shelf.view("big", 1, 7, 0) is not None
    view = shelf.view("big", 1, 7, 0)
    assert view is not None
    assert bytes(view) == data
    del view
    assert all(state[4] for batch in shelf.batches() if (state := batch.state())[1] > BATCH_BYTES)


def test_a_view_in_use_outlives_its_batch(store: Store) -> None:
    shelf = store.shelf("inode", SLOT_BYTES)
    filled(shelf, 1)
    view = shelf.view(0, 0, 0, 0)
    filled(shelf, 2000)
    assert view is not None
    assert bytes(view) == bytes(500)
    shelf.clear()
    with pytest.raises(BufferError):
        store.close()
    del view
    store.close()
    with pytest.raises(StaleHandle):
        shelf._read(0, 0, 0, 0)


def test_without_room_nothing_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    store = Store.create(2 * SLOT_BYTES, "memfd", "metadata", KINDS)
    shelf = store.shelf("inode", 1 << 20)
    shelf.put(0, ((1, 1, 0, bytes(SLOT_BYTES * 3)),))
    shelf.put(0, ((1, 1, 0, bytes(SLOT_BYTES * 3)),))
    assert shelf.read(1, 0, 1, 0) is None
    assert [record.getMessage() for record in caplog.records] == [
        "no write-once memory for every inode: the arena has no room left"
    ]
    store.close()


STRIKE = """
from wofs.slab import Store, _slab
store = Store.create(1 << 20, {backend!r}, "metadata", ("inode", "block"))
shelf = store.shelf("inode", 1 << 20)
shelf.put(0, [(n, n, 0, bytes(500)) for n in range(100)])
shelf.put(1, [("b", 4096, 0, bytes(4096))])
address = store.ranges()[0].address + {offset}
site = store.locate(address)
print(site.what, site.name, flush=True)
_slab.stray_store(address, 255)
print(len(store.verify()), flush=True)
store.enforce()
"""


@pytest.mark.parametrize(
    ("offset", "site"),
    [
        (0, "header inode[0]"),
        (544 * 7 + 40, "kept object inode[7]"),
        (544 * 100 + 3000, "kept object block[4096]"),
        (544 * 3 + 541, "padding inode[3]"),
    ],
)
def test_a_stray_write_is_told_by_its_object(offset: int, site: str) -> None:
    what, _, name = site.rpartition(" ")
    for backend in ("memfd", "shared", "none"):
        done = subprocess.run(
            [sys.executable, "-c", STRIKE.format(backend=backend, offset=offset)],
            capture_output=True,
            text=True,
            check=False,
        )
        lines = done.stdout.splitlines()
        assert lines[0] == site
        if backend != "none":
            assert len(lines) == 1
            assert done.returncode == -signal.SIGSEGV
            assert f"metadata {name} (" in done.stderr
            assert "The memory was not changed" in done.stderr
        elif what != "padding":  # it landed, and comparing finds it
            assert lines[1] == "1"
            assert done.returncode == -signal.SIGSEGV
            assert "is not what was published" in done.stderr


def test_a_forked_child_reads_but_does_not_publish(store: Store) -> None:
    shelf = store.shelf("inode", 1 << 20)
    filled(shelf, 3)
    pid = os.fork()
    if not pid:
        shelf.put(0, ((9, 9, 0, bytes(500)),))
        os._exit(0 if shelf.read(2, 0, 2, 0) and shelf.read(9, 0, 9, 0) is None else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    filled(shelf, 1)
    assert store.verify() == []


def test_a_number_is_not_cut_down(store: Store) -> None:
    batch = store.raw.batch(1000)
    index = dict[Hashable, int]()
    assert batch.put(1, [("key", 2**64 - 1, 7, b"x")], index) == (1, 1)
    place = index["key"]
    assert store.raw.read(place, 1, 2**64 - 1, 7) == b"x"
    a = 2**64 - 1
    for wrong in ((place + 2**64, 1, a, 7), (place, 2**32 + 1, a, 7), (place, 1, a, 2**64 + 7)):
        with pytest.raises(OverflowError):
            store.raw.read(*wrong)
    with pytest.raises(OverflowError):
        store.raw.view(place, 1, -1, 7)
    with pytest.raises(OverflowError):
        store.raw.read_many([place], 1, [-1])
    for row in ((0, -1, 0, b""), (0, 0, 2**64, b"")):
        with pytest.raises(OverflowError):
            batch.put(0, [row], {})
    assert batch.state()[3] == 1


def test_a_store_has_so_many_slots_at_most() -> None:
    with pytest.raises(NoBackend, match="Invalid argument"):
        Store.create((SLOT_BYTES << 20) + 1, "memfd", "metadata", KINDS)


def test_the_same_kinds_take_room_in_the_registry_once() -> None:
    """It has room for about a thousand lists of names; a process may mount more often."""
    for _ in range(3000):
        Store.create(SLOT_BYTES, "none", "metadata", KINDS).close()


def test_a_value_that_finds_no_room_does_not_leave_the_old_one() -> None:
    store = Store.create(2 * SLOT_BYTES, "memfd", "metadata", KINDS)
    shelf = store.shelf("inode", 1 << 20)
    shelf.put(0, ((1, 1, 0, b"old"),))
    shelf.put(0, ((1, 1, 0, bytes(SLOT_BYTES * 3)),))
    assert shelf.read(1, 0, 1, 0) is None
    shelf.clear()
    store.close()


def test_the_largest_number_is_told_whole(store: Store) -> None:
    kind = "k" * 31
    named = Store.create(SLOT_BYTES, "memfd", "metadata", (kind,))
    shelf = named.shelf(kind, SLOT_BYTES)
    shelf.put(0, ((1, 2**64 - 1, 0, b"x" * 100),))
    site = named.locate(named.ranges()[0].address + 40)
    assert site is not None
    assert site.name == f"{kind}[{2**64 - 1}]"
    named.close()


CHILD_LOOKS = """
import os
from wofs.slab import Store
store = Store.create(1 << 20, "memfd", "metadata", ("inode",))
batch = store.raw.batch(100)
batch.put(0, [(1, 1, 0, b"x")], {})
address = batch.state()[0]
ready, go = os.pipe(), os.pipe()
child = os.fork()
if not child:
    os.read(go[0], 1)
    from wofs.errors import NoBackend, StaleHandle
    try:
        print(store.locate(address), flush=True)
    except StaleHandle:
        os._exit(0 if store.raw.read(0, 0, 1, 0) is None else 2)
    os._exit(1)
del batch
store.close()
other = Store.create(64 << 10, "memfd", "metadata", ("another",))
kept = other.raw.batch(100)
kept.put(0, [(1, 1, 0, b"y")], {})
os.write(go[1], b"x")
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""

NO_MAPPINGS_LEFT = """
import ctypes, mmap
from wofs.slab import Store
store = Store.create(1 << 20, "memfd", "metadata", ("inode",))
batch = store.raw.batch(100)
index = {}
batch.put(0, [(1, 1, 0, b"x" * 50)], index)
place = index[1]
address = batch.state()[0]
protect = ctypes.CDLL(None).mprotect
room = mmap.mmap(-1, 4096 * 140_000)
start, page = ctypes.addressof(ctypes.c_char.from_buffer(room)), 0
while protect(ctypes.c_void_p(start + 4096 * page), 4096, 0) == 0:
    page += 2
    assert page < 140_000, "there is no limit on mappings"
last = mmap.mmap(-1, 4096)  # takes the last one; now not even one in another's place is granted
del batch
protect(ctypes.c_void_p(start), ctypes.c_size_t(4096 * 140_000), 3)
assert store.raw.read(place, 0, 1, 0) is None
assert store.raw.view(place, 0, 1, 0) is None
assert store.locate(address).what == "unused page"
assert store.verify() == []
store.enforce()
assert store.raw.batch(100).state()[0] != address, "slots whose memory is still there"
store.close()
"""


def run(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=100
    )


def test_a_child_is_not_led_to_a_store_of_its_parent_that_came_later() -> None:
    done = run(CHILD_LOOKS)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_batch_that_the_system_does_not_take_back_is_gone_all_the_same() -> None:
    done = run(NO_MAPPINGS_LEFT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_nothing_at_the_very_end_is_found() -> None:
    store = Store.create(SLOT_BYTES, "memfd", "metadata", KINDS)
    batch = store.raw.batch(SLOT_BYTES - 32)
    index, data = dict[Hashable, int](), bytes(SLOT_BYTES - 64)
    assert batch.put(0, [(1, 1, 0, data), (2, 2, 0, b"")], index) == (2, len(data))
    assert index == {1: 0, 2: SLOT_BYTES - 32}
    assert store.raw.read(index[1], 0, 1, 0) == data
    assert store.raw.read(index[2], 0, 2, 0) == b""


def test_a_key_that_acts_when_it_is_hashed_spoils_nothing(store: Store) -> None:
    class Key:
        def __hash__(self) -> int:
            rows.clear()
            return 1

    rows = [(Key(), number, 0, b"x" * 100) for number in range(40)]
    index = dict[Hashable, int]()
    assert store.raw.batch(10_000).put(0, rows, index) == (40, 4000)
    assert rows == []
    assert len(index) == 40
