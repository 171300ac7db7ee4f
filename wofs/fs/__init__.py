"""The library's face: an image opened, its paths in the manner of `pathlib`."""

from wofs.fs.file import File
from wofs.fs.filesystem import Filesystem, open
from wofs.fs.info import AgInfo, Info, LogInfo, StatFs
from wofs.fs.path import Path
from wofs.fs.stat import Stat
from wofs.fs.xattrs import Xattrs

__all__ = [
    "AgInfo",
    "File",
    "Filesystem",
    "Info",
    "LogInfo",
    "Path",
    "Stat",
    "StatFs",
    "Xattrs",
    "open",
]
