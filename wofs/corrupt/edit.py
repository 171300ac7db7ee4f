"""Edits of an image, each recorded byte by byte, so that it can be repeated and undone."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from wofs.corrupt.inside import Spot
from wofs.corrupt.parts import Part
from wofs.corrupt.target import BadTarget
from wofs.device.base import Device
from wofs.device.crc import crc_of
from wofs.device.overlay import Overlay
from wofs.errors import ImageError
from wofs.ondisk.sb import Superblock
from wofs.units import SECTOR_BYTES
from wofs.xfs.log import area_of
from wofs.xfs.log.entry import LogEntry

LOG_CRC = 32


@dataclass(frozen=True, slots=True)
class Change:
    """Bytes of an image that were changed: `before` became `after`, both in hex, at `byte`.

    `op` is what was done (set, flip, zero, swap, duplicate, shift, tear, crc), `object` and
    `field` what it was done to; `found` and `value` are the field's value before and after.
    """

    op: str
    object: str
    field: str
    byte: int
    before: str
    after: str
    found: int | str | None = None
    value: int | str | None = None


@dataclass
class Record:
    """All that was done to an image; `size` is its size in bytes before and after."""

    image: str
    out: str
    seed: int
    crc: str
    size: tuple[int, int]
    changes: list[Change] = field(default_factory=list)

    def as_json(self) -> dict[str, object]:
        """Return what `undo` and scripts read."""
        return asdict(self)


class Editor:
    """Lays edits over a device; `changes` says what was done, `parts` to which structures.

    With `fix` the checksum of each structure that was edited is made right again, unless the
    checksum itself is what was set.
    """

    def __init__(self, below: Device, fix: bool, seed: int = 0) -> None:
        self.image = Overlay(below)
        self.changes: list[Change] = []
        self.parts: list[Part] = []
        self._fix = fix
        self._random = random.Random(seed)
        self.was_cut = False
        self._sb: Superblock | None = None

    def log_by(self, sb: Superblock) -> None:
        """Tell what says where the log lies, for the checksums of its records."""
        self._sb = sb

    # ---- fields
    def set(self, spot: Spot, text: str) -> None:
        """Store a value in a field; BadTarget where it is no value of it."""
        part = spot.part
        if not spot.size:
            if part.kind != "bytes":
                raise BadTarget(f"{part}: is no field; {part}.FIELD=VALUE sets one")
            spot = Spot(part, "", 0, part.size, plain=True)
        raw = self._raw(part)[spot.offset : spot.offset + spot.size]
        new, value = _stored(spot, raw, text)
        self._write("set", part, spot.offset, new, spot.name, _value(spot, raw), value)
        self._mend(part, spot.offset, spot.size)

    # ---- whole structures
    def flip(self, parts: Sequence[Part], bits: int) -> None:
        """Turn over `bits` random bits, no bit twice, each in a random one of `parts`."""
        have = sum(8 * part.size for part in parts)
        if bits > have:
            raise BadTarget(f"{bits} bits cannot be flipped where there are {have}")
        flipped: set[int] = set()
        for _ in range(bits):
            while True:
                part = self._random.choice(parts)
                bit = self._random.randrange(8 * part.size)
                if 8 * part.start + bit not in flipped:
                    break
            flipped.add(8 * part.start + bit)
            byte = self._raw(part)[bit >> 3]
            self._write("flip", part, bit >> 3, bytes([byte ^ 1 << (bit & 7)]))
            self._mend(part, bit >> 3, 1)

    def zero(self, part: Part) -> None:
        """Overwrite a structure with zeros; there is no checksum then."""
        self._write("zero", part, 0, bytes(part.size))

    def swap(self, one: Part, other: Part) -> None:
        """Exchange two structures of the same size; BadTarget for others."""
        _same_size(one, other)
        first, second = self._raw(one), self._raw(other)
        self._write("swap", one, 0, second)
        self._write("swap", other, 0, first)

    def duplicate(self, source: Part, over: Part) -> None:
        """Store a copy of one structure over another: a stale or misdirected write."""
        _same_size(source, over)
        self._write("duplicate", over, 0, self._raw(source))

    def shift(self, part: Part, by: int) -> None:
        """Move a structure's bytes by some bytes within it (negative: towards its start)."""
        if not 0 < abs(by) < part.size:
            raise BadTarget(f"{part}: can be shifted by 1 to {part.size - 1} bytes")
        raw = self._raw(part)
        moved = bytes(by) + raw[:-by] if by > 0 else raw[-by:] + bytes(-by)
        self._write("shift", part, 0, moved)
        self._mend(part, 0, 0)

    def tear(self, part: Part, sectors: int) -> None:
        """Keep the first sectors of a structure; the rest was never written (zeros)."""
        have = part.size // SECTOR_BYTES
        if have < 2:
            raise BadTarget(f"{part}: is one sector, which is written whole or not at all")
        if not 0 < sectors < have:
            raise BadTarget(f"{part}: has {have} sectors; 1 to {have - 1} of them can be kept")
        at = sectors * SECTOR_BYTES
        self._write("tear", part, at, bytes(part.size - at))

    def truncate(self, size: int) -> None:
        """End the image at byte `size`."""
        if not 0 <= size < self.image.size:
            raise BadTarget(f"the image has {self.image.size} bytes: it can be cut to fewer")
        self.image.cut(size)
        self.was_cut = True

    # ---- bytes
    def _raw(self, part: Part) -> bytes:
        raw = self.image.pread(part.start, part.size)
        if len(raw) < part.size:
            raise BadTarget(f"{part}: the image ends before it does")
        return raw

    def _write(
        self,
        op: str,
        part: Part,
        offset: int,
        new: bytes,
        name: str = "",
        found: int | str | None = None,
        value: int | str | None = None,
    ) -> None:
        start = part.start + offset
        before = self._raw(part)[offset : offset + len(new)]
        self.image.put(start, new)
        self.parts.append(part)
        self.changes.append(
            Change(op, str(part), name, start, before.hex(), new.hex(), found, value)
        )

    def _mend(self, part: Part, offset: int, size: int) -> None:
        """Make the checksum right again after bytes at `offset` changed."""
        at = LOG_CRC if part.kind == "log" else part.crc
        if not self._fix or not at or (offset < at + 4 and at < offset + size):
            return
        crc = self._log_crc(part) if part.kind == "log" else crc_of(self._raw(part), at)
        self._write("crc", part, at, struct.pack("<I", crc), "crc")

    def _log_crc(self, part: Part) -> int:
        if self._sb is None:
            raise BadTarget(f"{part}: where the log lies is unknown")
        try:
            return LogEntry(area_of(self.image, self._sb), part.owner).checksum()
        except ImageError as error:
            raise BadTarget(f"{part}: has no checksum to fix: {error.text()}") from error


