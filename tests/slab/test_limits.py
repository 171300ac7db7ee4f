"""What the system may refuse, and the bounds of the slab itself: each case has a defined end.

Limits hold for a process, so each case is a child. What cannot be had is an exception; what was
published before stays as it was, and nothing half published is left behind.
"""

from __future__ import annotations

import mmap
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support.fuse import lacking
from support.seccomp import MEMFD_CREATE, PWRITE64, under_seccomp
from support.slab import VALUES, Sample, rows
from wofs.errors import SlabError, SlabFull
from wofs.record import NEXT, Record, raw, record
from wofs.slab import Arena, _slab, address_of
from wofs.slab.arena import HEADER_BYTES

TESTS = str(Path(__file__).resolve().parent.parent)
INSTRUMENTED = "libasan" in os.environ.get("LD_PRELOAD", "")

PREPARE = f"""
import errno, mmap, os, resource, sys
sys.path.insert(0, {TESTS!r})
from support.slab import VALUES, Other, Sample, filled, rows
from wofs.errors import NoBackend, SlabError, StaleHandle
from wofs.slab import Arena, _slab, address_of

def limit(kind, value):
    resource.setrlimit(kind, (value, resource.getrlimit(kind)[1]))

def sound(arena, handles):
    assert [h.first for h in handles] == list(range(len(handles)))
    assert arena.verify() == []

def refused(call, *kinds):
    try:
        call()
    except kinds as error:
        return error
    raise AssertionError("was not refused")
"""


def child(script: str) -> str:
    """Run a script that must end well; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", PREPARE + script],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


# ---- limits of the process
@pytest.mark.skipif(INSTRUMENTED, reason="AddressSanitizer needs address space by the terabyte")
def test_no_address_space() -> None:
    said = child("""
arena, handles = filled()
used = int(open("/proc/self/statm").read().split()[0]) * mmap.PAGESIZE
limit(resource.RLIMIT_AS, used + (1 << 20))
for backend in ("auto", "memfd", "shared", "mprotect", "none"):
    print(refused(lambda: Arena.create(4096, backend), NoBackend))
sound(arena, handles)
arena.finish()
sound(arena, handles)
""")
    words = "slab backend {}: Cannot allocate memory"
    assert said.splitlines() == [
        words.format(name) for name in ("auto", "memfd", "shared", "mprotect", "none")
    ]


@pytest.mark.skipif(INSTRUMENTED, reason="AddressSanitizer needs address space by the terabyte")
def test_out_of_memory_in_the_middle_of_a_batch() -> None:
    """What was published before stays, without handles; nothing is half there."""
    said = child("""
arena = Arena.create(4096)
cache = arena.cache(Sample)
handles = cache.init_batch("s", rows(9))
data = bytes(cache._layout.size * 100_000)
used = int(open("/proc/self/statm").read().split()[0]) * mmap.PAGESIZE
limit(resource.RLIMIT_AS, used)
error = refused(lambda: arena._raw.init_batch(0, "b", data), OSError)
limit(resource.RLIMIT_AS, resource.RLIM_INFINITY)
print(errno.errorcode[error.errno])
assert len(list(arena.objects())) == cache.stats().objects < 100_009
sound(arena, handles)
assert cache.init_once("late", **VALUES).first == 1
arena.finish()
""")
    assert said == "ENOMEM"


def test_no_descriptor() -> None:
    """memfd needs two: auto takes anonymous memory, memfd by name is refused."""
    said = child("""
arena, handles = filled()
top = max(map(int, os.listdir("/proc/self/fd"))) + 1
held = [os.open("/dev/null", os.O_RDONLY) for _ in range(40)]
limit(resource.RLIMIT_NOFILE, max(held) + 1)
print(refused(lambda: Arena.create(4, "memfd"), NoBackend))
other, others = filled()
print(other.stats().backend)
sound(other, others)
other.finish()
arena.finish()
sound(arena, handles)
""")
    assert said == "slab backend memfd: Too many open files\nshared"


def test_no_locked_memory() -> None:
    """Nothing is locked into memory: the limit does not matter."""
    said = child("""
limit(resource.RLIMIT_MEMLOCK, 0)
arena, handles = filled()
arena.finish(process_lifetime=True)
sound(arena, handles)
print(arena.stats().backend)
""")
    assert said == "memfd"


def test_no_files_of_that_size() -> None:
    said = child("""
limit(resource.RLIMIT_FSIZE, 4096)
print(refused(lambda: Arena.create(4, "memfd"), NoBackend))
arena, handles = filled()
print(arena.stats().backend)
arena.finish()
sound(arena, handles)
""")
    assert said == "slab backend memfd: File too large\nshared"


HALF = """
arena, handles = filled("{backend}")
cache = arena.cache(Sample)
last = address_of(handles[7], "first")
stride = cache.stats().slot_bytes
cache.free(handles[8])  # its place in the memory file is where the next header goes
handles = handles[:8]
begin = arena._raw.state()[5]
place = begin + 8 * stride
for bytes_in in ({points}):
    limit(resource.RLIMIT_FSIZE, place + bytes_in)
    error = refused(lambda: cache.init_once("half", **VALUES), OSError)
    assert error.errno == errno.EFBIG, error
    site = arena.locate(last + stride)
    assert site.what == "free object", site
    sound(arena, handles)
    assert cache.stats().objects == 8
