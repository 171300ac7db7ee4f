"""The manifest of an image read through the library, with the keys of a mounted tree's."""

from __future__ import annotations

import os
import stat

from imagelib.manifest import (
    Entry,
    Manifest,
    data_hash,
    escape,
    file_type,
    segment_map,
    timestamp,
    xattr_value,
)
from wofs.errors import ImageError
from wofs.fs import File, Filesystem, Path


def of_library(filesystem: Filesystem, tolerant: bool = False) -> Manifest:
    """Return the manifest of all that `filesystem` holds; raises what reading raises.

    With `tolerant` a damaged directory is noted ("e") and counts as empty, as in `of_tree`.
    """
    found: Manifest = {}
    todo = [(b".", filesystem.root)]
    while todo:
        name, path = todo.pop()
        entry = _entry(path)
        found[escape(name)] = entry
        if entry["t"] != "d":
            continue
        try:
            children = list(path.iterdir())
        except ImageError as error:
            if not tolerant:
                raise
            entry["e"] = [f"readdir:{error}"]
        else:
            todo += [(bytes(child)[1:], child) for child in children]
    return found


def _entry(path: Path) -> Entry:
    st = path.lstat()
    entry: Entry = {
        "t": file_type(st.st_mode),
        "m": f"{stat.S_IMODE(st.st_mode):04o}",
        "u": st.st_uid,
        "g": st.st_gid,
        "z": st.st_size,
        "n": st.st_nlink,
        "mt": timestamp(st.st_mtime_ns),
        "ct": timestamp(st.st_ctime_ns),
        "bt": timestamp(st.st_birthtime_ns),
        "i": st.st_ino,
        "k": st.st_blocks,
    }
    if stat.S_ISCHR(st.st_mode) or stat.S_ISBLK(st.st_mode):
        entry["r"] = f"{os.major(st.st_rdev)}:{os.minor(st.st_rdev)}"
    if stat.S_ISLNK(st.st_mode):
        entry["l"] = escape(path.readlink_bytes())
    if stat.S_ISREG(st.st_mode):
        with path.open("rb") as file:
            segments = list(file.segments())
            entry["s"] = segment_map(segments)
            entry["h"] = data_hash(lambda at, n: _pread(file, at, n), st.st_size, segments)
    xattrs = {
        escape(name): xattr_value(value)
        for name, value in path.xattrs(follow_symlinks=False).items()
    }
    if xattrs:
        entry["x"] = xattrs
    return entry


def _pread(file: File, offset: int, length: int) -> bytes:
    file.seek(offset)
    return file.read(length)
