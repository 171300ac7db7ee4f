"""File data: bytes of a regular file, and where its data and holes lie.

Holes and unwritten extents read as zeros; nothing beyond the file's size ever shows.
"""

from __future__ import annotations

from collections.abc import Iterator

from wofs.errors import Truncated
from wofs.xfs.bmap import Maps
from wofs.xfs.geometry import fsb_to_byte
from wofs.xfs.inode import Inode
from wofs.xfs.volume import Volume

Piece = tuple[int, int | None, int]
"""(file offset, device offset or None in a hole, length), all in bytes."""


class Data:
    """Reads the data of regular files."""

    def __init__(self, vol: Volume, maps: Maps) -> None:
        self._vol = vol
        self._maps = maps

    def read(self, inode: Inode, offset: int, length: int) -> bytes:
        """Return up to `length` bytes from `offset`, fewer only at the end of the file.

        Raises the `ImageError` of a damaged extent map, Truncated where the image ends
        first; a device's `OSError` passes.
        """
        end = min(offset + length, inode.size)
        if offset >= end:
            return b""
        geo, extents = self._vol.geo, self._maps.extents(inode)
        log = geo.blocklog
        at = extents.find(offset >> log)
        if at >= 0 and not extents.unwritten[at]:
            start = extents.startoff[at] << log
            if end <= start + (extents.count[at] << log):  # one extent has it all, as mostly
                source = fsb_to_byte(geo, extents.fsblock[at]) + offset - start
                return self._pread(inode, source, end - offset)
        parts = [
            bytes(size) if source is None else self._pread(inode, source, size)
            for _, source, size in self.pieces(inode, offset, length)
        ]
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _pread(self, inode: Inode, source: int, length: int) -> bytes:
        data = self._vol.device.pread(source, length)
        if len(data) < length:
            where = self._vol.where(f"inode {inode.ino} data", source >> 9, length)
            raise Truncated(where, "the image ends first")
        return data

    def pieces(self, inode: Inode, offset: int, length: int) -> Iterator[Piece]:
        """Yield contiguous pieces that cover the range, clamped to the file's size."""
        end = min(offset + length, inode.size)
        if offset >= end:
            return
        geo = self._vol.geo
        log = geo.blocklog
        extents = self._maps.extents(inode)
        starts, counts = extents.startoff, extents.count
        at = max(0, extents.find(offset >> log))
        position, held = offset, None
        while position < end and at < len(starts):
            start = starts[at] << log
            stop = start + (counts[at] << log)
            if stop <= position:
                at += 1
                continue
            source = None
            if start > position:
                stop = start
            else:
                if not extents.unwritten[at]:
                    source = fsb_to_byte(geo, extents.fsblock[at]) + position - start
                at += 1
            size = min(stop, end) - position
            piece = (position, source, size)
            held, ready = _joined(held, piece)
            if ready:
                yield ready
            position += size
        if position < end:
            held, ready = _joined(held, (position, None, end - position))
            if ready:
                yield ready
        if held:
            yield held

    def segments(self, inode: Inode) -> Iterator[tuple[int, int]]:
        """Yield (start, end) in bytes of each run of data, as SEEK_DATA and SEEK_HOLE see it.

        Unwritten extents count as holes. Source: `xfs_iomap.c`, `iomap_seek_data`.
        """
        log = self._vol.geo.blocklog
        size = inode.size
        run_start = run_end = 0
        for startoff, _, count, unwritten in self._maps.extents(inode):
            start = startoff << log
            if unwritten or start >= size:
                continue
            if start != run_end and run_end:
                yield run_start, min(run_end, size)
            if start != run_end or not run_end:
                run_start = start
            run_end = start + (count << log)
        if run_end:
            yield run_start, min(run_end, size)


def _joined(held: Piece | None, piece: Piece) -> tuple[Piece, Piece | None]:
    """Join a piece to the one held back if they lie in a row; return (held, ready)."""
    if held is None:
        return piece, None
    offset, source, size = held
    follows = piece[1] is None if source is None else piece[1] == source + size
    if follows:
        return (offset, source, size + piece[2]), None
    return piece, held
