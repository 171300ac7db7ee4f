"""Sound images of `images/` whose structures are replaced by what is fuzzed, one at a time.

An input is an option byte, a byte that picks the structure, and what is to become of it: either
patches of three bytes (offset, length) and a value, or with `RAW` its first bytes. Checksum and
what identifies the structure (its magic, uuid, address, owner) are made right again unless the
options say otherwise: nothing else would get past them.
"""

from __future__ import annotations

import random
import struct
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache, cached_property
from pathlib import Path

from fuzzlib.target import boundary
from support.images import IMAGES
from wofs.corrupt import parts
from wofs.corrupt.parts import Part
from wofs.corrupt.target import BLOCKS
from wofs.device import FileDevice
from wofs.device.crc import crc_of
from wofs.device.overlay import Overlay
from wofs.ondisk.ag import AGF_KIND, AGFL_KIND, AGI_KIND, Agf, Agi
from wofs.ondisk.kind import Kind
from wofs.xfs.buffer import Buffers
from wofs.xfs.mount import Mount, mount
from wofs.xfs.options import mount_options
from wofs.xfs.volume import Volume

STALE, ALIEN, RAW = 0x07, 0x08, 0x10
"""Options: all bits of STALE leave the checksum, ALIEN what identifies the structure."""

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
        self.sound = mount(self.device, mount_options(norecovery=True), slab="none")

    @cached_property
    def parts(self) -> dict[str, list[Part]]:
        """All structures by kind."""
        found: dict[str, list[Part]] = {}
        self.device.restore()
        for part in parts.parts_of(self.sound):
            found.setdefault(part.kind, []).append(part)
        return found

    @cached_property
    def all(self) -> list[Part]:
        """All structures."""
        return [part for kind in sorted(self.parts) for part in self.parts[kind]]

    def mounted(self, agf: Agf | None = None, agi: Agi | None = None, agno: int = 0) -> Mount:
        """Return the mount with empty caches; a header that is given takes that AG's place."""
        sound = self.sound
        agfs, agis = list(sound.agf), list(sound.agi)
        agfs[agno], agis[agno] = agf or agfs[agno], agi or agis[agno]
        return Mount(
            Volume(
                self.device, Buffers(self.device, sound.geo), sound.arena, sound.sb, sound.geo,
                sound.log, sound.options, agfs, agis, sound.agfl, sound.keeper,
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
            after[: len(data) - 2] = data[2 : 2 + part.size]
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
        length = 1 + (data[at + 2] & 7)
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


def seeds(ground: Ground, choice: Sequence[Part], whole: int = 3) -> Iterator[bytes]:
    """Yield inputs: each of `choice` as it is, some of them in whole, words changed in others."""
    chance = random.Random(1)
    for which in range(min(len(choice), 256)):
        yield bytes([0, which])
    for which in chance.sample(range(min(len(choice), 256)), min(whole, len(choice))):
        part = choice[which]
        ground.device.restore()
        yield bytes([RAW, which]) + ground.device.pread(part.start, part.size)
    for _ in range(64):
        which = chance.randrange(min(len(choice), 256))
        yield another_patch(bytes([0, which]), chance)
    yield another_patch(bytes([STALE, 0]), chance)
    yield another_patch(bytes([ALIEN, 0]), chance)


