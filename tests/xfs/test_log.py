"""The ends of the log: small logs built record by record, damaged, and those of real images."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.images import names
from wofs.device import BytesDevice, FileDevice
from wofs.device.crc import crc32c
from wofs.device.faulty import Fault, FaultyDevice
from wofs.errors import BadChecksum, BadField, Corrupt, ImageError, Misplaced, Truncated
from wofs.ondisk.log import BLOCK_BYTES, LOG_MAGIC, OP_UNMOUNT, LogExtension, LogOp, LogRecord
from wofs.ondisk.sb import Superblock
from wofs.xfs.log import LogState, reason, state
from wofs.xfs.super import read_super

UUID = bytes(range(16))
LOG_START = 8
"""Filesystem block, of 4 KiB, at which the synthetic logs lie."""

BLOCKS = 6144
"""Blocks of the synthetic logs: more than may be under way at a crash (4096)."""


BEHIND = 40
"""Records by which the tail of a synthetic log is behind its head."""


def superblock(**changes: object) -> Superblock:
    values: dict[str, object] = {
        "blocksize": 4096,
        "blocklog": 12,
        "agblocks": 1 << 16,
        "agblklog": 16,
        "agcount": 1,
        "dblocks": 1 << 16,
        "inodesize": 512,
        "sectsize": 512,
        "logstart": LOG_START,
        "logblocks": BLOCKS // 8,
        "uuid": UUID,
    }
    return Superblock(**{**values, **changes})  # type: ignore[arg-type]


def lsn(cycle: int, block: int) -> int:
    return cycle << 32 | block


class Writer:
    """Writes a log as the kernel does: round and round, each block stamped with its cycle."""

    def __init__(self, blocks: int = BLOCKS) -> None:
        self.image = bytearray((LOG_START * 8 + blocks) * BLOCK_BYTES)
        self.blocks = blocks
        self.cycle, self.block = 1, 0
        self.tail = lsn(1, 0)
        self.starts: list[int] = []
        self.lsns: list[int] = []
        self.tails: list[int] = []

    def put(self, block: int, data: bytes) -> None:
        at = (LOG_START * 8 + block % self.blocks) * BLOCK_BYTES
        self.image[at : at + len(data)] = data

    def get(self, block: int, count: int = 1) -> bytes:
        at = (LOG_START * 8 + block % self.blocks) * BLOCK_BYTES
        return bytes(self.image[at : at + count * BLOCK_BYTES])

    def record(self, data: bytes, ops: int = 3, **changes: int | bytes) -> int:
        """Write a record of `data` at the head; return its block."""
        size = int(changes.get("size", 32768))
        headers = max(1, -(-size // 32768))
        start, cycle = self.block, self.cycle
        count = -(-len(data) // BLOCK_BYTES)
        stamps = [cycle + (start + i >= self.blocks) for i in range(headers + count)]
        blocks = [
            data[i * BLOCK_BYTES : (i + 1) * BLOCK_BYTES].ljust(BLOCK_BYTES, b"\0")
            for i in range(count)
        ]
        words = [int.from_bytes(block[:4], "big") for block in blocks]
        words += [0] * (headers * 64 - count)
        disk = [
            stamp.to_bytes(4, "big") + block[4:]
            for stamp, block in zip(stamps[headers:], blocks, strict=True)
        ]
        rest = [
            LogExtension(cycle=stamps[i], cycle_data=tuple(words[i * 64 : i * 64 + 64])).encode()
            for i in range(1, headers)
        ]
        values: dict[str, object] = {
            "magicno": LOG_MAGIC,
            "cycle": cycle,
            "version": 2,
            "len": len(data),
            "lsn": lsn(cycle, start),
            "tail_lsn": self.tail,
            "num_logops": ops,
            "cycle_data": tuple(words[:64]),
            "fmt": 1,
            "fs_uuid": UUID,
            "size": size,
        }
        head = LogRecord(**{**values, **changes})  # type: ignore[arg-type]
        needed = rest[: -(-len(data) // 32768) - 1]
        if "crc" not in changes:
            covered = [head.encode(), *needed, b"".join(disk)[: len(data)]]
            head.crc = crc32c(b"".join(covered))
        for i, block in enumerate([head.encode(), *rest, *disk]):
            self.put(start + i, block.ljust(BLOCK_BYTES, b"\0"))
        self.starts.append(start)
        self.lsns.append(lsn(cycle, start))
        self.tails.append(self.tail & 0xFFFFFFFF)
        self.advance(headers + count)
        return start

    def advance(self, blocks: int) -> None:
        self.block += blocks
        if self.block >= self.blocks:
            self.block -= self.blocks
            self.cycle += 1

    def unmount(self, **changes: int | bytes) -> int:
        """Write the record of an unmount, as an unmount does."""
        op = LogOp(tid=0xB0C0D0D0, len=8, clientid=0xAA, flags=OP_UNMOUNT).encode()
        return self.record((op + b"nU\0\0\0\0\0\0").ljust(512, b"\0"), ops=1, **changes)

    def until(self, cycle: int, block: int = 0) -> None:
        """Write records until the head is at `block` of `cycle` or beyond, the tail 40 behind."""
        while (self.cycle, self.block) < (cycle, block):
            if len(self.lsns) > BEHIND:
                self.tail = self.lsns[-BEHIND]
            self.record(bytes([len(self.starts) & 0xFF]) * 12000)

    def stamp(self, count: int) -> None:
        """Stamp `count` blocks ahead of the head as a mount does after a crash."""
        for i in range(count):
            block = (self.block + i) % self.blocks
            cycle = self.cycle - 1 + (self.block + i >= self.blocks)
            head = LogRecord(
                magicno=LOG_MAGIC,
                cycle=cycle,
                version=2,
                lsn=lsn(cycle, block),
                tail_lsn=self.tail,
                fmt=1,
                fs_uuid=UUID,
            )
            self.put(block, head.encode().ljust(BLOCK_BYTES, b"\0"))

    def state(self, **changes: object) -> LogState:
        sb = superblock(**{"logblocks": self.blocks // 8, **changes})
        return state(BytesDevice(bytes(self.image), "disk.img"), sb)


def ends(found: LogState) -> tuple[int, int, int]:
    return found.head_block, found.tail_block, found.cycle


def crashed(cycle: int = 1, block: int = 2000) -> Writer:
    """Return a log whose last write is not an unmount, head near `block` of `cycle`."""
    log = Writer()
    log.until(cycle, block)
    return log


@pytest.mark.parametrize(
    ("cycle", "block"), [(1, 0), (1, 700), (1, 5000), (2, 3), (2, 3000), (2, 6000), (7, 100)]
)
def test_unmount_record_at_the_end_is_clean(cycle: int, block: int) -> None:
    log = crashed(cycle, block)
    last = log.unmount()
    found = log.state()
    assert (found.clean, found.known, found.external, found.torn, found.records) == (1, 1, 0, 0, 0)
    assert ends(found) == (log.block, log.block, log.cycle)
    assert found.last_lsn & 0xFFFFFFFF == last
    assert found.head_lsn == found.tail_lsn == lsn(log.cycle, log.block)
    assert (found.daddr, found.blocks) == (LOG_START * 8, BLOCKS)
    assert reason(found) == "ends with an unmount record"


@pytest.mark.parametrize(
    ("cycle", "block"), [(1, 100), (1, 700), (1, 5000), (2, 3), (2, 3000), (2, 6000), (7, 100)]
)
def test_other_record_at_the_end_is_dirty(cycle: int, block: int) -> None:
    log = crashed(cycle, block)
    found = log.state()
    tail = log.tail & 0xFFFFFFFF
    assert not found.clean
    assert ends(found) == (log.block, tail, log.cycle)
    assert found.tail_lsn == log.tail
    assert found.records == min(len(log.starts), BEHIND + 1)
    text = f" not replayed (block {tail} to {log.block}, cycle {log.cycle})"
    records = "1 record" if found.records == 1 else f"{found.records} records"
    assert reason(found) == f"holds {records}{text}"


def test_changes_after_an_unmount_are_dirty() -> None:
    log = crashed()
    log.unmount()
    log.tail = lsn(log.cycle, log.block)
    log.record(b"change" * 100)
    found = log.state()
    assert (found.clean, found.records) == (0, 1)


def test_log_that_was_never_written_is_clean() -> None:
    found = Writer().state()
    assert (found.clean, found.known, ends(found)) == (1, 1, (0, 0, 0))
    assert reason(found) == "was never written"


def test_record_of_mkfs_has_no_checksum() -> None:
    log = Writer()
    log.unmount(crc=0)
    assert log.state().clean


def test_external_log_is_unknown_unless_given() -> None:
    log = crashed()
    sb = superblock(logstart=0)
    found = state(BytesDevice(b""), sb)
    assert (found.external, found.known, found.clean) == (1, 0, 0)
    assert reason(found) == "is on another device, not given"
    elsewhere = BytesDevice(bytes(log.image[LOG_START * 4096 :]), "log.img")
    found = state(BytesDevice(b""), sb, elsewhere)
    assert (found.external, found.known, found.daddr) == (1, 1, 0)
    assert ends(found) == ends(log.state())


def test_stamps_of_an_older_cycle_ahead_of_the_head_are_ignored() -> None:
    for cycle, block in ((1, 1000), (2, 1000), (3, 6000)):
        log = crashed(cycle, block)
        log.unmount()
        log.stamp(2048)
        found = log.state()
        assert (found.clean, ends(found)) == (1, (log.block, log.block, log.cycle))


@pytest.mark.parametrize(("cycle", "block"), [(1, 3000), (2, 100), (2, 3000), (3, 6100)])
@pytest.mark.parametrize("missing", [1, 5])
def test_partial_record_is_stepped_back_over(cycle: int, block: int, missing: int) -> None:
    log = crashed(cycle, block)
    head, last_cycle, before = log.block, log.cycle, bytes(log.image)
    log.record(b"half" * 3000)
    fresh, log.image = log.image, bytearray(before)
    untouched = [log.get(log.block - 1 - i) for i in range(missing)]
    log.image = fresh
    for i, old in enumerate(untouched):
        log.put(log.block - 1 - i + log.blocks, old)
    found = log.state()
    assert not found.clean
    assert ends(found) == (head, log.tails[-2], last_cycle)


@pytest.mark.parametrize("back", range(1, 9))
@pytest.mark.parametrize("cycle", [1, 2])
def test_torn_records_are_stepped_back_over(back: int, cycle: int) -> None:
    log = crashed(cycle, 2000)
    bad = log.starts[-back]
    log.put(bad + 3, log.get(bad + 3)[:100] + b"torn" + log.get(bad + 3)[104:])
    found = log.state()
    assert (found.torn, found.clean) == (back, 0)
    assert ends(found) == (bad, log.tails[-back - 1], cycle)
    assert reason(found).endswith(f", {back} more torn")


def test_unmount_before_a_torn_record_is_clean() -> None:
    log = crashed()
    log.unmount()
    head = log.block
    log.tail = lsn(log.cycle, head)
    log.record(b"torn" * 1000)
    log.put(head + 2, log.get(head + 2)[:50] + b"!" + log.get(head + 2)[51:])
    found = log.state()
    assert (found.clean, found.torn, ends(found)) == (1, 1, (head, head, 1))


@pytest.mark.parametrize("field", ["tail_lsn", "lsn", "version", "num_logops", "prev_block"])
def test_damaged_header_counts_as_torn(field: str) -> None:
    log = crashed()
    bad = log.starts[-1]
    head = LogRecord.decode(log.get(bad))
    setattr(head, field, (1 << 8 * LogRecord.spec.field(field).size) - 1)
    log.put(bad, head.encode())
    found = log.state()
    assert (found.torn, found.head_block) == (1, bad)


def test_checksums_of_both_kernel_widths_are_right() -> None:
    log = crashed()
    bad = log.starts[-1]
    raw = log.get(bad, 25)
    crc = crc32c(raw[:32] + bytes(4) + raw[36:324] + raw[512 : 512 + 12000])
    assert crc.to_bytes(4, "little") != raw[32:36]
    log.put(bad, raw[:32] + crc.to_bytes(4, "little") + raw[36:512])
    assert log.state().torn == 0


def test_large_records_carry_more_header_blocks() -> None:
    log = Writer()
    for _ in range(30):
        log.tail = lsn(log.cycle, log.block)
        log.record(b"large" * 26000, size=262144)
        log.record(b"small" * 100, size=262144)
    found = log.state()
    assert (found.records, found.torn, found.head_block) == (2, 0, log.block)
    bad = log.starts[-2]
    log.put(bad + 2, b"\xff" * 512)  # an extension that the length needs
    assert log.state().torn == 2
    log.unmount(size=262144)
    assert log.state().clean


def test_tail_destroyed_by_a_write_under_way_moves_on() -> None:
    log = Writer()
    log.until(2, 3000)
    oldest = next(s for s in sorted(log.starts[-260:]) if s > log.block + 40)
    log.tail = lsn(1, oldest)
    log.record(b"last" * 100)
    following = min(s for s in log.starts if s > oldest)
    assert log.state().tail_block == oldest
    for damage in (b"\0" * 512, log.get(oldest)[:12] + bytes(4) + log.get(oldest)[16:]):
        whole = log.get(oldest)
        log.put(oldest, damage)
        assert log.state().tail_block == following
        log.put(oldest, whole)
    log.put(oldest + 4, b"\0\0\0\1" + b"?" * 508)
    assert log.state().tail_block == following


def test_stamps_at_the_tail_are_stepped_over() -> None:
    log = Writer()
    log.until(2, 3000)
    start = next(s for s in sorted(log.starts) if s > log.block + 300)
    for block in range(log.block, start):
        blank = LogRecord(magicno=LOG_MAGIC, cycle=1, version=2, fmt=1, fs_uuid=UUID)
        log.put(block, blank.encode().ljust(BLOCK_BYTES, b"\0"))
    log.tail = lsn(1, log.block + 100)
    log.record(b"last" * 100)
    assert log.state().tail_block == start


def test_headers_without_end_do_not_cost_time() -> None:
    log = Writer()
    log.until(2, 1000)
    log.tail = lsn(1, log.block + 40)
    log.record(b"last" * 100, size=262144)
    for block in range(log.block, BLOCKS):
        bad = LogRecord(
            magicno=LOG_MAGIC, cycle=1, version=2, len=262144, crc=1, fs_uuid=UUID, size=262144
        )
        log.put(block, bad.encode().ljust(BLOCK_BYTES, b"\0"))
    start = time.perf_counter()
    with pytest.raises(BadChecksum):
        log.state()
    assert time.perf_counter() - start < 1


def test_damage_between_tail_and_head_is_an_error() -> None:
    log = crashed(1, 3000)
    middle = log.starts[-30]
    log.put(middle, b"\0\0\0\1" + bytes(508))
    with pytest.raises(BadField, match=rf"^disk.img: log block {middle} .*magicno") as caught:
        log.state()
    assert caught.value.where.daddr == LOG_START * 8 + middle


def test_record_of_another_filesystem_is_an_error() -> None:
    log = crashed()
    log.unmount()
    with pytest.raises(Misplaced, match="another filesystem"):
        log.state(uuid=bytes(16))
    log.unmount(fs_uuid=bytes(16))  # IRIX wrote none
    assert log.state().clean


def test_impossible_tail_is_an_error() -> None:
    for tail in (lsn(1, 5000), lsn(3, 10), lsn(1, BLOCKS), lsn(0, 100)):
        log = crashed(1, 2000)
        log.tail = tail
        log.record(b"x")
        with pytest.raises(BadField, match="tail_lsn is"):
            log.state()


def test_log_without_records_is_an_error() -> None:
    log = Writer()
    for block in range(BLOCKS):
        log.put(block, (3).to_bytes(4, "big"))
    with pytest.raises(Corrupt, match="no record header"):
        log.state()
    log = Writer()
    for block in range(700):
        log.put(block, (1).to_bytes(4, "big"))
    with pytest.raises(Corrupt, match="no record"):
        log.state()


def test_log_beyond_the_image_or_of_impossible_size_is_an_error() -> None:
    log = crashed()
    with pytest.raises(Truncated, match="the image ends first"):
        log.state(logblocks=2 * BLOCKS)
    for logblocks in (0, 1 << 20):
        with pytest.raises(BadField, match=f"logblocks is {logblocks}, expected 1 to 524288"):
            log.state(logblocks=logblocks)


def test_error_of_the_device_passes() -> None:
    log = crashed()
    bad = (LOG_START * 8 + log.starts[-1]) * BLOCK_BYTES
    faults = [Fault(bad, 512, error=TimeoutError("slow"))]
    device = FaultyDevice(BytesDevice(bytes(log.image)), faults)
    with pytest.raises(TimeoutError):
        state(device, superblock())


class CountingDevice(BytesDevice):
    """Counts the bytes read."""

    bytes_read = 0

    def pread(self, offset: int, length: int) -> bytes:
        self.bytes_read += length
        return super().pread(offset, length)


def test_work_does_not_grow_with_the_log() -> None:
    log = Writer(16 * BLOCKS)
    log.until(2, 8 * BLOCKS)
    log.unmount()
    device = CountingDevice(bytes(log.image))
    start = time.perf_counter()
    assert state(device, superblock(logblocks=log.blocks // 8)).clean
    assert time.perf_counter() - start < 0.5
    assert device.bytes_read < 3 << 20 < len(log.image) // 16


WORN = {(c, b): crashed(c, b) for c, b in ((1, 600), (2, 30), (2, 3000))}
UNMOUNTED = {key: crashed(*key) for key in WORN}
for _log in UNMOUNTED.values():
    _log.unmount()


@given(st.data())
def test_flipped_bytes_give_a_state_or_an_image_error(data: st.DataObject) -> None:
    logs = data.draw(st.sampled_from([WORN, UNMOUNTED]))
    log = logs[data.draw(st.sampled_from(sorted(logs)))]
    damaged = Writer()
    damaged.image[:] = log.image
    near = st.sampled_from([*log.starts[-12:], log.block, log.tails[-1], 0, BLOCKS - 1])
    for block in data.draw(st.lists(near, min_size=1, max_size=4)):
        at = (LOG_START * 8 + block) * BLOCK_BYTES + data.draw(st.integers(0, 700))
        value = data.draw(st.binary(min_size=1, max_size=8))
        damaged.image[at : at + len(value)] = value
    del damaged.image[len(log.image) :]
    try:
        found = damaged.state()
    except ImageError:
        return
    assert found.head_block < BLOCKS
    assert found.tail_block < BLOCKS
    assert reason(found)


@given(st.binary(max_size=8 * BLOCK_BYTES), st.integers(0, 8))
def test_any_bytes_give_a_state_or_an_image_error(data: bytes, logblocks: int) -> None:
    image = (bytes(LOG_START * 4096) + data * 16)[: LOG_START * 4096 + 8 * 4096]
    try:
        state(BytesDevice(image), superblock(logblocks=logblocks))
    except ImageError:
        return


@pytest.mark.parametrize("name", names("mountable") + names("dirty"))
def test_logs_of_real_images(name: str, image: Callable[[str], Path]) -> None:
    device = FileDevice(image(name))
    found = state(device, read_super(device))
    device.close()
    if found.known:
        assert found.clean == (name in names("mountable"))
        assert found.torn == 0
        assert bool(found.records) != found.clean
    else:
        assert found.external
