"""The slab: filled once, several objects a page, freed to a freelist, sealed, read-only."""

from __future__ import annotations

import gc
import mmap
import os
import random
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from support.seccomp import MEMFD_CREATE, MSEAL, under_seccomp
from support.slab import FIELDS, VALUES, Other, Sample, filled, rows
from wofs.errors import NoBackend, SlabError, SlabFinished, SlabFull, StaleHandle
from wofs.record import NEXT, Record, raw, record
from wofs.slab import BACKENDS, Arena, _slab
from wofs.slab.arena import HEADER_BYTES


@pytest.fixture
def arena() -> Iterator[Arena]:
    made = Arena.create(4)
    yield made
    made.close()


def page_of(handle: Sample | Other, field: str) -> int:
    return _slab.address(handle, field) // mmap.PAGESIZE


# ---- filling and reading
@pytest.mark.parametrize("backend", BACKENDS)
def test_every_kind_of_field_reads_back(backend: str) -> None:
    try:
        arena = Arena.create(4, backend)
    except NoBackend as error:
        if backend != "pkey":
            raise
        pytest.skip(f"untested on this machine: {error}")
    handle = arena.cache(Sample).init_once("one", **VALUES)
    for _ in range(2):
        assert {name: getattr(handle, name) for name in FIELDS} == VALUES
        assert arena.stats().backend == backend
        arena.finish()
    arena.close()


def test_objects_share_a_page(arena: Arena) -> None:
    cache = arena.cache(Sample)
    handles = [cache.init_once(f"o{i}", **{**VALUES, "first": i}) for i in range(30)]
    pages = {page_of(h, "first") for h in handles}
    assert [h.first for h in handles] == list(range(30))
    stats = cache.stats()
    assert len(pages) <= stats.pages <= 2
    assert stats.objects == 30
    assert stats.bytes_used + stats.bytes_wasted == sum(run.bytes for run in arena.pages())
    assert stats.slot_bytes >= stats.object_bytes + HEADER_BYTES


