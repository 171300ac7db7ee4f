"""The slab: filled once, read-only for ever, loud when struck."""

from __future__ import annotations

import copy
import ctypes
import mmap
import os
import pickle
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from wofs.errors import NoBackend, SlabError, SlabFinished, SlabFull
from wofs.record import NEXT, Record, array_u32, i64, raw, record, u8, u16, u32, u64
from wofs.slab import Arena, _slab


@record("sample", derived=True, source="this test")
class Sample(Record):
    """One field of each kind."""

    first = u32(NEXT, "first")
    flag = u8(NEXT, "flag")
    short = u16(NEXT, "short")
    wide = u64(NEXT, "wide")
    signed = i64(NEXT, "signed")
    items = array_u32(NEXT, 3, "items")
    uuid = raw(NEXT, 16, "uuid")


FIELDS = [f.name for f in Sample.spec.fields]
VALUES = {
    "first": 1,
    "flag": 2,
    "short": 3,
    "wide": 2**64 - 1,
    "signed": -5,
    "items": (7, 8, 9),
    "uuid": bytes(range(16)),
}


@pytest.fixture
def arena() -> Iterator[Arena]:
    made = Arena.create(4)
    yield made
    made.close()


def rows(count: int) -> list[list[object]]:
    return [[i if name == "first" else VALUES[name] for name in FIELDS] for i in range(count)]


def test_every_kind_of_field_reads_back(arena: Arena) -> None:
    handle = arena.cache(Sample).init_once("one", **VALUES)
    assert {name: getattr(handle, name) for name in FIELDS} == VALUES


def test_batches_make_handles_when_asked(arena: Arena) -> None:
    handles = arena.cache(Sample).init_batch("s", rows(50))
    assert [h.first for h in handles] == list(range(50))
    assert handles[-1].first == 49
    with pytest.raises(IndexError):
        handles[50]


def test_nothing_is_created_after_finish(arena: Arena) -> None:
    cache = arena.cache(Sample)
    cache.init_once("one", **VALUES)
    arena.finish()
    with pytest.raises(SlabFinished):
        cache.init_once("two", **VALUES)
    assert arena.stats().sealed


@pytest.mark.parametrize("bad", [{"flag": 256}, {"wide": -1}, {"items": (1, 2)}, {"first": "x"}])
def test_a_value_that_does_not_fit_publishes_nothing(arena: Arena, bad: dict[str, object]) -> None:
    cache = arena.cache(Sample)
    with pytest.raises(SlabError):
        cache.init_once("one", **{**VALUES, **bad})
    assert arena.raw.state()[1] == 0


def test_missing_values_are_refused(arena: Arena) -> None:
    with pytest.raises(SlabError, match="first"):
        arena.cache(Sample).init_once("one", flag=1)


def test_published_bytes_are_never_written_again(arena: Arena) -> None:
    cache = arena.cache(Sample)
    cache.init_once("one", **VALUES)
    layout = cache._layout
    data = layout.encode(rows(1)[0])
    with pytest.raises(OSError, match="Invalid argument"):
        arena.raw.publish(layout.capsule, "two", False, 0, layout.size, 1, data)


def test_a_full_arena_says_so() -> None:
    arena = Arena.create(1)
    with pytest.raises(SlabFull):
        arena.cache(Sample).init_batch("s", rows(1000))
    arena.close()


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(NoBackend):
        Arena.create(1, backend="paper")


def test_handles_are_stale_after_close(arena: Arena) -> None:
    handle = arena.cache(Sample).init_once("one", **VALUES)
    arena.close()
    with pytest.raises(ReferenceError):
        _ = handle.first


def test_the_polite_ways_to_write_are_refused(arena: Arena) -> None:
    handle = arena.cache(Sample).init_once("one", **VALUES)
    for name in [*FIELDS, "other"]:
        with pytest.raises(AttributeError):
            setattr(handle, name, 0)
        with pytest.raises(AttributeError):
            object.__setattr__(handle, name, 0)
        with pytest.raises(AttributeError):
            delattr(handle, name)
    with pytest.raises(TypeError):
        type(handle).first = 0
    with pytest.raises(TypeError):
        type(handle)()
    for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError):
            attempt(handle)
    with pytest.raises(TypeError):
        memoryview(handle)  # type: ignore[arg-type]


