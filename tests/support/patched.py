"""A sound image with bytes changed on the way in, and where its metadata lies.

Nothing is copied: reads go to the file, and the changes are laid over them.
"""

from __future__ import annotations

import struct
from pathlib import Path

import wofs
from wofs.corrupt import parts
from wofs.corrupt.parts import Part
from wofs.device import FileDevice
from wofs.device.crc import crc_of
from wofs.device.overlay import Overlay
from wofs.fs import Filesystem


class Patched(Overlay):
    """A device: the bytes of a file with others laid over them."""

    def __init__(self, path: Path, name: str = "patched.img") -> None:
        self._file = FileDevice(path)
        super().__init__(self._file, name)

    def really_close(self) -> None:
        """Give the file back."""
        self._file.close()

    def change(self, part: Part, offset: int, value: bytes, *, mend: bool = True) -> None:
        """Write `value` at byte `offset` of a structure, and mend its checksum."""
        raw = bytearray(self.pread(part.start, part.size))
        raw[offset : offset + len(value)] = value
        if mend and part.crc:
            raw[part.crc : part.crc + 4] = struct.pack("<I", crc_of(bytes(raw), part.crc))
        self.put(part.start, bytes(raw))

    def opened(self, *, norecovery: bool = False) -> Filesystem:
        """Open the image as it is now."""
        return wofs.open(self, norecovery=norecovery)


def parts_of(path: Path) -> list[Part]:
    """Return all structures of a sound image, headers first, then inode by inode."""
    with wofs.open(path) as filesystem:
        return list(parts.parts_of(filesystem.mount))
