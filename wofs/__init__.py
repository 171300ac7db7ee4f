"""Read XFS images: `wofs.open(image)` gives a `Filesystem`, whose paths are like `pathlib`'s.

    with wofs.open("disk.img") as fs:
        print((fs.root / "etc" / "os-release").read_text())
"""

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
