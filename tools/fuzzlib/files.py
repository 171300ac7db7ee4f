"""Targets: inodes, their forks, and all blocks that hang on them."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice, zip_longest
from typing import TypeVar

from fuzzlib import ground as grounds
from fuzzlib.ground import KEPT, Ground, ground
from fuzzlib.target import Broken, Target, attempt, boundary, hold, named
from wofs.device.crc import crc32c
from wofs.errors import ImageError, NotFound, NoXattr, Where
from wofs.fs.stat import DIR, LNK, REG
from wofs.ondisk import attr as disk_attr
from wofs.ondisk.btree import BmbtRecord
from wofs.ondisk.dir import DIR_DATA, MAGIC_BLOCK
from wofs.ondisk.inode import CORE_BYTES, FMT_EXTENTS, FMT_LOCAL
from wofs.xfs import _decode, attr
from wofs.xfs.bmap import Fork
from wofs.xfs.dir import parse
from wofs.xfs.geometry import in_log, ino_bounds, valid_extent
from wofs.xfs.inode import Inode, _Decoder
from wofs.xfs.kept import Protecting
from wofs.xfs.mount import Mount

IMAGE = "b1k"
"""Has every form of fork, directory and attribute."""

T = TypeVar("T")
WHERE = Where("any.img", "any fork")
_MEMBERS = [name for name in vars(_decode.Core) if not name.startswith("_")]
_NAMES = (b"f", b"one", b"x" * 255, b"name-000100", b".", b"..")
_FORKS: tuple[Fork, Fork] = ("data", "attr")
_READ_BYTES = 1 << 14
_MOST_NAMES = 16


# ---- an inode
def inode(data: bytes) -> None:
    """Decode an inode in C and in Python: what the one accepts, so must the other, alike."""
    base = ground(IMAGE)
    part = base.lay(base.parts["inode"], data)
    mounted, ino = base.mounted(), part.owner
    geo = mounted.geo
    decoder = _Decoder(mounted, geo, mounted.inodes.inobt)
    stored = base.device.pread(part.start, part.size)
    sound: list[tuple[int, Inode]] = []
    declined = _decode.inodes(
        Inode, [(part.start, ino)], stored, geo.inodesize, geo.meta_uuid, decoder._bad_flags2,
        crc32c, mounted.inodes.inobt.chunk, sound,
    )  # fmt: skip
    hold(len(declined) + len(sound) == 1, "an inode neither taken nor declined, or both")
    slow = decoder.decode(ino, part.start, stored)
    for _, fast in sound:
        for name in _MEMBERS:
            one, other = getattr(fast, name), getattr(slow, name)
            hold(one == other, f"{name}: {one} in C, {other} in Python")


class _Asking:
    """Asks of one inode all that a reader may ask; `told` are the answers, damage as its text."""

    def __init__(self, mounted: Mount, ino: int) -> None:
        self.mounted = mounted
        self.told: list[object] = []
        found = self.ask(lambda: mounted.inodes.get(ino))
        if found is None:
            return
        self.told[-1] = found.raw
        for fork in _FORKS:
            self.ask(lambda fork=fork: list(mounted.maps.extents(found, fork)))  # type: ignore[misc]
        if found.type == DIR:
            self._list(found)
        elif found.type == LNK:
            target = self.ask(lambda: mounted.links.target(found))
            whole = target is None or (len(target) == found.size and b"\0" not in target)
            hold(whole, "a target")
        elif found.type == REG:
            self._read(found)
        self._attributes(found)

    def ask(self, act: Callable[[], T]) -> T | None:
        """Return an answer, None for damage, which must be named; both are told."""
        try:
            answer = act()
        except ImageError as error:
            named(error)
            self.told.append(str(error))
            return None
        self.told.append(answer)
        return answer

    def _attributes(self, found: Inode) -> None:
        attrs = self.mounted.attrs
        names = self.ask(lambda: attrs.names(found))
        hold(names is None or all(b"." in name for name in names), "a name without namespace")
        if len(names or ()) < _MOST_NAMES:
            self.ask(lambda: list(attrs.items(found)))
        for name in (*(names or ())[:8], b"user.none", b"system.posix_acl_access"):
            value = self.ask(partial(_value, self.mounted, found, name))
            lost = value is None and self.told[-1] is None and name in (names or ())
            hold(not lost, f"listed, and not found: {name!r}")

    def _read(self, found: Inode) -> None:
        for start in (0, max(0, found.size - _READ_BYTES), found.size // 2):
            data = self.ask(partial(self.mounted.data.read, found, start, _READ_BYTES))
            whole = data is None or len(data) == min(_READ_BYTES, found.size - start)
            hold(whole, "a short read")
        end = 0
        for start, stop in self.ask(partial(_segments, self.mounted, found)) or ():
            hold(end <= start < stop <= found.size, "segments in disorder")
            end = stop

    def _list(self, found: Inode) -> None:
        """List a directory to its end or to the damage; look names up."""
        dirs, after, names = self.mounted.dirs, 0, list(_NAMES)
        while batch := attempt(partial(dirs.batch, found, after)):
            self.told += batch
            for cookie, ino, ftype, name in batch:
                hold(cookie > after, "cookies in disorder")
                hold(name not in (b"", b".", b".."), "an odd name in a listing")
                hold(b"/" not in name and b"\0" not in name, "an impossible name")
                hold(ino and 0 <= ftype <= 8, "an impossible entry")
                after = cookie
                if len(names) < _MOST_NAMES:
                    names.append(name)
        self.ask(partial(dirs.batch, found, 1 << 40))
        self.ask(partial(dirs.parent, found))
        for name in names:
            entry = self.ask(partial(_lookup, self.mounted, found, name))
            hold(entry is None or entry[3] == name, "another name")


def use(mounted: Mount, ino: int) -> list[object]:
    """Ask of an inode all that a reader may ask, and return the answers."""
    return _Asking(mounted, ino).told


def _value(mounted: Mount, found: Inode, name: bytes) -> bytes | None:
    try:
        return mounted.attrs.get(found, name)
    except NoXattr:
        return None


def _segments(mounted: Mount, found: Inode) -> list[tuple[int, int]]:
    return list(islice(mounted.data.segments(found), 100))


def _lookup(mounted: Mount, found: Inode, name: bytes) -> parse.Entry | None:
    try:
        return mounted.dirs.lookup(found, name)
    except NotFound:
        return None


def replaced(base: Ground, kind: str, data: bytes) -> None:
    """Replace a structure, and ask all of the inode it belongs to; by option in two ways.

    What is kept in write-once memory must give the answers that ordinary caches give.
    """
    part = base.lay(base.parts[kind], data)
    told = use(base.mounted(), part.owner)
    if data and data[0] & KEPT:
        keeper = Protecting("none")
        again = use(base.mounted(keeper=keeper), part.owner)
        keeper.close()
        if told != again:
            pairs = zip_longest(told, again)
            raise Broken(next(f"{a!r}, kept: {b!r}" for a, b in pairs if a != b))


def _used(kind: str, image: str = IMAGE) -> Callable[[bytes], None]:
    return lambda data: replaced(ground(image), kind, data)


# ---- forks by themselves
def _inode_of(mode: int, fork: bytes, size: int, **members: int) -> Inode:
    """Return an inode that was not read, with `fork` as its data fork."""
    made = Inode()
    made.raw = bytes(CORE_BYTES) + fork
    for name in _MEMBERS:
        if name != "raw":
            setattr(made, name, 0)
    made.ino, made.mode, made.size, made.format = 131, mode << 12, size, FMT_LOCAL
    for name, value in members.items():
        setattr(made, name, value)
    return made


def extents(data: bytes) -> None:
    """Read a list of extents; what is accepted is as declared, and lawful."""
    base = ground(IMAGE)
    base.device.restore()
    mounted, kept = base.mounted(), data[1 : 1 + len(data[1:]) // 16 * 16]
    records = [BmbtRecord.decode(kept[at : at + 16]) for at in range(0, len(kept), 16)]
    found = _inode_of(
        (REG, DIR, LNK)[data[0] % 3 if data else 0], kept, 1, format=FMT_EXTENTS,
        nextents=len(records), nblocks=sum(r.blockcount for r in records),
    )  # fmt: skip
    there = list(mounted.maps.extents(found))
    told = [(r.startoff, r.startblock, r.blockcount, bool(r.unwritten)) for r in records]
    hold(there == told, f"{there} instead of {told}")
    for _, fsblock, count, _ in there:
        hold(valid_extent(mounted.geo, fsblock, count), "an extent outside")
        hold(not in_log(mounted.geo, fsblock, count), "an extent in the log")


def dir_shortform(data: bytes) -> None:
    """Read a shortform directory in C and in Python."""
    geo = ground(IMAGE).sound.geo
    found = _inode_of(DIR, data, len(data))
    bounds, has_ftype = ino_bounds(geo), bool(geo.has_ftype)
    fast = _decode.sf_entries(data, bounds, has_ftype) if len(data) >= 6 else None
    if fast is not None:
        slow = parse._sf_entries(geo, found, data, lambda: WHERE)
        hold(fast == slow, f"{fast} in C, {slow} in Python")
    parse.shortform(geo, found, lambda: WHERE)


def dir_data(data: bytes) -> None:
    """Read a directory's data block in C and in Python, then the whole directory."""
    base = ground(IMAGE)
    part = base.lay(base.parts["dirdata"], data)
    mounted = base.mounted()
    raw, geo = base.device.pread(part.start, part.size), mounted.geo
    block = attempt(
        lambda: mounted.buffers.prove(DIR_DATA, raw, part.start >> 9, "directory block")
    )
    end = None if block is None else attempt(lambda: parse.data_end(block, WHERE))
    if end is not None:
        fast = _decode.data_entries(raw, end, 0, ino_bounds(geo), bool(geo.has_ftype))
        if fast is not None:
            slow = parse._data_entries(geo, raw, end, 0, WHERE)
            hold(fast == slow, f"{fast} in C, {slow} in Python")
        hold(raw[:4] != MAGIC_BLOCK or end < len(raw), "entries beyond the tail")
    replaced(base, "dirdata", data)


