"""Hostile images: a sound one in memory, edited in single fields, checksums made right again."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import wofs
from wofs.device import BytesDevice
from wofs.device.crc import crc_of
from wofs.fs import Filesystem
from wofs.xfs.geometry import fsb_to_byte, ino_to_byte

INODE_CRC, BLOCK_CRC, SB_CRC = 100, 4, 224
INODE_MODE, INODE_NLINK, INODE_SIZE, INODE_CORE = 2, 16, 56, 176
SB_LOGSTART, SB_LABEL = 48, 108


def edited_super(data: bytes, edits: dict[int, bytes]) -> bytes:
    """Return an image whose first superblock has other bytes at some offsets, its CRC right."""
    out = bytearray(data)
    for offset, value in edits.items():
        out[offset : offset + len(value)] = value
    sector = int.from_bytes(out[102:104], "big")
    out[SB_CRC : SB_CRC + 4] = struct.pack("<I", crc_of(bytes(out[:sector]), SB_CRC))
    return bytes(out)


class Edited:
    """An image in memory that can be damaged on purpose."""

    def __init__(self, path: Path) -> None:
        self.data = bytearray(path.read_bytes())
        self._sound = wofs.open(BytesDevice(bytes(self.data), "sound.img"))

    def close(self) -> None:
        """Give back the sound image."""
        self._sound.close()

    def opened(self) -> Filesystem:
        """Open the image as it is now."""
        return wofs.open(BytesDevice(bytes(self.data), "edited.img"))

    def ino(self, path: str) -> int:
        """Return the inode number of a path of the sound image."""
        return self._sound.path(path).ino

    def inode(self, path: str, offset: int, value: bytes, *, fix: bool = True) -> None:
        """Write `value` at byte `offset` of a path's inode."""
        geo = self._sound.path(path).image.mount.geo
        start = ino_to_byte(geo, self.ino(path))
        self._edit(start, geo.inodesize, offset, value, INODE_CRC if fix else None)

    def mapped(self, path: str) -> list[int]:
        """Return the file blocks of a directory's data that are mapped, in order."""
        found = self._sound.path(path)
        extents = found.image.mount.maps.extents(found.inode())
        blocks = (n for start, _, count, _ in extents for n in range(start, start + count))
        return [n for n in blocks if n < found.image.mount.geo.dir_leaf_dablk]

    def block(self, path: str, index: int, offset: int, value: bytes, *, fix: bool = True) -> None:
        """Write `value` at byte `offset` of the data block `index` of a directory.

        For filesystems whose directory blocks are one filesystem block.
        """
        mount = self._sound.path(path).image.mount
        fsblock = mount.maps.extents(self._sound.path(path).inode()).block_at(index)
        assert fsblock is not None
        size = mount.geo.blocksize
        crc = BLOCK_CRC if fix else None
        self._edit(fsb_to_byte(mount.geo, fsblock), size, offset, value, crc)

    def entry(self, directory: str, name: str, ino: int | None = None, ftype: int = -1) -> None:
        """Point an entry of a shortform directory elsewhere, or change its file type."""
        found = self._sound.path(directory)
        inode, raw = found.inode(), name.encode()
        at = inode.dfork.index(raw)  # namelen, offset, name, ftype, inode number
        if ftype >= 0:
            self.inode(directory, INODE_CORE + at + len(raw), bytes([ftype]))
        if ino is not None:
            number = struct.pack(">I", ino)
            self.inode(directory, INODE_CORE + at + len(raw) + 1, number)

    def shortform(self, directory: str, entries: Sequence[tuple[bytes, int]]) -> None:
        """Let a directory in the inode hold `entries`: (name, inode number) of regular files."""
        found = self._sound.path(directory)
        fork = bytes([len(entries), 0]) + found.inode().dfork[2:6]
        offset = 96  # of the entry in a block: behind the header, "." and ".."
        for name, ino in entries:
            fork += struct.pack(">BH", len(name), offset) + name + struct.pack(">BI", 1, ino)
            offset += -(-(len(name) + 12) // 8) * 8
        assert len(fork) <= found.image.mount.geo.inodesize - INODE_CORE
        self.inode(directory, INODE_SIZE, struct.pack(">Q", len(fork)))
        self.inode(directory, INODE_CORE, fork)

    def parent(self, directory: str, ino: int) -> None:
        """Change the '..' of a shortform directory."""
        self.inode(directory, INODE_CORE + 2, struct.pack(">I", ino))

    def _edit(self, start: int, size: int, offset: int, value: bytes, crc: int | None) -> None:
        self.data[start + offset : start + offset + len(value)] = value
        if crc is not None:
            whole = bytes(self.data[start : start + size])
            fixed = struct.pack("<I", crc_of(whole, crc))
            self.data[start + crc : start + crc + 4] = fixed
