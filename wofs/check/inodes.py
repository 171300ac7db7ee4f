"""Every inode: its core, forks, extents, attributes, symlink; and the unlinked lists.

Whatever a reader refuses becomes a finding of the structure it belongs to. What the forks own
is noted in the state. Source: `xfs_inode_buf.c`, `scrub/inode.c`, `scrub/ialloc.c`.
"""

from __future__ import annotations

import struct

from wofs.check.owners import ATTR, BMBT, UNWRITTEN
from wofs.check.state import DAMAGED, State
from wofs.device.crc import crc_of
from wofs.errors import ImageError, Unsupported
from wofs.ondisk import inode as disk
from wofs.ondisk.ag import AGI_UNLINKED_BUCKETS, NULLAGINO
from wofs.ondisk.attr import INCOMPLETE
from wofs.xfs.bmap import Fork
from wofs.xfs.btree import BMBT as BMBT_TREE
from wofs.xfs.btree import leaves
from wofs.xfs.geometry import INODES_PER_CHUNK
from wofs.xfs.inode import Inode

_BATCH = 16
"""Chunks whose inodes are read at once."""

_NEXT_UNLINKED = struct.Struct(">I").unpack_from


def check_inodes(state: State, agno: int, done: int, total: int) -> int:
    """Check all inodes of an AG that its inobt knows; return how many are done in all."""
    batch: list[int] = []
    for number, (first, used, free) in enumerate(state.chunks(agno)):
        batch += [first + bit for bit in range(INODES_PER_CHUNK) if used >> bit & 1]
        if free:
            _check_free(state, first, free)
        if number % _BATCH == _BATCH - 1:
            done += _check_batch(state, batch)
            batch.clear()
            state.tell(done, total)
    return done + _check_batch(state, batch)


def _check_batch(state: State, inos: list[int]) -> int:
    """Read and check inodes in use; return how many."""
    for ino, inode in zip(inos, state.mount.inodes.get_many(inos), strict=True):
        inventory, slot = state.find(ino)
        assert inventory is not None
        if isinstance(inode, ImageError):
            inventory.type[slot] = DAMAGED
            state.report.error("inode-damaged", inode, ino=ino, hides=True)
            continue
        inventory.type[slot] = inode.mode >> 12
        inventory.links[slot] = inode.nlink
        _check_forks(state, inode)
    return len(inos)


def _check_free(state: State, first: int, free: int) -> None:
    """Hold free inodes of a chunk to be free and to be themselves."""
    mount = state.mount
    size, start = mount.geo.inodesize, state.inode_offset(first)
    data = mount.device.pread(start, size * INODES_PER_CHUNK)
    uuid = mount.geo.meta_uuid
    for bit in range(INODES_PER_CHUNK):
        raw = data[bit * size : (bit + 1) * size]
        if not free >> bit & 1 or len(raw) < size:
            continue
        values = disk.CORE(raw, 0)
        ino, at = first + bit, start + bit * size
        crc = int.from_bytes(raw[disk.CRC_OFFSET : disk.CRC_OFFSET + 4], "little")
        itself = (values[0], values[-2], values[-1], crc)
        wanted = (disk.INODE_MAGIC, ino, uuid, crc_of(raw, disk.CRC_OFFSET))
        for field, want, have in zip(
            ("magic", "ino", "uuid", "crc"), wanted, itself, strict=True
        ):
            if want != have:
                state.report.add(
                    "inode-free-damaged", f"inode {ino}", field, offset=at, ino=ino,
                    expected=_text(want), found=_text(have),
                )  # fmt: skip
                break
        else:
            if values[1]:
                state.report.hidden = True
                state.report.add(
                    "inode-free-in-use", f"inode {ino}", "mode", offset=at, ino=ino,
                    expected="0 (free by the inobt)", found=f"0o{values[1]:o}",
                )  # fmt: skip


