"""protect=all: the same answers from write-once memory, and nothing decoded is kept beside it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import wofs
from support.library import of_library
from wofs.device import open_device
from wofs.fs.filesystem import Filesystem
from wofs.xfs import _decode
from wofs.xfs.inode import Inode
from wofs.xfs.mount import mount
from wofs.xfs.options import mount_options

Unpack = Callable[[str], Path]

FIELDS = [name for name in dir(_decode.Core) if not name.startswith("_")]


def opened(path: Path, protect: str, share: float = 1.0) -> Filesystem:
    options = mount_options(protect=protect, norecovery=True)
    return Filesystem(mount(open_device(path), options, cache_share=share))


@pytest.mark.parametrize("name", ["default", "b1k", "n64k", "nrext64", "sparse-inodes", "tall"])
@pytest.mark.parametrize("share", [1.0, 1 / 2000])
def test_the_same_tree(image: Unpack, name: str, share: float) -> None:
    """With a thousandth of the memory, batches are given back all the time."""
    with opened(image(name), "mount") as filesystem:
        truth = of_library(filesystem)
    with opened(image(name), "all", share) as filesystem:
        assert of_library(filesystem) == truth
        store = filesystem.mount.keeper.store
        assert store is not None
        stats = {shelf.name: shelf.stats() for shelf in store.shelves}
        assert stats["inode"].objects
        if share < 1 and stats["inode"].objects > 100:
            assert stats["inode"].given_back
        assert store.verify() == []
        filesystem.mount.enforce()


@pytest.mark.parametrize("name", ["default", "old-v5", "nrext64"])
def test_an_inode_decoded_again_is_the_same(image: Unpack, name: str) -> None:
    with opened(image(name), "mount") as filesystem:
        inodes = filesystem.mount.inodes
        count = 0
        for top, folders, files in filesystem.root.walk():
            for each in (*folders, *files):
                inode = inodes.get((top / each).lstat().st_ino)
                again, absent = _decode.kept(Inode, [inode.raw, None])
                assert absent is None
                assert again is not None
                assert [getattr(inode, f) for f in FIELDS] == [getattr(again, f) for f in FIELDS]
                count += 1
        assert count > 50


@pytest.mark.parametrize(
    ("kind", "raws", "error"),
    [(Inode, [b"short"], ValueError), (Inode, [7], ValueError), (int, [], ValueError)],
)
def test_what_was_never_proved_is_not_decoded_again(
    kind: type, raws: list[Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        _decode.kept(kind, raws)


WALK = """
import sys
from support.census import use
from support.heap import found
import wofs
protect = sys.argv[2]
filesystem = wofs.open(sys.argv[1], protect=protect)
mount = filesystem.mount
def read() -> None:
    use(filesystem)
    directory = mount.inodes.get(mount.geo.rootino)
    for entry in list(mount.dirs.entries(directory)):
        inode = mount.inodes.get(entry[1])
        mount.maps.extents(inode)
        mount.dirs.lookup(directory, entry[3])
        mount.attrs.names(inode)
read()
print(*found(), sep="\\n")
"""


TESTS = str(Path(__file__).resolve().parent.parent)
BEFORE = os.environ.get("PYTHONPATH")


def kept(path: Path, protect: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", WALK, str(path), protect],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (TESTS, BEFORE)))},
    )
    return done.stdout.split("\n")[:-1]


def test_nothing_decoded_stays_in_ordinary_memory(image: Unpack) -> None:
    assert kept(image("default"), "all") in ([], [""])
    seen = kept(image("default"), "mount")
    for kind in ("Inode", "ExtentMap", "Block", "ChunkTable"):
        assert kind in seen, "the walk finds what an ordinary cache keeps"


def test_the_library_takes_the_word(image: Unpack) -> None:
    with wofs.open(image("empty"), protect="all") as filesystem:
        assert filesystem.info().protect == "all"
        assert filesystem.mount.protects_all
    with wofs.open(image("empty")) as filesystem:
        assert not filesystem.mount.protects_all
    with wofs.open(image("empty"), protect="none") as filesystem:
        assert filesystem.info().slab.backend == "none"
    with pytest.raises(ValueError, match="contradict each other"):
        wofs.open(image("empty"), protect="none", slab="memfd")
