"""The allocator misused: freed twice, used after, forged, overfilled."""

from __future__ import annotations

import ctypes
import gc

from support.attacks.target import Outcome, Target, attack
from support.slab import VALUES, Sample
from wofs.slab import _slab


# ---- the allocator misused
@attack
def double_free(t: Target) -> None:
    t.cache.free(t.spare)
    t.cache.free(t.spare)


@attack
def use_after_free(t: Target) -> None:
    t.cache.free(t.spare)
    _ = t.spare.first


@attack
def use_after_reuse(t: Target) -> None:
    address = _slab.address(t.spare, "first")
    t.cache.free(t.spare)
    again = t.cache.init_once("again", **VALUES)
    if _slab.address(again, "first") != address:
        raise Outcome("not reused")
    _ = t.spare.first


@attack
def raw_read_after_free(t: Target) -> None:
    address = _slab.address(t.spare, "first")
    t.cache.free(t.spare)
    found = ctypes.string_at(address, 8)
    raise Outcome("poison" if found == b"\xde" * 8 else f"reads {found.hex()}")


@attack
def forged_free(t: Target) -> None:
    t.cache.free(object())  # type: ignore[arg-type]


@attack
def free_while_viewed(t: Target) -> None:
    view = memoryview(t.spare)  # type: ignore[arg-type]
    try:
        t.cache.free(t.spare)
    finally:
        view.release()


@attack
def resurrecting_finalizer(t: Target) -> None:
    kept = []

    class Holder:
        def __init__(self, handle: Sample) -> None:
            self.handle = handle

        def __del__(self) -> None:
            kept.append(self.handle)

    holder = Holder(t.spare)
    t.cache.free(t.spare)
    del holder
    gc.collect()
    _ = kept[0].first


@attack
def second_init(t: Target) -> None:
    t.cache.init_once("late", **VALUES)
    raise Outcome("created")


@attack
def init_overrun(t: Target) -> None:
    raw = t.arena._raw
    raw.init_once(0, "long", b"\xff" * (len(bytes(memoryview(t.handle))) + 24))  # type: ignore[arg-type]
