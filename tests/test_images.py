"""Every image read by wofs equals what the kernel's mount of it shows, key by key."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

import wofs
from imagelib import manifest
from support import fuse
from support.images import IMAGES, fingerprint, forget_what_only_root_sees, names
from support.library import of_library
from wofs.errors import Unsupported

Unpack = Callable[[str], Path]

MOST_SHOWN = 20
"""Differences told when a comparison fails."""

NOT_OVER_FUSE = {"bt", "s"}
"""FUSE as pyfuse3 speaks it has no birth times and no map of holes."""


def assert_same(
    truth: manifest.Manifest, found: manifest.Manifest, ignore: Iterable[str] = ()
) -> None:
    """Fail with the first differences between the kernel's manifest and another."""
    lines = manifest.differences(truth, found, ignore)
    shown = list(itertools.islice(lines, MOST_SHOWN))
    assert not shown, "\n".join(shown)


@pytest.mark.parametrize("name", names("mountable"))
def test_library_equals_kernel(name: str, image: Unpack) -> None:
    path = image(name)
    before = fingerprint(path)
    with wofs.open(path) as filesystem:
        found = of_library(filesystem)
    assert_same(manifest.read(IMAGES[name].truth()), found)
    assert fingerprint(path) == before


@pytest.mark.parametrize("name", names("dirty"))
def test_dirty_is_refused_or_read_without_its_log(name: str, image: Unpack) -> None:
    path = image(name)
    before = fingerprint(path)
    with pytest.raises(Unsupported, match="dirty"):
        wofs.open(path)
    with wofs.open(path, norecovery=True) as filesystem:
        found = of_library(filesystem, lookups=False)
    truth = manifest.read(IMAGES[name].truth(norecovery=True))
    assert {p for p in truth if "e" in truth[p]} == {p for p in found if "e" in found[p]}
    assert_same(truth, found, {"e"})
    assert fingerprint(path) == before


@pytest.mark.parametrize("name", names("refuse"))
def test_unsupported_is_named(name: str, image: Unpack) -> None:
    with pytest.raises(Unsupported):
        wofs.open(image(name))


@pytest.mark.skipif(fuse.lacking() is not None, reason=str(fuse.lacking()))
@pytest.mark.parametrize("name", names("mountable"))
def test_mount_equals_kernel(name: str, image: Unpack, tmp_path: Path) -> None:
    path = image(name)
    before = fingerprint(path)
    truth = manifest.read(IMAGES[name].truth())
    with fuse.mounted(path, tmp_path / "mnt"):
        found = manifest.of_tree(tmp_path / "mnt", truth)
    if os.geteuid() != 0:
        forget_what_only_root_sees(truth, found)
    assert_same(truth, found, NOT_OVER_FUSE)
    assert fingerprint(path) == before
