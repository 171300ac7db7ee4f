"""Every inode: its core, forks, extents, attributes, symlink; and the unlinked lists.

Whatever a reader refuses becomes a finding of the structure it belongs to. What the forks own
is noted in the state. Source: `xfs_inode_buf.c`, `scrub/inode.c`, `scrub/ialloc.c`.
"""

from __future__ import annotations

import struct
from array import array
from typing import cast

from wofs.check.attrs import check_attrs
from wofs.check.owners import ATTR, BMBT, UNWRITTEN
from wofs.check.state import DAMAGED, Common, Inventory, State
from wofs.check.work import Piece, slots
from wofs.device.crc import crc_of
from wofs.errors import ImageError, Unsupported
from wofs.ondisk import features as feat
from wofs.ondisk import inode as disk
from wofs.ondisk.ag import AGI_UNLINKED_BUCKETS, NULLAGINO
from wofs.xfs.bmap import Fork
from wofs.xfs.btree import BMBT as BMBT_TREE
from wofs.xfs.btree import leaves
from wofs.xfs.geometry import INODES_PER_CHUNK, valid_ino
from wofs.xfs.inode import Inode

_BATCH = 16
"""Chunks whose inodes are read at once."""

_TYPE_LNK = 10
_UNKNOWN = -1
"""Blocks of a fork that is not sound."""

_ALL = (1 << INODES_PER_CHUNK) - 1
_ALL_BITS = range(INODES_PER_CHUNK)

_NEXT_UNLINKED = struct.Struct(">I").unpack_from


_HINTS = struct.Struct(">6xH64xI20xI28xI").unpack_from
_NO_HINTS = (0, 0, NULLAGINO, 0)
"""metatype, extsize, next_unlinked, cowextsize: what nearly every inode has there."""

_COW = disk.DIFLAG2_COWEXTSIZE
_UNKNOWN2 = ((1 << 64) - 1) & ~disk.DIFLAG2_ANY
_RARE2 = _UNKNOWN2 | _COW
_NO_ID = 0xFFFFFFFF
_NANOSECONDS = struct.Struct(">36xI4xI4xI92xI").unpack_from
"""Of atime, mtime, ctime, crtime, where they are no big times."""

_SECOND_NS = 10**9
_SIZED = disk.DIFLAG_EXTSIZE | disk.DIFLAG_EXTSZINHERIT
_HINTED = _SIZED | (0xFFFF & ~disk.DIFLAG_ANY)
_MAX_EXTLEN = (1 << 21) - 1

_RECORD = struct.Struct(">QQ").unpack_from
_COUNT_BITS, _LOW_BLOCK_BITS = 21, 43

_FOUND = tuple[Common, bytes, bytes, bytes]