def test_caches_share_a_page_but_no_run(arena: Arena) -> None:
    """Few objects of many types take the memory of their own bytes, by units of 128."""
    one = arena.cache(Sample).init_once("one", **VALUES)
    other = arena.cache(Other).init_once("other", number=7)
    assert page_of(one, "first") == page_of(other, "number")
    runs = arena.pages()
    assert [(run.cache, run.bytes, run.slots) for run in runs] == [
        ("sample", 128, (True,)),
        ("other", 128, (True, *[False] * (128 // arena.cache(Other).stats().slot_bytes - 1))),
    ]
    assert runs[1].address == runs[0].address + 128
    assert arena.stats().pages == 1


@pytest.mark.parametrize("count", [0, 1, 41, 5000])
def test_batches_make_handles_when_asked(count: int) -> None:
    arena = Arena.create(200)
    handles = arena.cache(Sample).init_batch("s", rows(count))
    assert [h.first for h in handles] == list(range(count))
    assert len(handles) == count
    if count:
        assert handles[-1].first == count - 1
        assert [h.first for h in handles[: min(3, count) : 2]] == list(range(0, min(3, count), 2))
    with pytest.raises(IndexError):
        handles[count]
    site = arena.locate(_slab.address(handles[count - 1], "wide")) if count else None
    assert site is None or str(site) == f"s[{count - 1}].wide"
    arena.close()


def test_a_single_object_takes_a_batch_s_room(arena: Arena) -> None:
    cache = arena.cache(Sample)
    batch = cache.init_batch("s", rows(3))
    cache.free(batch[1])
    place = _slab.address(batch[2], "first") - cache.stats().slot_bytes
    assert _slab.address(cache.init_once("one", **VALUES), "first") == place


def test_nothing_is_created_or_freed_after_finish(arena: Arena) -> None:
    cache = arena.cache(Sample)
    one = cache.init_once("one", **VALUES)
    arena.finish()
    with pytest.raises(SlabFinished):
        cache.init_once("two", **VALUES)
    with pytest.raises(SlabFinished):
        cache.init_batch("s", rows(2))
    with pytest.raises(SlabFinished):
        arena.cache(Other)
    with pytest.raises(SlabFinished):
        cache.free(one)
    assert arena.stats().sealed
    assert one.first == 1
    arena.finish()


@pytest.mark.parametrize("bad", [{"flag": 256}, {"wide": -1}, {"items": (1, 2)}, {"first": "x"}])
def test_a_value_that_does_not_fit_publishes_nothing(arena: Arena, bad: dict[str, object]) -> None:
    cache = arena.cache(Sample)
    with pytest.raises(SlabError):
        cache.init_once("one", **{**VALUES, **bad})
    with pytest.raises(SlabError):
        cache.init_batch("s", [[{**VALUES, **bad}[name] for name in FIELDS]])
    assert cache.stats().pages == 0


def test_missing_values_are_refused(arena: Arena) -> None:
    with pytest.raises(SlabError, match="first"):
        arena.cache(Sample).init_once("one", flag=1)


def test_a_long_name_is_refused(arena: Arena) -> None:
    with pytest.raises(SlabError, match="at most 31 bytes"):
        arena.cache(Other).init_once("n" * 32, number=1)
    assert arena.cache(Other).init_once("n" * 31, number=1).number == 1


@record("too big", derived=True, source="this test")
class TooBig(Record):
    """More than a page."""

    data = raw(NEXT, mmap.PAGESIZE, "data")


def test_an_object_larger_than_a_page_is_refused(arena: Arena) -> None:
    with pytest.raises(SlabError, match="does not fit a page"):
        arena.cache(TooBig)


def test_a_full_arena_says_so() -> None:
    arena = Arena.create(1)
    with pytest.raises(SlabFull):
        arena.cache(Sample).init_batch("s", rows(1000))
    cache = arena.cache(Sample)
    with pytest.raises(SlabFull):
        [cache.init_once("one", **VALUES) for _ in range(1000)]
    assert cache.stats().objects * cache.stats().slot_bytes >= mmap.PAGESIZE - 128
    assert arena.verify() == []
    arena.close()


@pytest.mark.parametrize("pages", [0, -1])
def test_an_arena_of_no_pages_is_refused(pages: int) -> None:
    with pytest.raises(NoBackend):
        Arena.create(pages)


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(NoBackend, match="memfd, shared, mprotect, alias, pkey, pool, none"):
        Arena.create(1, backend="paper")


# ---- free
def test_a_freed_slot_is_poisoned_and_reused(arena: Arena) -> None:
    cache = arena.cache(Sample)
    handles = [cache.init_once(f"o{i}", **VALUES) for i in range(5)]
    places = [_slab.address(h, "first") for h in handles]
    for i in (3, 1):
        cache.free(handles[i])
        with pytest.raises(StaleHandle):
            _ = handles[i].first
        with pytest.raises(StaleHandle):
            cache.free(handles[i])
    site = arena.locate(places[3])
    assert site is not None
    assert (site.what, site.name) == ("free object", "o2")
    again = cache.init_once("again", **VALUES)
    assert _slab.address(again, "first") == places[1], "the lowest free slot"
    with pytest.raises(StaleHandle):
        _ = handles[1].first
    assert handles[0].first == handles[4].first == 1


def test_a_new_object_goes_to_the_fullest_run(arena: Arena) -> None:
    cache = arena.cache(Sample)
    handles = list(cache.init_batch("s", rows(80)))
    first, *_, last = arena.pages()
    assert len(first.slots) > len(last.slots)
    place = _slab.address(handles[-2], "first")
    for h in (handles[0], *handles[-3:]):
        cache.free(h)
    assert _slab.address(cache.init_once("one", **VALUES), "first") < last.address < place


def test_an_emptied_run_goes_to_another_cache(arena: Arena) -> None:
    cache = arena.cache(Sample)
    handle = cache.init_once("one", **VALUES)
    place = _slab.address(handle, "first")
    cache.free(handle)
    assert cache.stats().pages == arena.stats().pages == 0
    other = arena.cache(Other).init_once("other", number=3)
    assert _slab.address(other, "number") == place
    with pytest.raises(StaleHandle):
        _ = handle.first


def test_an_object_in_view_is_not_freed(arena: Arena) -> None:
    cache = arena.cache(Sample)
    handle = cache.init_once("one", **VALUES)
    view = memoryview(handle)  # type: ignore[arg-type]
    assert view.readonly
    assert bytes(view[:4]) == (1).to_bytes(4, sys.byteorder)
    with pytest.raises(BufferError):
        cache.free(handle)
    with pytest.raises(BufferError):
        arena.close()
    view.release()
    cache.free(handle)


def test_a_view_outlives_the_last_name_of_its_arena() -> None:
    arena = Arena.create(4)
    gone, handle = weakref.ref(arena), arena.cache(Sample).init_once("one", **VALUES)
    view = memoryview(handle)  # type: ignore[arg-type]
    del arena
    gc.collect()
    assert gone() is None
    assert handle.first == 1 == int.from_bytes(view[:4], sys.byteorder)
    view.release()
    with pytest.raises(StaleHandle):
        _ = handle.first


def test_a_pool_is_given_back_whole() -> None:
    arena, handles = filled("pool")
    with pytest.raises(SlabError, match="a pool is given back whole"):
        arena.cache(Sample).free(handles[3])
    assert [handle.first for handle in handles] == list(range(9))
    arena.finish()
    with pytest.raises(SlabFinished):
        arena.cache(Sample).free(handles[3])
    arena.close()
    with pytest.raises(StaleHandle):
        _ = handles[3].first


def test_a_pool_found_spoiled_at_its_end_is_not_sealed() -> None:
    arena, handles = filled("pool")
    _slab.stray_store(_slab.address(handles[4], "uuid") + 3, 0xFF)
    with pytest.raises(SlabError, match="not hold what was published"):
        arena.finish()
    arena.close()


def test_freeing_elsewhere_is_refused(arena: Arena) -> None:
    other = Arena.create(1)
    handle = other.cache(Sample).init_once("one", **VALUES)
    with pytest.raises(ValueError, match="another arena"):
        arena.cache(Sample).free(handle)
    with pytest.raises(ValueError, match="another cache"):
        other.cache(Other).free(handle)  # type: ignore[arg-type]
    assert handle.first == 1
    other.close()


def test_ten_thousand_lives_leave_the_memory_as_it_was(arena: Arena) -> None:
    """Names come back, slots are reused, every handle of a dead object stays stale."""
    rng, cache = random.Random(1), arena.cache(Sample)
    alive: dict[int, Sample] = {}
    dead: list[Sample] = []
    for life in range(10_000):
        if alive and (len(alive) >= 60 or rng.random() < 0.5):
            number = rng.choice(list(alive))
            cache.free(alive[number])
            dead.append(alive.pop(number))
        else:
            alive[life] = cache.init_once(f"o{life % 7}", **{**VALUES, "first": life})
    assert all(handle.first == number for number, handle in alive.items())
    for handle in rng.sample(dead, 500):
        with pytest.raises(StaleHandle):
            _ = handle.first
    assert arena.verify() == []
    assert cache.stats().objects == len(alive)
    assert sum(run.bytes for run in arena.pages()) <= 2 * 60 * cache.stats().slot_bytes
    assert arena.stats().pages <= 4


# ---- looking
def test_every_byte_of_an_arena_is_located() -> None:
    arena, handles = filled()
    start = _slab.address(handles[0], "first") - HEADER_BYTES
    slot = arena.cache(Sample).stats().slot_bytes
    seen: dict[tuple[str, str], list[tuple[str | None, int]]] = {}
    for offset in range(9 * slot):
        site = arena.locate(start + offset)
        assert site is not None
        seen.setdefault((site.name, site.what), []).append((site.field, site.byte))
    names = {f"s[{i}]" for i in range(9)}
    assert {name for name, _ in seen} == names
    for name in names:
        assert len(seen[name, "header"]) == HEADER_BYTES
        fields = [f for f, _ in seen[name, "object"]]
        assert set(fields) - {None} == set(FIELDS)
        assert (fields.count("items"), fields.count("uuid"), fields.count("flag")) == (12, 16, 1)
    (run,) = arena.pages()
    for address, what in (
        (start - 1, "control area"),
        (run.address + run.bytes - 1, "end of a run"),
        (run.address + run.bytes, "unused space"),
    ):
        site = arena.locate(address)
        assert site is not None
        assert site.what == what
        assert str(site) == ("control area" if address < start else f"{what} (s[8])")
    assert arena.locate(id(arena)) is None
    arena.close()


def test_pages_and_objects_are_listed() -> None:
    arena, handles = filled(count=50)
    other = arena.cache(Other).init_once("other", number=1)
    arena.cache(Sample).free(handles[3])
    pages = arena.pages()
    assert [page.cache for page in pages] == ["sample"] * (len(pages) - 1) + ["other"]
    assert pages[0].slots.count(True) == len(pages[0].slots) - 1
    assert not pages[0].slots[3]
    assert sum(page.slots.count(True) for page in pages) == 50
    names = [site.name for site in arena.objects()]
    assert names == [f"s[{i}]" for i in range(50) if i != 3] + ["other"]
    assert [site.address for site in arena.objects()][-1] == _slab.address(other, "number")
    arena.close()


@pytest.mark.parametrize("seal", [False, True])
def test_verify_finds_what_nothing_stopped(seal: bool) -> None:
    """On the control, whose memory takes every store: one changed byte, one finding."""
    arena, handles = filled("none")
    if seal:
        arena.finish()
    assert arena.verify() == []
    _slab.stray_store(_slab.address(handles[4], "uuid") + 3, 0xFF)
    (site,) = arena.verify()
    assert (site.what, site.name, site.cache) == ("object", "s[4]", "sample")
    if not seal:
        with pytest.raises(SlabError, match="not hold what was published"):
            arena.finish()
    arena.close()


# ---- lifetime
def test_handles_are_stale_after_close(arena: Arena) -> None:
    handle = arena.cache(Sample).init_once("one", **VALUES)
    arena.close()
    with pytest.raises(StaleHandle):
        _ = handle.first
    for use in (arena.stats, arena.verify, arena.finish, lambda: arena.locate(0)):
        with pytest.raises(StaleHandle):
            use()
    with pytest.raises(StaleHandle):
        arena.cache(Other)
    arena.close()


def test_a_handle_does_not_outlive_its_arena() -> None:
    arena, handles = filled()
    handle = handles[0]
    del arena, handles
    gc.collect()
    new, _ = filled()  # may lie where the old one was
    with pytest.raises(StaleHandle):
        _ = handle.first
    new.close()


def test_arenas_share_nothing() -> None:
    (one, ones), (two, twos) = filled(), filled()
    one.close()
    assert [h.first for h in twos] == list(range(9))
    with pytest.raises(StaleHandle):
        _ = ones[0]
    two.close()


def test_the_process_holds_many_arenas_and_then_says_so() -> None:
    arenas: list[Arena] = []
    while len(arenas) < 2000:
        try:
            arenas.append(Arena.create(1, "mprotect"))  # takes no descriptor
        except SlabFull:
            break
    assert 1000 < len(arenas) < 2000
    for arena in arenas:
        arena.close()
    Arena.create(1).close()


def test_many_threads_read_while_one_fills() -> None:
    arena = Arena.create(64)
    cache = arena.cache(Sample)
    handles: list[Sample] = [cache.init_once("o0", **{**VALUES, "first": 0})]
    wrong: list[int] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            count = len(handles)
            wrong.extend(i for i in range(count) if handles[i].first != i)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    handles.extend(cache.init_once(f"o{i}", **{**VALUES, "first": i}) for i in range(1, 500))
    done.set()
    for thread in threads:
        thread.join()
    assert not wrong
    arena.close()


# ---- what the system shows and grants
def test_the_mapping_has_a_name_and_is_never_writable(arena: Arena) -> None:
    arena.cache(Sample).init_once("one", **VALUES)
    arena.finish()
    lines = [x for x in Path("/proc/self/maps").read_text().splitlines() if "wofs-slab" in x]
    assert lines
    assert all(line.split()[1] == "r--s" for line in lines)


def test_a_sealed_arena_has_no_descriptor_left() -> None:
    def writers() -> int:
        found = 0
        for number in os.listdir("/proc/self/fd"):
            with suppress(FileNotFoundError):  # the listing's own descriptor
                found += "wofs-slab" in os.readlink(f"/proc/self/fd/{number}")
        return found

    Arena.create(1).close()  # the registry of the process keeps its own
    before = writers()
    arena, _ = filled("memfd")
    assert writers() == before + 1
    arena.finish()
    assert writers() == before
    arena.close()


USE = """
arena, handles = filled()
arena.finish(process_lifetime=True)
assert [h.first for h in handles] == list(range(9))
stats = arena.stats()
print(stats.backend, stats.sealed, stats.locked)
"""
ONLY_MEMFD = """
try:
    Arena.create(1, "memfd")
except NoBackend as error:
    print(error)
"""


def said_under_seccomp(numbers: tuple[int, ...], script: str) -> str:
    """Run a script that must end well; return what it prints."""
    done = under_seccomp(numbers, script)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_without_memfd_the_next_best_is_taken() -> None:
    assert said_under_seccomp((MEMFD_CREATE,), USE).split()[:2] == ["shared", "True"]


def test_without_mseal_the_arena_is_sealed_but_not_locked() -> None:
    assert said_under_seccomp((MSEAL,), USE) == "memfd True False"


def test_a_backend_asked_for_by_name_is_not_replaced() -> None:
    found = said_under_seccomp((MEMFD_CREATE,), ONLY_MEMFD)
    assert found == "slab backend memfd: Operation not permitted"


# ---- fork
FORKED = """
import os, sys
sys.path.insert(0, {tests!r})
from support.slab import VALUES, Other, Sample, filled
from wofs.errors import SlabError
from wofs.slab import Arena

arena, handles = filled()
child = os.fork()
if child == 0:
    assert [h.first for h in handles] == list(range(9))
    for refused in (lambda: arena.cache(Other), arena.finish,
                    lambda: arena.cache(Sample).init_once("c", **VALUES)):
        try:
            refused()
        except SlabError as error:
            assert "parent" in str(error), error
        else:
            os._exit(1)
    mine, ours = filled()
    mine.cache(Other).init_once("other", number=5)
    mine.finish()
    assert [h.first for h in ours] == list(range(9))
    arena.close()
    os._exit(0)
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
assert status == 0, status
late = arena.cache(Other).init_once("late", number=6)
arena.finish()
assert late.number == 6 and [h.first for h in handles] == list(range(9))
assert arena.verify() == []
print("sound")
"""


RECYCLED = """
import mmap, os, sys
sys.path.insert(0, {tests!r})
from support.slab import filled
from wofs.errors import StaleHandle

arena, handles = filled()
first = next(arena.objects())
reads, writes = os.pipe()
child = os.fork()
if child == 0:
    os.read(reads, 1)
    for refused in (lambda: arena.locate(first.address), lambda: handles[0].first):
        try:
            refused()
        except StaleHandle:
            pass
        else:
            os._exit(1)
    assert arena.verify() == []
    os._exit(0)
arena.close()
held = [mmap.mmap(-1, 8 << 10 << n) for n in range(12) for _ in range(4)]  # what it lay in
others = [filled() for _ in range(3)]
os.write(writes, b".")
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
assert status == 0, status
print("sound")
"""


@pytest.mark.parametrize("script", [FORKED, RECYCLED], ids=["parent idle", "parent goes on"])
def test_a_forked_child_reads_but_never_writes_its_parent_s_memory(script: str) -> None:
    tests = str(Path(__file__).resolve().parent.parent)
    done = subprocess.run(
        [sys.executable, "-c", script.format(tests=tests)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.stdout.strip(), done.stderr) == ("sound", "")
