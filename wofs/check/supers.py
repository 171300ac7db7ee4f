"""The superblock and its copies, the counters, the log.

The primary superblock is proved by mounting. Source: `xfs_sb.c`, `scrub/agheader.c:
xchk_superblock`, `scrub/fscounters.c`.
"""

from __future__ import annotations

from wofs.check.findings import Report
from wofs.check.state import State
from wofs.device.base import Device
from wofs.errors import Corrupt, ImageError, NotXfs, Truncated, Unsupported, WofsError
from wofs.ondisk import features as feat
from wofs.ondisk.sb import NULL_FSINO, Superblock
from wofs.xfs import log as xfs_log
from wofs.xfs.agheaders import ags_present
from wofs.xfs.buffer import Block
from wofs.xfs.super import read_copy, read_super

GEOMETRY = (
    "blocksize", "dblocks", "rblocks", "rextents", "uuid", "logstart", "rextsize", "agblocks",
    "agcount", "rbmblocks", "logblocks", "sectsize", "inodesize", "inopblock", "blocklog",
    "sectlog", "inodelog", "inopblog", "agblklog", "rextslog", "dirblklog", "logsectlog",
    "logsectsize", "logsunit", "features_incompat", "features_ro_compat", "fname", "imax_pct",
    "meta_uuid", "rgcount", "metadirino", "shared_vn", "spino_align", "inprogress",
)  # fmt: skip
"""What a copy of the superblock must share with the primary one."""

UNUSED = ("uquotino", "gquotino", "pquotino", "qflags", "frextents")
"""What a copy may leave at 0 or at "none", as mkfs does, or share (`xfs_repair: agheader.c`)."""

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
        for name in (*GEOMETRY, *UNUSED):
            want, have = getattr(mount.sb, name), getattr(copy, name)
            if want != have and not (name in UNUSED and have in (0, NULL_FSINO)):
                report.add(
                    "sb-copy-differs",
                    f"ag {agno} / superblock",
                    name,
                    expected=_text(want),
                    found=_text(have),
                    offset=state.sector_offset(agno, 0),
                    agno=agno,
                )


def _text(value: object) -> object:
    return value.hex() if isinstance(value, bytes) else value


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
    if not found.clean:
        report.add(
            "log-dirty", "log", offset=found.daddr << 9, expected="an unmount record at its end",
            found=f"changes from block {found.tail_block} to {found.head_block}",
        )  # fmt: skip
    return bool(found.clean)


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
