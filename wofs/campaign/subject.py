"""The reader under test: everything a user does with an image, and what each answer was.

An answer is a value, or a `Failure`: an error that names the damaged object. Values that are
long are kept as digests. Nothing here judges.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from wofs.device.base import Device
from wofs.errors import ImageError, PathError
from wofs.fs import Filesystem
from wofs.fs import open as open_filesystem
from wofs.fs.path import Path
from wofs.fs.stat import DIR, LNK, REG, stat_of
from wofs.xfs.inode import Inode

IMAGE = b""
"""The path under which the answers about the whole image are kept."""

MOST_READ_BYTES = 256 << 20
"""Most bytes of one file that are read: what follows is a hole, or was made by damage."""

MOST_NAMES_SOUGHT, MOST_XATTRS_SOUGHT = 1024, 32
"""Names of one directory, attributes of one inode, that are sought by their name too."""

_PIECE = 1 << 20

_INFO = (
    "label", "uuid", "meta_uuid", "features", "features_ignored", "blocksize", "sectsize",
    "inodesize", "dirblksize", "dblocks", "agblocks", "agcount", "rootino", "imax_pct",
    "stripe_unit", "stripe_width", "rblocks", "log", "icount", "ifree",
)  # fmt: skip
"""What `wofs info` shows of the image, and not of the machine."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An answer that is an error: its class, the object it names, and the line a user sees."""

    kind: str
    object: str
    line: str

    @classmethod
    def of(cls, error: ImageError) -> Failure:
        """Return what an error says."""
        return cls(type(error).__name__, error.where.object, str(error))


Answer = tuple[object, ...] | str | int | Failure
Answers = dict[tuple[bytes, str], Answer]
"""What was asked (path, attribute) and answered; `lstat` is a `Stat`."""


def ask(device: Device, norecovery: bool) -> Answers:
    """Open the image, do everything, and return the answers.

    Raises the `ImageError` of an image that is refused.
    """
    with open_filesystem(device, norecovery=norecovery) as filesystem:
        return answers_of(filesystem)


def answers_of(filesystem: Filesystem) -> Answers:
    """Ask an open image for all it holds."""
    asker = _Asker(filesystem)
    asker.whole()
    asker.tree()
    return asker.answers


