"""Units of work: each fault is laid over the sound image and met by a child of its own."""

from __future__ import annotations

import gc
import struct
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from wofs.campaign import memory
from wofs.campaign.catalog import generic
from wofs.campaign.child import Struck, Truth, meet, run
from wofs.campaign.fault import Fault
from wofs.campaign.invisible import reason_for
from wofs.campaign.judge import judge
from wofs.campaign.laws import Result
from wofs.campaign.mounted import ask_mounted
from wofs.campaign.subject import ask
from wofs.campaign.unit import Limits, Unit
from wofs.corrupt.damage import Damage, Request
from wofs.corrupt.inside import Spot, inside
from wofs.corrupt.parts import Part
from wofs.corrupt.target import BadTarget, fields_of
from wofs.device.base import Device
from wofs.device.crc import crc_of
from wofs.device.overlay import Overlay

__all__ = ["Limits", "Unit", "apply", "one", "work"]

_truths: dict[tuple[str, bool, bool], Truth] = {}
"""The images that this process is at work on; two at most."""


def work(unit: Unit) -> list[Result]:
    """Run all faults of a unit, one after the other, and return what came of them.

    Raises as `wofs.open` does for an image that is not sound.
    """
    strays = tuple(fault for fault in unit.faults if fault.klass == memory.CLASS)
    found = memory.work(replace(unit, faults=strays))
    if len(strays) < len(unit.faults):
        truth = truth_of(unit.path, unit.norecovery, unit.mounted)
        on_disk = [fault for fault in unit.faults if fault.klass != memory.CLASS]
        found += several(truth, on_disk, unit.limits)
    return found


def truth_of(path: str, norecovery: bool, mounted: bool = False) -> Truth:
    """Return the truth of an image, kept until another is asked for."""
    key = path, norecovery, mounted
    if key not in _truths:
        while len(_truths) > 1:  # the library and the mount of one image
            _truths.pop(next(iter(_truths))).close()
        _truths[key] = Truth(path, norecovery, ask_mounted if mounted else ask)
        gc.collect()
        gc.freeze()  # so that the children share its pages
    return _truths[key]


def one(truth: Truth, fault: Fault, limits: Limits) -> Result:
    """Run one fault."""
    return several(truth, (fault,), limits)[0]


def several(truth: Truth, faults: Sequence[Fault], limits: Limits) -> list[Result]:
    """Run faults of one image, one after the other."""
    results: dict[int, Result] = {}
    made: list[tuple[int, Overlay, list[Struck]]] = []
    for at, fault in enumerate(faults):
        try:
            made.append((at, *apply(truth, fault)))
        except BadTarget as error:  # the generator's defect: it must be seen, and cost no more
            results[at] = Result(fault, "broken", ("fault: cannot be made",), str(error))
    works = [partial(meet, truth, image, struck) for _, image, struck in made]
    for (at, image, struck), (met, death) in zip(made, run(works, limits), strict=True):
        results[at] = result = judge(faults[at], struck, met, death)
        if result.outcome == "silent" and not result.laws and met is not None and not met.failures:
            fields, before = changed_fields(truth, image, struck), truth.codes
            result.reason = reason_for(fields, met.attributes, before)
            if result.reason:
                result.outcome = "invisible"
    return [results[at] for at in range(len(faults))]


def apply(truth: Truth, fault: Fault) -> tuple[Overlay, list[Struck]]:
    """Lay a fault over the sound image; return that and what it struck.

    Raises BadTarget for a fault that is of another image.
    """
    with Damage(truth.device, Request.of(fault.edits), truth.filesystem) as damage:
        damage.do()
        image, geo = damage.editor.image, truth.filesystem.mount.geo
    struck = []
    ag_bytes = geo.agblocks * geo.blocksize
    for part in dict.fromkeys(damage.editor.parts):
        stale = _is_stale(truth.device, image, part)
        agno = part.start // ag_bytes
        struck.append(Struck(part.kind, part.owner, part.start, part.size, agno, stale))
    return image, struck


def changed_fields(truth: Truth, image: Device, struck: Sequence[Struck]) -> set[tuple[str, str]]:
    """Return the (structure, field) whose bytes a fault changed, as the sound image has them.

    Bytes of no field are those of "content" in structures that hold a user's bytes, of none else.
    """
    out: set[tuple[str, str]] = set()
    geo = truth.filesystem.mount.geo
    for one in struck:
        part = Part(one.kind, one.owner, 0, one.start, one.size, 0)
        before, after = (d.pread(one.start, one.size) for d in (truth.device, image))
        places = {at for at in range(min(len(before), len(after))) if before[at] != after[at]}
        for spot in (*fields_of(part), *inside(part, before, geo)):
            mine = places.intersection(range(spot.offset, spot.offset + spot.size))
            if mine and _differs(spot, before, after) and spot.name != "crc":
                out.add((one.kind, generic(spot.name)))
            if mine and spot.bits is None:
                places -= mine
        if places and one.kind in CONTENT:
            out.add((CONTENT[one.kind], "content"))
    return out


CONTENT = {"value": "value", "target": "target", "bytes": "data"}
"""Structures that hold a user's bytes, and what these are called."""


def _differs(spot: Spot, before: bytes, after: bytes) -> bool:
    """Whether a field of which some bytes changed has another value."""
    if spot.bits is None:
        return True
    high, low = spot.bits
    one, two = (
        int.from_bytes(raw[spot.offset : spot.offset + spot.size], "big") for raw in (before, after)
    )
    return bool((one ^ two) >> low & (1 << high - low + 1) - 1)


def _is_stale(sound: Device, image: Device, part: Part) -> bool:
    """Whether a structure's checksum is wrong now and was not before."""
    if not part.crc or part.size % 256:
        return False

    def wrong(device: Device) -> bool:
        raw = device.pread(part.start, part.size)
        return bool(struct.unpack_from("<I", raw, part.crc)[0] != crc_of(raw, part.crc))

    return wrong(image) and not wrong(sound)
