"""Attacks from within the language: stores to an address, the polite ways, spoilt handles."""

from __future__ import annotations

import copy
import ctypes
import gc
import io
import pickle
import struct

from support.attacks.target import LIBC, Outcome, Target, attack
from support.slab import Other
from wofs.slab import _slab
from wofs.slab.arena import HEADER_BYTES

HANDLE_ARENA = object.__basicsize__
HANDLE_OFFSET = HANDLE_ARENA + 16
"""Where a handle's numbers lie, behind its PyObject header: larger in a free-threaded Python."""


# ---- stores by code that knows an address
@attack
def ctypes_memmove(t: Target) -> None:
    ctypes.memmove(t.address, b"\xff", 1)


@attack
def ctypes_from_address(t: Target) -> None:
    ctypes.c_uint32.from_address(t.address).value = 0xFFFF


@attack
def forged_memoryview(t: Target) -> None:
    make = ctypes.pythonapi.PyMemoryView_FromMemory
    make.restype = ctypes.py_object
    make.argtypes = [ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int]
    make(t.address, 4, 0x200)[0] = 255


@attack
def c_store(t: Target) -> None:
    _slab.stray_store(t.address, 255)


@attack
def overrun_from_neighbour(t: Target) -> None:
    _slab.stray_overrun(t.address - 8, 12)


@attack
def header_store(t: Target) -> None:
    at = t.address - HEADER_BYTES  # of a random number: what is stored must not be there already
    _slab.stray_store(at, ctypes.string_at(at, 1)[0] ^ 0xFF)


@attack
def vdso_clock(t: Target) -> None:
    LIBC.clock_gettime(1, ctypes.c_void_p(t.address))


@attack
def past_the_end(t: Target) -> None:
    _slab.stray_store(t.mapping()[1], 255)


@attack
def before_the_start(t: Target) -> None:
    _slab.stray_store(t.mapping()[0] - 1, 255)


# ---- polite ways
@attack
def memoryview_write(t: Target) -> None:
    memoryview(t.handle)[0] = 255  # type: ignore[arg-type]


@attack
def memoryview_cast_write(t: Target) -> None:
    memoryview(t.handle).cast("I")[0] = 255  # type: ignore[arg-type]


@attack
def readinto(t: Target) -> None:
    io.BytesIO(b"\xff" * 8).readinto(t.handle)  # type: ignore[arg-type]


@attack
def ctypes_from_buffer(t: Target) -> None:
    ctypes.c_uint32.from_buffer(t.handle).value = 255  # type: ignore[arg-type]


@attack
def pack_into(t: Target) -> None:
    struct.pack_into("I", t.handle, 0, 255)  # type: ignore[arg-type]


@attack
def attribute(t: Target) -> None:
    t.handle.first = 255


@attack
def object_setattr(t: Target) -> None:
    object.__setattr__(t.handle, "first", 255)


@attack
def class_setattr(t: Target) -> None:
    type(t.handle).first = 255


@attack
def class_change(t: Target) -> None:
    t.handle.__class__ = type(t.arena.cache(Other).init_once("o", number=1))  # type: ignore[assignment]


@attack
def pickling(t: Target) -> None:
    pickle.dumps(t.handle)


@attack
def deepcopy(t: Target) -> None:
    copy.deepcopy(t.handle)


@attack
def make_handle(t: Target) -> None:
    type(t.handle)()


# ---- the Python face
@attack
def type_dict(t: Target) -> None:
    kind = type(t.handle)
    (space,) = [x for x in gc.get_referents(kind) if isinstance(x, dict) and "first" in x]
    space["first"] = 255
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(kind))
    if kind.first != 255:
        raise Outcome("the type was not changed")
    if t.handle.first != 4:
        raise Outcome("the face lies")


@attack
def wrapper_offset_to_junk(t: Target) -> None:
    ctypes.c_uint64.from_address(id(t.handle) + HANDLE_OFFSET).value += 24
    _ = t.handle.first


@attack
def wrapper_offset_to_other(t: Target) -> None:
    other = ctypes.c_uint64.from_address(id(t.handles[5]) + HANDLE_OFFSET).value
    ctypes.c_uint64.from_address(id(t.handle) + HANDLE_OFFSET).value = other
    _ = t.handle.first


@attack
def wrapper_copied_whole(t: Target) -> None:
    other = t.handles[5]
    ctypes.memmove(id(t.handle) + HANDLE_ARENA, id(other) + HANDLE_ARENA, 40)
    _ = t.handle.first


@attack
def wrapper_arena(t: Target) -> None:
    ctypes.c_uint64.from_address(id(t.handle) + HANDLE_ARENA).value = 2**64 - 1
    try:
        _ = t.handle.first
    finally:
        t.handle = t.spare  # the spoilt one is destroyed: that must not crash either
