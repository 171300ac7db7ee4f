"""Stores: batches of objects by key, sealed when full, given back whole, named when hit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from wofs.errors import StaleHandle
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
