"""Read XFS images: `wofs.open(image)` gives a `Filesystem`, whose paths are like `pathlib`'s.

    with wofs.open("disk.img") as fs:
        print((fs.root / "etc" / "os-release").read_text())
"""

from typing import TYPE_CHECKING

from wofs.errors import (
    BadChecksum,
    BadField,
    BadMagic,
    Corrupt,
    ImageError,
    IsDir,
    Loop,
    Misplaced,
    MountError,
    NoBackend,
    NotDir,
    NotFound,
    NotLink,
    NotXfs,
    NoXattr,
    PathError,
    SlabError,
    Truncated,
    Unsupported,
    Where,
    WofsError,
)

if TYPE_CHECKING:
    from wofs.fs import Filesystem, Path, Stat, open

__all__ = [
    "BadChecksum",
    "BadField",
    "BadMagic",
    "Corrupt",
    "Filesystem",
    "ImageError",
    "IsDir",
    "Loop",
    "Misplaced",
    "MountError",
    "NoBackend",
    "NoXattr",
    "NotDir",
    "NotFound",
    "NotLink",
    "NotXfs",
    "Path",
    "PathError",
    "SlabError",
    "Stat",
    "Truncated",
    "Unsupported",
    "Where",
    "WofsError",
    "open",
]

_OF_FS = ("Filesystem", "Path", "Stat", "open")
"""Loaded when first used: a command that is interrupted at its start has not come so far."""


def __getattr__(name: str) -> object:
    if name not in _OF_FS:
        raise AttributeError(f"module 'wofs' has no attribute {name!r}")
    from wofs import fs

    value: object = getattr(fs, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_OF_FS})
