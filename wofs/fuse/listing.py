"""Directories as requests come: a part at a time, from any cookie, on past damage."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from wofs.errors import ImageError
from wofs.fs.tree import Batch, Tree
from wofs.fuse.xattrs import XattrPolicy
from wofs.ondisk.dir import FT_DIR
from wofs.ondisk.inode import FMT_LOCAL
from wofs.xfs.dir import DOT_COOKIE, DOTDOT_COOKIE, Entry
from wofs.xfs.inode import Inode

KEPT_LISTINGS = 16
"""Listings that can be gone on with at no cost; one costs what a directory block holds."""

_DAMAGED_KEPT = 10_000

Row = tuple[Entry, "Inode | Exception | None", int]
"""(entry, its inode or what is wrong with it, cookie of the entry that follows); the inode of
'.' and '..' is not read."""


class Listing:
    """The entries of one directory from a cookie on, with their inodes, read block by block.

    A cookie is the kernel's: the place in the directory of the entry to begin with, in units
    of 8 bytes. `rows` gives the entries, `back` is one that was taken from it and is to come
    first, `error` the first damage met.
    """

    __slots__ = ("_directory", "_policy", "_tree", "back", "error", "rows")

    def __init__(self, tree: Tree, policy: XattrPolicy, directory: Inode, start: int) -> None:
        self.back: Row | None = None
        self.error: ImageError | None = None
        self._tree = tree
        self._policy = policy
        self._directory = directory
        self.rows = self._rows(start)

    def _note(self, error: ImageError) -> None:
        self.error = self.error or error

    def _rows(self, start: int) -> Iterator[Row]:
        batches = self._tree.listing(self._directory, self._note, start)
        batch = next(batches, None)
        first = batch.entries[0][0] - 1 if batch else self._end()
        if start < DOTDOT_COOKIE:
            yield from self._dots(start, first)
        while batch is not None:
            entries, failure, ahead = batch.entries, None, None
            try:
                ahead = next(batches, None)
                after = ahead.entries[0][0] - 1 if ahead else max(self._end(), entries[-1][0])
            except OSError as error:  # to be met again, when all before it was given
                failure, after = error, entries[-1][0]
            following = [entry[0] - 1 for entry in entries[1:]]
            following.append(after)
            yield from zip(entries, self._inodes(batch), following, strict=True)
            if failure is not None:
                raise failure
            batch = ahead

    def _dots(self, start: int, first: int) -> Iterator[Row]:
        """Yield '.' and '..', as far as they lie behind the cookie; `first` follows them."""
        own = self._directory.ino
        if start < DOT_COOKIE:
            yield (DOT_COOKIE, own, FT_DIR, b"."), None, DOTDOT_COOKIE - 1
        try:
            parent = self._tree.mount.dirs.parent(self._directory)
        except ImageError as error:
            self._note(error)
        else:
            yield (DOTDOT_COOKIE, parent, FT_DIR, b".."), None, first

    def _inodes(self, batch: Batch) -> list[Inode | Exception]:
        """Return the inodes of a batch; where the device fails, all those it does give."""
        found: list[Inode | Exception] = []
        try:
            found += batch.inodes()
        except OSError:
            for entry in batch.entries:
                try:
                    found += batch.alone(entry).inodes()
                except OSError as error:
                    found.append(error)
        self._policy.met(found)
        return found

    def _end(self) -> int:
        """Return the cookie behind the last entry (`xfs_dir2_readdir.c`)."""
        directory = self._directory
        local = directory.format == FMT_LOCAL
        return (self._tree.mount.geo.dirblksize if local else directory.size) >> 3


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

    def take(self, directory: Inode, start: int) -> Listing:
        """Return the listing that goes on at cookie `start`."""
        kept = self._kept.pop((directory.ino, start), None)
        return kept or Listing(self._tree, self._policy, directory, start)

    def keep(self, directory: Inode, start: int, listing: Listing) -> None:
        """Keep a listing for the request that goes on at `start`.

        Not where all metadata is to be write-once: it holds decoded inodes and entries.
        """
        if self._tree.mount.protects_all:
            return
        self._kept[directory.ino, start] = listing
        if len(self._kept) > KEPT_LISTINGS:
            self._kept.popitem(last=False)

    def note(self, directory: Inode, listing: Listing) -> None:
        """Remember the damage that a part of a listing met on its way."""
        if listing.error is not None and len(self._damaged) < _DAMAGED_KEPT:
            self._damaged.setdefault(directory.ino, listing.error.with_traceback(None))

    def end(self, directory: Inode) -> None:
        """Raise the damage met in a directory, now that all that is sound was listed.

        Damage lasts, as the image does not change: a listing made in parts ends with the
        error that any of them met.
        """
        error = self._damaged.get(directory.ino)
        if error is not None:
            raise error.with_traceback(None)
