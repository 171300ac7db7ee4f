"""The superblock and its copies, the counters, the log.

The primary superblock is proved by mounting. Source: `xfs_sb.c`, `scrub/agheader.c:
xchk_superblock`, `scrub/fscounters.c`.
"""

from __future__ import annotations

from collections.abc import Iterator

from wofs.check.findings import Report
from wofs.check.state import State
from wofs.device.base import Device
from wofs.errors import Corrupt, ImageError, NotXfs, Truncated, Unsupported, WofsError
from wofs.ondisk import features as feat
from wofs.ondisk.sb import NULL_FSINO, Superblock
from wofs.xfs import log as xfs_log
from wofs.xfs.agheaders import ags_present
from wofs.xfs.buffer import Block
from wofs.xfs.log.area import LogArea
from wofs.xfs.super import read_copy, read_super

GEOMETRY = (
    "blocksize", "dblocks", "rblocks", "rextents", "uuid", "logstart", "rextsize", "agblocks",
    "agcount", "rbmblocks", "logblocks", "sectsize", "inodesize", "inopblock", "blocklog",
    "sectlog", "inodelog", "inopblog", "agblklog", "rextslog", "dirblklog", "logsectlog",
    "logsectsize", "logsunit", "features_incompat", "features_ro_compat", "fname", "imax_pct",
    "meta_uuid", "rgcount", "metadirino", "shared_vn", "spino_align", "inoalignmt", "features2",
    "features_compat", "flags",
)  # fmt: skip
"""What a copy of the superblock must share with the primary one."""

UNUSED = (
    "uquotino", "gquotino", "pquotino", "qflags", "frextents", "rootino", "rbmino", "rsumino",
)  # fmt: skip
"""What a copy may leave at 0 or at "none", as mkfs does, or share (`xfs_repair: agheader.c`)."""

STALE = ("unit", "width", "features_log_incompat")
"""What the kernel changes in the primary one alone (`mount -o sunit`, `xfs_log_incompat`)."""

_LATER = feat.VERSION_ATTR | feat.VERSION_QUOTA
"""Bits of versionnum that the kernel sets in the primary superblock alone."""

_TRIED_COPIES = 4
_NULL_LSN = (1 << 64) - 1
"""`NULLCOMMITLSN`, of what mkfs or repair wrote (`xfs_log_check_lsn`)."""

_SB_LSN = Superblock.spec.field("lsn").offset


def choose_super(device: Device, report: Report) -> int:
    """Return the AG whose superblock is sound: 0, or the first copy where that is damaged.

    Raises what is wrong with the primary one where no copy is sound, or where it is sound and
    asks for something that wofs lacks.
    """
    try:
        read_super(device)
    except ImageError as error:
        primary = error
    else:
        return 0
    for agno in range(1, _TRIED_COPIES):
        try:
            read_super(device, agno)
        except WofsError as error:
            if isinstance(error, Unsupported):
                raise primary from None
            continue
        report.error("sb-damaged", primary)
        return agno
    raise primary


def check_copies(state: State) -> None:
    """Prove every copy of the superblock and hold it against the primary one."""
    mount, report = state.mount, state.report
    for agno in range(1, ags_present(mount.geo, mount.device.size)):
        try:
            copy = read_copy(mount.device, mount.geo, agno)
        except ImageError as error:
            report.error("sb-copy-damaged", error, agno=agno)
            continue
        for name, problem, want, have in _differences(mount.sb, copy):
            report.add(
                problem,
                f"ag {agno} / superblock",
                name,
                expected=_text(want),
                found=_text(have),
                offset=state.sector_offset(agno, 0),
                agno=agno,
            )


Difference = tuple[str, str, object, object]
"""(field, problem, what the primary superblock has, what the copy has)."""


