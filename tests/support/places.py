"""Where on a sound image the pieces of a file lie, for tests that damage a copy."""

from __future__ import annotations

import subprocess
from pathlib import Path

import wofs
from wofs.xfs.bmap import Fork
from wofs.xfs.geometry import fsb_to_byte, ino_to_byte

Place = tuple[int, int]
"""(byte, length) on the image"""


class Places:
    """The places of one image."""

    def __init__(self, image: Path) -> None:
        self._fs = wofs.open(image)

    def close(self) -> None:
        """Close the image."""
        self._fs.close()

    def inode(self, path: str) -> Place:
        """Return where the inode of a path lies."""
        geo = self._fs.mount.geo
        return ino_to_byte(geo, self._fs.path(path).ino), geo.inodesize

    def blocks(self, path: str, fork: Fork = "data") -> list[Place]:
        """Return the blocks that a fork maps, in its order."""
        mount, inode = self._fs.mount, self._fs.path(path).inode(follow_symlinks=False)
        extents = mount.maps.extents(inode, fork)
        size = mount.geo.blocksize
        return [
            (fsb_to_byte(mount.geo, fsblock + n), size)
            for _, fsblock, count, _ in extents
            for n in range(count)
        ]

    def extent_tree(self, path: str) -> Place:
        """Return where the first block of a file's extent btree lies."""
        mount, inode = self._fs.mount, self._fs.path(path).inode()
        room = (len(inode.dfork) - 4) // 16  # level, count, then keys and pointers
        fsblock = int.from_bytes(inode.dfork[4 + room * 8 : 12 + room * 8], "big")
        return fsb_to_byte(mount.geo, fsblock), mount.geo.blocksize


def copy(image: Path, target: Path) -> Path:
    """Copy an image, holes kept."""
    subprocess.run(["cp", "--sparse=always", image, target], check=True)
    return target


def spoil(image: Path, place: Place, at: int = 40) -> None:
    """Change a byte of a place: its checksum is wrong then."""
    with image.open("r+b") as file:
        file.seek(place[0] + at)
        byte = file.read(1)[0]
        file.seek(place[0] + at)
        file.write(bytes([byte ^ 0x55]))
