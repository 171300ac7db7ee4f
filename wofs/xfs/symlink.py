"""Targets of symbolic links, in the inode or in blocks of their own.

Source: `xfs_symlink_remote.c: xfs_symlink_hdr_ok, xfs_symlink_remote_read`.
"""

from __future__ import annotations

from wofs.errors import NotLink
from wofs.ondisk import symlink as disk
from wofs.ondisk.inode import FMT_LOCAL
from wofs.xfs.bmap import Maps
from wofs.xfs.dir.parse import bad
from wofs.xfs.geometry import fsb_to_daddr
from wofs.xfs.inode import Inode
from wofs.xfs.volume import Volume


class Links:
    """Reads symbolic links."""

    def __init__(self, vol: Volume, maps: Maps) -> None:
        self._vol = vol
        self._maps = maps

    def target(self, inode: Inode) -> bytes:
        """Return the target of a symbolic link, 1 to 1023 bytes without NUL.

        Raises NotLink, and the `ImageError` of a damaged link.
        """
        if inode.type != 10:
            raise NotLink(f"inode {inode.ino} is no symbolic link")
        where = self._vol.where(f"inode {inode.ino}")
        if not 1 <= inode.size < disk.MAX_TARGET_BYTES:
            raise bad(where, "size", inode.size, f"1 to {disk.MAX_TARGET_BYTES - 1}")
        local = inode.format == FMT_LOCAL
        target = inode.dfork[: inode.size] if local else self._remote(inode)
        if len(target) != inode.size:
            raise bad(where, "size", inode.size, f"the {len(target)} bytes that are stored")
        if b"\0" in target:
            raise bad(where, "target", "a NUL byte", "none")
        return target

    def _remote(self, inode: Inode) -> bytes:
        """Collect a target from its extents, each with a header of its own."""
        geo = self._vol.geo
        out = b""
        for number, (_, fsblock, count, _) in enumerate(self._maps.extents(inode)):
            if len(out) >= inode.size:
                break
            obj = f"inode {inode.ino} symlink block {number}"
            length = min(count << geo.blocklog, 2 * disk.MAX_TARGET_BYTES + geo.blocksize)
            length -= length % geo.blocksize
            daddr = fsb_to_daddr(geo, fsblock)
            block = self._vol.buffers.load(disk.SYMLINK, daddr, obj, inode.ino, length)
            offset, size = disk.PART(block.data, 0)
            where = self._vol.where(obj, daddr, length)
            if offset != len(out):
                raise bad(where, "offset", offset, len(out))
            if not 0 < size <= length - disk.HEADER_BYTES:
                raise bad(where, "bytes", size, f"1 to {length - disk.HEADER_BYTES}")
            out += block.data[disk.HEADER_BYTES : disk.HEADER_BYTES + size]
        return out