def _differences(primary: Superblock, copy: Superblock) -> Iterator[Difference]:
    """Yield what a copy has other than the primary superblock."""
    for name in (*GEOMETRY, *UNUSED, *STALE):
        want, have = getattr(primary, name), getattr(copy, name)
        if want != have and not (name in UNUSED and have in (0, NULL_FSINO)):
            yield name, "sb-copy-stale" if name in STALE else "sb-copy-differs", want, have
    want, have = (sb.versionnum & ~_LATER for sb in (primary, copy))
    if want != have:
        yield "versionnum", "sb-copy-differs", f"{want:#x}", f"{have:#x}"


def _text(value: object) -> object:
    return value.hex() if isinstance(value, bytes) else value


def check_size(state: State) -> None:
    """Hold the device to be as long as the filesystem."""
    need, have = state.mount.sb.dblocks << state.mount.geo.blocklog, state.mount.device.size
    if have < need:
        state.report.add(
            "image-short", "image", "size", expected=f"{need} bytes", found=f"{have} bytes"
        )


def check_log(state: State, sb: Superblock, log_device: Device | None) -> bool:
    """Report on the log; return whether it is clean, so that counters are exact."""
    report = state.report
    try:
        found = xfs_log.state(state.mount.device, sb, log_device)
    except (Corrupt, Truncated, NotXfs) as error:
        report.error("log-damaged", error)
        return False
    if not found.known:
        report.add("log-unknown", "log")
        return True
    _check_first_cycle(report, xfs_log.area_of(state.mount.device, sb, log_device))
    if not found.clean:
        report.add(
            "log-dirty", "log", offset=found.daddr << 9, expected="an unmount record at its end",
            found=f"changes from block {found.tail_block} to {found.head_block}",
        )  # fmt: skip
    return bool(found.clean)


def _check_first_cycle(report: Report, area: LogArea) -> None:
    """Hold a log that was never written to its end to be in its first cycle.

    mkfs and repair leave zeros behind the first record only then, and fill the log otherwise.
    Source: `libxlog: xlog_find_zeroed`, `libxfs_log_clear`.
    """
    first = area.cycle(0)
    if first > 1 and not area.cycle(area.blocks - 1):
        report.add(
            "log-damaged", "log block 0", "cycle", expected="1: the end of the log is zero",
            found=first, offset=area.daddr << 9,
        )  # fmt: skip


def check_counters(state: State) -> None:
    """Hold the superblock's counters against the sums over all AGs; all headers are sound."""
    mount = state.mount
    icount = ifree = blocks = 0
    for agno in range(state.agcount):
        agf, agi = mount.agf[agno], mount.agi[agno]
        if agf is None or agi is None:
            return
        icount, ifree = icount + agi.count, ifree + agi.freecount
        blocks += agf.freeblks + agf.flcount + agf.btreeblks
    for name, total in (("icount", icount), ("ifree", ifree), ("fdblocks", blocks)):
        found = getattr(mount.sb, name)
        if found != total:
            state.report.add(
                f"sb-{name}", "superblock", name, expected=total, found=found, offset=0
            )


def watch_log_order(state: State) -> None:
    """Have every block noted that claims a later write than the log has (`xlog_valid_lsn`)."""
    log = state.mount.log
    if not log.known or not log.cycle:
        return
    end = log.head_lsn + (1 << 32 if log.head_lsn < log.last_lsn else 0)
    sb = state.mount.sb
    if sb.lsn > end:
        state.ahead[0] = ("superblock", _SB_LSN, sb.lsn)

    def watch(block: Block) -> None:
        at = block.kind.lsn
        if at is not None:
            lsn = int.from_bytes(block.data[at : at + 8], "big")
            if end < lsn != _NULL_LSN:
                state.ahead[block.daddr] = (block.obj, at, lsn)

    state.mount.buffers.watch = watch


def report_log_order(state: State) -> None:
    """Report what was noted."""
    last = state.mount.log.head_lsn
    for daddr, (obj, at, lsn) in sorted(state.ahead.items()):
        state.report.add(
            "lsn-ahead", obj, "lsn", expected=f"at most {_shown(last)}, where the log ends",
            found=_shown(lsn), offset=(daddr << 9) + at,
        )  # fmt: skip


def _shown(lsn: int) -> str:
    return f"{lsn >> 32}:{lsn & 0xFFFFFFFF}"
