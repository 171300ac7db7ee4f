"""What there is to know of a whole filesystem: identity, geometry, counters, memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from wofs.device.crc import implementation
from wofs.ondisk import features as feat
from wofs.slab import ArenaStats
from wofs.xfs.geometry import ag_length
from wofs.xfs.log import reason
from wofs.xfs.mount import Mount
from wofs.xfs.options import PROTECT

MAX_NAME_BYTES = 255
_AGFL_RESERVE_BLOCKS = 8
"""Blocks of each AG that the kernel never gives out (`xfs_alloc.c: xfs_alloc_set_aside`)."""

_CHUNK_INODES = 64
_ST_RDONLY = 1


class StatFs(NamedTuple):
    """What `statvfs` says, in the fields of `os.statvfs_result`; counted in blocks."""

    f_bsize: int
    f_frsize: int
    f_blocks: int
    f_bfree: int
    f_bavail: int
    f_files: int
    f_ffree: int
    f_favail: int
    f_flag: int
    f_namemax: int
    f_fsid: int


def statfs(mount: Mount) -> StatFs:
    """Return the counts that the kernel's read-only mount shows.

    Source: `xfs_super.c: xfs_fs_statfs`. The superblock's counters are right only after a
    clean unmount, which is when they are shown unchanged by the kernel too.
    """
    sb = mount.sb
    blocks = sb.dblocks - (sb.logblocks if sb.logstart else 0)
    free = max(0, min(sb.fdblocks, sb.dblocks) - _unavailable(mount))
    files = min(sb.icount + (free << sb.inopblog), (1 << 63) - 1)
    most = _most_inodes(mount)
    if most:
        files = min(files, most)
    files = max(files, sb.icount)
    ffree = max(0, files - (sb.icount - min(sb.ifree, sb.icount)))
    fsid = int.from_bytes(sb.uuid[:8], "big")
    return StatFs(
        sb.blocksize, sb.blocksize, blocks, free, free, files, ffree, ffree, _ST_RDONLY,
        MAX_NAME_BYTES, fsid,
    )  # fmt: skip


def _unavailable(mount: Mount) -> int:
    """Return the free blocks that the kernel keeps for its own trees.

    The set-aside of each AG, and the blocks of the free-space trees beyond their roots
    (`xfs_alloc.c: xfs_alloc_read_agf`, `m_allocbt_blks`).
    """
    kept = _AGFL_RESERVE_BLOCKS * mount.geo.agcount
    has_rmap = mount.geo.ro_compat & feat.RO_COMPAT_RMAPBT
    for agf in mount.agf:
        if agf is not None:
            rmap = agf.rmap_blocks - 1 if has_rmap else 0
            kept += max(0, agf.btreeblks - rmap)
    return kept


def _most_inodes(mount: Mount) -> int:
    """Return the limit that imax_pct sets, 0 for none.

    Source: `xfs_ialloc.c: xfs_ialloc_setup_geometry`.
    """
    sb = mount.sb
    if not sb.imax_pct:
        return 0
    chunk_blocks = max(_CHUNK_INODES, sb.inopblock) >> sb.inopblog
    chunks = sb.dblocks * sb.imax_pct // 100 // chunk_blocks
    return chunks * chunk_blocks << sb.inopblog


@dataclass(frozen=True, slots=True)
class AgInfo:
    """The counters of one AG; None where its header is damaged.

    `length`, `freeblks` and `longest` are blocks; `icount` and `ifree` inodes.
    """

    agno: int
    length: int
    freeblks: int | None
    longest: int | None
    flcount: int | None
    icount: int | None
    ifree: int | None


@dataclass(frozen=True, slots=True)
class LogInfo:
    """The log: `state` is clean, dirty or unknown; sizes in 512-byte blocks."""

    state: str
    external: bool
    blocks: int
    head_block: int
    tail_block: int
    cycle: int
    why: str


@dataclass(frozen=True, slots=True)
class Info:
    """A filesystem as `wofs info` shows it. Sizes in bytes, counts in what they count."""

    image: str
    image_bytes: int
    version: int
    label: str
    uuid: str
    meta_uuid: str
    features: tuple[str, ...]
    features_ignored: tuple[str, ...]
    blocksize: int
    sectsize: int
    inodesize: int
    dirblksize: int
    dblocks: int
    agblocks: int
    agcount: int
    rootino: int
    imax_pct: int
    stripe_unit: int
    stripe_width: int
    rblocks: int
    log: LogInfo
    statfs: StatFs
    icount: int
    ifree: int
    crc: str
    protect: str
    slab: ArenaStats
    norecovery: bool
    sb_agno: int

    @property
    def size(self) -> int:
        """Bytes of the data section."""
        return self.dblocks * self.blocksize


def info(mount: Mount) -> Info:
    """Gather what is known of a mounted image; its AGs are in `ags`."""
    sb, geo = mount.sb, mount.geo
    return Info(
        image=mount.device.name,
        image_bytes=mount.device.size,
        version=sb.versionnum & feat.VERSION_NUMBITS,
        label=sb.fname.rstrip(b"\0").decode("utf-8", "backslashreplace"),
        uuid=str(UUID(bytes=bytes(sb.uuid))),
        meta_uuid=str(UUID(bytes=bytes(geo.meta_uuid))),
        features=tuple(_features(mount)),
        features_ignored=tuple(
            name
            for name in feat.names(sb.features_ro_compat, feat.RO_COMPAT)
            if name.startswith("bit ")
        ),
        blocksize=sb.blocksize,
        sectsize=sb.sectsize,
        inodesize=sb.inodesize,
        dirblksize=geo.dirblksize,
        dblocks=sb.dblocks,
        agblocks=sb.agblocks,
        agcount=sb.agcount,
        rootino=sb.rootino,
        imax_pct=sb.imax_pct,
        stripe_unit=sb.unit * sb.blocksize,
        stripe_width=sb.width * sb.blocksize,
        rblocks=sb.rblocks,
        log=_log_info(mount),
        statfs=statfs(mount),
        icount=sb.icount,
        ifree=sb.ifree,
        crc=implementation(),
        protect=PROTECT[mount.options.protect],
        slab=mount.arena.stats(),
        norecovery=bool(mount.options.norecovery),
        sb_agno=mount.options.sb_agno,
    )


def _features(mount: Mount) -> Iterator[str]:
    """Yield the names of the features in use, in the words of mkfs.xfs."""
    sb = mount.sb
    yield "crc"
    if sb.features2 & feat.VERSION2_LAZYSB:
        yield "lazy-count"
    if sb.features2 & feat.VERSION2_PROJID32:
        yield "projid32bit"
    if sb.versionnum & feat.VERSION_ATTR:
        yield "attr"
    yield from feat.names(sb.features_incompat, feat.INCOMPAT)
    yield from feat.names(sb.features_ro_compat, feat.RO_COMPAT)
    yield from feat.names(sb.features_log_incompat, feat.LOG_INCOMPAT)


def _log_info(mount: Mount) -> LogInfo:
    log = mount.log
    state = "unknown" if not log.known else "clean" if log.clean else "dirty"
    return LogInfo(
        state,
        bool(log.external),
        log.blocks,
        log.head_block,
        log.tail_block,
        log.cycle,
        reason(log),
    )


def ags(mount: Mount) -> Iterator[AgInfo]:
    """Yield the counters of every AG."""
    for agno in range(mount.geo.agcount):
        agf, agi = mount.agf[agno], mount.agi[agno]
        yield AgInfo(
            agno,
            ag_length(mount.geo, agno),
            agf.freeblks if agf is not None else None,
            agf.longest if agf is not None else None,
            agf.flcount if agf is not None else None,
            agi.count if agi is not None else None,
            agi.freecount if agi is not None else None,
        )