def _same_size(one: Part, other: Part) -> None:
    if one.size != other.size:
        raise BadTarget(f"{one} has {one.size} bytes, {other} {other.size}: they must be alike")


def _value(spot: Spot, raw: bytes) -> int | str:
    if spot.plain:
        return raw.hex()
    whole = int.from_bytes(raw, "little" if spot.little else "big")
    if spot.bits is None:
        return whole
    high, low = spot.bits
    return whole >> low & (1 << high - low + 1) - 1


def _stored(spot: Spot, raw: bytes, text: str) -> tuple[bytes, int | str]:
    """Return the bytes that hold the value `text`, and that value."""
    if spot.plain:
        new = _plain(spot, text)
        return new, new.hex()
    bits = 8 * spot.size if spot.bits is None else spot.bits[0] - spot.bits[1] + 1
    value = _number(text, bits, spot.name)
    if spot.bits is None:
        return value.to_bytes(spot.size, "little" if spot.little else "big"), value
    low = spot.bits[1]
    whole = int.from_bytes(raw, "big") & ~((1 << bits) - 1 << low) | value << low
    return whole.to_bytes(spot.size, "big"), value


def _number(text: str, bits: int, name: str) -> int:
    """Return a value of `bits` bits: decimal or with 0x, 0o, 0b; negative; max."""
    most = (1 << bits) - 1
    if text == "max":
        return most
    try:
        value = int(text, 0)
    except ValueError:
        raise BadTarget(f"{name}={text}: is no number, nor max") from None
    if not -(1 << bits - 1) <= value <= most:
        raise BadTarget(f"{name}={text}: does not fit {bits} bits")
    return value & most


def _plain(spot: Spot, text: str) -> bytes:
    """Return exactly the bytes of a field: "text", padded with zeros, or all of it in hex."""
    if len(text) > 1 and text[0] == text[-1] == '"':
        new = text[1:-1].encode("utf-8", "surrogateescape")
        if len(new) <= spot.size:
            return new.ljust(spot.size, b"\0")
    else:
        try:
            new = bytes.fromhex(text.replace("-", ""))
        except ValueError:
            raise BadTarget(f'{text}: is neither hex nor "text"') from None
        if len(new) == spot.size:
            return new
    raise BadTarget(f"{text}: {spot.name or spot.part} has {spot.size} bytes")
