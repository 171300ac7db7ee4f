"""An image whose structures are found by name and changed."""

from __future__ import annotations

import struct
from pathlib import Path

from support.patched import Patched, parts_of
from wofs.corrupt.parts import Part
from wofs.xfs.geometry import agb_to_daddr, as_geometry, ino_to_byte, make_ino

_AGF_ROOTS = {"bnobt": 16, "cntbt": 20, "rmapbt": 24, "refcountbt": 88}
_AGI_ROOTS = {"inobt": 20, "finobt": 328}


class Subject:
    """An image whose structures are found by name and changed, checksums mended."""

    def __init__(self, path: Path) -> None:
        self.device = Patched(path)
        self.parts = parts_of(path)
        with self.device.opened() as fs:
            self.inos = {str(top): top.ino for top, _, _ in fs.root.walk()}
            self.inos |= {str(t / n): (t / n).ino for t, _, files in fs.root.walk() for n in files}
            self.mount = fs.root.image.mount
            geo = self.mount.geo
            self.geo = as_geometry(self.mount.sb)
            self.blocksize, self.isize = geo.blocksize, geo.inodesize
            self.agcount, self.rootino = geo.agcount, geo.rootino
            self.starts = [agb_to_daddr(geo, agno, 0) << 9 for agno in range(geo.agcount)]
            self.agino_mask = geo.agino_mask
            self.free = [self._free_inode(agno) for agno in range(geo.agcount)]

    def _free_inode(self, agno: int) -> tuple[int, int]:
        """Return (ino, byte) of a free inode of an AG, (0, 0) if there is none."""
        table = self.mount.inodes.inobt.table(agno)
        assert table is not None
        for start, hole, free in table:
            if free and not hole:
                agino = start + (free & -free).bit_length() - 1
                ino = make_ino(self.mount.geo, agno, agino)
                return ino, ino_to_byte(self.mount.geo, ino)
        return 0, 0

    def part(self, kind: str, number: int = 0, path: str | None = None) -> Part:
        """Return the structure of a kind by its number in the image, or of a path."""
        owner = None if path is None else self.inos[path]
        return [p for p in self.parts if p.kind == kind and owner in (None, p.owner)][number]

    def inode(self, path: str) -> Part:
        """Return the inode of a path."""
        return self.part("inode", path=path)

    def root(self, tree: str, agno: int) -> Part:
        """Return the root block of a btree of an AG."""
        header, at = ("agf", _AGF_ROOTS[tree]) if tree in _AGF_ROOTS else ("agi", _AGI_ROOTS[tree])
        agbno = self.get(self.part(header, agno), at, "I")
        return Part(tree, agno, 0, self.starts[agno] + agbno * self.blocksize, self.blocksize, 52)

    def get(self, part: Part, offset: int, code: str) -> int:
        """Return a number of a structure."""
        raw = self.device.pread(part.start + offset, struct.calcsize(">" + code))
        return int(struct.unpack(">" + code, raw)[0])

    def put(self, part: Part, offset: int, code: str, *values: int) -> None:
        """Change numbers of a structure."""
        self.device.change(part, offset, struct.pack(">" + code, *values))

    def add(self, part: Part, offset: int, code: str, step: int) -> None:
        """Add to a number of a structure."""
        self.put(part, offset, code, self.get(part, offset, code) + step)

    def spoil(self, part: Part, offset: int) -> None:
        """Change a byte and leave the checksum stale."""
        old = self.device.pread(part.start + offset, 1)
        self.device.change(part, offset, bytes([old[0] ^ 1]), mend=False)

    def small_folder(self) -> tuple[str, Part]:
        """Return (path, inode) of a shortform directory whose first entry is a file."""
        for path in sorted(self.inos):
            part = self.inode(path)
            raw = self.device.pread(part.start, part.size)
            if raw[5] == 1 and raw[2] >> 4 == 4 and raw[176] and not raw[177]:
                name = raw[176 + 9 : 176 + 9 + raw[176 + 6]].decode("latin-1")
                child = self.inos.get(f"{path.rstrip('/')}/{name}")
                if child and raw[176 + 9 + len(name)] == 1 and path != "/":
                    return path, part
        raise AssertionError("no such directory")

    def first_entry(self, part: Part) -> tuple[int, int]:
        """Return (offset of the ftype, offset of the number) of a shortform's first entry."""
        namelen = self.get(part, 182, "B")
        return 185 + namelen, 186 + namelen

    def file(self, number: int = 0) -> Part:
        """Return the inode of a regular file with one extent."""
        found = []
        for path in sorted(self.inos):
            part = self.inode(path)
            raw = self.device.pread(part.start, part.size)
            one = raw[5] == 2 and raw[2] >> 4 == 8 and raw[76:80] == b"\0\0\0\1"
            if one and not raw[127] & 2:
                found.append(part)
        return found[number]
