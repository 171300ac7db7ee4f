"""Inodes: read in bulk, proved and decoded once, kept in a bounded cache.

Rules: `xfs_inode_buf.c: xfs_dinode_verify, xfs_dinode_verify_fork,
xfs_dinode_verify_forkoff, xfs_dinode_verify_nrext64`; beyond the kernel's: the inode must be
in use by the inode btree too.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from wofs.device.crc import crc32c
from wofs.errors import BadChecksum, BadField, BadMagic, ImageError, Misplaced, Truncated, Where
from wofs.ondisk import features as feat
from wofs.ondisk import inode as disk
from wofs.slab import Shelf
from wofs.xfs import _decode
from wofs.xfs.cache import Cache
from wofs.xfs.geometry import Geometry, ino_bounds
from wofs.xfs.inobt import Inobt
from wofs.xfs.kept import KIND_OF, Keeper, Kept, Protecting
from wofs.xfs.volume import Volume

CACHED_BYTES = 36 << 20
"""Most that the decoded inodes in the cache take up: about 42,000 of them."""

_INODE_BYTES = 900
"""About what one of 512 bytes takes up: its raw bytes, its fields, its place in the cache."""

_MERGE_GAP_BYTES = 4 << 10
_MERGE_MAX_BYTES = 256 << 10

_EXPECTED_BYTES = 128 << 10
"""Whose inodes are read here will be asked for its neighbours' next: chunks lie together."""

_EXPECTATIONS_KEPT = 1 << 14

_BLOCKS_BITS = 55
"""No file has more blocks, however many of them it shares: offsets have 54 bits."""

_BIGTIME_EPOCH_NS = disk.BIGTIME_EPOCH_OFFSET * 10**9
_FIFO, _CHR, _DIR, _BLK, _REG, _LNK, _SOCK = 1, 2, 4, 6, 8, 10, 12
_TYPES = frozenset({_FIFO, _CHR, _DIR, _BLK, _REG, _LNK, _SOCK})
_FORKED = frozenset({_DIR, _REG, _LNK})
_NO_FORK_FORMATS = frozenset({0, disk.FMT_EXTENTS})
_FEATURE_FLAGS = (
    (disk.DIFLAG2_NREXT64, "nrext64"),
    (disk.DIFLAG2_BIGTIME, "bigtime"),
    (disk.DIFLAG2_REFLINK, "reflink"),
)

Problem = tuple[str, object, object]
"""(field, found, expected) of a broken rule."""


class Inode(_decode.Core):
    """One decoded inode.

    Times are nanoseconds since 1970 (may be negative), `nblocks` filesystem blocks of both
    forks, `rdev` as `os.makedev` makes it, `raw` the bytes on disk, without the checksum.
    """

    __slots__ = ()

    @property
    def dfork(self) -> bytes:
        """The data fork."""
        end = disk.CORE_BYTES + self.forkoff if self.forkoff else len(self.raw)
        return self.raw[disk.CORE_BYTES : end]

    @property
    def afork(self) -> bytes:
        """The attribute fork; empty if there is none."""
        return self.raw[disk.CORE_BYTES + self.forkoff :] if self.forkoff else b""

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


class _Protected:
    """Raw bytes of proved inodes in write-once memory, decoded at each use."""

    _KIND = KIND_OF["inode"]

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    def get(self, key: int) -> Inode | None:
        raw = self._shelf.read(key, self._KIND, key, 0)
        return _decode.kept(Inode, [raw])[0]

    def get_many(self, keys: Sequence[int]) -> list[Inode | None]:
        return _decode.kept(Inode, self._shelf.read_many(list(keys), self._KIND))

    def put(self, key: int, value: Inode) -> None:
        self.put_many(((key, value),))

    def put_many(self, pairs: Sequence[tuple[int, Inode]]) -> None:
        self._shelf.put(self._KIND, [(key, key, 0, inode.raw) for key, inode in pairs])


def _cache_by(keeper: Keeper) -> Kept[int, Inode]:
    """Return the cache of inodes."""
    if isinstance(keeper, Protecting):
        return _Protected(keeper.shelf("inode", CACHED_BYTES))
    return Cache(int(CACHED_BYTES * keeper.share), _INODE_BYTES)


