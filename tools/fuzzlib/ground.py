"""Sound images of `images/` whose structures are replaced by what is fuzzed, one at a time.

An input is an option byte, a byte that picks the structure, and what is to become of it: either
patches of three bytes (offset, length) and a value, or with `RAW` its first bytes. Checksum and
what identifies the structure (its magic, uuid, address, owner) are made right again unless the
options say otherwise: nothing else would get past them.
"""

from __future__ import annotations

import random
import re
import struct
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import cache, cached_property
from pathlib import Path

from fuzzlib.target import boundary
from support.images import IMAGES
from wofs.corrupt import parts
from wofs.corrupt.inside import Spot, inside
from wofs.corrupt.parts import Part
from wofs.corrupt.target import BLOCKS, fields_of
from wofs.device import FileDevice
from wofs.device.crc import crc_of
from wofs.device.overlay import Overlay
from wofs.ondisk.ag import AGF_KIND, AGFL_KIND, AGI_KIND, Agf, Agi
from wofs.ondisk.kind import Kind
from wofs.xfs.buffer import buffers_by
from wofs.xfs.kept import Keeper
from wofs.xfs.mount import Mount, mount
from wofs.xfs.options import mount_options
from wofs.xfs.volume import Volume

STALE, ALIEN, RAW, KEPT = 0x07, 0x08, 0x10, 0x20
"""Options: all bits of STALE leave the checksum, ALIEN what identifies the structure; RAW gives
its bytes in whole; KEPT asks again of what write-once memory holds."""

PATCH_BYTES = 8
_ROUNDS = 6
"""In each of them every field of a structure is changed once, for the seeds."""

_INDEX = re.compile(r"\[[0-9]+\]")

Mutation = Callable[[bytes, random.Random], bytes]
"""Makes an input of another."""

KINDS: dict[str, Kind] = {
    **BLOCKS,
    "agf": AGF_KIND,
    "agi": AGI_KIND,
    "agfl": AGFL_KIND,
}
"""What identifies a structure of each kind; superblocks and inodes identify themselves."""