limit(resource.RLIMIT_FSIZE, resource.RLIM_INFINITY)
assert cache.init_once("whole", **VALUES).first == 1
assert arena.locate(last + stride).name == "whole"
arena.finish()
sound(arena, handles)
"""


@pytest.mark.parametrize("points", ["0, 1, 8, 16, 23", "24, 40, 60, 79"], ids=["header", "object"])
def test_a_publication_cut_off_leaves_no_object(points: str) -> None:
    """The kernel writes a part of an object, up to the limit, then refuses."""
    child(HALF.format(backend="memfd", points=points))


def test_a_batch_cut_off_leaves_no_objects() -> None:
    said = child("""
arena = Arena.create(64)
cache = arena.cache(Sample)
handles = cache.init_batch("s", rows(9))
base = arena.pages()[0]
begin = arena._raw.state()[5]
limit(resource.RLIMIT_FSIZE, begin + 3 * mmap.PAGESIZE + 100)
error = refused(lambda: cache.init_batch("b", rows(400)), OSError)
limit(resource.RLIMIT_FSIZE, resource.RLIM_INFINITY)
names = {arena.locate(base.address + at).what for at in range(base.bytes, 8 * mmap.PAGESIZE, 8)}
print(errno.errorcode[error.errno], cache.stats().objects, len(list(arena.objects())), names)
sound(arena, handles)
for number in range(100):
    cache.init_once("late", **VALUES)
arena.finish()
""")
    assert said.startswith("EFBIG 9 9 ")
    assert "'object'" not in said
    assert "'header'" not in said


def test_a_free_cut_off_takes_the_object_all_the_same() -> None:
    child("""
arena, handles = filled()
cache, gone, kept = arena.cache(Sample), handles[4], [h for i, h in enumerate(handles) if i != 4]
place = arena._raw.state()[5] + 4 * cache.stats().slot_bytes
limit(resource.RLIMIT_FSIZE, place)
assert refused(lambda: cache.free(gone), OSError).errno == errno.EFBIG
assert gone.first == 4  # nothing was written
limit(resource.RLIMIT_FSIZE, place + 40)
assert refused(lambda: cache.free(gone), OSError).errno == errno.EFBIG
refused(lambda: gone.first, StaleHandle)
refused(lambda: cache.free(gone), StaleHandle)
limit(resource.RLIMIT_FSIZE, resource.RLIM_INFINITY)
assert [h.first for h in kept] == [0, 1, 2, 3, 5, 6, 7, 8] and arena.verify() == []
assert cache.init_once("new", **VALUES).first == 1
arena.finish()
""")


# ---- a machine without memfd, as users meet it
@pytest.mark.skipif(platform.machine() != "x86_64", reason="system call numbers are x86-64's")
@pytest.mark.parametrize("refused", [MEMFD_CREATE, PWRITE64])
def test_a_weaker_memory_is_one_line(image: Callable[[str], Path], refused: int) -> None:
    done = under_seccomp((refused,), f"cli('info', {str(image('empty'))!r})")
    assert done.returncode == 0
    assert done.stderr == (
        "wofs: empty.img: its mount structures lie in shared memory: this machine refuses memfd, "
        "the strongest\n"
    )


@pytest.mark.skipif(platform.machine() != "x86_64", reason="system call numbers are x86-64's")
@pytest.mark.skipif(lacking() is not None, reason=str(lacking()))
def test_required_memory_is_not_replaced(image: Callable[[str], Path], tmp_path: Path) -> None:
    order = ("mount", "-f", "-o", "require=memfd", str(image("empty")), str(tmp_path))
    done = under_seccomp((MEMFD_CREATE,), f"cli(*{order!r})")
    assert done.returncode == 1
    assert done.stderr == "wofs: slab backend memfd: Operation not permitted\n"
    assert not os.path.ismount(tmp_path)


# ---- bounds of the slab
@pytest.mark.parametrize("size", [0, 1 << 16])
def test_a_record_of_no_bytes_or_too_many_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="its name, size or field count"):
        _slab.layout("odd", size, (("f", "B", 0, 1),), "tests.odd")


def test_a_record_without_fields_is_refused() -> None:
    with pytest.raises(ValueError, match="its name, size or field count"):
        _slab.layout("odd", 8, (), "tests.odd")


@record("largest", derived=True, source="this test")
class Largest(Record):
    """As large as fits a page with its header."""

    data = raw(NEXT, mmap.PAGESIZE - HEADER_BYTES, "data")


@record("too large", derived=True, source="this test")
class TooLarge(Record):
    """A byte more."""

    data = raw(NEXT, mmap.PAGESIZE - HEADER_BYTES + 1, "data")


def test_an_object_may_fill_a_page() -> None:
    arena = Arena.create(2)
    cache = arena.cache(Largest)
    contents = [bytes([n]) * (mmap.PAGESIZE - HEADER_BYTES) for n in (1, 2)]
    handles = [cache.init_once(f"o{n}", data=data) for n, data in enumerate(contents)]
    assert [h.data for h in handles] == contents
    assert [page.slots for page in arena.pages()] == [(True,), (True,)]
    with pytest.raises(SlabError, match="does not fit a page"):
        arena.cache(TooLarge)
    arena.close()


def test_objects_and_fields_are_aligned() -> None:
    arena = Arena.create(8)
    for handle in arena.cache(Sample).init_batch("s", rows(60)):
        assert address_of(handle, "first") % 8 == 0
        assert address_of(handle, "short") % 2 == 0
        assert address_of(handle, "items") % 4 == 0
        assert address_of(handle, "wide") % 8 == address_of(handle, "signed") % 8 == 0
    arena.close()


def test_names_fill_an_arena_before_its_pages_do() -> None:
    """Nearly 32 KiB of different names; a name that comes back costs nothing."""
    arena = Arena.create(40)
    cache = arena.cache(Sample)
    most = 128 // 31 + ((32 << 10) - 128) // 31
    for made in range(most):
        cache.init_once(f"a name of its own, number {made:4}", **VALUES)
    with pytest.raises(SlabFull):
        cache.init_once("a name of its own, the last one", **VALUES)
    assert cache.init_once("a name of its own, number    0", **VALUES).first == 1
    assert arena.verify() == []
    arena.close()


@pytest.mark.parametrize("number", [-1, 1 << 32, 1 << 64])
def test_a_number_is_never_cut_down(number: int) -> None:
    arena = _slab.Arena(1, "mprotect", "object")
    for call in (
        lambda: arena.init_once(number, "x", b""),
        lambda: arena.cache_state(number),
        lambda: _slab.layout("odd", 8, (("f", "B", number, 1),), "tests.odd"),
    ):
        with pytest.raises(OverflowError):
            call()
    arena.close()


# ---- other interpreters
INTERPRETERS = """
import sys
try:
    import _xxsubinterpreters as interpreters
