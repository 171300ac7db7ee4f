"""Directories: listing by data blocks, lookup by the hash index, all forms."""

from wofs.xfs.dir.directories import Directories
from wofs.xfs.dir.parse import Entry

__all__ = ["Directories", "Entry"]
