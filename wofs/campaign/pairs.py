"""Two fields that speak of the same thing, changed together: each alone would be noticed."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

from wofs.campaign.catalog import Catalog, Field
from wofs.campaign.values import read, width
from wofs.corrupt.inside import Spot

Made = tuple[str, str, str, tuple[str, ...]]
"""(object, fields, what was done in words, edits)."""

TOGETHER: dict[str, tuple[tuple[str, str], ...]] = {
    "sb": (
        ("dblocks", "agcount"), ("agblocks", "agblklog"), ("blocksize", "blocklog"),
        ("inodesize", "inodelog"), ("inopblock", "inopblog"), ("sectsize", "sectlog"),
        ("icount", "ifree"), ("fdblocks", "icount"), ("logstart", "logblocks"),
        ("rbmino", "rsumino"), ("rootino", "rbmino"), ("dblocks", "fdblocks"),
        ("features_incompat", "features_ro_compat"), ("unit", "width"), ("blocksize", "dirblklog"),
    ),
    "agf": (
        ("freeblks", "longest"), ("flfirst", "fllast"), ("flcount", "fllast"),
        ("bno_root", "cnt_root"), ("bno_level", "cnt_level"), ("freeblks", "btreeblks"),
        ("seqno", "length"), ("rmap_root", "rmap_level"), ("refcount_root", "refcount_level"),
    ),
    "agi": (
        ("count", "freecount"), ("root", "free_root"), ("root", "level"), ("seqno", "length"),
        ("free_root", "free_level"), ("iblocks", "fblocks"), ("unlinked[N]", "unlinked[N]"),
    ),
    "agfl": (("bno[N]", "bno[N]"),),
    "inode": (
        ("mode", "format"), ("mode", "nlink"), ("di_size", "nblocks"), ("nextents", "nblocks"),
        ("forkoff", "aformat"), ("format", "nextents"), ("aformat", "anextents"),
        ("flags", "flags2"), ("big_nextents", "flags2"), ("atime", "mtime"), ("uid", "gid"),
        ("extent[N].startblock", "extent[N].startblock"), ("sf[N].ino", "sf[N].ino"),
        ("extent[N].startoff", "extent[N].blockcount"), ("extent[N].blockcount", "nblocks"),
        ("extent[N].blockcount", "extent[N].startoff"), ("sf[N].name", "sf[N].name"),
        ("attrextent[N].startblock", "extent[N].startblock"), ("sf.count", "di_size"),
        ("sfattr.count", "sfattr.totsize"), ("sfattr[N].namelen", "sfattr[N].valuelen"),
        ("root.numrecs", "root.level"), ("root.ptr[N]", "root.ptr[N]"),
        ("root.key[N]", "root.ptr[N]"), ("gen", "changecount"), ("ino", "gen"),
    ),
    "dirdata": (
        ("entry[N].ino", "entry[N].ino"), ("entry[N].ino", "entry[N].ftype"),
        ("entry[N].name", "entry[N].name"), ("tail.count", "tail.stale"),
        ("bestfree[N].offset", "bestfree[N].length"), ("free[N].length", "free[N].tag"),
        ("leaf[N].hashval", "leaf[N].hashval"), ("leaf[N].address", "leaf[N].address"),
        ("entry[N].namelen", "entry[N].tag"), ("free[N].length", "bestfree[N].length"),
        ("entry[N].name", "leaf[N].hashval"),
    ),
    "dirindex": (
        ("leaf[N].hashval", "leaf[N].hashval"), ("leaf[N].address", "leaf[N].address"),
        ("count", "level"), ("forw", "back"), ("node[N].before", "node[N].before"),
        ("node[N].hashval", "node[N].before"), ("bestcount", "bests[N]"),
    ),
    "dirfree": (("firstdb", "nvalid"), ("nvalid", "nused"), ("bests[N]", "nused")),
    "attr": (
        ("count", "usedbytes"), ("usedbytes", "firstused"), ("forw", "back"),
        ("entry[N].hashval", "entry[N].hashval"), ("entry[N].nameidx", "entry[N].nameidx"),
        ("name[N].namelen", "name[N].valuelen"), ("name[N].valueblk", "name[N].valuelen"),
        ("name[N].name", "entry[N].hashval"), ("node[N].before", "node[N].before"),
        ("freemap[N].base", "freemap[N].size"),
    ),
    "value": (("offset", "bytes"), ("owner", "blkno")),
    "target": (("offset", "bytes"), ("owner", "blkno")),
    "bmbt": (
        ("level", "numrecs"), ("leftsib", "rightsib"), ("ptr[N]", "ptr[N]"), ("owner", "blkno"),
        ("rec[N].startblock", "rec[N].startblock"), ("rec[N].startoff", "rec[N].blockcount"),
        ("rec[N].startoff", "rec[N].startoff"), ("key[N]", "ptr[N]"),
    ),
}  # fmt: skip
_AG_TREE = (
    ("level", "numrecs"), ("leftsib", "rightsib"), ("ptr[N]", "ptr[N]"), ("owner", "blkno"),
    ("rec[N].startblock", "rec[N].startblock"), ("rec[N].startblock", "rec[N].blockcount"),
    ("rec[N].free", "rec[N].freecount"), ("rec[N].free", "rec[N].holemask"),
    ("rec[N].count", "rec[N].holemask"), ("rec[N].owner", "rec[N].owner"),
    ("rec[N].owner", "rec[N].offset"), ("rec[N].refcount", "rec[N].refcount"),
    ("rec[N].startino", "rec[N].startino"),
)  # fmt: skip
COPIES = (
    "dblocks", "agcount", "agblocks", "rootino", "logstart", "logblocks", "fdblocks", "icount",
    "features_ro_compat", "features_incompat", "inoalignmt", "dirblklog",
)  # fmt: skip
"""Fields of the superblock that are changed in all its copies at once."""

_MOST_COPIES = 8


def pairs(catalog: Catalog, rng: random.Random) -> Iterator[tuple[str, Iterator[Made]]]:
    """Yield for each kind its pairs, in turn."""
    fields = {(one.kind, one.name): one for one in catalog.fields}
    kinds = dict.fromkeys(kind for kind, _ in fields)
    for kind in kinds:
        rows = [
            _changes(catalog, fields[kind, a], fields[kind, b], random.Random(rng.random()))
            for a, b in TOGETHER.get(kind, _AG_TREE)
            if (kind, a) in fields and (kind, b) in fields
        ]
        if kind == "sb":
            rows.append(_copies(catalog, fields, random.Random(rng.random())))
        yield kind, _in_turn(rows)


def _in_turn(rows: list[Iterator[Made]]) -> Iterator[Made]:
    while rows:
        left = []
        for row in rows:
            made = next(row, None)
            if made is not None:
                yield made
                left.append(row)
        rows = left


def _changes(catalog: Catalog, one: Field, two: Field, rng: random.Random) -> Iterator[Made]:
    """Yield edits of two fields of one structure."""
    name = f"{one.name}+{two.name}"
    places = [
        (a, b) for a, b in itertools.product(one.spots, two.spots) if a.part == b.part and a != b
    ]
    rng.shuffle(places)
    for turn in range(8):
        for a, b in places:
            word, edits = _together(catalog, a, b, turn, rng)
            yield str(a.part), name, word, edits


def _together(
    catalog: Catalog, a: Spot, b: Spot, turn: int, rng: random.Random
) -> tuple[str, tuple[str, ...]]:
    first, second = read(catalog, a), read(catalog, b)
    if isinstance(first, bytes) or isinstance(second, bytes):
        if isinstance(first, bytes) and isinstance(second, bytes) and len(first) == len(second):
            return "exchanged", (_edit(a, second.hex()), _edit(b, first.hex()))
        texts = [
            value[::-1].hex() if isinstance(value, bytes) else str(rng.getrandbits(width(spot)))
            for value, spot in ((first, a), (second, b))
        ]
        return "reversed and random", (_edit(a, texts[0]), _edit(b, texts[1]))
    most = (1 << width(a)) - 1, (1 << width(b)) - 1
    made = (
        ("exchanged", second & most[0], first & most[1]),
        ("both more", first + 1, second + 1),
        ("both less", first - 1, second - 1),
        ("more and less", first + 1, second - 1),
        ("both 0", 0, 0),
        ("both max", most[0], most[1]),
        ("both doubled", first * 2, second * 2),
        ("both random", rng.getrandbits(width(a)), rng.getrandbits(width(b))),
    )
    word, left, right = made[turn % len(made)]
    if (left & most[0], right & most[1]) == (first, second):
        word, left, right = made[-1]
    return word, (_edit(a, str(left & most[0])), _edit(b, str(right & most[1])))


def _copies(
    catalog: Catalog, fields: dict[tuple[str, str], Field], rng: random.Random
) -> Iterator[Made]:
    """Yield the same wrong value for a field of all copies of the superblock."""
    agcount = catalog.mount.geo.agcount
    for turn in itertools.count():
        for name in COPIES:
            field = fields.get(("sb", name))
            if field is None or agcount > _MOST_COPIES:
                return
            now, bits = read(catalog, field.spots[0]), width(field.spots[0])
            assert isinstance(now, int)
            most = (1 << bits) - 1
            value = (now - 1, now + 1, now * 2, now // 2, now ^ 1 << rng.randrange(bits))[turn % 5]
            edits = tuple(f"sb[{agno}].{name}={value & most}" for agno in range(agcount))
            yield "sb[0]", name, "in all copies", edits


def _edit(spot: Spot, text: str) -> str:
    return f"{spot.part}.{spot.name}={text}"