def attr_shortform(data: bytes) -> None:
    """Read a shortform attribute fork."""
    found = list(attr.shortform(data.ljust(4, b"\0"), WHERE))
    taken = sum(len(name) + len(value) + 3 for _, name, value in found)
    hold(taken <= len(data), "more than the fork")


def acl(data: bytes) -> None:
    """Translate an ACL."""
    shown = attr.acl_to_xattr(data, WHERE)
    hold(len(shown) == 4 + 8 * int.from_bytes(data[:4], "big"), "entries lost")


# ---- seeds
def _seeds(kind: str, image: str = IMAGE) -> Callable[[], Iterator[bytes]]:
    return lambda: grounds.seeds(image, kind)


def _forks(wanted: Callable[[Inode], bytes]) -> Iterator[bytes]:
    """Yield what `wanted` gives of all inodes, each once."""
    base, seen = ground(IMAGE), set[bytes]()
    for part in base.parts["inode"]:
        fork = wanted(base.sound.inodes.get(part.owner))
        if fork and fork not in seen and len(seen) < 100:
            seen.add(fork)
            yield fork


def _extent_forks() -> Iterator[bytes]:
    def fork(found: Inode) -> bytes:
        held = found.dfork[: 16 * found.nextents]
        return b"\0" + held if found.format == FMT_EXTENTS and held else b""

    yield from _forks(fork)


