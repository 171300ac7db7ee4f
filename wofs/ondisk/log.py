"""Structures of the log: record headers, their extensions, operation headers.

The log is a ring of 512-byte blocks. Each block starts with the number of the cycle that
wrote it, the word that was there is kept in the record's header (`cycle_data`); only a
header's own block starts with the magic, its cycle follows. Source of fields:
`xfs_log_format.h: xlog_rec_header, xlog_rec_ext_header, xlog_op_header`; of rules:
`xfs_log_recover.c: xlog_valid_rec_header, xlog_header_check_recover`.
"""

from wofs.record import (
    CHECK,
    HEX,
    UUID,
    Between,
    Eq,
    Le,
    Record,
    array_u32,
    crc32c,
    raw,
    record,
    u8,
    u16,
    u32,
    u64,
)

LOG_MAGIC = 0xFEEDBABE
BLOCK_BYTES = 512
HEADER_DATA_BYTES = 32768
"""Data bytes for which one header block has room to keep the replaced words."""

CYCLE_WORDS = HEADER_DATA_BYTES // BLOCK_BYTES
MAX_RECORD_BYTES = 256 * 1024
MAX_RECORDS_IN_FLIGHT = 8
"""Log buffers the kernel may have been writing at once (`XLOG_MAX_ICLOGS`)."""

VERSION_2 = 2
FMT_LINUX_LE = 1

CHECKSUMMED_HEADER_BYTES = (328, 324)
"""Header bytes under the checksum: written by a 64-bit kernel, or by a 32-bit x86 one."""

OP_UNMOUNT = 0x20


@record("log_record", size=328, magic=b"\xfe\xed\xba\xbe", source="xfs_log_format.h")
class LogRecord(Record):
    """Header of one write to the log; alone in its block."""

    magicno = u32(0, "identifies the block", show=HEX, rules=[Eq(LOG_MAGIC)])
    cycle = u32(4, "times the log has been written round")
    version = u32(8, "version bits", rules=[Between(1, 3)])
    len = u32(12, "data after the header", unit="bytes", rules=[Between(1, MAX_RECORD_BYTES)])
    lsn = u64(16, "own position: cycle and block", show=HEX)
    tail_lsn = u64(24, "position of the oldest change not yet in place", show=HEX)
    crc = crc32c(32, "CRC32C of header, extensions and data; 0: none")
    prev_block = u32(36, "block of the record before", show=HEX)
    num_logops = u32(40, "operations in the data")
    cycle_data = array_u32(44, CYCLE_WORDS, "first words of the data blocks", show=HEX)
    fmt = u32(300, "byte order of the data; 1: little-endian", rules=[Eq(FMT_LINUX_LE, CHECK)])
    fs_uuid = raw(304, 16, "identity of the filesystem", show=UUID)
    size = u32(320, "size of the log buffer", unit="bytes", rules=[Le(MAX_RECORD_BYTES)])


@record("log_extension", size=260, source="xfs_log_format.h: struct xlog_rec_ext_header")
class LogExtension(Record):
    """A further header block of a record that has more than 32 KiB of data."""

    cycle = u32(0, "times the log has been written round")
    cycle_data = array_u32(4, CYCLE_WORDS, "first words of the data blocks", show=HEX)


@record("log_op", size=12, source="xfs_log_format.h: struct xlog_op_header")
class LogOp(Record):
    """Header of one operation within a record's data."""

    tid = u32(0, "transaction", show=HEX)
    len = u32(4, "data after this header", unit="bytes")
    clientid = u8(8, "who wrote it: 0x69 a transaction, 0xaa the log", show=HEX)
    flags = u8(9, "start, commit, continued, end, unmount", show=HEX)
    res2 = u16(10, "unused", show=HEX)
