"""Names of structures and fields: `agf[2].freeblks`, `inode["/etc/hosts"].extent[0].startblock`.

A name is steps joined by dots, each a word with perhaps a key in brackets: a number, a path or
name in double quotes, or OFFSET:LENGTH. The first step says which structure, the last may be
one of its fields; fields are those of the record declarations (`wofs.ondisk`), and of every
block `crc`, `uuid`, `blkno` and `owner` where its kind has them.
"""

from __future__ import annotations

import re
import struct
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from wofs.corrupt.inside import Spot, inside
from wofs.corrupt.parts import AG_TREES, HEADERS, Part, ag_btree, headers, of_inode
from wofs.errors import WofsError
from wofs.fs import Filesystem
from wofs.ondisk import attr, btree, dir, inode, symlink
from wofs.ondisk.ag import AGFL_HEADER_BYTES, Agf, Agfl, Agi
from wofs.ondisk.dir import DaHeader
from wofs.ondisk.inode import FMT_BTREE, FMT_EXTENTS, FMT_LOCAL, InodeCore
from wofs.ondisk.kind import Kind
from wofs.ondisk.log import BLOCK_BYTES, LogRecord
from wofs.ondisk.sb import Superblock
from wofs.record import Record
from wofs.units import SECTOR_BYTES
from wofs.xfs.btree import BMBT
from wofs.xfs.dir.parse import entry_bytes
from wofs.xfs.geometry import fsb_to_byte, ino_to_byte, valid_ino
from wofs.xfs.inode import Inode
from wofs.xfs.log import area_of
from wofs.xfs.mount import Mount

_STEP = re.compile(
    r"""(?P<word>[a-z_][a-z0-9_]*)
        (?:\[(?:"(?P<text>(?:[^"\\]|\\.)*)"|(?P<number>0x[0-9a-f]{1,16}|[0-9]{1,20})
            (?::(?P<size>[0-9]{1,20}))?)\])?""",
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)

RECORDS: dict[str, tuple[type[Record], ...]] = {
    "sb": (Superblock,),
    "agf": (Agf,),
    "agi": (Agi,),
    "agfl": (Agfl,),
    "inode": (InodeCore,),
    **dict.fromkeys(AG_TREES, (btree.ShortHeader,)),
    "bmbt": (btree.LongHeader,),
    "dirdata": (),
    "dirindex": (DaHeader,),
    "dirfree": (),
    "attr": (DaHeader, attr.AttrLeafHeader),
    "value": (attr.RemoteHeader,),
    "target": (symlink.SymlinkHeader,),
    "log": (LogRecord,),
}
"""The declarations whose fields a structure of each kind has, at its start."""

BLOCKS: dict[str, Kind] = {
    **{kind: row[0].kind for kind, row in AG_TREES.items()},
    "bmbt": btree.BMBT,
    "dirdata": dir.DIR_DATA,
    "dirindex": dir.DIR_INDEX,
    "dirfree": dir.DIR_FREE,
    "attr": dir.ATTR_INDEX,
    "value": attr.REMOTE,
    "target": symlink.SYMLINK,
}


class BadTarget(WofsError):
    """A name that means nothing in this image; the message says what would."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a name: its word and what was in brackets (None: nothing)."""

    word: str
    key: int | str | None = None
    size: int | None = None

    def __str__(self) -> str:
        return self.word if self.key is None else f"{self.word}[{self.key}]"

    def number(self) -> int:
        """Return the key, which must be a number."""
        if not isinstance(self.key, int):
            raise BadTarget(f"{self.word} takes a number in brackets: {self.word}[0]")
        return self.key


def parse(text: str) -> list[Step]:
    """Split a name into steps; BadTarget where it is none."""
    steps, at = [], 0
    while at < len(text):
        match = _STEP.match(text, at)
        if match is None or (match.end() < len(text) and text[match.end()] != "."):
            raise BadTarget(f"{text}: is not a name such as agf[2].freeblks (at {text[at:]!r})")
        key: int | str | None = None
        if match["number"] is not None:
            key = int(match["number"], 16 if match["number"][1:2] in ("x", "X") else 10)
        elif match["text"] is not None:
            key = re.sub(r"\\(.)", r"\1", match["text"])
        size = int(match["size"]) if match["size"] else None
        steps.append(Step(match["word"].lower(), key, size))
        at = match.end() + 1
    if not steps or text.endswith("."):
        raise BadTarget(f"{text!r}: is not a name such as agf[2].freeblks")
    return steps