def _dir_forks() -> Iterator[bytes]:
    def fork(found: Inode) -> bytes:
        local = found.type == DIR and found.format == FMT_LOCAL
        return found.dfork[: found.size] if local else b""

    yield from _forks(fork)


def _attr_forks() -> Iterator[bytes]:
    yield from _forks(lambda found: found.afork if found.aformat == FMT_LOCAL else b"")


def _acls() -> Iterator[bytes]:
    """Yield the ACLs that the image's shortforms hold."""
    for fork in _attr_forks():
        for flags, name, value in attr.shortform(fork, WHERE):
            if flags & disk_attr.ROOT and name in attr.ACL_NAMES and isinstance(value, bytes):
                yield value
    yield struct.pack(">IIIHH", 1, 1, 0, 7, 0)


def word(data: bytes, chance: random.Random) -> bytes:
    """Set an aligned word of an input to a boundary; or leave bytes out, or repeat some."""
    size = chance.choice((1, 2, 4, 8))
    at = chance.randrange(len(data) // size + 1) * size
    way = chance.random()
    if way < 0.1:
        return data[:at]
    if way < 0.2:
        return data[:at] + data[at + size :]
    if way < 0.3:
        return data[:at] + data[max(0, at - size) :]
    return data[:at] + boundary(chance, size) + data[at + size :]


def _block_target(name: str, kind: str, about: str) -> Target:
    return Target(name, about, _used(kind), _seeds(kind), mutate=grounds.patcher(IMAGE, kind))


TARGETS = (
    Target("inode", "an inode's core, in C and in Python", inode, _seeds("inode"),
           max_len=1024, mutate=grounds.patcher(IMAGE, "inode")),
    Target("forks", "an inode with its forks, and all that is read through it", _used("inode"),
           _seeds("inode"), max_len=1024, mutate=grounds.patcher(IMAGE, "inode")),
    Target("extents", "a list of extents", extents, _extent_forks, max_len=512, mutate=word),
    _block_target("bmbt", "bmbt", "blocks of extent btrees"),
    Target("dir-shortform", "a directory in its inode, in C and in Python", dir_shortform,
           _dir_forks, max_len=512, mutate=word),
    Target("dir-data", "data blocks of directories, in C and in Python", dir_data,
           _seeds("dirdata"), mutate=grounds.patcher(IMAGE, "dirdata")),
    _block_target("dir-index", "dirindex", "leaf and node blocks of directories"),
    Target("attr-shortform", "attributes in the inode", attr_shortform, _attr_forks,
           max_len=512, mutate=word),
    _block_target("attr-index", "attr", "leaf and node blocks of attributes"),
    _block_target("attr-value", "value", "blocks of remote values"),
    Target("acl", "POSIX ACLs", acl, _acls, max_len=512, mutate=word),
    _block_target("symlink", "target", "blocks of symbolic links"),
)  # fmt: skip