class InodePass:
    """All inodes that the inobts know; a unit is a piece of an AG's chunks."""

    def __init__(self, state: State, units: list[Piece]) -> None:
        self.state = state
        self.units = units
        geo = state.mount.geo
        self._room = 1 << geo.agblklog
        self._header = geo.ag_header_blocks
        self._agblocks, self._last_ag = geo.agblocks, geo.agcount - 1
        self._last_blocks = geo.last_ag_blocks
        self._log = (geo.logstart, geo.logstart + geo.logblocks) if geo.logstart else (0, 0)

    def begin(self) -> None:
        """Forget what was found before."""
        self.state.take()

    def work(self, unit: Piece) -> None:
        """Check a piece."""
        state, (agno, first, end) = self.state, unit
        inventory = state.inodes[agno]
        assert inventory is not None
        for start in range(first, end, _BATCH):
            inos: list[int] = []
            slots: list[int] = []
            chunks = state.chunks(agno, start, min(start + _BATCH, end))
            for number, (ino, used, free) in enumerate(chunks, start):
                bits = _ALL_BITS if used == _ALL else [b for b in _ALL_BITS if used >> b & 1]
                inos += [ino + bit for bit in bits]
                slots += [number * INODES_PER_CHUNK + bit for bit in bits]
                if free:
                    _check_free(state, ino, free)
            self._check_batch(inventory, inos, slots)
            state.step(INODES_PER_CHUNK * (min(start + _BATCH, end) - start))

    def take(self, unit: Piece) -> _FOUND:
        """Take out findings and owners, types and link counts."""
        inventory = self.state.inodes[unit[0]]
        assert inventory is not None
        first, end = slots(unit)
        types, links = inventory.type[first:end], inventory.links[first:end]
        parents = inventory.parents[first:end].tobytes()
        return self.state.take(), bytes(types), links.tobytes(), parents

    def add(self, unit: Piece, found: object) -> None:
        """Add what another process found of a piece."""
        common, types, links, parents = cast(_FOUND, found)
        self.state.add(common)
        inventory = self.state.inodes[unit[0]]
        assert inventory is not None
        first, end = slots(unit)
        inventory.type[first:end] = types
        inventory.links[first:end] = array("I", links)
        inventory.parents[first:end] = array("Q", parents)

    def take_rest(self) -> None:
        """There is nothing more."""

    def add_rest(self, found: object) -> None:
        """There is nothing more."""

    def _check_batch(self, inventory: Inventory, inos: list[int], slots: list[int]) -> None:
        """Read and check inodes in use."""
        state, types, links = self.state, inventory.type, inventory.links
        for inode, slot in zip(state.mount.inodes.read_many(inos), slots, strict=True):
            if isinstance(inode, ImageError):
                types[slot] = DAMAGED
                ino = inos[slots.index(slot)]
                state.report.error("inode-damaged", inode, ino=ino, hides=True)
                continue
            types[slot] = inode.mode >> 12
            links[slot] = inode.nlink
            flags2 = inode.flags2
            if _HINTS(inode.raw) != _NO_HINTS or inode.flags & _HINTED or flags2 & _RARE2:
                _check_hints(state, inode)
            if not flags2 & disk.DIFLAG2_BIGTIME or _NO_ID in (inode.uid, inode.gid):
                _check_values(state, inode)
            extents = inode.format == disk.FMT_EXTENTS and types[slot] != _TYPE_LNK
            if not extents or not self._is_plain(inode):
                _check_forks(state, inode)
            elif inode.forkoff and inode.aformat != disk.FMT_EXTENTS:
                _check_attr_fork(state, inode)

    def _is_plain(self, inode: Inode) -> bool:
        """Whether the inode's only extent breaks no rule, or it has none; note who owns it."""
        count = inode.nextents
        if count > 1 or inode.anextents or inode.flags & disk.DIFLAG_REALTIME:
            return False
        if not count:
            return not inode.nblocks
        high, low = _RECORD(inode.raw, disk.CORE_BYTES)
        fsblock = (high & 0x1FF) << _LOW_BLOCK_BITS | low >> _COUNT_BITS
        blocks = low & (1 << _COUNT_BITS) - 1
        agno, agbno = divmod(fsblock, self._room)
        room = self._agblocks if agno < self._last_ag else self._last_blocks
        log_start, log_end = self._log
        if (
            high >> 63 or not 0 < blocks == inode.nblocks or agno > self._last_ag
            or agbno < self._header or agbno + blocks > room
            or (fsblock < log_end and log_start < fsblock + blocks) or high >> 62
        ):  # fmt: skip
            return False
        self.state.spans[agno].add(agbno, blocks, inode.ino, high >> 9)
        return True


