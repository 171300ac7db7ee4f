"""One record of the log: its header, its extent in blocks, its checksum.

Source of the rules: `xfs_log_recover.c: xlog_logrec_hblks, xlog_valid_rec_header`,
`xfs_log.c: xlog_cksum`.
"""

from __future__ import annotations

from wofs.device.crc import crc32c
from wofs.errors import BadChecksum, BadField, Misplaced, Where
from wofs.ondisk.log import (
    BLOCK_BYTES,
    CHECKSUMMED_HEADER_BYTES,
    HEADER_DATA_BYTES,
    OP_UNMOUNT,
    VERSION_2,
    LogExtension,
    LogOp,
    LogRecord,
)
from wofs.record import check
from wofs.xfs.log.area import LogArea

_CRC_OFFSET = 32
_NO_UUID = bytes(16)


def lsn(cycle: int, block: int) -> int:
    """Pack a position in the log."""
    return cycle << 32 | block


def block_of(position: int) -> int:
    """Return the block of a log position."""
    return position & 0xFFFFFFFF


def cycle_of(position: int) -> int:
    """Return the cycle of a log position."""
    return position >> 32


class LogEntry:
    """A record found at `block`; only its magic is certain until `verify` was called."""

    __slots__ = ("area", "block", "head")

    def __init__(self, area: LogArea, block: int) -> None:
        self.area = area
        self.block = block
        self.head = LogRecord.decode(area.read(block, 1))

    @property
    def header_blocks(self) -> int:
        """Blocks of the header with its extensions."""
        size = self.head.size
        if not self.head.version & VERSION_2 or size <= HEADER_DATA_BYTES or size >> 31:
            return 1
        return -(-size // HEADER_DATA_BYTES)

    @property
    def blocks(self) -> int:
        """Blocks of header and data."""
        return self.header_blocks + -(-self.head.len // BLOCK_BYTES)

    def check_uuid(self) -> None:
        """Raise Misplaced if the record is another filesystem's; IRIX wrote no uuid."""
        if self.head.fs_uuid not in (self.area.uuid, _NO_UUID):
            place = self.place("fs_uuid")
            found, expected = self.head.fs_uuid.hex(), self.area.uuid.hex()
            raise Misplaced(place, "a record of another filesystem", expected, found)

    def ends_with_unmount(self) -> bool:
        """Whether the record is the one an unmount writes: one operation, so flagged."""
        if self.head.num_logops != 1:
            return False
        op = LogOp.decode(self.area.read(self.block + self.header_blocks, 1))
        return bool(op.flags & OP_UNMOUNT)

    def place(self, field: str | None = None) -> Where:
        """Return the place of the header, for an error."""
        return self.area.where(self.block, field)

    def verify(self, checksum: bool = True) -> None:
        """Raise BadField or BadChecksum unless header and data are as they were written.

        Without `checksum` only the header is looked at.
        """
        check(self.head, self.place())
        if self.blocks > self.area.blocks:
            raise BadField(self.place("len"), "longer than the log", found=self.head.len)
        if not checksum:
            return
        if not self.head.crc:
            return  # mkfs writes none
        raw = self.area.read(self.block, self.blocks)
        if all(self._crc(raw, size) != self.head.crc for size in CHECKSUMMED_HEADER_BYTES):
            where = self.area.where(self.block, "crc", len(raw))
            expected = f"{self._crc(raw, CHECKSUMMED_HEADER_BYTES[0]):#010x}"
            raise BadChecksum(where, "", expected, f"{self.head.crc:#010x}")

    def checksum(self) -> int:
        """Return the checksum the record ought to have, as a 64-bit kernel computes it."""
        return self._crc(self.area.read(self.block, self.blocks), CHECKSUMMED_HEADER_BYTES[0])

    def _crc(self, raw: bytes, header_bytes: int) -> int:
        """Compute the checksum; extensions count only as far as the data needs them."""
        covered = [raw[:_CRC_OFFSET], bytes(4), raw[_CRC_OFFSET + 4 : header_bytes]]
        if self.head.version & VERSION_2:
            for index in range(1, -(-self.head.len // HEADER_DATA_BYTES)):
                start = index * BLOCK_BYTES
                covered.append(raw[start : start + LogExtension.spec.size])
        start = self.header_blocks * BLOCK_BYTES
        covered.append(raw[start : start + self.head.len])
        return crc32c(b"".join(covered))