class Locator:
    """Finds what names speak of, in one image."""

    def __init__(self, filesystem: Filesystem) -> None:
        self._filesystem = filesystem
        self._mount: Mount = filesystem.mount

    def spot(self, text: str) -> Spot:
        """Return the field, or the whole structure, that `text` names; BadTarget for none."""
        steps = parse(text)
        part, rest = self._part(steps)
        if not rest:
            return Spot(part)
        if part.kind == "inode" and rest[0].word in ("extent", "attrextent", "entry"):
            return self._within_inode(part, rest)
        if part.kind == "agfl" and rest[0].word == "bno":
            at = AGFL_HEADER_BYTES + 4 * self._below(rest[0], self._mount.geo.agfl_size)
            return Spot(part, f"bno[{rest[0].key}]", at, 4)
        if part.kind == "attr" and rest[0].word == "entry":
            return self._record(part, attr.AttrEntry, attr.LEAF_HEADER_BYTES, rest, 8)
        return self._field(part, rest)

    # ---- structures
    def _part(self, steps: Sequence[Step]) -> tuple[Part, Sequence[Step]]:
        first, rest = steps[0], steps[1:]
        if first.word in dict(HEADERS):
            agno = self._below(first, self._mount.geo.agcount)
            return next(p for p in headers(self._mount, agno) if p.kind == first.word), rest
        if first.word in AG_TREES:
            return self._ag_tree(first, rest)
        if first.word == "inode":
            if isinstance(first.key, int) and not (rest and rest[0].word in BLOCKS):
                return self._any_inode(first.key), rest
            return self._of_inode(self._inode(first), rest)
        if first.word == "log":
            return self._log(first), rest
        if first.word == "bytes":
            size = SECTOR_BYTES if first.size is None else first.size
            start = first.number()
            if not size:
                raise BadTarget(f"bytes[{start}:0]: are no bytes")
            if start + size > self._mount.device.size:
                raise BadTarget(f"the image has {self._mount.device.size} bytes")
            return Part("bytes", start, 0, start, size, 0), rest
        known = ", ".join([*dict(HEADERS), *AG_TREES, "inode", "log", "bytes"])
        raise BadTarget(f"{first.word}: no such structure; there are {known}")

    def _below(self, step: Step, count: int) -> int:
        number = step.number()
        if number >= count:
            raise BadTarget(f"{step.word}[{number}]: there are {count}, from 0")
        return number

    def _ag_tree(self, first: Step, rest: Sequence[Step]) -> tuple[Part, Sequence[Step]]:
        agno = self._below(first, self._mount.geo.agcount)
        blocks = list(ag_btree(self._mount, agno, first.word))
        if rest and rest[0].word == "block":
            return blocks[self._below(rest[0], len(blocks))], rest[1:]
        if not blocks:
            raise BadTarget(f"{first.word}: the image has none")
        return blocks[0], rest

    def _log(self, first: Step) -> Part:
        block = first.number()
        if not self._mount.geo.logstart:
            raise BadTarget("the log lies on another device")
        area = area_of(self._mount.device, self._mount.sb)
        if block >= area.blocks:
            raise BadTarget(f"log[{block}]: the log has {area.blocks} blocks of 512 bytes")
        start = (area.daddr + block) * SECTOR_BYTES
        return Part("log", block, 0, start, BLOCK_BYTES, 0)

    def _any_inode(self, ino: int) -> Part:
        """Return the place of an inode, which may be free or damaged."""
        geo = self._mount.geo
        if not valid_ino(geo, ino):
            raise BadTarget(f"inode[{ino}]: lies outside the filesystem")
        return Part("inode", ino, 0, ino_to_byte(geo, ino), geo.inodesize, inode.CRC_OFFSET)

    def _inode(self, step: Step) -> Inode:
        if isinstance(step.key, str):
            return self._filesystem.path(step.key).inode(follow_symlinks=False)
        ino = step.number()
        if not valid_ino(self._mount.geo, ino):
            raise BadTarget(f"inode[{ino}]: lies outside the filesystem")
        return self._mount.inodes.get(ino)

    def _of_inode(self, found: Inode, rest: Sequence[Step]) -> tuple[Part, Sequence[Step]]:
        parts = of_inode(self._mount, found)
        if not rest or rest[0].word not in BLOCKS:
            return next(parts), rest
        step = rest[0]
        same = [part for part in parts if part.kind == step.word]
        return same[self._below(step, len(same))], rest[1:]

    # ---- fields
    def _field(self, part: Part, rest: Sequence[Step]) -> Spot:
        step = rest[0]
        fields = {spot.name: spot for spot in fields_of(part)}
        if len(rest) > 1 or step.word not in fields:
            return self._inner(part, rest, fields)
        spot = fields[step.word]
        if step.key is None:
            return spot
        at, size = self._below(step, spot.items), spot.size // spot.items
        return Spot(part, f"{spot.name}[{at}]", spot.offset + size * at, size)

    def _inner(self, part: Part, rest: Sequence[Step], fields: Collection[str]) -> Spot:
        """Return a field of what a structure holds, as it is now."""
        name = ".".join(map(str, rest))
        raw = self._mount.device.pread(part.start, part.size)
        words = Counter(fields)
        for spot in inside(part, raw, self._mount.geo):
            if spot.name == name:
                return spot
            words[re.sub(r"\d+", "N", spot.name)] += 1
        alike = re.sub(r"\d+", "N", name)
        if alike in words and alike not in fields:
            raise BadTarget(f"{name}: {part} has {words[alike]} {alike}, from 0")
        raise BadTarget(f"{name}: no field of {part}; there are {', '.join(words)}")

    def _record(
        self, part: Part, record: type[Record], start: int, rest: Sequence[Step], size: int
    ) -> Spot:
        """Return a field of a record packed in a block: `rest` is [word[index], field]."""
        index = self._below(rest[0], (part.size - start) // size)
        return _of_record(part, record, start + index * size, rest)

    def _within_inode(self, part: Part, rest: Sequence[Step]) -> Spot:
        found = self._mount.inodes.get(part.owner)
        step = rest[0]
        if step.word == "entry":
            return self._entry(part, found, rest)
        data = step.word == "extent"
        fmt = found.format if data else found.aformat
        count = found.nextents if data else found.anextents
        index = self._below(step, count)
        if fmt == FMT_EXTENTS:
            start = inode.CORE_BYTES + (0 if data else found.forkoff)
            return _of_record(part, btree.BmbtRecord, start + 16 * index, rest)
        if fmt != FMT_BTREE:
            raise BadTarget(f"{part}: has no extents")
        for block in of_inode(self._mount, found):
            if block.kind == "bmbt":
                raw = self._mount.device.pread(block.start, block.size)
                level, numrecs = struct.unpack_from(">HH", raw, 4)
                if level == 0:
                    if index < numrecs:
                        at = BMBT.header + 16 * index
                        return _of_record(block, btree.BmbtRecord, at, rest)
                    index -= numrecs
        raise BadTarget(f"{part}: no such extent in its btree")

    def _entry(self, part: Part, found: Inode, rest: Sequence[Step]) -> Spot:
        """Return a field of a directory's entry: ino, namelen, name, ftype, tag."""
        key = rest[0].key
        if not isinstance(key, str) or len(rest) != 2:
            raise BadTarget('an entry is named as entry["NAME"].ino (or namelen, name, ftype, tag)')
        name = key.encode("utf-8", "surrogateescape")
        ftype = bool(self._mount.geo.has_ftype)
        if found.format == FMT_LOCAL:
            for at, length, wide in _shortform(found, ftype):
                if found.raw[at + 3 : at + 3 + length] == name:
                    spot = _one_of(part, rest[1].word, _sf_fields(at, length, ftype, wide))
                    return self._numbered(spot)
            raise BadTarget(f"{part}: has no entry {key!r}")
        cookie = self._mount.dirs.lookup(found, name)[0]
        byte = (cookie - 1) << 3
        geo = self._mount.geo
        block, at = byte >> geo.blocklog + geo.dirblklog, byte & geo.dirblksize - 1
        fsblock = self._mount.maps.extents(found).block_at(block * geo.dirblk_fsbs)
        assert fsblock is not None  # the lookup read it
        start = fsb_to_byte(geo, fsblock)
        for one in of_inode(self._mount, found):
            if one.kind == "dirdata" and one.start == start:
                spot = _one_of(one, rest[1].word, _data_fields(at, len(name), ftype))
                return self._numbered(spot)
        raise BadTarget(f"{part}: the block of entry {key!r} lies in several extents")

    def _numbered(self, spot: Spot) -> Spot:
        """Return a field of an entry under the name that it has in its structure: sf[3].ino."""
        raw = self._mount.device.pread(spot.part.start, spot.part.size)
        place = spot.offset, spot.size
        for known in inside(spot.part, raw, self._mount.geo):
            if (known.offset, known.size) == place:
                return known
        return spot


def fields_of(part: Part) -> Iterator[Spot]:
    """Yield the fields at the start of a structure, by its declarations and its kind."""
    names = set()
    for record in RECORDS.get(part.kind, ()):
        for f in record.spec.fields:
            names.add(f.name)
            items = f.count if f.is_array else 0
            yield Spot(part, f.name, f.offset, f.size, None, f.little, f.code == "s", items)
    kind = BLOCKS.get(part.kind)
    if kind is None:
        return
    own = [("magicnum", kind.magic, len(kind.magics[0])), ("uuid", kind.uuid, 16)]
    if kind.blkno is not None:
        own.append(("blkno", kind.blkno, kind.blkno_size))
    if kind.owner is not None:
        own.append(("owner", kind.owner, kind.owner_size))
    for name, offset, size in own:
        if name not in names:
            yield Spot(part, name, offset, size, plain=name == "uuid")
    if "crc" not in names:
        yield Spot(part, "crc", kind.crc, 4, little=True)


def _one_of(part: Part, word: str, fields: dict[str, tuple[int, int]]) -> Spot:
    if word not in fields:
        raise BadTarget(f"{word}: no field of an entry; there are {', '.join(fields)}")
    offset, size = fields[word]
    return Spot(part, word, offset, size, plain=word == "name")


def _of_record(part: Part, record: type[Record], start: int, rest: Sequence[Step]) -> Spot:
    """Return the field of the record at byte `start` that the second step of `rest` names."""
    fields = {f.name: f for f in record.spec.fields}
    if len(rest) != 2 or rest[1].word not in fields:
        raise BadTarget(f"{rest[0].word}[{rest[0].key}] has the fields {', '.join(fields)}")
    f = fields[rest[1].word]
    name = f"{rest[0].word}[{rest[0].key}].{f.name}"
    if f.bits:
        return Spot(part, name, start, record.spec.size, f.bits)
    return Spot(part, name, start + f.offset, f.size, None, f.little)


def _shortform(found: Inode, ftype: bool) -> Iterator[tuple[int, int, int]]:
    """Yield (byte in the inode, length of the name, bytes of the inode number) of each entry."""
    raw, at = found.raw, inode.CORE_BYTES
    wide = 8 if raw[at + 1] else 4
    count = raw[at] if wide == 4 else raw[at + 1]
    at += 2 + wide
    for _ in range(count):
        length = raw[at]
        yield at, length, wide
        at += 3 + length + ftype + wide


def _sf_fields(at: int, length: int, ftype: bool, wide: int) -> dict[str, tuple[int, int]]:
    """Return (byte, size) of the fields of a shortform entry (`xfs_dir2_sf_entry`)."""
    end = at + 3 + length
    fields = {"namelen": (at, 1), "tag": (at + 1, 2), "name": (at + 3, length)}
    if ftype:
        fields["ftype"] = (end, 1)
    return fields | {"ino": (end + ftype, wide)}


def _data_fields(at: int, length: int, ftype: bool) -> dict[str, tuple[int, int]]:
    """Return (byte, size) of the fields of a data block's entry (`xfs_dir2_data_entry`)."""
    end = at + 9 + length
    fields = {"ino": (at, 8), "namelen": (at + 8, 1), "name": (at + 9, length)}
    if ftype:
        fields["ftype"] = (end, 1)
    return fields | {"tag": (at + entry_bytes(length, ftype) - 2, 2)}