class _Asker:
    """Goes through one image."""

    def __init__(self, filesystem: Filesystem) -> None:
        self._filesystem = filesystem
        self._mount = filesystem.mount
        self._names = filesystem.root.image.tree
        self._of_inode: dict[int, list[tuple[str, Answer]]] = {}
        self.answers: Answers = {}

    def _put(self, path: bytes, what: str, ask: Callable[[], Answer]) -> None:
        """Keep an answer, or the error instead of it."""
        try:
            self.answers[path, what] = ask()
        except ImageError as error:
            self.answers[path, what] = Failure.of(error)
        except PathError as error:
            self.answers[path, what] = type(error).__name__

    # ---- the image
    def whole(self) -> None:
        """Ask for what `wofs info` and `df` show."""
        info = self._filesystem.info()
        for name in _INFO:
            self.answers[IMAGE, name] = repr(getattr(info, name))
        for name, value in self._filesystem.statfs()._asdict().items():
            self.answers[IMAGE, name] = value
        for ag in self._filesystem.ags():
            for name in ("length", "freeblks", "longest", "flcount", "icount", "ifree"):
                value = getattr(ag, name)
                unknown = Failure("Damaged", f"ag {ag.agno}", f"ag {ag.agno}: {name} is unknown")
                self.answers[IMAGE, f"ag {ag.agno} {name}"] = unknown if value is None else value
        self.answers[IMAGE, "memory"] = len(self._mount.arena.verify())

    # ---- the tree
    def tree(self) -> None:
        """Walk everything."""
        root = self._filesystem.root
        try:
            inode = root.inode()
        except ImageError as error:
            self.answers[b"/", "lstat"] = Failure.of(error)
            return
        self._inode(b"/", root, inode)
        stack = [(b"/", root)]
        while stack:
            where, directory = stack.pop()
            stack += reversed(list(self._directory(where, directory)))

    def _directory(self, where: bytes, directory: Path) -> Iterator[tuple[bytes, Path]]:
        """List a directory and ask about all in it; yield the directories among them."""
        errors: list[ImageError] = []
        listed: list[tuple[object, ...]] = []
        below: list[tuple[bytes, Path]] = []
        prefix = where if where == b"/" else where + b"/"
        found: list[tuple[bytes, int]] = []
        try:
            for batch in directory.batches(errors.append):
                for index, inode in enumerate(batch.inodes()):
                    _, ino, ftype, name = batch.entries[index]
                    path, child = prefix + name, directory.at(batch, index)
                    listed.append((name, ino, ftype))
                    found.append((name, ino))
                    if isinstance(inode, ImageError):
                        self.answers[path, "lstat"] = Failure.of(inode)
                        continue
                    self._inode(path, child, inode)
                    if inode.type == DIR:
                        below.append((path, child))
        except ImageError as error:
            errors.append(error)
        self.answers[where, "readdir"] = Failure.of(errors[0]) if errors else tuple(listed)
        self._look_up(where, directory, found)
        yield from below

    def _look_up(self, where: bytes, directory: Path, found: list[tuple[bytes, int]]) -> None:
        """Find each listed name again by its hash, and one that is not there."""
        try:
            inode = directory.inode()
        except ImageError:
            return  # told as its lstat
        child, prefix = self._names.child, where.rstrip(b"/") + b"/"
        for name in _spread([name for name, _ in found], MOST_NAMES_SOUGHT):
            self._put(prefix + name, "lookup", lambda name=name: child(inode, name).ino)  # type: ignore[misc]
        self._put(where, "no such name", lambda: child(inode, b"no such name").ino)

    def _inode(self, path: bytes, child: Path, inode: Inode) -> None:
        """Ask for all of an inode; for its other names the answers are told again."""
        self.answers[path, "lstat"] = stat_of(self._mount.geo, inode)
        known = self._of_inode.get(inode.ino)
        if known is None:
            own = self._attributes(path, child, inode)
            self._of_inode[inode.ino] = own
        else:
            for name, answer in known:
                self.answers[path, name] = answer

    def _attributes(self, path: bytes, child: Path, inode: Inode) -> list[tuple[str, Answer]]:
        asked = ["xattrs"]
        self._put(path, "xattrs", lambda: self._xattrs(path, child, asked))
        if inode.type == REG:
            asked += ["data", "holes"]
            self._put(path, "holes", lambda: self._holes(inode))
            self._put(path, "data", lambda: self._data(inode))
        elif inode.type == LNK:
            asked.append("target")
            self._put(path, "target", lambda: child.readlink_bytes().hex())
        return [(name, self.answers[path, name]) for name in asked]

    def _xattrs(self, path: bytes, child: Path, asked: list[str]) -> Answer:
        """Read all attributes in one go, then each by its name."""
        xattrs = child.xattrs(follow_symlinks=False)
        for name in _spread(list(xattrs), MOST_XATTRS_SOUGHT):
            what = f"xattr {name!r}"
            asked.append(what)
            self._put(path, what, lambda name=name: digest(xattrs[name]))  # type: ignore[misc]
        return tuple((name, digest(value)) for name, value in xattrs.items())

    def _holes(self, inode: Inode) -> Answer:
        return tuple(self._mount.data.segments(inode))

    def _data(self, inode: Inode) -> Answer:
        """Read a file's data where it is none of a hole."""
        running, left = hashlib.blake2b(digest_size=16), MOST_READ_BYTES
        for start, end in self._mount.data.segments(inode):
            running.update(b"%d-%d " % (start, end))
            while start < end and left > 0:
                piece = self._mount.data.read(inode, start, min(_PIECE, end - start, left))
                running.update(piece)
                left -= len(piece)
                start += len(piece)
                if not piece:
                    break
        return running.hexdigest()


def _spread(names: list[bytes], most: int) -> list[bytes]:
    """Return at most so many names from all over a list, the first and the last among them."""
    if len(names) <= most:
        return names
    return [names[at * (len(names) - 1) // (most - 1)] for at in range(most)]


def digest(value: bytes) -> str:
    """Return bytes in hex, or the digest of many."""
    return value.hex() if len(value) <= 32 else hashlib.blake2b(value, digest_size=16).hexdigest()