class Ground:
    """One image: `device` is what is read, `sound` a mount of it as it was."""

    def __init__(self, name: str) -> None:
        with tempfile.TemporaryDirectory(prefix="wofs-fuzz-") as folder:
            path = Path(folder, name)
            IMAGES[name].unpack(path)
            self._file = FileDevice(path, f"{name}.img")
        self.device = Overlay(self._file)
        self._fields: dict[Part, dict[str, list[Spot]]] = {}
        self.sound = mount(self.device, mount_options(norecovery=True), slab="none")

    @cached_property
    def parts(self) -> dict[str, list[Part]]:
        """Structures by kind, of each inode or AG the first, one from the middle, the last.

        So those of large files, which take long to read, are not most of all.
        """
        owned: dict[tuple[str, int], list[Part]] = {}
        self.device.restore()
        for part in parts.parts_of(self.sound):
            owned.setdefault((part.kind, part.owner), []).append(part)
        found: dict[str, list[Part]] = {}
        for (kind, _), same in owned.items():
            few = sorted({0, len(same) // 2, len(same) - 1})
            found.setdefault(kind, []).extend(same[at] for at in few)
        return found

    @cached_property
    def all(self) -> list[Part]:
        """All of them."""
        return [part for kind in sorted(self.parts) for part in self.parts[kind]]

    def mounted(
        self,
        agf: Agf | None = None,
        agi: Agi | None = None,
        agno: int = 0,
        keeper: Keeper | None = None,
    ) -> Mount:
        """Return the mount with empty caches; a header that is given takes that AG's place."""
        sound = self.sound
        keeper = keeper or sound.keeper
        agfs, agis = list(sound.agf), list(sound.agi)
        agfs[agno], agis[agno] = agf or agfs[agno], agi or agis[agno]
        return Mount(
            Volume(
                self.device, buffers_by(keeper, self.device, sound.geo), sound.arena, sound.sb,
                sound.geo, sound.log, sound.options, agfs, agis, sound.agfl, keeper,
            )
        )  # fmt: skip

    def lay(self, choice: Sequence[Part], data: bytes) -> Part:
        """Replace one of `choice` by an input, and nothing else; return which it was."""
        self.device.restore()
        option, which = data[:2].ljust(2, b"\0")
        part = choice[which % len(choice)]
        before = self.device.pread(part.start, part.size)
        after = bytearray(before)
        if option & RAW:
            raw = data[2 : 2 + part.size]
            after[: len(raw)] = raw
        else:
            for offset, value in patches(data[2:]):
                at = offset % part.size
                after[at : at + len(value)] = value[: part.size - at]
        self.put(part, bytes(after), option)
        return part

    def put(self, part: Part, after: bytes, option: int) -> None:
        """Lay bytes over a structure, by the options made right again."""
        raw, before = bytearray(after), self.device.pread(part.start, part.size)
        kind = KINDS.get(part.kind)
        if kind is not None and not option & ALIEN:
            identify(kind, raw, before)
        if part.kind == "inode" and not option & ALIEN:
            raw[:2], raw[4], raw[152:176] = before[:2], before[4], before[152:176]
        if part.kind == "sb" and not option & ALIEN:
            raw[:4] = before[:4]
        if part.crc and option & STALE != STALE:
            raw[part.crc : part.crc + 4] = struct.pack("<I", crc_of(bytes(raw), part.crc))
        self.device.put(part.start, bytes(raw))


    # ---- fields
    def sound_bytes(self, part: Part) -> bytes:
        """Return a structure as it was."""
        return self._file.pread(part.start, part.size)

    def fields(self, part: Part) -> dict[str, list[Spot]]:
        """Return the fields of a structure by their names without indexes: `entry[].namelen`."""
        if part not in self._fields:
            held = inside(part, self.sound_bytes(part), self.sound.geo)
            found = self._fields[part] = {}
            for spot in (*fields_of(part), *held):
                if 0 < spot.size <= 16:
                    found.setdefault(_INDEX.sub("[]", spot.name), []).append(spot)
        return self._fields[part]

    def change(self, part: Part, chance: random.Random, name: str = "") -> tuple[int, bytes]:
        """Return (offset, value): a field at a boundary, off by one, or as another one is.

        Any name of a field is as likely as another, however many fields bear it.
        """
        fields, raw = self.fields(part), self.sound_bytes(part)
        spot = chance.choice(fields[name or chance.choice(list(fields))])
        old = raw[spot.offset : spot.offset + spot.size]
        whole, high, low = int.from_bytes(old, "big"), 8 * spot.size - 1, 0
        if spot.bits is not None:
            high, low = spot.bits
        most = (1 << high - low + 1) - 1
        value, way = whole >> low & most, chance.random()
        if way < 0.3:
            value += chance.choice((-1, 1))
        elif way < 0.5:
            other = chance.choice(fields[chance.choice(list(fields))])
            value = int.from_bytes(raw[other.offset : other.offset + other.size], "big")
        else:
            value = int.from_bytes(boundary(chance, spot.size), "big")
        whole = whole & ~(most << low) | (value & most) << low
        return spot.offset, whole.to_bytes(spot.size, "big")


def identify(kind: Kind, raw: bytearray, before: bytes) -> None:
    """Give a block what identifies it; a magic of its kind may stay."""
    end = kind.magic + len(kind.magics[0])
    if bytes(raw[kind.magic : end]) not in kind.magics:
        raw[kind.magic : end] = before[kind.magic : end]
    fields = [(kind.uuid, 16)]
    if kind.blkno is not None:
        fields.append((kind.blkno, kind.blkno_size))
    if kind.owner is not None:
        fields.append((kind.owner, kind.owner_size))
    for at, size in fields:
        raw[at : at + size] = before[at : at + size]


@cache
def ground(name: str) -> Ground:
    """Return an image, unpacked once."""
    return Ground(name)


# ---- patches
def patches(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (offset, value) of each patch of an input."""
    at = 0
    while at + 3 < len(data):
        length = 1 + data[at + 2] % PATCH_BYTES
        yield data[at] << 8 | data[at + 1], data[at + 3 : at + 3 + length]
        at += 3 + length


def patch(offset: int, value: bytes) -> bytes:
    """Return a patch of 1 to 8 bytes."""
    return struct.pack(">HB", offset, len(value) - 1) + value


def another_patch(data: bytes, chance: random.Random) -> bytes:
    """Append a patch of a word: near the start, where headers are, or anywhere."""
    size = chance.choice((1, 2, 4, 8))
    room = chance.choice((64, 256, 4096)) // size
    return data + patch(chance.randrange(room) * size, boundary(chance, size))


def patcher(image: str, kind: str) -> Mutation:
    """Return the mutation that appends patches, of declared fields by preference."""

    def mutate(data: bytes, chance: random.Random) -> bytes:
        data = data.ljust(2, b"\0")
        base, choice = ground(image), ground(image).parts[kind]
        if chance.random() < 0.2:
            return another_patch(data, chance)
        return data + _cut(*base.change(choice[data[1] % len(choice)], chance))

    return mutate


def _cut(offset: int, value: bytes) -> bytes:
    """Return the patches that store a value of any length."""
    steps = range(0, len(value), PATCH_BYTES)
    return b"".join(patch(offset + at, value[at : at + PATCH_BYTES]) for at in steps)


def seeds(image: str, kind: str, whole: int = 3) -> Iterator[bytes]:
    """Yield inputs: each structure as it is, some in whole, fields changed in others."""
    chance, mutate = random.Random(1), patcher(image, kind)
    base, choice = ground(image), ground(image).parts[kind]
    count = min(len(choice), 256)
    for which in range(count):
        yield bytes([0, which])
    for which in chance.sample(range(count), min(whole, count)):
        yield bytes([RAW, which]) + base.sound_bytes(choice[which])
    for _ in range(_ROUNDS):
        which = chance.randrange(count)
        for name in base.fields(choice[which]):
            head = bytes([chance.choice((0, KEPT)), which])
            yield head + _cut(*base.change(choice[which], chance, name))
    yield mutate(bytes([STALE, 0]), chance)
    yield mutate(bytes([ALIEN, 0]), chance)


