"""images/ and its maker: complete, small, reaching every form, true by the kernel's own mount."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import wofs
from imagelib import manifest
from imagelib.catalog import RECIPES, Recipe
from imagelib.kernel import mounted
from support import kernel
from support.forms import forms
from support.images import FOLDER, IMAGES, names

Unpack = Callable[[str], Path]

TOOL = Path(__file__).resolve().parents[2] / "tools" / "mkimages"
LARGEST_TOGETHER = 5 << 20
HASHED_BYTES = 128 << 20
"""Images above this are not hashed: hundreds of AGs, gigabytes of zeros."""

NEEDS_KERNEL = pytest.mark.skipif(kernel.lacking() is not None, reason=str(kernel.lacking()))

FORMS = {
    "default": {
        "directory: shortform", "directory: block", "directory: leaf", "directory: leafn",
        "directory: node of 1 levels", "directory: leaf, btree fork",
        "attributes: shortform", "attributes: leaf", "attributes: node of 1 levels",
        "attributes: btree fork", "attributes: remote value",
        "file: empty", "file: extents", "file: btree of 1 levels", "unwritten extent",
        "shared extents", "symlink: local", "symlink: remote", "times: wide", "counters: old",
    },
    "b1k": {"file: btree of 2 levels", "directory: leaf, btree fork", "attributes: btree fork"},
    "b64k": {"directory: leaf", "attributes: leaf", "file: btree of 1 levels", "symlink: remote"},
    "n64k": {"directory: block", "directory: leaf"},
    "n64k-node": {"directory: node of 1 levels"},
    "old-v5": {"times: old", "directory: node of 1 levels", "attributes: btree fork"},
    "nrext64": {"counters: wide", "attributes: node of 1 levels", "file: btree of 1 levels"},
    "upgraded": {"times: old", "times: wide", "counters: old", "counters: wide"},
    "new-defaults": {"counters: wide", "shared and unwritten extents"},
    "sparse-inodes": {
        "sparse chunk", "inode btree: 2 levels", "directory: node of 1 levels, btree fork",
    },
    "tall": {
        "attributes: node of 2 levels",
        "directory: node of 1 levels, btree fork, several free blocks",
    },
}  # fmt: skip
"""What an image is there for: if a rebuilt one no longer has it, it tests nothing."""


def test_the_folder_holds_the_catalogue_and_nothing_else() -> None:
    expected = {"README.md", "pages"}
    for recipe in RECIPES:
        expected |= {f"{recipe.name}.img.xz", f"{recipe.name}.json"}
        if recipe.ending != "unmounted":
            expected.add(f"{recipe.name}.man.xz")
        if recipe.ending == "dirty":
            expected.add(f"{recipe.name}.norecovery.man.xz")
    assert {path.name for path in FOLDER.iterdir()} == expected
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < LARGEST_TOGETHER


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_an_image_is_made_as_its_recipe_says(recipe: Recipe, image: Unpack) -> None:
    facts = json.loads((FOLDER / f"{recipe.name}.json").read_text())
    assert facts["mkfs"][: len(recipe.options.split())] == recipe.options.split()
    assert facts["parts"] == list(recipe.parts)
    same = ("name", "why", "expected", "ending")
    assert {key: facts[key] for key in same} == {key: getattr(recipe, key) for key in same}
    if facts["bytes"] > HASHED_BYTES:
        return
    path = image(recipe.name)
    assert path.stat().st_size == facts["bytes"]
    with path.open("rb") as f:
        assert hashlib.file_digest(f, "sha256").hexdigest() == facts["sha256"]


@pytest.mark.parametrize("name", FORMS)
def test_an_image_has_the_forms_it_is_there_for(name: str, image: Unpack) -> None:
    with wofs.open(image(name)) as filesystem:
        assert forms(filesystem) >= FORMS[name]


# ---- the kernel's word
OWN_TO_A_BUILD = ("mt", "ct", "bt", "i", "k")
"""Times are of that day; another kernel may choose other inodes and allocate differently."""


def assert_same(truth: manifest.Manifest, found: manifest.Manifest, *but: str) -> None:
    """Fail with the first differences."""
    lines = list(manifest.differences(truth, found, but))
    assert not lines, "\n".join(lines[:20])


@NEEDS_KERNEL
@pytest.mark.parametrize("name", [n for n in names("mountable") if n != "external-log"])
def test_a_manifest_is_what_the_kernel_shows(name: str, image: Unpack, tmp_path: Path) -> None:
    with kernel.seen_by_kernel(image(name), tmp_path / "mnt") as top:
        found = manifest.of_tree(top)
    assert_same(manifest.read(IMAGES[name].truth()), found)


@NEEDS_KERNEL
@pytest.mark.parametrize("name", names("dirty"))
def test_both_manifests_of_a_crashed_image(name: str, image: Unpack, tmp_path: Path) -> None:
    with kernel.seen_by_kernel(image(name), tmp_path / "mnt") as top:
        stale = manifest.of_tree(top)
    assert_same(manifest.read(IMAGES[name].truth(norecovery=True)), stale)
    copy = tmp_path / "copy.img"
    IMAGES[name].unpack(copy)
    with mounted(copy, ["ro"]) as top:  # the kernel replays the log of the copy
        found = manifest.of_tree(top)
    assert_same(manifest.read(IMAGES[name].truth()), found)


@NEEDS_KERNEL
def test_a_rebuilt_image_holds_the_same_tree(tmp_path: Path) -> None:
    rebuilt = ["meta-uuid", "upgraded"]
    command = [sys.executable, str(TOOL), "--out", str(tmp_path), *rebuilt]
    done = subprocess.run(
        command,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for name in rebuilt:
        found = manifest.read(tmp_path / f"{name}.man.xz")
        assert_same(manifest.read(IMAGES[name].truth()), found, *OWN_TO_A_BUILD)
        (tmp_path / f"{name}.man.xz").unlink()
    left = {f"{name}{suffix}" for name in rebuilt for suffix in (".img.xz", ".json")}
    assert {path.name for path in tmp_path.iterdir()} == left
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text()
    loops = subprocess.run(["losetup", "--all"], capture_output=True, text=True, check=True)
    assert str(tmp_path) not in loops.stdout


def test_the_list_tells_of_every_image() -> None:
    done = subprocess.run(
        [sys.executable, str(TOOL), "--list"], capture_output=True, text=True, check=True
    )
    listed = [line.split()[0] for line in done.stdout.splitlines()]
    assert listed == [recipe.name for recipe in RECIPES]
