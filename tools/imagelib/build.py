"""Make one image of the catalogue with its manifest and recipe file."""

from __future__ import annotations

import hashlib
import json
import lzma
import os
import platform
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from imagelib import manifest
from imagelib.catalog import PARTS, RECIPES, Recipe
from imagelib.dirty import work_and_crash
from imagelib.kernel import UUID, add_features, dig_holes, geometry, make_filesystem, mounted, run
from imagelib.populate import Site

_GROWN_MIB = 37
"""Added by growing: no multiple of an allocation group, so that the last one is short."""

_LARGE_BYTES = 768 << 20
_UPGRADE = "inobtcount=1,bigtime=1,nrext64=1"
_2040_NS = 2208988800 * 10**9


def build(recipe: Recipe, out: Path, say: Callable[[str], None]) -> None:
    """Write NAME.img.xz, NAME.json and the manifests of `recipe` into `out`.

    Raises ToolError or OSError; nothing stays mounted or attached, and `out` is only written when
    the image is complete.
    """
    with tempfile.TemporaryDirectory(prefix="wofs-build-", dir=out) as work:
        folder = Path(work)
        image = folder / f"{recipe.name}.img"
        log = _external_log(recipe, folder)
        options = _make(recipe, image, log)
        if recipe.ending != "unmounted":
            _fill(recipe, image, log)
        dig_holes(image)
        made = _manifests(recipe, image, log)
        made.append(_compress(image))
        made.append(_write_recipe(recipe, image, options))
        for path in made:
            path.replace(out / path.name)
        sizes = ", ".join(f"{p.name} {(out / p.name).stat().st_size}" for p in made)
    say(f"{recipe.name}: {sizes}")


def _external_log(recipe: Recipe, folder: Path) -> Path | None:
    if not recipe.log_mib:
        return None
    log = folder / "log"
    with log.open("wb") as f:
        f.truncate(recipe.log_mib << 20)
    return log


def _make(recipe: Recipe, image: Path, log: Path | None) -> list[str]:
    """Make the empty filesystem; return the mkfs options without this machine's paths."""
    options = [*recipe.options.split(), "-m", "uuid=" + UUID.format(RECIPES.index(recipe))]
    external = ["-l", f"logdev={log},size={recipe.log_mib}m"] if log else []
    make_filesystem(image, recipe.size_mib, [*options, *external])
    if recipe.incompat:
        add_features(image, recipe.incompat)
    return options + (["-l", f"logdev=FILE,size={recipe.log_mib}m"] if log else [])


def _fill(recipe: Recipe, image: Path, log: Path | None) -> None:
    """Populate the image and bring its life to the end that the recipe wants."""
    if recipe.parts:
        with mounted(image, log=log) as top:
            site = Site(top, geometry(top))
            for part in recipe.parts:
                PARTS[part](site)
    if recipe.ending == "dirty":
        with mounted(image) as top:
            work_and_crash(top, recipe.name)
    elif recipe.ending == "new-uuid":
        run("xfs_admin", "-U", UUID.format(0xFFFF), image)
        with mounted(image) as top:
            (top / "after").write_text("written after the UUID changed\n")
    elif recipe.ending == "grown":
        os.truncate(image, (recipe.size_mib + _GROWN_MIB) << 20)
        with mounted(image) as top:
            run("xfs_growfs", top)
            (top / "after").write_text("written after growing\n")
    elif recipe.ending == "upgraded":
        run("xfs_admin", "-O", _UPGRADE, image)
        with mounted(image) as top:
            _use_new_features(top)


def _use_new_features(top: Path) -> None:
    """Make new inodes, and change half of the old ones, which become new in that."""
    (top / "after").write_text("written after upgrading\n")
    os.utime(top / "after", ns=(_2040_NS, _2040_NS + 1))
    for number, path in enumerate(sorted((top / "inodes").iterdir())):
        if number % 2:
            os.utime(path, ns=(_2040_NS, _2040_NS + number))


def _manifests(recipe: Recipe, image: Path, log: Path | None) -> list[Path]:
    """Write what the kernel sees: NAME.man.xz; of a dirty image also NAME.norecovery.man.xz."""
    if recipe.ending == "unmounted":
        return []
    truth = image.with_suffix(".man.xz")
    if recipe.ending != "dirty":
        with mounted(image, ["ro"], log) as top:
            manifest.write(manifest.of_tree(top), truth)
        return [truth]
    stale = image.with_suffix(".norecovery.man.xz")
    with mounted(image, ["ro", "norecovery"]) as top:
        manifest.write(manifest.of_tree(top), stale)
    replayed = image.with_suffix(".copy")  # the log of the image itself stays as it is
    shutil.copy(image, replayed)
    with mounted(replayed, ["ro"]) as top:
        manifest.write(manifest.of_tree(top), truth)
    return [truth, stale]


def _compress(image: Path) -> Path:
    packed = image.with_suffix(".img.xz")
    preset = 6 if image.stat().st_size <= _LARGE_BYTES else 1  # zeros get no smaller by effort
    with image.open("rb") as source, lzma.open(packed, "wb", preset=preset) as target:
        shutil.copyfileobj(source, target, 1 << 20)
    return packed


def _write_recipe(recipe: Recipe, image: Path, options: list[str]) -> Path:
    """Write NAME.json: how the image was made and what to expect of it."""
    with image.open("rb") as f:
        digest = hashlib.file_digest(f, "sha256").hexdigest()
    facts = {
        "name": recipe.name,
        "why": recipe.why,
        "expected": recipe.expected,
        "ending": recipe.ending,
        "mkfs": options,
        **({"incompat": recipe.incompat} if recipe.incompat else {}),
        "parts": list(recipe.parts),
        "bytes": image.stat().st_size,
        "sha256": digest,
        "xfsprogs": run("mkfs.xfs", "-V").split()[-1],
        "kernel": platform.release().split("-")[0],
    }
    path = image.with_suffix(".json")
    path.write_text(json.dumps(facts, indent=1) + "\n")
    return path
