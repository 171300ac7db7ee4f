"""Directories: listing by data blocks, lookup by the hash index, all forms."""

from wofs.xfs.dir.directories import MOST_AT_ONCE, Directories
from wofs.xfs.dir.parse import DOT_COOKIE, DOTDOT_COOKIE, Entry

__all__ = ["DOTDOT_COOKIE", "DOT_COOKIE", "MOST_AT_ONCE", "Directories", "Entry"]
