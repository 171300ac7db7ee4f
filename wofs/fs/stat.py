"""What `stat` says of an inode, in the manner of `os.stat_result`.

Values are the kernel's: `xfs_iops.c: xfs_vn_getattr, xfs_stat_blksize`.
"""

from __future__ import annotations

from typing import NamedTuple

from wofs.units import SECTOR_BYTES
from wofs.xfs.geometry import Geometry
from wofs.xfs.inode import Inode

PAGE_BYTES = 4096
"""What the kernel gives as the least `st_blksize`, and always for device nodes."""

CHR, DIR, BLK, REG, LNK, FIFO, SOCK = 2, 4, 6, 8, 10, 1, 12
"""File types: the top four bits of the mode."""

TYPE_NAMES = {
    REG: "regular file",
    DIR: "directory",
    LNK: "symbolic link",
    CHR: "character device",
    BLK: "block device",
    FIFO: "fifo",
    SOCK: "socket",
}


class Stat(NamedTuple):
    """The attributes of an inode.

    Times are nanoseconds since 1970 and may be negative; `st_size` is in bytes, `st_blocks`
    in 512-byte units, `st_birthtime_ns` the creation, `st_gen` the inode's generation and
    `st_projid` its project.
    """

    st_mode: int
    st_ino: int
    st_nlink: int
    st_uid: int
    st_gid: int
    st_size: int
    st_blocks: int
    st_blksize: int
    st_rdev: int
    st_atime_ns: int
    st_mtime_ns: int
    st_ctime_ns: int
    st_birthtime_ns: int
    st_gen: int
    st_projid: int

    @property
    def type(self) -> int:
        """The file type: the top four bits of the mode."""
        return self.st_mode >> 12

    @property
    def st_atime(self) -> float:
        """Last access in seconds."""
        return self.st_atime_ns / 1e9

    @property
    def st_mtime(self) -> float:
        """Last change of the data in seconds."""
        return self.st_mtime_ns / 1e9

    @property
    def st_ctime(self) -> float:
        """Last change of the inode in seconds."""
        return self.st_ctime_ns / 1e9

    @property
    def st_birthtime(self) -> float:
        """Creation in seconds."""
        return self.st_birthtime_ns / 1e9


def stat_of(geo: Geometry, inode: Inode) -> Stat:
    """Return the attributes of `inode` as the kernel shows them."""
    blocksize = geo.blocksize
    kind = inode.mode >> 12
    return Stat(
        inode.mode,
        inode.ino,
        inode.nlink,
        inode.uid,
        inode.gid,
        inode.size,
        inode.nblocks * (blocksize // SECTOR_BYTES),
        PAGE_BYTES if kind in (CHR, BLK) else max(PAGE_BYTES, blocksize),
        inode.rdev,
        inode.atime_ns,
        inode.mtime_ns,
        inode.ctime_ns,
        inode.crtime_ns,
        inode.gen,
        inode.projid,
    )
