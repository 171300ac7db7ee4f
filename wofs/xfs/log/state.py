"""What is known of the log after looking for its ends, as a record of the slab."""

from __future__ import annotations

from wofs.record import HEX, NEXT, Record, record, u8, u32, u64

MAX_RECORDS_COUNTED = 4096
"""`LogState.records` counts up to here; that many may be more."""


@record("log", derived=True, source="found in the log at mount")
class LogState(Record):
    """The ends of the log and whether a mount would have to replay it.

    All zero but `external` when the log is elsewhere and was not given. Blocks are 512-byte
    blocks from the log's start; `clean` also holds for a log that is zero throughout.
    """

    head_lsn = u64(NEXT, "position of the next write: cycle and block", show=HEX)
    tail_lsn = u64(NEXT, "position of the oldest change not yet in place", show=HEX)
    last_lsn = u64(NEXT, "position of the last sound record", show=HEX)
    daddr = u64(NEXT, "start of the log on its device", unit="daddr")
    blocks = u32(NEXT, "length of the log", unit="512-byte blocks")
    cycle = u32(NEXT, "times the log has been written round")
    head_block = u32(NEXT, "where the next write goes", unit="512-byte block")
    tail_block = u32(NEXT, "where replay would start", unit="512-byte block")
    records = u32(NEXT, "records from tail to head, counted up to 4096")
    torn = u32(NEXT, "records ahead of the head that were written in part")
    clean = u8(NEXT, "the last record is that of an unmount")
    external = u8(NEXT, "the log is on a device of its own")
    known = u8(NEXT, "the log was looked at; else nothing here but external holds")


def reason(state: LogState) -> str:
    """Return in words why the log counts as clean, dirty or unknown."""
    if not state.known:
        return "is on another device, not given"
    if state.clean:
        return "was never written" if not state.cycle else "ends with an unmount record"
    count = f"{state.records}{'+' if state.records >= MAX_RECORDS_COUNTED else ''}"
    text = f"holds {count} record{'' if count == '1' else 's'} not replayed"
    text += f" (block {state.tail_block} to {state.head_block}, cycle {state.cycle})"
    return f"{text}, {state.torn} more torn" if state.torn else text
