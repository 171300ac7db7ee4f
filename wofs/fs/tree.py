"""The tree of directories, with the rules that join an entry to its inode.

What one directory or one inode cannot know by itself is verified here: that an entry's file
type is its inode's, that what a name leads to is linked, and that every directory has one
place only (its '..' is the directory it was reached from). That last rule makes loops
impossible to enter: each directory has one parent, and the root has no name.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

from wofs.errors import BadField, ImageError
from wofs.fs.stat import DIR, TYPE_NAMES
from wofs.ondisk.dir import FT_UNKNOWN, MODE_OF_FTYPE
from wofs.ondisk.inode import FMT_LOCAL
from wofs.xfs import _decode
from wofs.xfs.dir import MOST_AT_ONCE, Entry
from wofs.xfs.inode import Inode
from wofs.xfs.mount import Mount

OnError = Callable[[ImageError], object]

_MODES = bytes(MODE_OF_FTYPE.get(ftype, 0) for ftype in range(256))
"""The file type in a mode by that in an entry; 0, which no inode has, where there is none."""

_MOST_DAMAGED = 10_000
"""Damaged blocks of one directory after which its listing ends."""


_NAMES_COMPARED = 1 << 14
"""Names of one directory that are remembered, so that none of them is delivered twice."""


_NAMES_KEPT_BYTES = 8 << 20
"""Most that the names of directories with a damaged index take up; one more may be kept."""

_MOST_NAMES_KEPT = 1 << 17
"""Names of a directory above which they are read again for every lookup."""


def _weight_of_names(names: dict[bytes, Entry]) -> int:
    """Return about how many bytes the entries of a directory hold."""
    return 300 + 320 * len(names)


class Batch:
    """The entries of one directory block; their inodes are read together, when first asked for.

    `names` maps the inode numbers of subdirectories seen so far to their name; the batches of
    one listing share it.
    """

    __slots__ = ("_inodes", "_names", "_tree", "directory", "entries")

    def __init__(
        self, tree: Tree, directory: Inode, entries: list[Entry], names: dict[int, bytes]
    ) -> None:
        self._tree = tree
        self.directory = directory
        self.entries = entries
        self._names = names
        self._inodes: list[Inode | ImageError] | None = None

    def inode(self, index: int) -> Inode:
        """Return the verified inode of entry `index`; raises the `ImageError` of a damaged one."""
        found = self.inodes()[index]
        if isinstance(found, ImageError):
            raise found.with_traceback(None)
        return found

    def inodes(self) -> list[Inode | ImageError]:
        """Return for each entry its inode, or what is wrong with it."""
        if self._inodes is None:
            self._inodes = self._load()
        return self._inodes

    def alone(self, entry: Entry) -> Batch:
        """Return a batch of this directory that holds one entry."""
        return Batch(self._tree, self.directory, [entry], self._names)

    def _load(self) -> list[Inode | ImageError]:
        tree, directory, names = self._tree, self.directory, self._names
        found = tree.mount.inodes.get_many([entry[1] for entry in self.entries])
        for at in _decode.remarkable(self.entries, found, _MODES):
            entry, inode = self.entries[at], found[at]
            assert isinstance(inode, Inode)
            kind = inode.mode >> 12
            problem = tree.problem(directory, entry, inode)
            if problem is None and kind == DIR:
                first = names.setdefault(inode.ino, entry[3])
                if first != entry[3]:
                    problem = tree.bad(
                        directory, entry, "names", f"directory {inode.ino} a second time"
                    )
            if problem is not None:
                found[at] = problem
        return found


class Tree:
    """The directories of a mounted image, entries held against inodes."""

    def __init__(self, mount: Mount) -> None:
        self.mount = mount
        self._read = mount.keeper.parsed(_NAMES_KEPT_BYTES, _weight_of_names)

    def root(self) -> Inode:
        """Return the root directory."""
        return self.mount.inodes.get(self.mount.geo.rootino)

    def child(self, directory: Inode, name: bytes) -> Inode:
        """Return the inode that `name` leads to from `directory`.

        Raises NotFound, NotDir, and the `ImageError` of whatever is damaged on the way.
        """
        entry = self._entry(directory, name)
        inode = self.mount.inodes.get(entry[1])
        problem = self.problem(directory, entry, inode)
        if problem is not None:
            raise problem
        if inode.type == DIR:
            self.enter(directory.ino, inode)
        return inode

    def _entry(self, directory: Inode, name: bytes) -> Entry:
        """Find an entry by its hash; by reading all of them where the index is damaged."""
        try:
            return self.mount.dirs.lookup(directory, name)
        except ImageError as error:
            entry = self._names_of(directory).get(name)
            if entry is None:
                raise
            self.mount.report(error)
            return entry

    def _names_of(self, directory: Inode) -> dict[bytes, Entry]:
        """Return the entries of a directory by name: read once, not for every lookup."""
        found = self._read.get(directory.ino)
        if found is None:
            batches = self.listing(directory, lambda _: None)
            found = {entry[3]: entry for batch in batches for entry in batch.entries}
            if len(found) <= _MOST_NAMES_KEPT:
                self._read.put(directory.ino, found)
        return found

    def listing(
        self, directory: Inode, on_error: OnError | None = None, after: int = 0
    ) -> Iterator[Batch]:
        """Yield the entries of a directory block by block, in the directory's order.

        `after` is the cookie of the entry to go on behind, 0 for the whole directory.
        A damaged block costs its own entries, a name met before its second entry: `on_error`
        is told, or, without it, the first error is raised when all that is sound was
        delivered. Raises NotDir.
        """
        errors: list[ImageError] = []
        names: dict[int, bytes] = {}
        seen: set[bytes] = set()
        alone = directory.format == FMT_LOCAL or directory.size == self.mount.geo.dirblksize
        most = MOST_AT_ONCE if self.mount.protects_all else sys.maxsize  # of a block at once
        said, repeats = "", 0
        while len(errors) < _MOST_DAMAGED:
            try:
                entries = self.mount.dirs.batch(directory, after)
            except ImageError as error:
                repeats = repeats + 1 if str(error) == said else 0
                if not repeats:
                    said = str(error)
                    errors.append(error)
                    if on_error is not None:
                        on_error(error)
                after = self._next_block(directory, after) if repeats < 2 else 0
                if not after:
                    break
                continue
            if not entries:
                break
            if alone and len(entries) < most:  # its own names were compared, nothing follows
                yield Batch(self, directory, entries, names)
                return
            after = entries[-1][0]
            if not seen.isdisjoint([entry[3] for entry in entries]):
                twice = self._twice(directory, entries, seen)
                errors.append(twice)
                if on_error is not None:
                    on_error(twice)
                entries = [entry for entry in entries if entry[3] not in seen]
            if len(seen) < _NAMES_COMPARED:
                seen.update([entry[3] for entry in entries])
            if entries:
                yield Batch(self, directory, entries, names)
        if errors and on_error is None:
            raise errors[0]

    def _twice(self, directory: Inode, entries: list[Entry], seen: set[bytes]) -> ImageError:
        """Return the error for a name that an earlier block of the directory has too."""
        entry = next(entry for entry in entries if entry[3] in seen)
        return self.bad(directory, entry, "name", "there twice", "unique names")

    def _next_block(self, directory: Inode, after: int) -> int:
        """Return a cookie just before the next mapped block of a directory; 0 if none is left.

        The same damage may be met twice on the way: once behind the last sound entry, once at
        the damaged block itself.
        """
        geo = self.mount.geo
        size = geo.dirblksize
        want = (after << 3) // size + 1
        try:
            extents = self.mount.maps.extents(directory)
        except ImageError:
            return 0
        per = geo.dirblk_fsbs
        if extents.block_at(want * per) is None:
            at = extents.find(want * per) + 1
            if at >= len(extents):
                return 0
            want = extents.startoff[at] // per
        return want * size >> 3 if want * size < directory.size else 0

    def enter(self, parent: int, directory: Inode) -> None:
        """Verify that `directory` belongs where it was reached: below inode `parent`.

        Raises BadField for a loop, a second place, a wrong '..', and what else is damaged.
        """
        if directory.ino == self.mount.geo.rootino:
            where = self.mount.where(f"directory {parent}", field="inumber")
            raise BadField(where, "the root directory has a name: a loop", found=directory.ino)
        found = self.mount.dirs.parent(directory)
        if found != parent:
            where = self.mount.where(f"directory {directory.ino}", field="'..' inumber")
            raise BadField(where, "a loop or a second place", parent, found)

    def problem(self, directory: Inode, entry: Entry, inode: Inode) -> ImageError | None:
        """Return what is wrong between an entry and the inode it leads to, or None."""
        ftype = entry[2]
        if ftype != FT_UNKNOWN and MODE_OF_FTYPE.get(ftype) != inode.mode >> 12:
            shown = TYPE_NAMES.get(MODE_OF_FTYPE.get(ftype, -1), str(ftype))
            return self.bad(
                directory, entry, "ftype", shown, f"{TYPE_NAMES[inode.type]} (inode {inode.ino})"
            )
        if not inode.nlink:
            return BadField(
                self.mount.where(f"inode {inode.ino}", field="nlink"),
                f"directory {directory.ino} names it",
                "at least 1",
                0,
            )
        return None

    def bad(
        self, directory: Inode, entry: Entry, field: str, found: str, expected: object = None
    ) -> BadField:
        """Return the error for an entry, naming the directory and the name."""
        name = entry[3].decode("utf-8", "backslashreplace")
        where = self.mount.where(f"directory {directory.ino}", field=f"entry {name!r} {field}")
        return BadField(where, "", expected, found)