def _text(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else f"{value:#x}"


def _check_forks(state: State, inode: Inode) -> None:
    """Check both forks of an inode and what they hold, but a directory's entries."""
    sound = inode.format not in (disk.FMT_EXTENTS, disk.FMT_BTREE) or _own(state, inode, "data")
    if inode.type == 10 and sound:
        try:
            state.mount.links.target(inode)
        except ImageError as error:
            state.report.error("symlink-damaged", error, ino=inode.ino)
    if not inode.forkoff:
        return
    local = inode.aformat == disk.FMT_LOCAL
    if local or not inode.anextents or _own(state, inode, "attr"):
        try:
            for _ in state.mount.attrs.items(inode):
                pass
            for flags, name, _ in state.mount.attrs.stored(inode):
                if flags & INCOMPLETE:
                    state.report.add(
                        "attr-incomplete", f"inode {inode.ino}", f"attribute {name!r} flags",
                        expected="not incomplete", found=f"{flags:#x}", ino=inode.ino,
                    )  # fmt: skip
        except ImageError as error:
            state.report.error("attr-damaged", error, ino=inode.ino)


def _own(state: State, inode: Inode, fork: Fork) -> bool:
    """Note the blocks of a fork; return whether its extents are sound."""
    try:
        extents = state.mount.maps.extents(inode, fork)
        flag = ATTR if fork == "attr" else 0
        for startoff, fsblock, count, unwritten in extents:
            offset = startoff | flag | (UNWRITTEN if unwritten else 0)
            state.own(fsblock, count, inode.ino, offset)
        if (inode.format if fork == "data" else inode.aformat) == disk.FMT_BTREE:
            for fsblock in _tree_blocks(state, inode, fork):
                state.own(fsblock, 1, inode.ino, flag | BMBT)
    except Unsupported as error:
        # its extents lie elsewhere, the blocks of their btree here
        hides = not inode.is_realtime or inode.format == disk.FMT_BTREE
        state.report.error("not-checked", error, ino=inode.ino, hides=hides)
        return False
    except ImageError as error:
        state.report.error("fork-damaged", error, ino=inode.ino, hides=True)
        return False
    return True


def _tree_blocks(state: State, inode: Inode, fork: Fork) -> set[int]:
    """Return the blocks of a fork's btree, whose root is sound."""
    raw = inode.dfork if fork == "data" else inode.afork
    level, count = struct.unpack_from(">HH", raw)
    roots = struct.unpack_from(f">{count}Q", raw, 4 + 8 * ((len(raw) - 4) // 16))
    found: set[int] = set()
    mount = state.mount
    for _ in leaves(
        mount.buffers, mount.geo, BMBT_TREE, roots, level - 1, inode.ino, "fork", visited=found
    ):
        pass
    return found


def check_unlinked(state: State, agno: int) -> None:
    """Follow the lists of unlinked inodes of an AG."""
    agi, log = state.mount.agi[agno], state.mount.geo.agino_log
    if agi is None or state.inodes[agno] is None:
        return
    for bucket, head in enumerate(agi.unlinked):
        agino, seen = head, 0
        while agino != NULLAGINO:
            ino = agno << log | agino
            problem = _unlinked_problem(state, ino, agino, bucket)
            if problem:
                state.report.add(
                    "unlinked-list", f"ag {agno} / agi", f"unlinked[{bucket}]", found=agino,
                    expected=problem, offset=state.sector_offset(agno, 2), agno=agno,
                )  # fmt: skip
                break
            state.unlinked.add(ino)
            seen += 1
            inode = state.mount.inodes.get(ino)
            agino = _NEXT_UNLINKED(inode.raw, 96)[0]
        if seen:
            state.report.add(
                "unlinked-left", f"ag {agno} / agi", f"unlinked[{bucket}]", expected="none",
                found=f"{seen} inodes", offset=state.sector_offset(agno, 2), agno=agno,
            )  # fmt: skip


def _unlinked_problem(state: State, ino: int, agino: int, bucket: int) -> str:
    """Say what an inode of an unlinked list must be and is not; "" if it may be there."""
    inventory, slot = state.find(ino)
    if inventory is None or slot < 0 or not inventory.type[slot]:
        return "an inode in use"
    if inventory.type[slot] == DAMAGED:
        return "a sound inode"
    if ino in state.unlinked:
        return "an inode not seen before (the list loops)"
    if agino % AGI_UNLINKED_BUCKETS != bucket:
        return f"an inode of bucket {bucket}"
    return "an inode without links" if inventory.links[slot] else ""
