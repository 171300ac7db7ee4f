"""Attacks through the memory's file, and from a forked child."""

from __future__ import annotations

import ctypes
import os

from support.attacks.kernel import mprotect
from support.attacks.target import LIBC, PAGE, Outcome, Target, attack, fail_with_errno, in_child
from support.slab import VALUES
from wofs.slab import _slab

FALLOC_PUNCH = 1 | 2


# ---- the memory file
@attack
def pwrite_fd(t: Target) -> None:
    os.pwrite(t.fd(), b"\xff", t.offset_in_file())


@attack
def pwrite_in_child(t: Target) -> None:
    fd, offset = t.fd(), t.offset_in_file()
    in_child(lambda: os.pwrite(fd, b"\xff", offset))


@attack
def truncate_fd(t: Target) -> None:
    os.ftruncate(t.fd(), 0)
    _ = t.handle.first


@attack
def punch_fd(t: Target) -> None:
    fd, page = t.fd(), t.offset_in_file() // PAGE * PAGE
    fail_with_errno(LIBC.fallocate(fd, FALLOC_PUNCH, ctypes.c_long(page), ctypes.c_long(PAGE)))


@attack
def reopen_fd(t: Target) -> None:
    fd = os.open(f"/proc/self/fd/{t.fd()}", os.O_RDWR)
    os.pwrite(fd, b"\xff", t.offset_in_file())


@attack
def map_files(t: Target) -> None:
    start, end, _ = t.mapping()
    fd = os.open(f"/proc/self/map_files/{start:x}-{end:x}", os.O_RDWR)
    os.pwrite(fd, b"\xff", t.offset_in_file())


# ---- a child
@attack
def child_store(t: Target) -> None:
    in_child(lambda: _slab.stray_store(t.address, 255))


@attack
def child_mprotect(t: Target) -> None:
    in_child(lambda: mprotect(t))


@attack
def child_init(t: Target) -> None:
    """A child creating an object in its parent's arena."""
    child = os.fork()
    if child == 0:
        try:
            t.cache.init_once("child", **VALUES)
        except Exception as error:
            os._exit(77 if type(error).__name__ in ("SlabError", "SlabFinished") else 1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    raise Outcome("refused" if code == 77 else f"child said {code}")
