"""Find the ends of the log the way the kernel's recovery does.

The head is where the cycle numbers drop (or zeros begin), moved back over a record that
was written in part; the last record before it says where the tail is, and that of an
unmount that the log is clean. In a dirty log the last records are verified, since a crash
may have torn them. Reads only the neighbourhood of both ends, never the whole log.
Source: `xfs_log_recover.c: xlog_find_tail` and what it calls; named below.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from wofs.device.base import Device
from wofs.errors import BadChecksum, BadField, Corrupt, Where
from wofs.ondisk.log import BLOCK_BYTES, MAX_RECORD_BYTES, MAX_RECORDS_IN_FLIGHT
from wofs.ondisk.sb import Superblock
from wofs.units import SECTOR_BYTES
from wofs.xfs.geometry import as_geometry, fsb_to_daddr
from wofs.xfs.log.area import LogArea
from wofs.xfs.log.entry import LogEntry, block_of, cycle_of, lsn
from wofs.xfs.log.state import MAX_RECORDS_COUNTED, LogState

_RECORD_BLOCKS = MAX_RECORD_BYTES // BLOCK_BYTES
_SCAN_BLOCKS = MAX_RECORDS_IN_FLIGHT * _RECORD_BLOCKS
"""Blocks that may have been under way at a crash, hence out of order."""

_STEP_BLOCKS = 64
"""Blocks read at once where the next header is likely to be near."""

_MAX_BLOCKS = 1 << 22
"""Blocks of the largest log the format allows (2 GiB, `XFS_MAX_LOG_BYTES`)."""


class _Ends(NamedTuple):
    """Where a log ends: its last sound record, the head after it, torn records beyond."""

    head: int
    cycle: int
    last: LogEntry
    torn: int


def state(device: Device, sb: Superblock, log_device: Device | None = None) -> LogState:
    """Return where the log ends and whether it is clean.

    `log_device` holds the log when it is external (`sb.logstart` is 0); without it the
    state is unknown. Raises Truncated where the log lies beyond the device, Corrupt (and
    its subclasses) where no kernel would find its way, and `OSError` of the device.
    """
    if not sb.logstart and log_device is None:
        return LogState(external=1)
    area = area_of(device, sb, log_device)
    base = LogState(
        known=1, external=int(not sb.logstart), daddr=area.daddr, blocks=area.blocks, clean=1
    )
    if area.cycle(0) == 0:
        return base  # zero throughout: xlog_find_zeroed asks no more of it
    ends = _last_record(area, _find_head(area))
    base.clean = int(_is_clean(area, ends))
    if not base.clean:
        ends = _step_back_over_torn(area, ends)
        base.clean = int(bool(ends.torn) and _is_clean(area, ends))
    base.head_block = base.tail_block = ends.head
    base.cycle, base.torn = ends.cycle, ends.torn
    base.last_lsn = ends.last.head.lsn
    base.head_lsn = base.tail_lsn = lsn(ends.cycle, ends.head)
    if not base.clean:
        _fill_dirty(area, base, ends)
    return base


def area_of(device: Device, sb: Superblock, log_device: Device | None = None) -> LogArea:
    """Return the log's area, its size within what the format allows; BadField for another."""
    blocks = sb.logblocks * (sb.blocksize // BLOCK_BYTES)
    if not 0 < blocks <= _MAX_BLOCKS:
        where = Where(device.name, "superblock", 0, SECTOR_BYTES, "logblocks")
        raise BadField(where, "", f"1 to {_MAX_BLOCKS * BLOCK_BYTES // sb.blocksize}", sb.logblocks)
    if sb.logstart:
        return LogArea(device, fsb_to_daddr(as_geometry(sb), sb.logstart), blocks, sb.uuid)
    return LogArea(log_device or device, 0, blocks, sb.uuid)


def _find_head(area: LogArea) -> int:
    """Return the block where the next write goes; block 0 is not zero.

    Source: `xlog_find_head`, whose comments draw the cases.
    """
    last = area.cycle(area.blocks - 1)
    if last == 0:
        return _find_head_before_zeros(area)
    if area.cycle(0) == last:
        head, stop = area.blocks, last - 1
    else:
        head, stop = _cycle_start(area, last), last
    head = _first_hole(area, head, stop)
    if head >= _RECORD_BLOCKS:
        whole = _before_partial(area, head - _RECORD_BLOCKS, head)
    else:
        whole = _before_partial(area, 0, head)
        if whole is None:
            # The record that ends here started at the physical end.
            start = max(head, area.blocks - (_RECORD_BLOCKS - head))
            found = _before_partial(area, start, area.blocks, head)
            whole = head if found == area.blocks else found
    if whole is None:
        raise Corrupt(area.where(head), "no record of the log ends here")
    return whole % area.blocks


def _find_head_before_zeros(area: LogArea) -> int:
    """Return the head of a log that was not written round yet.

    Source: `xlog_find_zeroed`.
    """
    edge = _cycle_start(area, 0)
    start = max(0, edge - _SCAN_BLOCKS)
    hole = area.first_with_cycle(start, edge - start, 0)
    edge = edge if hole is None else hole
    whole = _before_partial(area, start, edge)
    if whole is None:
        raise Corrupt(area.where(edge), "no record of the log ends here")
    return whole


def _cycle_start(area: LogArea, cycle: int) -> int:
    """Return about the first block of the run of `cycle` that the log's end belongs to.

    Source: `xlog_find_cycle_start`.
    """
    low, high = 0, area.blocks - 1
    while high - low > 1:
        middle = (low + high) // 2
        if area.cycle(middle) == cycle:
            high = middle
        else:
            low = middle
    return high


def _first_hole(area: LogArea, head: int, stop: int) -> int:
    """Return the first block near `head` that the writes before the crash left out.

    `stop` is the cycle that must not occur before the head. Source: `xlog_find_head`.
    """
    scan = min(area.blocks, _SCAN_BLOCKS)
    if head >= scan:
        hole = area.first_with_cycle(head - scan, scan, stop)
    else:
        ahead = scan - head
        hole = area.first_with_cycle(area.blocks - ahead, ahead, stop - 1)
        if hole is None:
            hole = area.first_with_cycle(0, head, stop)
    return head if hole is None else hole


def _before_partial(area: LogArea, start: int, edge: int, wrapped: int = 0) -> int | None:
    """Return `edge` if a whole record ends there, else the start of the partial one.

    Looks for its header from `edge` back to `start`; `wrapped` more blocks of it lie at the
    log's start. None if there is no header and `start` is 0, Corrupt if not. Source:
    `xlog_find_verify_log_record`.
    """
    headers = area.headers(start, edge - start)
    if not headers:
        if start == 0:
            return None
        raise Corrupt(area.where(edge), f"no record header in the {edge - start} blocks before")
    entry = LogEntry(area, headers[-1])
    entry.check_uuid()
    return edge if edge - entry.block + wrapped == entry.blocks else entry.block


def _headers_back(area: LogArea, head: int, stop: int) -> Iterator[int]:
    """Yield the record headers before block `head`, nearest first, down to block `stop`.

    Looks no farther than records under way can reach. Source: `xlog_rseek_logrec_hdr`.
    """
    left = min(area.distance(stop, head), _SCAN_BLOCKS + _RECORD_BLOCKS)
    while left:
        count = min(left, _RECORD_BLOCKS)
        head = (head - count) % area.blocks
        yield from reversed(area.headers(head, count))
        left -= count


def _last_record(area: LogArea, head: int, stop: int | None = None, torn: int = 0) -> _Ends:
    """Return the ends given by the record nearest before `head`."""
    block = next(_headers_back(area, head, head if stop is None else stop), None)
    if block is None:
        raise Corrupt(area.where(head), "no record header before the log's head")
    entry = LogEntry(area, block)
    # A record that started before the physical end belongs to the cycle before the head's.
    return _Ends(head, entry.head.cycle + (block >= head), entry, torn)


def _is_clean(area: LogArea, ends: _Ends) -> bool:
    """Whether the last record ends at the head and is an unmount's.

    Source: `xlog_check_unmount_rec`.
    """
    last = ends.last
    return (last.block + last.blocks) % area.blocks == ends.head and last.ends_with_unmount()


def _tail_of(area: LogArea, ends: _Ends) -> int:
    """Return the tail that the last record names; raise BadField where it cannot be.

    Source: `xlog_clear_stale_blocks`.
    """
    position = ends.last.head.tail_lsn
    cycle, tail = cycle_of(position), block_of(position)
    same = cycle == ends.cycle and tail < ends.head
    before = cycle + 1 == ends.cycle and ends.head < tail < area.blocks
    if not same and not before:
        where = area.where(ends.last.block, "tail_lsn")
        expected = f"a block written before the head, {lsn(ends.cycle, ends.head):#x}"
        raise BadField(where, "", expected, f"{position:#x}")
    return tail


def _step_back_over_torn(area: LogArea, ends: _Ends) -> _Ends:
    """Return the ends before the first torn record among those under way at a crash.

    Source: `xlog_verify_head`.
    """
    tail = block_of(ends.last.head.tail_lsn)
    if tail >= area.blocks:
        tail = ends.head  # a torn header may name any tail: search all the way
    recent: list[int] = []
    for block in _headers_back(area, ends.head, tail):
        recent.append(block)
        if len(recent) == MAX_RECORDS_IN_FLIGHT:
            break
    bad = _first_bad(area, recent[-1], ends.head)
    if bad is None:
        return ends
    return _last_record(area, bad, tail, recent.index(bad) + 1 if bad in recent else 1)


def _first_bad(area: LogArea, block: int, head: int) -> int | None:
    """Return the first damaged record from `block` up to the head, or None."""
    left = area.distance(block, head)
    while left > 0:
        entry = LogEntry(area, block)
        try:
            entry.verify()
        except Corrupt:
            return block  # torn: what lies beyond it never happened
        block, left = (block + entry.blocks) % area.blocks, left - entry.blocks
    return None


def _fill_dirty(area: LogArea, found: LogState, ends: _Ends) -> None:
    """Enter tail and number of records of a dirty log."""
    tail = _tail_of(area, ends)
    if not area.is_header(tail):
        tail = _next_header(area, tail, ends.head)
    tail, found.records = _walk(area, tail, ends)
    found.tail_block = tail
    found.tail_lsn = lsn(ends.cycle - (tail > ends.head), tail)


def _walk(area: LogArea, tail: int, ends: _Ends) -> tuple[int, int]:
    """Return the first record from `tail` that survived, and the number from it to the head.

    A write under way may have destroyed records at the tail, those are stepped over, as in
    `xlog_verify_tail`; only within its reach are checksums computed. Raises Corrupt for a
    damaged header beyond.
    """
    buffer_bytes = min(ends.last.head.size, MAX_RECORD_BYTES)
    reach = MAX_RECORDS_IN_FLIGHT * -(-buffer_bytes // BLOCK_BYTES)
    block, records, wasted = tail, 0, 0
    while records < MAX_RECORDS_COUNTED and (left := (ends.head - block) % area.blocks):
        entry = LogEntry(area, block)
        in_reach = area.distance(ends.head, block) <= reach
        try:
            entry.verify(checksum=in_reach)
        except Corrupt as error:
            # True records do not overlap: more blocks of bad ones than there are is hostile.
            wasted += entry.blocks if isinstance(error, BadChecksum) else 1
            if not in_reach or wasted > 2 * reach:
                raise
            tail = block = _next_header(area, block, ends.head)
            records = 0
            continue
        if entry.blocks > left:
            raise BadField(
                entry.place("len"),
                "the record reaches beyond the head",
                f"at most {left - entry.header_blocks} blocks",
                entry.head.len,
            )
        records += 1
        block = (block + entry.blocks) % area.blocks
    return tail, records


def _next_header(area: LogArea, block: int, head: int) -> int:
    """Return the first record header after `block`, before the head."""
    left = min(area.distance(block, head) - 1, _SCAN_BLOCKS + _RECORD_BLOCKS)
    while left:
        count = min(left, _STEP_BLOCKS)
        found = area.headers((block + 1) % area.blocks, count)
        if found:
            return found[0]
        block, left = (block + count) % area.blocks, left - count
    raise Corrupt(area.where(block), "no record header between the log's tail and head")
