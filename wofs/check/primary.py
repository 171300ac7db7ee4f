"""What the kernel asks of a superblock and a reader does not need, and bytes without meaning.

Source: `xfs_sb.c: xfs_validate_sb_common, xfs_sb_validate_v5_features`, `repair/agheader.c:
secondary_sb_whack`, `scrub/agheader.c: xchk_superblock`.
"""

from __future__ import annotations

from collections.abc import Iterator

from wofs.check.state import State
from wofs.ondisk import features as feat
from wofs.ondisk.log import MAX_RECORD_BYTES
from wofs.ondisk.sb import Superblock
from wofs.xfs.agheaders import ags_present
from wofs.xfs.geometry import INODES_PER_CHUNK

_MIN_AG_BYTES = 16 << 20
_MIN_RTEXT_BYTES, _MAX_RTEXT_BYTES = 4 << 10, 1 << 30
_MAX_LOG_BLOCKS, _MAX_LOG_BYTES = 1 << 20, (2 << 30) - (10 << 20)
_MAX_STRIPE_BYTES = (1 << 31) - 1
_OLD_QUOTA_FLAGS = 0x30
"""`XFS_OQUOTA_ENFD`, `XFS_OQUOTA_CHKD`: of version 4 alone."""

_META_UUID = Superblock.spec.field("meta_uuid").offset
_META_UUID_END = _META_UUID + 16


def check_features(state: State) -> None:
    """Report feature bits that have no name here; unknown incompatible ones were refused."""
    sb = state.mount.sb
    known = {
        "features_compat": 0,
        "features_ro_compat": sum(1 << bit for bit in feat.RO_COMPAT),
        "features_log_incompat": sum(1 << bit for bit in feat.LOG_INCOMPAT),
    }
    for name, mask in known.items():
        found = getattr(sb, name)
        if found & ~mask:
            state.report.add(
                "sb-features", "superblock", name, expected=f"bits of {mask:#x} only",
                found=f"{found:#x}", offset=0,
            )  # fmt: skip


def check_mountable(state: State) -> None:
    """Report what has the kernel refuse the superblock, though a reader can do without."""
    sb = state.mount.sb
    for name, holds, expected in (*_layout(sb), *_counters(sb), *_log(sb), *_realtime(sb)):
        if not holds:
            state.report.add(
                "sb-refused", "superblock", name, expected=expected, found=getattr(sb, name),
                offset=0,
            )  # fmt: skip


Rule = tuple[str, bool, str]
"""(field, whether it holds, what was expected)."""


def _layout(sb: Superblock) -> Iterator[Rule]:
    shift, chunk = sb.blocklog, INODES_PER_CHUNK * sb.inodesize >> sb.blocklog
    sparse = bool(sb.features_incompat & feat.INCOMPAT_SPINODES)
    yield "versionnum", not sb.versionnum & feat.VERSION_SHARED, "no bit 0x200 (shared)"
    yield "features2", not sb.features2 & ~feat.V5_KNOWN2, f"bits of {feat.V5_KNOWN2:#x} only"
    yield "qflags", not sb.qflags & _OLD_QUOTA_FLAGS, "no bits 0x30 (V5)"
    yield "inoalignmt", not sparse or sb.inoalignmt == chunk, f"{chunk}, with sparse chunks"
    yield "agblocks", sb.agblocks << shift >= _MIN_AG_BYTES, "AGs of at least 16 MiB"
    yield "width", sb.width << shift <= _MAX_STRIPE_BYTES, "less than 2 GiB"


def _counters(sb: Superblock) -> Iterator[Rule]:
    """Yield what holds for the counters even where the log was not replayed.

    Source: `xfs_sb.c: xfs_validate_sb_write`.
    """
    most = sb.dblocks << sb.inopblog
    yield "icount", sb.icount <= most, f"at most {most}"
    yield "ifree", sb.ifree <= sb.icount, f"at most icount, {sb.icount}"
    yield "fdblocks", sb.fdblocks <= sb.dblocks, f"at most dblocks, {sb.dblocks}"