def _check_hints(state: State, inode: Inode) -> None:
    """Hold flags, size hints and the metadata type to what the kernel's verifier allows.

    Source: `xfs_inode_buf.c: xfs_dinode_verify, xfs_inode_validate_extsize,
    xfs_inode_validate_cowextsize`. Nothing that is read depends on them.
    """
    metatype, extsize, following, cowextsize = _HINTS(inode.raw)
    if following != NULLAGINO:
        state.with_next.extend((inode.ino, following))
    geo, sb = state.mount.geo, state.mount.sb
    flags, regular, folder = inode.flags, inode.type == 8, inode.type == 4
    sized = bool(flags & _SIZED)
    unit = sb.rextsize if inode.is_realtime else 1
    most = _MAX_EXTLEN if inode.is_realtime else min(_MAX_EXTLEN, geo.agblocks // 2)
    cow = bool(inode.flags2 & _COW)
    if inode.flags2 & _UNKNOWN2:
        _odd(state, inode, "flags2", "known bits only", f"{inode.flags2:#x}")
    rules = (
        ("flags", f"{flags:#x}", not flags & ~disk.DIFLAG_ANY, "known bits only"),
        ("flags", f"{flags:#x}", not flags & disk.DIFLAG_EXTSIZE or regular, "extsize on files"),
        ("flags", f"{flags:#x}", not flags & disk.DIFLAG_EXTSZINHERIT or folder,
         "extszinherit on directories"),
        ("metatype", metatype, not metatype or inode.flags2 & disk.DIFLAG2_METADATA, "0"),
        ("extsize", extsize, bool(extsize) == sized, "one with a flag for it, else 0"),
        ("extsize", extsize, not extsize % max(1, unit) and extsize <= most,
         f"a multiple of {unit}, at most {most}"),
        ("flags2", f"{inode.flags2:#x}", not cow or regular or folder,
         "cowextsize on files and directories"),
        ("flags2", f"{inode.flags2:#x}", not cow or geo.ro_compat & feat.RO_COMPAT_REFLINK,
         "no cowextsize: reflink is off"),
        ("cowextsize", cowextsize, bool(cowextsize) == cow, "one with a flag for it, else 0"),
        ("cowextsize", cowextsize, cowextsize <= min(_MAX_EXTLEN, geo.agblocks // 2),
         f"at most {geo.agblocks // 2}"),
    )  # fmt: skip
    for field, found, holds, expected in rules:
        if not holds:
            state.report.add(
                "inode-damaged", f"inode {inode.ino}", field, expected=expected, found=found,
                offset=state.inode_offset(inode.ino), ino=inode.ino,
            )  # fmt: skip
            return


def _check_values(state: State, inode: Inode) -> None:
    """Hold owners and times to values that a kernel would set (`scrub/inode.c: xchk_dinode`)."""
    rules = [
        (name, value, value != _NO_ID, f"less than {_NO_ID}")
        for name, value in (("uid", inode.uid), ("gid", inode.gid))
    ]
    if not inode.flags2 & disk.DIFLAG2_BIGTIME:
        names = ("atime", "mtime", "ctime", "crtime")
        rules += [
            (f"{name} nanoseconds", value, value < _SECOND_NS, f"less than {_SECOND_NS}")
            for name, value in zip(names, _NANOSECONDS(inode.raw), strict=True)
        ]
    for field, found, holds, expected in rules:
        if not holds:
            _odd(state, inode, field, expected, found)


def _odd(state: State, inode: Inode, field: str, expected: str, found: object) -> None:
    state.report.add(
        "inode-odd", f"inode {inode.ino}", field, expected=expected, found=found,
        offset=state.inode_offset(inode.ino), ino=inode.ino,
    )  # fmt: skip


def _check_free(state: State, first: int, free: int) -> None:
    """Hold free inodes of a chunk to be free, to be themselves, and to be left unharmed."""
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
        for field, want, have in zip(("magic", "ino", "uuid", "crc"), wanted, itself, strict=True):
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
            _check_rest(state, ino, at, raw)


def _check_rest(state: State, ino: int, at: int, raw: bytes) -> None:
    """Hold what is left in a free inode to what the kernel's verifier asks of every inode.

    It asks no mode of most rules. Source: `xfs_inode_buf.c: xfs_inode_buf_verify,
    xfs_dinode_verify, xfs_inode_validate_extsize, xfs_dinode_verify_fork`.
    """
    core, geo = disk.InodeCore.decode(raw), state.mount.geo
    if core.next_unlinked != NULLAGINO:
        state.with_next.extend((ino, core.next_unlinked))
    most = min(_MAX_EXTLEN, geo.agblocks // 2)
    extents = core.nextents if core.flags2 & disk.DIFLAG2_NREXT64 else core.anextents
    fork = core.forkoff or core.aformat in (0, disk.FMT_EXTENTS)
    rules = (
        ("version", core.version, core.version == 3, "3"),
        ("di_size", core.di_size, not core.di_size >> 63, "less than 2^63"),
        ("extsize", core.extsize, core.extsize <= most, f"at most {most}"),
        ("cowextsize", core.cowextsize, core.cowextsize <= most, f"at most {most}"),
        ("aformat", core.aformat, fork, "2 (extents) without an attribute fork"),
        ("anextents", extents, core.forkoff or not extents, "0 without an attribute fork"),
    )  # fmt: skip
    for field, found, holds, expected in rules:
        if not holds:
            state.report.add(
                "inode-free-damaged", f"inode {ino}", field, offset=at, ino=ino,
                expected=expected, found=found,
            )  # fmt: skip
            return


def _text(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else f"{value:#x}"


def _check_forks(state: State, inode: Inode) -> None:
    """Check both forks of an inode, and that it counts their blocks rightly."""
    data, attr = _check_data_fork(state, inode), 0
    if inode.forkoff and (inode.anextents or inode.aformat != disk.FMT_EXTENTS):
        attr = _check_attr_fork(state, inode)
    if min(data, attr) >= 0 and data + attr != inode.nblocks:
        state.report.add(
            "fork-damaged", f"inode {inode.ino}", "nblocks", expected=data + attr,
            found=inode.nblocks, offset=state.inode_offset(inode.ino), ino=inode.ino,
        )  # fmt: skip


def _check_data_fork(state: State, inode: Inode) -> int:
    """Check the data fork of an inode and a symlink's target; entries of directories later.

    Return its blocks, _UNKNOWN where they are not.
    """
    mapped = inode.format in (disk.FMT_EXTENTS, disk.FMT_BTREE)
    blocks = _own(state, inode, "data") if mapped else 0
    if inode.type == _TYPE_LNK and blocks >= 0:
        try:
            state.mount.links.target(inode)
        except ImageError as error:
            state.report.error("symlink-damaged", error, ino=inode.ino)
    return blocks


def _check_attr_fork(state: State, inode: Inode) -> int:
    """Check the attribute fork of an inode, names and values; return its blocks or _UNKNOWN."""
    mapped = inode.aformat != disk.FMT_LOCAL and inode.anextents
    blocks = _own(state, inode, "attr") if mapped else 0
    if blocks >= 0:
        check_attrs(state, inode)
    return blocks


def _own(state: State, inode: Inode, fork: Fork) -> int:
    """Note the blocks of a fork; return how many they are, _UNKNOWN where it is not sound."""
    blocks = 0
    try:
        extents = state.mount.maps.extents(inode, fork)
        flag = ATTR if fork == "attr" else 0
        for startoff, fsblock, count, unwritten in extents:
            offset = startoff | flag | (UNWRITTEN if unwritten else 0)
            state.own(fsblock, count, inode.ino, offset)
            blocks += count
        if (inode.format if fork == "data" else inode.aformat) == disk.FMT_BTREE:
            for fsblock in _tree_blocks(state, inode, fork):
                state.own(fsblock, 1, inode.ino, flag | BMBT)
                blocks += 1
    except Unsupported as error:
        # its extents lie elsewhere, the blocks of their btree here
        hides = not inode.is_realtime or inode.format == disk.FMT_BTREE
        state.report.error("not-checked", error, ino=inode.ino, hides=hides)
        return _UNKNOWN
    except ImageError as error:
        state.report.error("fork-damaged", error, ino=inode.ino, hides=True)
        return _UNKNOWN
    return blocks


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


def check_next(state: State) -> None:
    """Report inodes that name a next unlinked one and wait in no list, or name none that can be.

    Source: `xfs_inode_buf.c: xfs_inode_buf_verify`; `xfs_iunlink_item.c: xfs_iunlink_log_dinode`.
    """
    geo, pairs = state.mount.geo, state.with_next
    mask, log = geo.agino_mask, geo.agino_log
    for ino, following in sorted(zip(pairs[::2], pairs[1::2], strict=True)):
        agno = ino >> log
        can_be = following <= mask and valid_ino(geo, agno << log | following)
        waits = ino in state.unlinked or state.mount.agi[agno] is None
        if not can_be or not waits:
            state.report.add(
                "next-unlinked", f"inode {ino}", "next_unlinked", found=following,
                expected="an inode of its AG" if waits else "none",
                offset=state.inode_offset(ino), ino=ino,
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
