"""The search for any extended attribute in an image, held against the kernel's manifests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import wofs
from imagelib import manifest
from support.hostile import Edited
from support.images import IMAGES, names
from wofs.fs import Filesystem
from wofs.ondisk.inode import InodeCore
from wofs.xfs import attrsearch

WITHOUT = "sparse-inodes"
"""An image without attributes; its inode chunks have holes."""


def may_have(fs: Filesystem) -> bool:
    """Run the whole search."""
    mount = fs.root.image.mount
    return list(attrsearch.steps(mount, mount.inodes.inobt))[-1]


@pytest.mark.parametrize("name", names("mountable"))
def test_it_finds_what_the_kernel_shows(name: str, image: Callable[[str], Path]) -> None:
    with wofs.open(image(name)) as fs:
        assert may_have(fs) == any("x" in e for e in manifest.read(IMAGES[name].truth()).values())


def test_one_inode_anywhere_is_found(image: Callable[[str], Path]) -> None:
    edited = Edited(image(WITHOUT))
    sound = bytes(edited.data)
    with edited.opened() as fs:
        assert not may_have(fs)
        paths = [str(path) for path in fs.root.iterdir()][::7]
    fork, form = (InodeCore.spec.field(name).offset for name in ("forkoff", "aformat"))
    for path in paths:
        edited.data[:] = sound
        edited.inode(path, fork, b"\x20\x01")  # a local fork: forkoff, aformat
        assert form == fork + 1
        with edited.opened() as fs:
            assert may_have(fs), path
    edited.close()


def test_a_damaged_tree_hides_nothing(image: Callable[[str], Path]) -> None:
    edited = Edited(image(WITHOUT))
    with edited.opened() as fs:
        mount = fs.root.image.mount
        agi = mount.agi[0]
        assert agi is not None
        root = agi.root << mount.geo.blocklog
    edited.data[root + 60] ^= 1
    with edited.opened() as fs:
        assert may_have(fs)
    edited.close()