def _log(sb: Superblock) -> Iterator[Rule]:
    most = min(_MAX_LOG_BLOCKS, _MAX_LOG_BYTES >> sb.blocklog)
    yield "logblocks", sb.logblocks <= most, f"at most {most}"
    if sb.versionnum & feat.VERSION_SECTOR:
        yield "logsectlog", sb.logsectlog < 32, "at most 31"
        size = 1 << min(sb.logsectlog, 31)
        yield "logsectsize", sb.logsectsize == size, f"{size}, by logsectlog"
    else:
        yield "logsectsize", sb.logsectsize == 0, "0 without bit 0x800 of versionnum"
        yield "logsectlog", sb.logsectlog == 0, "0 without bit 0x800 of versionnum"
    whole = sb.logsunit <= 1 or not sb.logsunit % sb.blocksize
    yield "logsunit", whole, f"a multiple of {sb.blocksize}"
    yield "logsunit", sb.logsunit <= MAX_RECORD_BYTES, f"at most {MAX_RECORD_BYTES}"


def _realtime(sb: Superblock) -> Iterator[Rule]:
    size = sb.rextsize << sb.blocklog
    yield "rextsize", _MIN_RTEXT_BYTES <= size <= _MAX_RTEXT_BYTES, "4 KiB to 1 GiB"
    if sb.rblocks:
        extents = sb.rblocks // max(1, sb.rextsize)
        yield "rextents", sb.rextents == extents, f"{extents}, by rblocks and rextsize"
    else:
        for name in ("rextents", "rbmblocks", "rextslog", "frextents"):
            yield name, not getattr(sb, name), "0 without a realtime device"


def check_unused(state: State) -> None:
    """Report what has no meaning and is set, in the superblock and its copies."""
    mount = state.mount
    for agno in range(ags_present(mount.geo, mount.device.size)):
        if agno or not mount.options.sb_agno:
            _check_unused(state, agno)


def _check_unused(state: State, agno: int) -> None:
    start, geo = state.sector_offset(agno, 0), state.mount.geo
    raw = state.mount.device.pread(start, geo.sectsize)
    if len(raw) < Superblock.spec.size:
        return  # reported as a copy that is damaged
    sb = Superblock.decode(raw)
    end = _META_UUID_END if sb.features_incompat & feat.INCOMPAT_META_UUID else _META_UUID
    rest = raw[end:]
    at = len(rest) - len(rest.lstrip(b"\0"))
    rules = (
        ("flags", sb.flags == 0, "0", sb.flags),
        ("inprogress", sb.inprogress <= bool(agno), "0, or 1 in a copy", sb.inprogress),
        ("bad_features2", sb.bad_features2 == sb.features2, f"{sb.features2:#x}, as features2",
         f"{sb.bad_features2:#x}"),
        (f"byte {end + at}", at == len(rest), "0 up to the end of the sector",
         f"{rest[at]:#04x}" if at < len(rest) else ""),
    )  # fmt: skip
    for name, holds, expected, found in rules:
        if not holds:
            state.report.add(
                "sb-unused", f"ag {agno} / superblock" if agno else "superblock", name,
                expected=expected, found=found, offset=start, agno=agno or None,
            )  # fmt: skip


def report_attributes(state: State) -> None:
    """Hold the superblock to say that there are attributes, where an inode has some."""
    sb, ino = state.mount.sb, state.first_attr
    if ino and not sb.versionnum & feat.VERSION_ATTR and not state.mount.options.sb_agno:
        state.report.add(
            "sb-no-attr", "superblock", "versionnum", found=f"{sb.versionnum:#x}",
            expected=f"bit {feat.VERSION_ATTR:#x}: inode {ino} has attributes",
            offset=0,
        )  # fmt: skip
