"""Attacks through the kernel: other protection, other mappings, writes by system calls."""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import socket
import struct

from support.attacks.target import LIBC, PAGE, Outcome, Target, attack, fail_with_errno, in_child
from wofs.slab import _slab

PROT_RW = mmap.PROT_READ | mmap.PROT_WRITE
MAP_FIXED, MREMAP_MAYMOVE, MREMAP_FIXED = 0x10, 1, 2
MADV_DONTNEED, MADV_FREE, MADV_REMOVE, MADV_WIPEONFORK = 4, 8, 9, 18
MADV_DONTNEED_LOCKED, MADV_GUARD_INSTALL = 24, 102
IORING_OP_READ, IORING_OP_RECV, IORING_ENTER_GETEVENTS, IORING_OFF_SQES = 22, 27, 1, 0x10000000
PTRACE_ATTACH, PTRACE_POKEDATA, PTRACE_DETACH = 16, 5, 17


# ---- the kernel asked to make it writable, or to put something else there
@attack
def mprotect(t: Target) -> None:
    fail_with_errno(LIBC.mprotect(ctypes.c_void_p(t.page), PAGE, PROT_RW))
    _slab.stray_store(t.address, 255)


@attack
def munmap_and_map(t: Target) -> None:
    fail_with_errno(LIBC.munmap(ctypes.c_void_p(t.page), PAGE))
    map_fixed(t)


@attack
def map_fixed(t: Target) -> None:
    flags = MAP_FIXED | mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    fail_with_errno(LIBC.mmap(ctypes.c_void_p(t.page), PAGE, PROT_RW, flags, -1, 0))


@attack
def mremap_onto(t: Target) -> None:
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    source = LIBC.mmap(None, PAGE, PROT_RW, flags, -1, 0)
    how = MREMAP_MAYMOVE | MREMAP_FIXED
    fail_with_errno(LIBC.mremap(ctypes.c_void_p(source), PAGE, PAGE, how, ctypes.c_void_p(t.page)))


@attack
def mremap_duplicate(t: Target) -> None:
    double = LIBC.mremap(ctypes.c_void_p(t.page), 0, PAGE, MREMAP_MAYMOVE)
    fail_with_errno(double)
    fail_with_errno(LIBC.mprotect(ctypes.c_void_p(double), PAGE, PROT_RW))
    _slab.stray_store(double + t.address - t.page, 255)


@attack
def remap_file_pages(t: Target) -> None:
    fail_with_errno(LIBC.remap_file_pages(ctypes.c_void_p(t.page), PAGE, 0, 0, 0))


def advise(t: Target, advice: int) -> None:
    fail_with_errno(LIBC.madvise(ctypes.c_void_p(t.page), PAGE, advice))


@attack
def madvise_dontneed(t: Target) -> None:
    advise(t, MADV_DONTNEED)


@attack
def madvise_dontneed_locked(t: Target) -> None:
    advise(t, MADV_DONTNEED_LOCKED)


@attack
def madvise_free(t: Target) -> None:
    advise(t, MADV_FREE)


@attack
def madvise_remove(t: Target) -> None:
    advise(t, MADV_REMOVE)


@attack
def madvise_wipeonfork(t: Target) -> None:
    advise(t, MADV_WIPEONFORK)


@attack
def madvise_guard(t: Target) -> None:
    advise(t, MADV_GUARD_INSTALL)


