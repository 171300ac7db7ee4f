"""Directories as requests come: a part at a time, from any cookie, on past damage."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from wofs.errors import ImageError
from wofs.fs.tree import Batch, Tree
from wofs.fuse.xattrs import XattrPolicy
from wofs.xfs.dir import Entry
from wofs.xfs.inode import Inode

KEPT_LISTINGS = 16
"""Listings that can be gone on with at no cost; one costs what a directory block holds."""

_DAMAGED_KEPT = 10_000

Row = tuple[Entry, "Inode | ImageError"]


class Listing:
    """The entries of one directory behind a cookie, with their inodes, read block by block.

    `rows` gives them, `back` is a row that was taken from it and is to come first.
    """

    __slots__ = ("_policy", "back", "error", "rows")

    def __init__(self, tree: Tree, policy: XattrPolicy, directory: Inode, after: int) -> None:
        self.back: Row | None = None
        self.error: ImageError | None = None
        self._policy = policy
        self.rows = self._rows(tree.listing(directory, self._note, after))

    def _note(self, error: ImageError) -> None:
        self.error = self.error or error

    def _rows(self, batches: Iterator[Batch]) -> Iterator[Row]:
        for batch in batches:
            inodes = batch.inodes()
            self._policy.met(inodes)
            yield from zip(batch.entries, inodes, strict=True)


class Listings:
    """All listings of a mount.

    Nothing here is needed to answer: a request carries directory and cookie. What was read
    for one request and did not fit its reply is kept for the next.
    """

    def __init__(self, tree: Tree, policy: XattrPolicy) -> None:
        self._tree = tree
        self._policy = policy
        self._kept: OrderedDict[tuple[int, int], Listing] = OrderedDict()
        self._damaged: dict[int, ImageError] = {}

    def take(self, directory: Inode, after: int) -> Listing:
        """Return the listing that goes on behind cookie `after`."""
        kept = self._kept.pop((directory.ino, after), None)
        return kept or Listing(self._tree, self._policy, directory, after)

    def keep(self, directory: Inode, after: int, listing: Listing) -> None:
        """Keep a listing for the request that goes on behind `after`."""
        self._kept[directory.ino, after] = listing
        if len(self._kept) > KEPT_LISTINGS:
            self._kept.popitem(last=False)

    def note(self, directory: Inode, listing: Listing) -> None:
        """Remember the damage that a part of a listing met on its way."""
        if listing.error is not None and len(self._damaged) < _DAMAGED_KEPT:
            self._damaged.setdefault(directory.ino, listing.error)

    def end(self, directory: Inode) -> None:
        """Raise the damage met in a directory, now that all that is sound was listed.

        Damage lasts, as the image does not change: a listing made in parts ends with the
        error that any of them met.
        """
        error = self._damaged.get(directory.ino)
        if error is not None:
            raise error.with_traceback(None)
