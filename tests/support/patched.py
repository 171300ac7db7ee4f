"""A sound image with bytes changed on the way in, and where its metadata lies.

Nothing is copied: reads go to the file, and the changes are laid over them.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import wofs
from wofs.device.crc import crc_of
from wofs.fs import Filesystem
from wofs.ondisk.dir import DIR_DATA, DIR_INDEX
from wofs.xfs.btree import BMBT, INOBT, leaves
from wofs.xfs.geometry import agb_to_daddr, fsb_to_byte, ino_to_byte
from wofs.xfs.inode import Inode
from wofs.xfs.mount import Mount


@dataclass(frozen=True)
class Part:
    """One structure of an image: its bytes, and where among them its checksum lies.

    `kind` is "superblock", "agf", "agi", "agfl", "inobt", "inode", "bmbt", "dir data",
    "dir index", "attr", "value" or "target"; `owner` its inode or AG; `number` counts the
    parts of that kind of that owner.
    """

    kind: str
    owner: int
    number: int
    start: int
    size: int
    crc: int

    def __str__(self) -> str:
        return f"{self.kind} {self.number} of {self.owner}"


class Patched:
    """A device: the bytes of a file with others laid over them."""

    def __init__(self, path: Path, name: str = "patched.img") -> None:
        self.name = name
        self._file = path.open("rb", buffering=0)
        self.size = os.fstat(self._file.fileno()).st_size
        self._over: list[tuple[int, bytes]] = []

    def pread(self, offset: int, length: int) -> bytes:
        """Return up to `length` bytes from byte `offset`."""
        length = max(0, min(length, self.size - offset))
        data = os.pread(self._file.fileno(), length, offset)
        end = offset + len(data)
        for start, value in self._over:
            if start < end and start + len(value) > offset:
                whole = bytearray(data)
                low, high = max(start, offset), min(start + len(value), end)
                whole[low - offset : high - offset] = value[low - start : high - start]
                data = bytes(whole)
        return data

    def expect(self, offset: int, length: int) -> None:
        """Do nothing: the file is small."""

    def close(self) -> None:
        """Keep the file: the next filesystem reads it too."""

    def really_close(self) -> None:
        """Give the file back."""
        self._file.close()

    def restore(self) -> None:
        """Take all changes back."""
        self._over.clear()

    def put(self, part: Part, offset: int, value: bytes, *, mend: bool = True) -> None:
        """Write `value` at byte `offset` of a structure, and mend its checksum."""
        raw = bytearray(self.pread(part.start, part.size))
        raw[offset : offset + len(value)] = value
        if mend and part.crc:
            raw[part.crc : part.crc + 4] = struct.pack("<I", crc_of(bytes(raw), part.crc))
        self._over.append((part.start, bytes(raw)))

    def opened(self, *, norecovery: bool = False) -> Filesystem:
        """Open the image as it is now."""
        return wofs.open(self, norecovery=norecovery)


def parts_of(path: Path) -> list[Part]:
    """Return all structures of a sound image, headers first, then inode by inode."""
    with wofs.open(path) as filesystem:
        mount = filesystem.root.image.mount
        found = list(_headers(mount))
        seen = set()
        todo = [filesystem.root]
        while todo:
            here = todo.pop()
            inode = here.inode(follow_symlinks=False)
            if inode.ino not in seen:
                seen.add(inode.ino)
                found += _of_inode(mount, inode)
            if inode.type == 4:
                todo += here.iterdir()
    return found


def _headers(mount: Mount) -> Iterator[Part]:
    geo = mount.geo
    for agno in range(geo.agcount):
        first = agb_to_daddr(geo, agno, 0) << 9
        for number, (kind, crc) in enumerate(
            (("superblock", 224), ("agf", 216), ("agi", 312), ("agfl", 32))
        ):
            yield Part(kind, agno, 0, first + number * geo.sectsize, geo.sectsize, crc)
        agi = mount.agi[agno]
        assert agi is not None
        found: set[int] = set()
        level, obj = agi.level - 1, "inobt"
        for _ in leaves(
            mount.buffers, geo, INOBT, [agi.root], level, agno, obj, visited=found
        ):
            pass
        for number, agbno in enumerate(sorted(found)):
            start = agb_to_daddr(geo, agno, agbno) << 9
            yield Part("inobt", agno, number, start, geo.blocksize, INOBT.kind.crc)


def _of_inode(mount: Mount, inode: Inode) -> Iterator[Part]:
    geo = mount.geo
    yield Part("inode", inode.ino, 0, ino_to_byte(geo, inode.ino), geo.inodesize, 100)
    for raw, fmt in ((inode.dfork, inode.format), (inode.afork, inode.aformat)):
        if fmt == 3 and raw:
            blocks = sorted(_tree_blocks(mount, inode, raw))
            for number, fsblock in enumerate(blocks):
                start = fsb_to_byte(geo, fsblock)
                yield Part("bmbt", inode.ino, number, start, geo.blocksize, BMBT.kind.crc)
    if inode.type == 4 and inode.format != 1:
        yield from _numbered(_dir_blocks(mount, inode))
    if inode.type == 10 and inode.format != 1:
        for number, (_, fsblock, count, _) in enumerate(mount.maps.extents(inode)):
            size = count << geo.blocklog
            yield Part("target", inode.ino, number, fsb_to_byte(geo, fsblock), size, 12)
    if inode.forkoff and inode.aformat != 1:
        yield from _numbered(_attr_blocks(mount, inode))


def _tree_blocks(mount: Mount, inode: Inode, raw: bytes) -> set[int]:
    """Return the blocks of a fork's btree."""
    level, count = struct.unpack_from(">HH", raw)
    roots = struct.unpack_from(f">{count}Q", raw, 4 + 8 * ((len(raw) - 4) // 16))
    found: set[int] = set()
    for _ in leaves(
        mount.buffers, mount.geo, BMBT, roots, level - 1, inode.ino, "fork", visited=found
    ):
        pass
    return found


def _numbered(parts: Iterator[Part]) -> Iterator[Part]:
    """Number parts of a kind, and leave out those that lie in several extents."""
    counts: dict[str, int] = {}
    for part in parts:
        number = counts.get(part.kind, 0)
        counts[part.kind] = number + 1
        yield Part(part.kind, part.owner, number, part.start, part.size, part.crc)


def _dir_blocks(mount: Mount, inode: Inode) -> Iterator[Part]:
    geo, per = mount.geo, mount.geo.dirblk_fsbs
    extents = mount.maps.extents(inode)
    for startoff, fsblock, count, _ in extents:
        for skip in range(-startoff % per, count - per + 1, per):
            dablk = startoff + skip
            if dablk >= geo.dir_free_dablk:
                continue
            index = dablk >= geo.dir_leaf_dablk
            kind, crc = ("dir index", DIR_INDEX.crc) if index else ("dir data", DIR_DATA.crc)
            start = fsb_to_byte(geo, fsblock + skip)
            yield Part(kind, inode.ino, 0, start, geo.dirblksize, crc)


def _attr_blocks(mount: Mount, inode: Inode) -> Iterator[Part]:
    geo = mount.geo
    for _, fsblock, count, _ in mount.maps.extents(inode, "attr"):
        for skip in range(count):
            start = fsb_to_byte(geo, fsblock + skip)
            magic = mount.device.pread(start, 4)
            kind = "value" if magic == b"XARM" else "attr"
            yield Part(kind, inode.ino, 0, start, geo.blocksize, 12)
