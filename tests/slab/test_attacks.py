"""What each attack on the slab really does, by backend and state: measured, then held.

Columns: ordinary memory as the control, the two portable backends sealed and locked, memfd
while it is filled, memfd sealed and locked, a pool while it is filled, a pool sealed and locked.
`landed` is what write-once memory must not allow:
where it stands in a column of memfd, the state is that before `finish`, and the row below
says what closes it. A pool while it is filled is as ordinary memory: that is its window.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from wofs.slab import Arena

COLUMNS = (
    ("none", "open"),
    ("mprotect", "finished"),
    ("shared", "finished"),
    ("memfd", "open"),
    ("memfd", "finished"),
    ("pool", "open"),
    ("pool", "finished"),
)
UNPROTECTED = (("none", "open"), ("pool", "open"))
SEGV, X = "signal SIGSEGV", "exception"
TYPE, STALE, DONE = f"{X} TypeError", f"{X} StaleHandle", f"{X} SlabFinished"
EPERM, EACCES, EINVAL, EIO = "error EPERM", "error EACCES", "error EINVAL", "error EIO"
EFAULT, ENOENT, NO_FD, FREE = "error EFAULT", "error ENOENT", "no descriptor", "no effect"
LANDED = "landed"

STORES = (LANDED, SEGV, SEGV, SEGV, SEGV, LANDED, SEGV)
REFUSED = (TYPE,) * 7
NO_ATTRIBUTE = (f"{X} AttributeError",) * 7
KERNEL_WRITE = (LANDED, EFAULT, EFAULT, EFAULT, EFAULT, LANDED, EFAULT)
FORCED_WRITE = (LANDED, LANDED, EIO, EIO, EIO, LANDED, EIO)
NEW_MAPPING = (LANDED, EPERM, EPERM, LANDED, EPERM, LANDED, EPERM)
FREED = (STALE, DONE, DONE, STALE, DONE, f"{X} SlabError", DONE)

TABLE: dict[str, tuple[str, ...]] = {
    # stores by code that knows an address
    "ctypes_memmove": STORES,
    "ctypes_from_address": STORES,
    "forged_memoryview": STORES,
    "c_store": STORES,
    "overrun_from_neighbour": STORES,
    "header_store": STORES,
    "vdso_clock": STORES,
    "past_the_end": (SEGV,) * 7,
    "before_the_start": (SEGV,) * 7,
    # polite ways
    "memoryview_write": REFUSED,
    "memoryview_cast_write": REFUSED,
    "readinto": REFUSED,
    "ctypes_from_buffer": REFUSED,
    "pack_into": REFUSED,
    "attribute": NO_ATTRIBUTE,
    "object_setattr": NO_ATTRIBUTE,
    "class_setattr": REFUSED,
    "class_change": (TYPE, DONE, DONE, TYPE, DONE, TYPE, DONE),
    "pickling": REFUSED,
    "deepcopy": REFUSED,
    "make_handle": REFUSED,
    # the Python face: a handle can be destroyed, not made to lie; fields are not read through
    # the type's dictionary
    "type_dict": (FREE,) * 7,
    "wrapper_offset_to_junk": (STALE,) * 7,
    "wrapper_offset_to_other": (STALE,) * 7,
    "wrapper_copied_whole": (STALE,) * 7,
    "wrapper_arena": (STALE,) * 7,
    # the kernel asked to make it writable, or to put something else there
    "mprotect": (LANDED, EPERM, EPERM, EACCES, EACCES, LANDED, EPERM),
    "munmap_and_map": NEW_MAPPING,
    "map_fixed": NEW_MAPPING,
    "mremap_onto": NEW_MAPPING,
    "mremap_duplicate": (EINVAL, EPERM, EPERM, EACCES, EPERM, LANDED, EPERM),
    "remap_file_pages": (EINVAL, EINVAL, EPERM, EINVAL, EINVAL, LANDED, EPERM),
    "madvise_dontneed": (LANDED, EPERM, FREE, FREE, FREE, FREE, FREE),
    "madvise_dontneed_locked": (LANDED, EPERM, FREE, FREE, FREE, FREE, FREE),
    "madvise_free": (FREE, EPERM, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL),
    "madvise_remove": (EINVAL, EPERM, LANDED, EACCES, EACCES, LANDED, LANDED),
    "madvise_wipeonfork": (FREE, EPERM, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL),
    "madvise_guard": (SEGV, EPERM, SEGV, SEGV, SEGV, SEGV, SEGV),
    "userfaultfd": (LANDED, EPERM, "error EEXIST", EPERM, EPERM, "error EEXIST", "error EEXIST"),
    # the kernel asked to write
    "proc_self_mem": FORCED_WRITE,
    "parent_mem": FORCED_WRITE,
    "ptrace_poke": FORCED_WRITE,
    "process_vm_writev": KERNEL_WRITE,
    "read_into": KERNEL_WRITE,
    "recv_into": KERNEL_WRITE,
    "getrandom_into": KERNEL_WRITE,
    "readv_second": tuple(x if x == LANDED else "read 4 of 8" for x in KERNEL_WRITE),
    "futex_wake_op": KERNEL_WRITE,
    "io_uring_read": KERNEL_WRITE,
    "io_uring_recv": KERNEL_WRITE,
    "io_uring_pin": ("pinned", EFAULT, EFAULT, EFAULT, EFAULT, "pinned", EFAULT),
    "read_straddling": (LANDED, EPERM, EPERM, "read 64 of 128", EPERM, LANDED, EPERM),
    # the memory file
    "pwrite_fd": (NO_FD, NO_FD, NO_FD, LANDED, NO_FD, NO_FD, NO_FD),
    "pwrite_in_child": (NO_FD, NO_FD, NO_FD, "error EBADF", NO_FD, NO_FD, NO_FD),
    "truncate_fd": (NO_FD, NO_FD, NO_FD, "signal SIGBUS", NO_FD, NO_FD, NO_FD),
    "punch_fd": (NO_FD, NO_FD, NO_FD, LANDED, NO_FD, NO_FD, NO_FD),
    "reopen_fd": (NO_FD, NO_FD, NO_FD, LANDED, NO_FD, NO_FD, NO_FD),
    "map_files": (ENOENT, ENOENT, LANDED, LANDED, EPERM, LANDED, LANDED),
    # a child
    "child_store": (FREE, *("child signal 11",) * 4, LANDED, "child signal 11"),
    "child_mprotect": (FREE, EPERM, EPERM, EACCES, EACCES, LANDED, EPERM),
    "child_init": ("refused",) * 7,
    # the allocator misused
    "double_free": FREED,
    "use_after_free": FREED,
    "use_after_reuse": FREED,
    "raw_read_after_free": ("poison", DONE, DONE, "poison", DONE, f"{X} SlabError", DONE),
    "forged_free": REFUSED,
    "free_while_viewed": (f"{X} BufferError",) * 7,
    "resurrecting_finalizer": FREED,
    "second_init": ("created", DONE, DONE, "created", DONE, "created", DONE),
    "init_overrun": (f"{X} ValueError",) * 7,
}

NEED_LOCK = {name for name, row in TABLE.items() if row == NEW_MAPPING} | {
    *("mremap_duplicate", "remap_file_pages", "read_straddling", "child_mprotect", "mprotect"),
    *(name for name in TABLE if name.startswith("madvise") or name == "userfaultfd"),
}
"""Rows whose sealed columns hold where the kernel has mseal(2)."""

NEED_ROOT = {"map_files", "reopen_fd", "userfaultfd", "parent_mem", "ptrace_poke"}
MAY_BE_FORBIDDEN = {
    **dict.fromkeys(("io_uring_pin", "io_uring_read", "io_uring_recv"), ("error ENOSYS", EPERM)),
    "ptrace_poke": ("ptrace is not",),
}


@cache
def outcomes(backend: str, state: str) -> dict[str, dict[str, str]]:
    """Run all attacks on a backend in a state, once."""
    done = subprocess.run(
        [sys.executable, "-m", "support.attacks", backend, state],
        cwd=Path(__file__).resolve().parent.parent,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    found: dict[str, dict[str, str]] = json.loads(done.stdout)
    return found


@cache
def lockable() -> bool:
    """Whether the kernel has mseal(2)."""
    script = "from wofs.slab import Arena; a = Arena.create(1); a.finish(process_lifetime=True)"
    done = subprocess.run(
        [sys.executable, "-c", f"{script}; print(a.stats().locked)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip() == "True"


def test_the_table_names_every_attack() -> None:
    assert set(TABLE) == set(outcomes("none", "open"))


@pytest.mark.skipif(platform.machine() != "x86_64", reason="system call numbers are x86-64's")
@pytest.mark.parametrize("column", range(len(COLUMNS)), ids=["-".join(c) for c in COLUMNS])
@pytest.mark.parametrize("name", TABLE)
def test_an_attack_ends_as_the_table_says(name: str, column: int) -> None:
    backend, state = COLUMNS[column]
    if os.geteuid() != 0 and name in NEED_ROOT:
        pytest.skip("needs root")
    if state == "finished" and name in NEED_LOCK and not lockable():
        pytest.skip("this kernel has no mseal(2)")
    outcome = outcomes(backend, state)[name]["outcome"]
    if outcome.startswith(MAY_BE_FORBIDDEN.get(name, ("\0",))):
        pytest.skip(f"this machine forbids the attack itself: {outcome}")
    assert outcome == TABLE[name][column]


PROTECTED = [c for c, column in enumerate(COLUMNS) if column not in UNPROTECTED]
FIELD_HITS = ("ctypes_memmove", "ctypes_from_address", "forged_memoryview", "c_store", "vdso_clock")


@pytest.mark.parametrize("name", FIELD_HITS)
@pytest.mark.parametrize("column", PROTECTED, ids=["-".join(COLUMNS[c]) for c in PROTECTED])
def test_a_store_is_named(name: str, column: int) -> None:
    backend, state = COLUMNS[column]
    said = outcomes(backend, state)[name]["said"]
    assert re.search(r"hit +object s\[4\]\.first\n", said)
    assert f"backend {backend}, " in said
    assert ("sealed\n" in said) == (state == "finished") or "not yet sealed" in said
    assert "a write by the code at 0x" in said
    assert re.search(r"C stack:\n    #0 0x", said)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("overrun_from_neighbour", r"object s\[4\] \(its header\)\n +offset +byte 16 of its he"),
        ("header_store", r"object s\[4\] \(its header\)\n +offset +byte 0 of its he"),
        ("past_the_end", r"no object: guard page above the arena, 1 byte outside"),
        ("before_the_start", r"no object: guard page below the arena, 1 byte outside"),
    ],
)
def test_what_lies_beside_a_field_is_named(name: str, words: str) -> None:
    assert re.search(words, outcomes("memfd", "finished")[name]["said"])


def test_the_python_stack_is_in_the_report() -> None:
    said = outcomes("memfd", "finished")["c_store"]["said"]
    if "not known here" in said:
        pytest.skip("this Python exports no dump of its stack; faulthandler prints it")
    assert re.search(r'stores\.py", line \d+ in c_store\n', said)


def test_only_the_control_and_an_open_pool_take_stores_unnoticed() -> None:
    for name, row in TABLE.items():
        if row == STORES:
            assert all(outcomes(*column)[name]["said"] == "" for column in UNPROTECTED)
            assert all(row[column] == SEGV for column in PROTECTED)


def test_a_pool_in_use_is_as_strong_as_shared_memory() -> None:
    told = {name: found["outcome"] for name, found in outcomes("pool", "finished").items()}
    shared = outcomes("shared", "finished")
    assert told == {name: found["outcome"] for name, found in shared.items()}


@pytest.mark.parametrize("state", ["open", "finished"])
def test_an_alias_differs_only_while_it_publishes(state: str) -> None:
    """Its window is not among these attacks: a race finds it."""
    told = {name: found["outcome"] for name, found in outcomes("alias", state).items()}
    assert told == {name: found["outcome"] for name, found in outcomes("memfd", state).items()}


def test_auto_is_the_strongest_here() -> None:
    arena = Arena.create(1)
    assert arena.stats().backend == "memfd"
    arena.close()