@attack
def userfaultfd(t: Target) -> None:
    fd = LIBC.syscall(323, 0o2000000)
    fail_with_errno(fd)
    fcntl.ioctl(fd, 0xC018AA3F, struct.pack("QQQ", 0xAA, 0, 0))
    register = struct.pack("QQQQ", t.page, PAGE, 1, 0)
    fcntl.ioctl(fd, 0xC020AA00, register)
    advise(t, MADV_DONTNEED)
    source = LIBC.mmap(None, PAGE, PROT_RW, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
    fcntl.ioctl(fd, 0xC028AA03, struct.pack("QQQQq", t.page, source, PAGE, 0, 0))


# ---- the kernel asked to write
def write_mem(process: int | str, t: Target) -> None:
    with open(f"/proc/{process}/mem", "r+b", buffering=0) as memory:
        memory.seek(t.address)
        memory.write(b"\xff")


@attack
def proc_self_mem(t: Target) -> None:
    write_mem("self", t)


@attack
def parent_mem(t: Target) -> None:
    parent = os.getpid()
    in_child(lambda: write_mem(parent, t))


@attack
def ptrace_poke(t: Target) -> None:
    parent, child = os.getpid(), os.fork()
    if child == 0:
        LIBC.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
        LIBC.ptrace.restype = ctypes.c_long
        code = 0
        if LIBC.ptrace(PTRACE_ATTACH, parent, None, None) < 0:
            os._exit(200)
        os.waitpid(parent, 0x40000000)
        if LIBC.ptrace(PTRACE_POKEDATA, parent, t.address & ~7, 0xFF) < 0:
            code = ctypes.get_errno()
        LIBC.ptrace(PTRACE_DETACH, parent, None, None)
        os._exit(code)
    LIBC.prctl(0x59616D61, child, 0, 0, 0)  # PR_SET_PTRACER, for Yama
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code == 200:
        raise Outcome("ptrace is not permitted")
    if code:
        raise OSError(code, "in the child")


class Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


@attack
def process_vm_writev(t: Target) -> None:
    source = ctypes.create_string_buffer(b"\xff" * 4)
    local = Iovec(ctypes.cast(source, ctypes.c_void_p), 4)
    remote = Iovec(t.address, 4)
    fail_with_errno(
        LIBC.process_vm_writev(os.getpid(), ctypes.byref(local), 1, ctypes.byref(remote), 1, 0)
    )


@attack
def read_into(t: Target) -> None:
    fd = os.open("/dev/urandom", os.O_RDONLY)
    fail_with_errno(LIBC.read(fd, ctypes.c_void_p(t.address), 4))


@attack
def recv_into(t: Target) -> None:
    here, there = socket.socketpair()
    there.send(b"\xff" * 4)
    fail_with_errno(LIBC.recv(here.fileno(), ctypes.c_void_p(t.address), 4, 0))


@attack
def getrandom_into(t: Target) -> None:
    fail_with_errno(LIBC.getrandom(ctypes.c_void_p(t.address), 4, 0))


@attack
def readv_second(t: Target) -> None:
    """A read whose first part goes to ordinary memory: it comes up short."""
    own = ctypes.create_string_buffer(4)
    parts = (Iovec * 2)(Iovec(ctypes.addressof(own), 4), Iovec(t.address, 4))
    done = LIBC.readv(os.open("/dev/urandom", os.O_RDONLY), parts, 2)
    fail_with_errno(done)
    if done < 8:
        raise Outcome(f"read {done} of 8" + (", landed" if t.landed() else ""))


@attack
def futex_wake_op(t: Target) -> None:
    other = ctypes.c_uint32(0)
    op = 0 << 28 | 0 << 24 | 0xFFF << 12 | 0  # *address = 0xFFF
    result = LIBC.syscall(202, ctypes.byref(other), 5, 1, 1, ctypes.c_void_p(t.address), op)
    fail_with_errno(result)


@attack
def io_uring_pin(t: Target) -> None:
    params = ctypes.create_string_buffer(120)
    ring = LIBC.syscall(425, 4, params)
    fail_with_errno(ring)
    buffer = Iovec(t.page, PAGE)
    fail_with_errno(LIBC.syscall(427, ring, 0, ctypes.byref(buffer), 1))
    raise Outcome("pinned")


@attack
def io_uring_read(t: Target) -> None:
    fd = os.open("/dev/urandom", os.O_RDONLY)
    by_ring(IORING_OP_READ, fd, t.address)


@attack
def io_uring_recv(t: Target) -> None:
    here, there = socket.socketpair()
    there.send(b"\xff" * 4)
    by_ring(IORING_OP_RECV, here.fileno(), t.address)


def by_ring(operation: int, fd: int, address: int) -> None:
    """Have the kernel's own ring put four bytes at an address; OSError with what it says.

    io_uring(7): struct io_uring_params has sq_off at 40 and cq_off at 80; one mapping holds
    both rings, another the entries.
    """
    params = ctypes.create_string_buffer(120)
    ring = LIBC.syscall(425, 4, params)
    fail_with_errno(ring)
    tail, array = struct.unpack_from("4xI16xI", params, 40)
    (completions,) = struct.unpack_from("20xI", params, 80)
    with mmap.mmap(ring, PAGE) as rings, mmap.mmap(ring, PAGE, offset=IORING_OFF_SQES) as entries:
        entries[:64] = struct.pack("BBHiQQIIQ24x", operation, 0, 0, fd, 0, address, 4, 0, 7)
        struct.pack_into("I", rings, array, 0)
        struct.pack_into("I", rings, tail, 1)
        fail_with_errno(LIBC.syscall(426, ring, 1, 1, IORING_ENTER_GETEVENTS, None, 0))
        user_data, result = struct.unpack_from("Qi", rings, completions)
        assert user_data == 7, "no completion"
    if result < 0:
        raise OSError(-result, "completed")


@attack
def read_straddling(t: Target) -> None:
    """A read that begins in ordinary memory just below and runs into the slab."""
    page, flags = t.mapping()[0], MAP_FIXED | mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    below = page - PAGE
    if LIBC.mmap(ctypes.c_void_p(below), PAGE, PROT_RW, flags, -1, 0) in (-1, 2**64 - 1):
        raise OSError(ctypes.get_errno(), "mmap")
    fd = os.open("/dev/zero", os.O_RDONLY)
    done = LIBC.read(fd, ctypes.c_void_p(page - 64), 128)
    raise Outcome(f"read {done} of 128" if not t.landed() else "landed")
