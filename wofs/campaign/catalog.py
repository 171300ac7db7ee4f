"""What of an image can be struck: its structures by kind and form, their fields by name.

Of each form of each kind (a node or a leaf, a directory in extents or in the inode) some
structures are chosen, so that rare forms are struck as often as common ones.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from wofs.corrupt.inside import Spot, inside
from wofs.corrupt.parts import AG_TREES, Part, parts_of
from wofs.corrupt.target import fields_of
from wofs.device.crc import crc_of
from wofs.errors import ImageError
from wofs.fs import Filesystem
from wofs.fs.stat import REG
from wofs.ondisk.inode import CORE_BYTES, CRC_OFFSET, InodeCore
from wofs.ondisk.log import BLOCK_BYTES
from wofs.units import SECTOR_BYTES
from wofs.xfs.geometry import fsb_to_byte, ino_to_byte
from wofs.xfs.inobt import present, read_chunks
from wofs.xfs.log import area_of

PARTS_PER_FORM = 12
SPOTS_PER_FIELD = 6
"""How many fields of one generic name are taken from one structure."""

DATA_SAMPLES = 64


@dataclass(slots=True)
class Field:
    """One field of one kind of structure, and where it was found."""

    kind: str
    name: str
    spots: list[Spot] = field(default_factory=list)


class Catalog:
    """The structures and fields chosen of an image; the same ones for the same seed."""

    def __init__(self, filesystem: Filesystem, seed: int) -> None:
        self.mount = filesystem.mount
        self.random = random.Random(f"catalog {seed}")
        self.parts: dict[str, list[Part]] = {}
        self.data: list[str] = []
        forms: dict[tuple[str, bytes | int], list[Part]] = {}
        for part in (*self._sound(), *self._free_inodes(), *self._log_records()):
            forms.setdefault((part.kind, self._form(part)), []).append(part)
        for (kind, _), found in forms.items():
            self.parts.setdefault(kind, []).extend(self._some(found, PARTS_PER_FORM))
        self.fields = self._fields()
        self._find_data()

    def _sound(self) -> list[Part]:
        """Return all structures; those left out that are damaged before a fault.

        So may be some where the log was not replayed. A fault that makes a checksum right
        would heal them.
        """
        broken: list[ImageError] = []
        parts = list(parts_of(self.mount, broken.append))
        return [part for part in parts if self._proves(part)] if broken else parts

    def _proves(self, part: Part) -> bool:
        raw = self.raw(part)
        return int.from_bytes(raw[part.crc : part.crc + 4], "little") == crc_of(raw, part.crc)

    def _some(self, found: list[Part], most: int) -> list[Part]:
        """Choose some of many, the first among them."""
        if len(found) <= most:
            return found
        return [found[0], *self.random.sample(found[1:], most - 1)]

    def raw(self, part: Part) -> bytes:
        """Return a structure's bytes."""
        return self.mount.device.pread(part.start, part.size)

    def _form(self, part: Part) -> bytes | int:
        """Return what tells the forms of a kind apart."""
        if part.kind in AG_TREES or part.kind == "bmbt":
            return min(1, self.raw(part)[5])
        if part.kind == "sb":
            return min(1, part.owner)
        head = self.raw(part)[:CORE_BYTES]
        if part.kind == "inode":
            return bytes((head[2] >> 4, head[5], min(1, head[82]), head[83]))
        return head[8:10] if part.kind in ("dirindex", "attr") else head[:4]

    def _free_inodes(self) -> Iterator[Part]:
        """Yield the first free inodes of each AG."""
        geo, log = self.mount.geo, self.mount.geo.agino_log
        for agno in range(geo.agcount):
            agi = self.mount.agi[agno]
            for start, hole, free in read_chunks(self.mount.buffers, geo, agno, agi) if agi else ():
                bits = [bit for bit in range(64) if (free & present(hole)) >> bit & 1]
                for ino in [agno << log | start + bit for bit in bits[:1]]:
                    at = ino_to_byte(geo, ino)
                    yield Part("inode", ino, 0, at, geo.inodesize, CRC_OFFSET)

    def _log_records(self) -> Iterator[Part]:
        if not self.mount.geo.logstart:
            return
        area = area_of(self.mount.device, self.mount.sb)
        for block in area.headers(0, area.blocks)[:PARTS_PER_FORM]:
            start = (area.daddr + block) * SECTOR_BYTES
            yield Part("log", block, 0, start, BLOCK_BYTES, 0)

    def _fields(self) -> list[Field]:
        """Return every field of every kind, with some of its places."""
        out: dict[tuple[str, str], Field] = {}
        for kind, parts in self.parts.items():
            for part in parts:
                mine: dict[str, list[Spot]] = {}
                for spot in (*self._declared(part), *inside(part, self.raw(part), self.mount.geo)):
                    mine.setdefault(generic(spot.name), []).append(spot)
                for name, spots in mine.items():
                    chosen = self.random.sample(spots, min(len(spots), SPOTS_PER_FIELD))
                    out.setdefault((kind, name), Field(kind, name)).spots.extend(chosen)
        for one in out.values():
            self.random.shuffle(one.spots)
        return list(out.values())

    def _declared(self, part: Part) -> Iterator[Spot]:
        """Yield the declared fields, an array's items one by one."""
        for spot in fields_of(part):
            size = spot.size // spot.items if spot.items else 0
            if not size:
                yield spot
            for at in range(spot.items):
                name, offset = f"{spot.name}[{at}]", spot.offset + size * at
                yield Spot(part, name, offset, size)

    def _find_data(self) -> None:
        """Choose sectors of files' data, as names of `wofs corrupt`."""
        geo, mount = self.mount.geo, self.mount
        for part in self.parts.get("inode", ()):
            if not InodeCore.decode(self.raw(part)).mode:
                continue
            found = mount.inodes.get(part.owner)
            if found.type != REG or found.is_realtime:
                continue
            try:
                extents = mount.maps.extents(found)
            except ImageError:
                continue  # the fork was damaged before
            for startoff, fsblock, count, unwritten in extents:
                if not unwritten and startoff << geo.blocklog < found.size:
                    at = self.random.randrange(count << geo.blocklog - 9) * SECTOR_BYTES
                    start = fsb_to_byte(geo, fsblock) + at
                    self.data.append(f"bytes[{start}:{SECTOR_BYTES}]")
        self.data = self.random.sample(self.data, min(len(self.data), DATA_SAMPLES))


def generic(name: str) -> str:
    """Return a field's name without its numbers: rec[3].owner is a rec[N].owner."""
    return re.sub(r"\[\d+\]", "[N]", name)
