"""The images of `images/`: what there is, and unpacking one to a sparse file."""

from __future__ import annotations

import json
import lzma
import os
from dataclasses import dataclass
from pathlib import Path

from imagelib.manifest import Manifest, fingerprint

__all__ = ["FOLDER", "IMAGES", "TestImage", "fingerprint", "names"]

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "images"

_PIECE_BYTES = 256 << 10
_ZEROS = bytes(_PIECE_BYTES)


@dataclass(frozen=True)
class TestImage:
    """One image with its recipe; `expected` is "mountable", "dirty" or "refuse"."""

    __test__ = False

    name: str
    expected: str
    ending: str
    size: int

    @property
    def packed(self) -> Path:
        """Return the compressed image."""
        return FOLDER / f"{self.name}.img.xz"

    def truth(self, norecovery: bool = False) -> Path:
        """Return the manifest of the kernel's mount."""
        return FOLDER / f"{self.name}{'.norecovery' if norecovery else ''}.man.xz"

    def unpack(self, target: Path) -> None:
        """Write the image to `target`, with holes where it is zero."""
        part = target.with_suffix(f".{os.getpid()}")
        with lzma.open(self.packed) as source, part.open("wb") as f:
            while piece := source.read(_PIECE_BYTES):
                if piece == _ZEROS[: len(piece)]:
                    f.seek(len(piece), os.SEEK_CUR)
                else:
                    f.write(piece)
            f.truncate(self.size)
        part.replace(target)  # whole or not there: two workers may unpack the same


def _load(recipe: Path) -> TestImage:
    facts = json.loads(recipe.read_text())
    return TestImage(*(facts[k] for k in ("name", "expected", "ending", "bytes")))


IMAGES = {image.name: image for image in map(_load, sorted(FOLDER.glob("*.json")))}
"""All images by name."""


def names(expected: str) -> list[str]:
    """Return the names of the images of which `expected` is expected."""
    return [image.name for image in IMAGES.values() if image.expected == expected]


def forget_what_only_root_sees(truth: Manifest, found: Manifest) -> None:
    """Take from the truth `trusted` attributes, and what a mode closes to others."""
    for path, entry in list(truth.items()):
        xattrs = entry.get("x")
        if isinstance(xattrs, dict):
            seen = {name: xattrs[name] for name in xattrs if not name.startswith("trusted.")}
            entry |= {"x": seen}
            if not seen:
                del entry["x"]
        closed = not int(str(entry["m"]), 8) & 0o4
        told = found.get(path, {}).get("e")
        if closed and told in (["data:EACCES"], ["readdir:EACCES"]):
            entry.pop("h", None)
            del found[path]["e"]
            for below in [p for p in truth if p.startswith(path + "/")]:
                del truth[below]
