"""Inodes: read in bulk, proved and decoded once, kept in a bounded cache.

Rules: `xfs_inode_buf.c: xfs_dinode_verify, xfs_dinode_verify_fork,
xfs_dinode_verify_forkoff, xfs_dinode_verify_nrext64`; beyond the kernel's: the inode must be
in use by the inode btree too.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from wofs.device.crc import crc_of
from wofs.errors import BadChecksum, BadField, BadMagic, ImageError, Misplaced, Truncated, Where
from wofs.ondisk import features as feat
from wofs.ondisk import inode as disk
from wofs.xfs.cache import Cache
from wofs.xfs.geometry import Geometry, ino_to_byte, valid_ino
from wofs.xfs.inobt import Inobt
from wofs.xfs.volume import Volume

CACHED_INODES = 32768
_MERGE_GAP_BYTES = 16 << 10
_MERGE_MAX_BYTES = 256 << 10

_BIGTIME_EPOCH_NS = disk.BIGTIME_EPOCH_OFFSET * 10**9
_FIFO, _CHR, _DIR, _BLK, _REG, _LNK, _SOCK = 1, 2, 4, 6, 8, 10, 12
_TYPES = frozenset({_FIFO, _CHR, _DIR, _BLK, _REG, _LNK, _SOCK})
_FORKED = frozenset({_DIR, _REG, _LNK})

Problem = tuple[str, object, object]
"""(field, found, expected) of a broken rule."""


class Inode:
    """One decoded inode.

    Times are nanoseconds since 1970 (may be negative), `nblocks` filesystem blocks of both
    forks, `rdev` as `os.makedev` makes it, `dfork` and `afork` the bytes of the forks.
    """

    __slots__ = (
        "afork",
        "aformat",
        "anextents",
        "atime_ns",
        "crtime_ns",
        "ctime_ns",
        "dfork",
        "flags",
        "flags2",
        "forkoff",
        "format",
        "gen",
        "gid",
        "ino",
        "mode",
        "mtime_ns",
        "nblocks",
        "nextents",
        "nlink",
        "projid",
        "rdev",
        "size",
        "uid",
    )
    ino: int
    mode: int
    uid: int
    gid: int
    nlink: int
    projid: int
    size: int
    nblocks: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    crtime_ns: int
    gen: int
    flags: int
    flags2: int
    format: int
    nextents: int
    aformat: int
    anextents: int
    forkoff: int
    rdev: int
    dfork: bytes
    afork: bytes

    @property
    def type(self) -> int:
        """The file type: the top four bits of the mode (4 directory, 8 regular, ...)."""
        return self.mode >> 12

    @property
    def is_realtime(self) -> bool:
        """Whether the data lies on the realtime device."""
        return bool(self.flags & disk.DIFLAG_REALTIME) and self.type == _REG

    def __repr__(self) -> str:
        return f"Inode({self.ino}, mode=0o{self.mode:o}, size={self.size})"


class Inodes:
    """All inodes of a mounted image."""

    def __init__(self, vol: Volume) -> None:
        self._vol = vol
        self._cache: Cache[int, Inode] = Cache(CACHED_INODES)
        self.inobt = Inobt(vol)

    def get(self, ino: int) -> Inode:
        """Return inode `ino`; raises the `ImageError` that says what is wrong with it."""
        inode = self._cache.get(ino)
        if inode is not None:
            return inode
        found = self.get_many((ino,))[0]
        if isinstance(found, ImageError):
            raise found
        return found

    def get_many(self, inos: Sequence[int]) -> list[Inode | ImageError]:
        """Return for each number its inode or the error that says what is wrong with it.

        Neighbouring inodes are read at once. A device's `OSError` passes.
        """
        cached = self._cache.get
        results: list[Inode | ImageError | None] = [cached(ino) for ino in inos]
        missing: dict[int, Inode | ImageError | None] = {
            ino: None for ino, hit in zip(inos, results, strict=True) if hit is None
        }
        if not missing:
            return [r for r in results if r is not None]
        self._load(missing)
        merged = (
            hit if hit is not None else missing[ino]
            for ino, hit in zip(inos, results, strict=True)
        )
        return [inode for inode in merged if inode is not None]

    def _load(self, wanted: dict[int, Inode | ImageError | None]) -> None:
        """Read, prove and decode the inodes that are keys of `wanted`."""
        geo = self._vol.geo
        places = []
        for ino in wanted:
            if valid_ino(geo, ino):
                places.append((ino_to_byte(geo, ino), ino))
            else:
                where = self._vol.where(f"inode {ino}", field="ino")
                wanted[ino] = BadField(where, "lies outside the filesystem", found=ino)
        places.sort()
        isize = geo.inodesize
        decoder = _Decoder(self._vol, geo)
        sound: list[tuple[int, Inode]] = []
        for run in _runs(places, isize):
            start = run[0][0]
            data = self._vol.device.pread(start, run[-1][0] + isize - start)
            for byte, ino in run:
                raw = data[byte - start : byte - start + isize]
                try:
                    inode = decoder.decode(ino, byte, raw)
                except ImageError as error:
                    wanted[ino] = error
                else:
                    wanted[ino] = inode
                    sound.append((ino, inode))
        self._refuse_unused(sound, wanted)
        self._cache.put_all(sound)

    def _refuse_unused(
        self, sound: list[tuple[int, Inode]], wanted: dict[int, Inode | ImageError | None]
    ) -> None:
        """Take from `sound` the inodes that the inode btree says are not in use."""
        geo = self._vol.geo
        log, mask = geo.agino_log, geo.agino_mask
        tables = {agno: self.inobt.table(agno) for agno in {ino >> log for ino, _ in sound}}
        unused = []
        for ino, inode in sound:
            table = tables[ino >> log]
            problem = table.problem(ino & mask) if table is not None else ""
            if problem:
                where = self._vol.where(f"inode {ino}", ino_to_byte(geo, ino) >> 9, geo.inodesize)
                wanted[ino] = BadField(where, f"is {problem}, but something leads to it")
                unused.append((ino, inode))
        for pair in unused:
            sound.remove(pair)


def _runs(places: list[tuple[int, int]], isize: int) -> Iterable[list[tuple[int, int]]]:
    """Split sorted (byte, ino) places into runs that are worth one read each."""
    run: list[tuple[int, int]] = []
    for place in places:
        near = run and place[0] - run[-1][0] - isize <= _MERGE_GAP_BYTES
        if run and not (near and place[0] + isize - run[0][0] <= _MERGE_MAX_BYTES):
            yield run
            run = []
        run.append(place)
    if run:
        yield run


class _Decoder:
    """Proves and decodes raw inodes; what it needs of the geometry read once per batch."""

    __slots__ = ("_image", "_incompat", "_isize", "_literal", "_reflink", "_uuid", "_vol")

    def __init__(self, vol: Volume, geo: Geometry) -> None:
        self._vol = vol
        self._isize = geo.inodesize
        self._literal = geo.inodesize - disk.CORE_BYTES
        self._incompat = geo.incompat
        self._reflink = geo.ro_compat & feat.RO_COMPAT_REFLINK
        self._uuid = geo.meta_uuid

    def decode(self, ino: int, byte: int, raw: bytes) -> Inode:
        """Return the inode in `raw`, read from byte `byte`; raises an `ImageError`."""
        if len(raw) < self._isize:
            raise Truncated(
                self._vol.where(f"inode {ino}", byte >> 9, self._isize), "the image ends first"
            )
        core = disk.CORE(raw, 0)
        (
            magic, mode, version, fmt, uid, gid, nlink, projid_lo, projid_hi, big_nextents,
            atime, mtime, ctime, size, nblocks, nextents, anextents, forkoff, aformat, flags,
            gen, flags2, crtime, own_ino, uuid,
        ) = core  # fmt: skip
        if magic != disk.INODE_MAGIC or version != 3 or own_ino != ino or uuid != self._uuid:
            self._raise_misplaced(ino, byte, magic, version, own_ino, uuid)
        stored = int.from_bytes(raw[100:104], "little")
        computed = crc_of(raw, disk.CRC_OFFSET)
        if stored != computed:
            where = self._vol.where(f"inode {ino}", byte >> 9, self._isize, "crc")
            raise BadChecksum(where, "", f"{computed:#010x}", f"{stored:#010x}")
        inode = Inode()
        inode.ino, inode.mode, inode.uid, inode.gid, inode.nlink = ino, mode, uid, gid, nlink
        inode.projid = projid_hi << 16 | projid_lo
        inode.size, inode.nblocks, inode.gen = size, nblocks, gen
        inode.flags, inode.flags2, inode.format = flags, flags2, fmt
        inode.aformat, inode.forkoff = aformat, forkoff * 8
        problem: Problem | None = None
        if flags2 & disk.DIFLAG2_NREXT64:
            inode.nextents, inode.anextents = big_nextents, nextents
            if anextents:
                problem = ("anextents", anextents, "0 (nrext64 pad)")
        else:
            inode.nextents, inode.anextents = nextents, anextents
            if big_nextents:
                problem = ("big_nextents", big_nextents, "0 without nrext64")
        if flags2 & disk.DIFLAG2_BIGTIME:
            epoch = _BIGTIME_EPOCH_NS
            inode.atime_ns, inode.mtime_ns = atime - epoch, mtime - epoch
            inode.ctime_ns, inode.crtime_ns = ctime - epoch, crtime - epoch
        else:
            inode.atime_ns, inode.mtime_ns = _legacy_ns(atime), _legacy_ns(mtime)
            inode.ctime_ns, inode.crtime_ns = _legacy_ns(ctime), _legacy_ns(crtime)
        end = disk.CORE_BYTES + inode.forkoff if forkoff else self._isize
        inode.dfork = raw[disk.CORE_BYTES : end]
        inode.afork = raw[end:]
        kind = mode >> 12
        inode.rdev = _rdev(inode.dfork) if kind in (_CHR, _BLK) else 0
        problem = problem or self._problem(inode, kind)
        if problem:
            field, found, expected = problem
            where = self._vol.where(f"inode {ino}", byte >> 9, self._isize, field)
            raise BadField(where, "", expected, found)
        return inode

    def _raise_misplaced(
        self, ino: int, byte: int, magic: int, version: int, own_ino: int, uuid: bytes
    ) -> None:
        """Raise for the first identifying field that is wrong."""

        def place(field: str) -> Where:
            return self._vol.where(f"inode {ino}", byte >> 9, self._isize, field)

        if magic != disk.INODE_MAGIC:
            raise BadMagic(place("magic"), "", "0x494e", f"{magic:#06x}")
        if version != 3:
            raise BadField(place("version"), "", 3, version)
        if own_ino != ino:
            raise Misplaced(place("ino"), "", ino, own_ino)
        raise Misplaced(place("uuid"), "", self._uuid.hex(), uuid.hex())

    def _problem(self, inode: Inode, kind: int) -> Problem | None:
        """Return the first rule that a decoded inode breaks, or None."""
        if inode.mode == 0:
            return ("mode", 0, "a type (the inode is free)")
        if kind not in _TYPES:
            return ("mode", f"0o{inode.mode:o}", "a known file type")
        if inode.size >> 63:
            return ("size", f"{inode.size:#x}", "less than 2^63")
        if inode.nextents + inode.anextents > inode.nblocks:
            return ("nblocks", inode.nblocks, f"at least the {inode.nextents} extents")
        problem = self._flags_problem(inode, kind)
        if problem:
            return problem
        if inode.forkoff >= self._literal and inode.forkoff:
            return ("forkoff", inode.forkoff // 8, f"less than {self._literal // 8}")
        if kind not in _FORKED:
            if inode.format != disk.FMT_DEV:
                return ("format", inode.format, "0 (dev)")
        else:
            if inode.size == 0 and kind != _REG:
                return ("size", 0, "at least 1")
            problem = _data_fork_problem(inode, kind)
        return problem or _attr_fork_problem(inode)

    def _flags_problem(self, inode: Inode, kind: int) -> Problem | None:
        """Check the second flag word against the features and the file type."""
        flags2 = inode.flags2
        if not flags2:
            return None
        if flags2 & disk.DIFLAG2_NREXT64 and not self._incompat & feat.INCOMPAT_NREXT64:
            return ("flags2", f"{flags2:#x}", "no nrext64: the feature is off")
        if flags2 & disk.DIFLAG2_BIGTIME and not self._incompat & feat.INCOMPAT_BIGTIME:
            return ("flags2", f"{flags2:#x}", "no bigtime: the feature is off")
        if flags2 & disk.DIFLAG2_REFLINK:
            if not self._reflink:
                return ("flags2", f"{flags2:#x}", "no reflink: the feature is off")
            if kind != _REG:
                return ("flags2", f"{flags2:#x}", "reflink on a regular file only")
        return None


def _data_fork_problem(inode: Inode, kind: int) -> Problem | None:
    """Check format and extent count of the data fork of a file, directory or symlink."""
    fmt, room = inode.format, len(inode.dfork)
    if fmt == disk.FMT_EXTENTS:
        if inode.nextents * 16 > room:
            return ("nextents", inode.nextents, f"at most {room // 16} in the inode")
    elif fmt == disk.FMT_LOCAL:
        if kind == _REG:
            return ("format", "1 (local)", "2 or 3 for a regular file")
        if inode.size > room:
            return ("size", inode.size, f"at most {room} in the inode")
        if inode.nextents:
            return ("nextents", inode.nextents, "0 for a local fork")
    elif fmt == disk.FMT_BTREE:
        wide = inode.flags2 & disk.DIFLAG2_NREXT64
        most = disk.MAX_EXTENTS_64 if wide else disk.MAX_EXTENTS_32
        if not room // 16 < inode.nextents <= most:
            return ("nextents", inode.nextents, f"more than {room // 16}, at most {most}")
    else:
        return ("format", fmt, "1 (local), 2 (extents) or 3 (btree)")
    return None


def _attr_fork_problem(inode: Inode) -> Problem | None:
    """Check format and extent count of the attribute fork."""
    fmt, count, room = inode.aformat, inode.anextents, len(inode.afork)
    if not inode.forkoff:
        if fmt not in (0, disk.FMT_EXTENTS):
            return ("aformat", fmt, "2 (extents) without an attribute fork")
        return ("anextents", count, "0 without an attribute fork") if count else None
    if fmt == disk.FMT_LOCAL:
        return ("anextents", count, "0 for a local fork") if count else None
    if fmt == disk.FMT_EXTENTS:
        most = room // 16
        return ("anextents", count, f"at most {most} in the inode") if count > most else None
    if fmt == disk.FMT_BTREE:
        wide = inode.flags2 & disk.DIFLAG2_NREXT64
        limit = disk.MAX_AEXTENTS_32 if wide else disk.MAX_AEXTENTS_16
        return ("anextents", count, f"at most {limit}") if count > limit else None
    return ("aformat", fmt, "1 (local), 2 (extents) or 3 (btree)")


def _legacy_ns(stamp: int) -> int:
    """Return nanoseconds since 1970 of a 32-bit seconds, 32-bit nanoseconds stamp."""
    seconds = stamp >> 32
    if seconds >= 1 << 31:
        seconds -= 1 << 32
    return seconds * 10**9 + (stamp & 0xFFFFFFFF)


def _rdev(fork: bytes) -> int:
    """Return the device number of a device node (`linux/kdev_t.h: sysv_major, sysv_minor`)."""
    value = int.from_bytes(fork[:4], "big")
    return os.makedev(value >> 18 & 0x3FFF, value & 0x3FFFF)