except ImportError:
    import _interpreters as interpreters
{first}
made = interpreters.create()
try:
    # google_crc32c warns there that its compiled form does not load either
    quiet = "import warnings; warnings.simplefilter('ignore'); import wofs.slab"
    failed = interpreters.{run}(made, quiet)
except Exception as error:
    failed = error
print(type(failed).__name__, str(failed), flush=True)
os._exit(0)  # some releases of 3.12 do not end well after a subinterpreter loaded hashlib
"""


@pytest.mark.parametrize("first", ["", "import wofs.slab"], ids=["first", "second"])
def test_a_subinterpreter_is_refused(first: str) -> None:
    run = "run_string" if sys.version_info < (3, 13) else "exec"
    said = child(INTERPRETERS.format(first=first, run=run))
    assert "ImportError" in said
    assert "main interpreter only" in said or "does not support loading in subinterp" in said


class Shortens:
    """A number that empties the row it stands in while it is asked for its value."""

    def __init__(self, row: list[object]) -> None:
        self.row = row

    def __index__(self) -> int:
        self.row.clear()
        return 1


def test_values_that_change_their_row_are_refused() -> None:
    arena = Arena.create(1)
    cache = arena.cache(Sample)
    row = list(rows(1)[0])
    row[0] = Shortens(row)
    with pytest.raises(SlabError, match="0 values for 7 fields"):
        cache.init_batch("s", [row])
    assert cache.stats().objects == 0
    arena.close()


@pytest.mark.parametrize(
    ("field", "bad", "words"),
    [
        ("flag", 256, "flag: the number is too large"),
        ("short", -1, "short: the number is negative"),
        ("wide", 2**64, "wide: the number is negative or beyond"),
        ("signed", 2**63, "signed: the number is beyond"),
        ("first", 1.0, "float"),
        ("items", (1, 2, 2**32), "items: the number is too large"),
        ("items", (1, 2), "items: 2 values for 3"),
        ("uuid", bytes(17), "uuid: too many bytes"),
        ("uuid", "text", "uuid: bytes are needed, not str"),
    ],
)
def test_a_value_that_does_not_fit_is_told_by_its_field(
    field: str, bad: object, words: str
) -> None:
    arena = Arena.create(1)
    cache = arena.cache(Sample)
    with pytest.raises(SlabError, match=words):
        cache.init_once("one", **{**VALUES, field: bad})
    arena.close()
