"""The manifest of an image read through the library, with the keys of a mounted tree's."""

from __future__ import annotations

from imagelib.library import walk_library
from imagelib.manifest import Manifest
from wofs.fs import Filesystem


def of_library(filesystem: Filesystem, lookups: bool = True) -> Manifest:
    """Return the manifest of all that `filesystem` holds; what failed is noted ("e").

    With `lookups` every name is looked up by itself too.
    """
    found: Manifest = {}
    for path, entry, faults in walk_library(filesystem, lookups):
        found[path] = entry
        if faults:
            entry["e"] = [f"{fault['part']}: {fault['text']}" for fault in faults]
    return found
