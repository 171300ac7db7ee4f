"""Remote symlink blocks of version 5. Source: `xfs_format.h: struct xfs_dsymlink_hdr`."""

from wofs.ondisk.kind import Kind
from wofs.record import Record, record, u32

HEADER_BYTES = 56
MAX_TARGET_BYTES = 1024

SYMLINK = Kind("symlink block", (b"XSLM",), magic=0, crc=12, uuid=16, blkno=40, owner=32)


@record("symlink block", size=HEADER_BYTES, source="xfs_format.h: struct xfs_dsymlink_hdr")
class SymlinkHeader(Record):
    """Header of each extent of a remote symlink."""

    magicnum = u32(0, "identifies the block")
    offset = u32(4, "first byte of the target held here", unit="bytes")
    bytes = u32(8, "bytes of the target held here", unit="bytes")


PART = SymlinkHeader.pick("offset", "bytes")
