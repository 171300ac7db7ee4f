"""The images of `images/`: how each is made and what a reader should make of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from imagelib import forms, populate, rare
from imagelib.populate import Site

PARTS: dict[str, Callable[[Site], None]] = {
    "files": populate.files,
    "huge": populate.huge,
    "extent_btree": populate.extent_btree,
    "directories": forms.directories,
    "btree_directories": forms.btree_directories,
    "names": populate.names,
    "links": populate.links,
    "special": populate.special,
    "times": populate.times,
    "attributes": forms.attributes,
    "btree_attributes": forms.btree_attributes,
    "inodes": populate.inodes,
    "reflink": populate.reflink,
    "sparse_inodes": populate.sparse_inodes,
    "scattered_directory": rare.scattered_directory,
    "tall_attributes": rare.tall_attributes,
    "node_directory": rare.node_directory,
    "mixed_extents": rare.mixed_extents,
}

RARE = {
    "sparse_inodes",
    "scattered_directory",
    "tall_attributes",
    "node_directory",
    "mixed_extents",
}
ALL = tuple(name for name in PARTS if name not in RARE)
NO_SHARING = tuple(name for name in ALL if name != "reflink")
SMALL = ("files", "directories", "links", "attributes", "inodes")
FEW = ("files", "links", "inodes")
OLD = "finobt=0,rmapbt=0,reflink=0,bigtime=0,inobtcount=0"


@dataclass(frozen=True)
class Recipe:
    """One image.

    `ending` is how its life ends: "clean", "dirty" (crashed with a full log), "new-uuid",
    "grown", "upgraded" (features added when there were files already) or "unmounted" (the
    kernel never sees it). `expected` is what a reader must do:
    "mountable", "dirty" or "refuse". `incompat` are features that the kernel knows and mkfs.xfs
    does not, set before the kernel sees it.
    """

    name: str
    why: str
    size_mib: int
    options: str = ""
    parts: tuple[str, ...] = ()
    ending: str = "clean"
    expected: str = "mountable"
    log_mib: int = 0
    incompat: int = 0


# An image's place here is in its UUID: new ones come last.
RECIPES = (
    Recipe("default", "mkfs.xfs defaults, every form they reach", 64, "", ALL),
    Recipe("empty", "as mkfs.xfs leaves it", 32, "-L twelve-chars"),
    Recipe("b1k", "1 KiB blocks: extent btree of two levels, btree forks", 96, "-b size=1024", ALL),
    Recipe("b1k-n8k", "directory blocks of eight blocks", 64, "-b size=1024 -n size=8192", SMALL),
    Recipe("b1k-rmap", "reverse mappings", 64, "-b size=1024 -m rmapbt=1", (*FEW, "reflink")),
    Recipe("b2k-i1k", "1 KiB inodes", 64, "-b size=2048 -i size=1024", SMALL),
    Recipe("b64k", "64 KiB blocks, several inode chunks in one", 512, "-b size=65536", SMALL),
    Recipe("n64k", "64 KiB directory blocks of 4 KiB blocks", 96, "-n size=65536", SMALL),
    Recipe("s4k", "4 KiB sectors", 64, "-s size=4096", FEW),
    Recipe("old-v5", "the first V5 features only", 64, f"-m {OLD} -i sparse=0", NO_SHARING),
    Recipe("noreflink", "no sharing", 64, "-m reflink=0,rmapbt=0", ("files", "directories")),
    Recipe("nrext64", "64-bit extent counters", 64, "-i nrext64=1", (*SMALL, "extent_btree")),
    Recipe(
        "sparse-inodes",
        "inode chunks in parts",
        24,
        "-b size=1024 -l size=4m -d agcount=1 -i maxpct=0 -m reflink=0",
        ("sparse_inodes",),
    ),
    Recipe("meta-uuid", "UUID changed after mkfs", 64, "", ("files", "attributes"), "new-uuid"),
    Recipe("grown", "last allocation group is short", 64, "-d agcount=3", FEW, "grown"),
    Recipe("ag64", "64 allocation groups", 1024, "-b size=1024 -d agcount=64", ("files", "inodes")),
    Recipe("external-log", "log on another device", 48, "", FEW, log_mib=16),
    Recipe("dirty", "crashed with a full log", 64, "", FEW, "dirty", "dirty"),
    Recipe("dirty-b1k", "crashed, 1 KiB blocks", 64, "-b size=1024", SMALL, "dirty", "dirty"),
    Recipe("v4", "the format before checksums", 32, "-m crc=0", (), "unmounted", "refuse"),
    Recipe("ci", "names without case", 32, "-n version=ci", (), "unmounted", "refuse"),
    Recipe(
        "new-defaults",
        "defaults of mkfs.xfs since 6.6: reverse mappings, 64-bit extent counters",
        64,
        "-m rmapbt=1 -i nrext64=1",
        (*FEW, "attributes", "reflink", "mixed_extents"),
    ),
    Recipe(
        "upgraded",
        "inodes with old times and counters beside new ones",
        64,
        "-d agcount=2 -l size=20m -m rmapbt=0,reflink=0,bigtime=0,inobtcount=0",
        FEW,
        "upgraded",
    ),
    Recipe("stripe", "aligned to a RAID's stripes", 64, "-d su=64k,sw=4", FEW),
    Recipe(
        "tall",
        "an attribute index of two levels, a directory's free index of two blocks",
        64,
        "-b size=1024",
        ("scattered_directory", "tall_attributes"),
    ),
    Recipe("n64k-node", "a node index of 64 KiB blocks", 64, "-n size=65536", ("node_directory",)),
    Recipe("ag300", "300 allocation groups", 4800, "-b size=1024 -d agcount=300", ("files",)),
    Recipe(
        "parent",
        "parent pointers, among other attributes too",
        64,
        "-d agcount=2 -l size=20m",
        (*FEW, "attributes"),
        incompat=1 << 7,
    ),
)
