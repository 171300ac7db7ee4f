"""Quota files: every record proved. That the counts are right is left to quotacheck.

Source: `xfs_dquot_buf.c: xfs_dquot_verify, xfs_dqblk_verify`, `scrub/quota.c`,
`xfs_qm.c: xfs_qm_init_quotainos`, `repair/dinode.c: process_check_inode_sizes`.
"""

from __future__ import annotations

from collections.abc import Iterator

from wofs.check.state import State
from wofs.device.crc import crc_of
from wofs.errors import ImageError
from wofs.ondisk import features as feat
from wofs.ondisk import quota as disk
from wofs.ondisk.sb import NULL_FSINO
from wofs.xfs.geometry import fsb_to_byte

Problem = tuple[str, object, object]
"""(field, expected, found) of a broken rule."""

_SIDES = (
    ("btimer", "bcount", "blk_softlimit"),
    ("itimer", "icount", "ino_softlimit"),
    ("rtbtimer", "rtbcount", "rtb_softlimit"),
)


def check_quota(state: State) -> None:
    """Check the records of the quota files that the superblock names."""
    sb = state.mount.sb
    for name, kind, ino in (
        ("user", disk.USER, sb.uquotino),
        ("group", disk.GROUP, sb.gquotino),
        ("project", disk.PROJECT, sb.pquotino),
    ):
        if ino in (0, NULL_FSINO):
            continue
        try:
            inode = state.mount.inodes.get(ino)
            extents = state.mount.maps.extents(inode)
        except ImageError as error:
            state.report.error("quota-damaged", error, ino=ino)
            continue
        if inode.type != 8:
            _add(state, ino, f"{name} quota", ("mode", "a regular file", f"0o{inode.mode:o}"), None)
            continue
        if inode.size:
            _add(state, ino, f"{name} quota", ("size", 0, inode.size), None)
        if not sb.versionnum & feat.VERSION_QUOTA and not state.mount.options.sb_agno:
            wanted = f"bit {feat.VERSION_QUOTA:#x}: the {name} quota is inode {ino}"
            _add(state, ino, "superblock", ("versionnum", wanted, f"{sb.versionnum:#x}"), 0)
        for fileoff, fsblock, count, unwritten in extents:
            if not unwritten:
                for block in range(count):
                    _check_block(state, ino, (name, kind), fileoff + block, fsblock + block)


def _check_block(
    state: State, ino: int, whose: tuple[str, int], fileoff: int, fsblock: int
) -> None:
    """Check the records of one block."""
    geo = state.mount.geo
    name, kind = whose
    start = fsb_to_byte(geo, fsblock)
    data = state.mount.device.pread(start, geo.blocksize)
    first = fileoff * (geo.blocksize // disk.DQUOT_BYTES)
    for number, raw in enumerate(_records(data)):
        problem = dquot_problem(
            raw, kind, first + number, geo.meta_uuid, bool(geo.incompat & feat.INCOMPAT_BIGTIME)
        )
        if problem:
            at = start + number * disk.DQUOT_BYTES
            _add(state, ino, f"{name} quota {first + number}", problem, at)


def _records(data: bytes) -> Iterator[bytes]:
    size = disk.DQUOT_BYTES
    for at in range(0, len(data) // size * size, size):
        yield data[at : at + size]


def _add(state: State, ino: int, obj: str, problem: Problem, at: int | None) -> None:
    field, expected, found = problem
    state.report.add(
        "quota-damaged", obj, field, expected=expected, found=found, offset=at, ino=ino
    )


def dquot_problem(raw: bytes, kind: int, ident: int, uuid: bytes, bigtime: bool) -> Problem | None:
    """Return the first rule that a record breaks; it is of `ident`, of that kind of quota."""
    dquot = disk.Dquot.decode(raw)
    computed = crc_of(raw, disk.CRC_OFFSET)
    wide = dquot.type & disk.BIGTIME
    wanted: tuple[tuple[str, object, object], ...] = (
        ("magic", f"{disk.DQUOT_MAGIC:#x}", f"{dquot.magicnum:#x}"),
        ("crc", f"{computed:#010x}", f"{dquot.crc:#010x}"),
        ("uuid", uuid.hex(), dquot.uuid.hex()),
        ("version", disk.DQUOT_VERSION, dquot.version),
        ("type", kind, dquot.type & ~disk.BIGTIME),
        ("id", ident, dquot.id),
    )
    for problem in wanted:
        if problem[1] != problem[2]:
            return problem
    if wide and not (bigtime and ident):
        return "type", "no wide timers", f"{dquot.type:#x}"
    if not ident:
        return None
    for timer, count, limit in _SIDES:
        soft, used = getattr(dquot, limit), getattr(dquot, count)
        if soft and used > soft and not getattr(dquot, timer):
            return timer, f"a time: {count} is {used}, above {limit} {soft}", 0
    return None