class Inodes:
    """All inodes of a mounted image."""

    def __init__(self, vol: Volume) -> None:
        self._vol = vol
        self._cache = _cache_by(vol.keeper)
        self.inobt = Inobt(vol)
        self._expected: set[int] = set()

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
        held = self._cache.get_many(inos)
        missing = [ino for ino, hit in zip(inos, held, strict=True) if hit is None]
        loaded, sound = self._load(missing) if missing else ({}, [])
        self._cache.put_many(sound)
        if len(missing) == len(inos):
            return list(map(loaded.__getitem__, inos))
        return [loaded[ino] if hit is None else hit for ino, hit in zip(inos, held, strict=True)]

    def read_many(self, inos: list[int]) -> list[Inode | ImageError]:
        """Like `get_many`, for whom each is read but once: nothing is kept."""
        loaded, _ = self._load(inos)
        return list(map(loaded.__getitem__, inos))

    def _load(
        self, inos: list[int]
    ) -> tuple[dict[int, Inode | ImageError], list[tuple[int, Inode]]]:
        """Read, prove and decode inodes; return the inode or the error by number, and the sound."""
        geo = self._vol.geo
        runs, outside = _decode.places(
            inos, ino_bounds(geo), geo.inodelog, geo.agblocks << geo.blocklog,
            _MERGE_GAP_BYTES, _MERGE_MAX_BYTES,
        )  # fmt: skip
        found: dict[int, Inode | ImageError] = {}
        for ino in outside:
            where = self._vol.where(f"inode {ino}", field="ino")
            found[ino] = BadField(where, "lies outside the filesystem", found=ino)
        decoder = _Decoder(self._vol, geo, self.inobt)
        sound: list[tuple[int, Inode]] = []
        for run in runs:
            start = run[0][0]
            self._expect(start)
            data = self._vol.device.pread(start, run[-1][0] + decoder.isize - start)
            decoder.decode_run(run, data, sound, found)
        found.update(sound)
        return found, sound

    def _expect(self, start: int) -> None:
        """Have the surroundings of byte `start` read, once."""
        part = start // _EXPECTED_BYTES
        if part not in self._expected:
            if len(self._expected) >= _EXPECTATIONS_KEPT:
                self._expected.clear()
            self._expected.add(part)
            self._vol.device.expect(part * _EXPECTED_BYTES, _EXPECTED_BYTES)


