"""The bitmap and the summary of free realtime extents, which lie on the data device.

Words are in the byte order of the machine that wrote them; either is accepted. Files on the
realtime device are not read. Source: `scrub/rtbitmap.c`, `scrub/rtsummary.c`, `xfs_rtbitmap.c`.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterator
from dataclasses import dataclass

from wofs.check.state import State
from wofs.errors import ImageError
from wofs.ondisk.sb import NULL_FSINO
from wofs.xfs.geometry import fsb_to_byte

MOST_EXTENTS = 1 << 33
"""Of a realtime device whose bitmap is read: it has a gigabyte then."""


def check_realtime(state: State, clean: bool) -> None:
    """Check sizes by the superblock's; contents, where there are realtime extents.

    `clean`: the log is, so that the superblock's counter is exact.
    """
    sb, size = state.mount.sb, state.mount.geo.blocksize
    bitmap_blocks = -(-sb.rextents // (8 * size))
    log = sb.rextents.bit_length() - 1 if sb.rextents else 0
    for name, wanted in (("rbmblocks", bitmap_blocks), ("rextslog", log)):
        found = getattr(sb, name)
        if found != wanted:
            _add(state, "superblock", name, wanted, found)
            return
    summary_bytes = -(-4 * (log + 1) * bitmap_blocks // size) * size
    bitmap = _file(state, "bitmap", sb.rbmino, bitmap_blocks * size)
    summary = _file(state, "summary", sb.rsumino, summary_bytes)
    if bitmap is None or not sb.rextents:
        return
    if sb.rextents > MOST_EXTENTS:
        found = f"{sb.rextents} realtime extents"
        state.report.add(
            "not-checked", "realtime bitmap", expected=f"at most {MOST_EXTENTS}", found=found
        )
        return
    counted = _Counted(log + 1, bitmap_blocks)
    for order in (sys.byteorder, "big" if sys.byteorder == "little" else "little"):
        counted = count_free(bitmap, sb.rextents, order == "little", size)
        if not counted.beyond:
            break
    if counted.beyond:
        _add(state, "realtime bitmap", "bits", f"none beyond {sb.rextents}", "some", sb.rbmino)
    if clean and counted.free != sb.frextents:
        state.report.add(
            "rt-frextents", "superblock", "frextents", expected=counted.free,
            found=sb.frextents, offset=0,
        )  # fmt: skip
    if summary is not None:
        _check_summary(state, summary, counted)


_PIECE_BYTES = 64
"""Of the bitmap at once: shifting long numbers by a bit at a time takes long."""


@dataclass
class _Counted:
    """What a bitmap says: free extents, whether bits beyond its end are set, the summary."""

    levels: int
    blocks: int
    free: int = 0
    beyond: bool = False

    def __post_init__(self) -> None:
        self.summary = array("I", bytes(4 * self.levels * self.blocks))

    def add(self, start: int, length: int, per_block: int) -> None:
        """Count a free run of extents."""
        self.free += length
        self.summary[(length.bit_length() - 1) * self.blocks + start // per_block] += 1


class _File:
    """A file of realtime metadata, mapped throughout."""

    def __init__(self, state: State, pieces: list[tuple[int, int]]) -> None:
        self.state = state
        self.pieces = pieces

    def blocks(self) -> Iterator[bytes]:
        """Yield the file block by block."""
        geo = self.state.mount.geo
        for fsblock, count in self.pieces:
            start = fsb_to_byte(geo, fsblock)
            for number in range(count):
                data = self.state.mount.device.pread(
                    start + (number << geo.blocklog), geo.blocksize
                )
                yield data.ljust(geo.blocksize, b"\0")


def _file(state: State, name: str, ino: int, wanted: int) -> _File | None:
    """Return one of the two files, None where it is none or has not the size `wanted`.

    No hole is allowed (`xchk_rtbitmap_check_extents`), so that no more is read than there is.
    """
    if ino in (0, NULL_FSINO):
        return None
    try:
        inode = state.mount.inodes.get(ino)
        extents = state.mount.maps.extents(inode)
    except ImageError:
        return None  # reported with the inodes
    if inode.size != wanted:
        _add(state, f"realtime {name}", "size", wanted, inode.size, ino)
        return None
    mapped = 0
    for fileoff, _, count, unwritten in extents:
        if fileoff != mapped or unwritten:
            break
        mapped += count
    if mapped << state.mount.geo.blocklog != wanted or extents.end != mapped:
        said = f"{wanted >> state.mount.geo.blocklog} blocks, written, without a hole"
        _add(state, f"realtime {name}", "extents", said, f"{mapped} up to the first hole", ino)
        return None
    return _File(state, [(fsblock, count) for _, fsblock, count, _ in extents])


def count_free(bitmap: _File, rextents: int, little: bool, blocksize: int) -> _Counted:
    """Count the runs of set bits, which are free extents, in words of that byte order."""
    per_block = 8 * blocksize
    counted = _Counted(rextents.bit_length(), -(-rextents // per_block))
    run_start, run_end = 0, 0
    for number, data in enumerate(bitmap.blocks()):
        if not little:
            words = array("I", data)
            words.byteswap()
            data = words.tobytes()
        for start, length in _runs(data):
            start += number * per_block
            if start + length > rextents:
                counted.beyond = True
                return counted
            if start != run_end:
                if run_end:
                    counted.add(run_start, run_end - run_start, per_block)
                run_start = start
            run_end = start + length
    if run_end:
        counted.add(run_start, run_end - run_start, per_block)
    return counted


def _runs(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield (first, how many) of runs of set bits; a long one comes in pieces."""
    for offset in range(0, len(data), _PIECE_BYTES):
        bits, at = int.from_bytes(data[offset : offset + _PIECE_BYTES], "little"), offset * 8
        while bits:
            skip = (bits & -bits).bit_length() - 1
            bits >>= skip
            length = (~bits & bits + 1).bit_length() - 1
            yield at + skip, length
            bits >>= length
            at += skip + length


def _check_summary(state: State, summary: _File, counted: _Counted) -> None:
    """Hold the summary to what the bitmap gives, in either byte order."""
    found = array("I")
    for data in summary.blocks():
        found.frombytes(data)
    wanted = counted.summary + array("I", bytes(4 * (len(found) - len(counted.summary))))
    swapped = array("I", found)
    swapped.byteswap()
    if wanted in (found, swapped):
        return
    at = next(i for i, pair in enumerate(zip(wanted, found, strict=True)) if pair[0] != pair[1])
    level, block = divmod(at, max(1, counted.blocks))
    state.report.add(
        "rt-summary-differs", "realtime summary", f"runs of 2^{level} in bitmap block {block}",
        expected=wanted[at], found=found[at], ino=state.mount.sb.rsumino,
    )  # fmt: skip


def _add(
    state: State, obj: str, field: str, expected: object, found: object, ino: int | None = None
) -> None:
    state.report.add("rt-damaged", obj, field, expected=expected, found=found, ino=ino)