def test_the_mapping_has_a_name_and_is_never_writable(arena: Arena) -> None:
    arena.cache(Sample).init_once("one", **VALUES)
    arena.finish()
    lines = [x for x in Path("/proc/self/maps").read_text().splitlines() if "wofs-slab" in x]
    assert lines
    assert all(line.split()[1] == "r--s" for line in lines)


def test_the_kernel_refuses_to_make_it_writable(arena: Arena) -> None:
    handle = arena.cache(Sample).init_once("one", **VALUES)
    page = _slab.address(handle, "first") & ~(mmap.PAGESIZE - 1)
    libc = ctypes.CDLL(None, use_errno=True)
    for seal in (False, True):
        if seal:
            arena.finish()
        done = libc.mprotect(ctypes.c_void_p(page), mmap.PAGESIZE, 3)
        assert (done, os.strerror(ctypes.get_errno())) == (-1, "Permission denied")


def test_proc_self_mem_cannot_write_it(arena: Arena) -> None:
    handle = arena.cache(Sample).init_once("one", **VALUES)
    with Path("/proc/self/mem").open("r+b", buffering=0) as memory:
        memory.seek(_slab.address(handle, "first"))
        with pytest.raises(OSError, match="Input/output error"):
            memory.write(b"\xff")
    assert handle.first == 1


def test_a_sealed_arena_cannot_be_written_through_any_descriptor(arena: Arena) -> None:
    arena.cache(Sample).init_once("one", **VALUES)
    arena.finish()
    for link in Path("/proc/self/fd").iterdir():
        try:
            assert "wofs-slab" not in os.readlink(link)
        except FileNotFoundError:
            continue


CHILD = """
import ctypes, sys
sys.path[:0] = {path!r}
from test_arena import *
from wofs.slab import _slab
arena = Arena.create(4)
handle = arena.cache(Sample).init_batch("s", rows(9))[4]
arena.finish()
address = _slab.address(handle, {field!r}) + {skew}
print("before", flush=True)
{attack}
print("survived", flush=True)
"""

ATTACKS = {
    "ctypes": "ctypes.memmove(address, b'x', 1)",
    "c store": "_slab.stray_store(address, 120)",
}


def strike(field: str, attack: str, skew: int = 0) -> subprocess.CompletedProcess[str]:
    """Run an attack in a child process."""
    path = [str(Path(__file__).parent)]
    script = CHILD.format(path=path, field=field, skew=skew, attack=ATTACKS[attack])
    return subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("field", FIELDS)
def test_a_stray_store_ends_the_process_and_names_the_field(field: str, attack: str) -> None:
    done = strike(field, attack)
    assert done.returncode == -signal.SIGSEGV
    assert done.stdout == "before\n"
    assert re.search(rf"mount_struct s\[4\]\.{field}\n", done.stderr)
    assert ", a write" in done.stderr
    assert "Segmentation fault" in done.stderr, "faulthandler still prints the Python stack"


def test_a_store_beside_the_arena_names_the_guard() -> None:
    done = strike("first", "c store", skew=-4096)
    assert done.returncode == -signal.SIGSEGV
    assert "guard page beside the arena" in done.stderr


def test_a_store_behind_the_last_object_names_the_nearest() -> None:
    done = strike("first", "c store", skew=3000)
    assert done.returncode == -signal.SIGSEGV
    assert "no object; nearest below: s[8]" in done.stderr


def test_ordinary_memory_takes_the_same_store_unnoticed() -> None:
    control = ctypes.create_string_buffer(8)
    _slab.stray_store(ctypes.addressof(control), 120)
    ctypes.memmove(ctypes.addressof(control) + 1, b"x", 1)
    assert control.raw[:2] == b"xx"