class _Decoder:
    """Proves and decodes raw inodes; what it needs of the geometry is read once per batch."""

    __slots__ = ("_bad_flags2", "_inobt", "_literal", "_uuid", "_vol", "isize")

    def __init__(self, vol: Volume, geo: Geometry, inobt: Inobt) -> None:
        self._vol = vol
        self._inobt = inobt
        self.isize = geo.inodesize
        self._literal = self.isize - disk.CORE_BYTES
        self._uuid = geo.meta_uuid
        incompat = geo.incompat
        self._bad_flags2 = (
            (0 if incompat & feat.INCOMPAT_NREXT64 else disk.DIFLAG2_NREXT64)
            | (0 if incompat & feat.INCOMPAT_BIGTIME else disk.DIFLAG2_BIGTIME)
            | (0 if geo.ro_compat & feat.RO_COMPAT_REFLINK else disk.DIFLAG2_REFLINK)
        )

    def decode_run(
        self,
        run: list[tuple[int, int]],
        data: bytes,
        sound: list[tuple[int, Inode]],
        broken: dict[int, Inode | ImageError],
    ) -> None:
        """Sort the inodes at the (byte, ino) places of `run` into `sound` and `broken`.

        `data` was read from the first place on, and may end early. Those of the common shape
        are decoded in C; here, what that declined.
        """
        isize, start = self.isize, run[0][0]
        declined = _decode.inodes(
            Inode, run, data, isize, self._uuid, self._bad_flags2, crc32c, self._inobt.chunk, sound
        )
        for byte, ino in declined:
            at = byte - start
            try:
                inode = self.decode(ino, byte, data[at : at + isize])
                first, unused = self._inobt.chunk(ino)
                if unused >> ino - first & 1:
                    raise self._unused(ino, byte)
            except ImageError as error:
                broken[ino] = error
            else:
                sound.append((ino, inode))

    def _unused(self, ino: int, byte: int) -> ImageError:
        """Return the error for a sound inode that the inode btree says is not in use."""
        where = self._vol.where(f"inode {ino}", byte >> 9, self.isize)
        return BadField(where, f"is {self._inobt.problem(ino)}, but something leads to it")

    def decode(self, ino: int, byte: int, stored: bytes) -> Inode:
        """Return the inode at byte `byte` from what is stored there; raises an `ImageError`."""
        if len(stored) < self.isize:
            raise Truncated(
                self._vol.where(f"inode {ino}", byte >> 9, self.isize), "the image ends first"
            )
        crc = int.from_bytes(stored[disk.CRC_OFFSET : disk.CRC_OFFSET + 4], "little")
        raw = stored[: disk.CRC_OFFSET] + bytes(4) + stored[disk.CRC_OFFSET + 4 :]
        (
            magic, mode, version, fmt, uid, gid, nlink, projid_lo, projid_hi, big_nextents,
            atime, mtime, ctime, size, nblocks, nextents, anextents, forkoff, aformat, flags,
            gen, flags2, crtime, own_ino, uuid,
        ) = disk.CORE(raw, 0)  # fmt: skip
        if magic != disk.INODE_MAGIC or version != 3 or own_ino != ino or uuid != self._uuid:
            self._raise_misplaced(ino, byte, magic, version, own_ino, uuid)
        computed = crc32c(raw)
        if computed != crc:
            where = self._vol.where(f"inode {ino}", byte >> 9, self.isize, "crc")
            raise BadChecksum(where, "", f"{computed:#010x}", f"{crc:#010x}")
        inode = Inode()
        inode.raw = raw
        inode.ino, inode.mode, inode.uid, inode.gid, inode.nlink = ino, mode, uid, gid, nlink
        inode.projid = projid_hi << 16 | projid_lo
        inode.size, inode.nblocks, inode.gen = size, nblocks, gen
        inode.flags, inode.flags2, inode.format = flags, flags2, fmt
        inode.aformat, inode.forkoff = aformat, forkoff * 8
        pad = big_nextents
        if flags2 & disk.DIFLAG2_NREXT64:
            pad, nextents, anextents = anextents, big_nextents, nextents
        inode.nextents, inode.anextents = nextents, anextents
        if flags2 & disk.DIFLAG2_BIGTIME:
            inode.atime_ns, inode.mtime_ns = atime - _BIGTIME_EPOCH_NS, mtime - _BIGTIME_EPOCH_NS
            inode.ctime_ns, inode.crtime_ns = ctime - _BIGTIME_EPOCH_NS, crtime - _BIGTIME_EPOCH_NS
        else:
            inode.atime_ns, inode.mtime_ns = _legacy_ns(atime), _legacy_ns(mtime)
            inode.ctime_ns, inode.crtime_ns = _legacy_ns(ctime), _legacy_ns(crtime)
        kind = mode >> 12
        inode.rdev = _rdev(inode.dfork) if kind in (_CHR, _BLK) else 0
        problem = self._pad_problem(inode, pad) or self._problem(inode, kind)
        if problem:
            field, found, expected = problem
            where = self._vol.where(f"inode {ino}", byte >> 9, self.isize, field)
            raise BadField(where, "", expected, found)
        return inode

    def _pad_problem(self, inode: Inode, pad: int) -> Problem | None:
        """Check the extent counter that is not in use."""
        if not pad:
            return None
        if inode.flags2 & disk.DIFLAG2_NREXT64:
            return ("anextents", pad, "0 (nrext64 pad)")
        return ("big_nextents", pad, "0 without nrext64")

    def _raise_misplaced(
        self, ino: int, byte: int, magic: int, version: int, own_ino: int, uuid: bytes
    ) -> None:
        """Raise for the first identifying field that is wrong."""

        def place(field: str) -> Where:
            return self._vol.where(f"inode {ino}", byte >> 9, self.isize, field)

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
        if inode.nblocks >> _BLOCKS_BITS:
            return ("nblocks", inode.nblocks, f"less than 2^{_BLOCKS_BITS}")
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
        for flag, name in _FEATURE_FLAGS:
            if flags2 & self._bad_flags2 & flag:
                return ("flags2", f"{flags2:#x}", f"no {name}: the feature is off")
        if flags2 & disk.DIFLAG2_REFLINK and kind != _REG:
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
        if fmt not in _NO_FORK_FORMATS:
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
