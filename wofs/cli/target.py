"""Writing copies: every object is made under a marked name, completed, then given its own.

All of it relative to open directories and without following links, so that nothing in the
destination can lead a copy out of it; nothing is replaced unless told to.
"""

from __future__ import annotations

import os
import secrets
import stat as modes
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from wofs.fs import Stat

PARTIAL_PREFIX = b".wofs-partial-"
"""How the name of an unfinished copy begins; one is left behind only by a kill."""

_ACL_STORED = (b"trusted.SGI_ACL_FILE", b"trusted.SGI_ACL_DEFAULT")
"""The stored side of what is copied as system.posix_acl_*."""

_TIME_GRAIN_NS = 2 * 10**9
"""The coarsest time that a filesystem keeps (FAT's)."""

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

Identity = tuple[int, int]
"""Device and inode number of something in the destination."""


def partial_name() -> bytes:
    """Return a name for unfinished copies that no image and no user can have foreseen."""
    return PARTIAL_PREFIX + secrets.token_hex(8).encode()


def check_name(name: bytes) -> None:
    """Raise OSError for a name that would lead out of its directory."""
    if name in (b"", b".", b"..") or b"/" in name or b"\0" in name:
        raise OSError(f"the name {os.fsdecode(name)!r} leads out of the destination")


@contextmanager
def naming(path: bytes) -> Iterator[None]:
    """Let errors of the system name the copy at `path`, and not the file under work."""
    try:
        yield
    except OSError as error:
        if error.strerror is None:
            raise
        line = f"cannot write {os.fsdecode(path)}: {error.strerror.lower()}"
        raise type(error)(line) from error


def identity(info: os.stat_result) -> Identity:
    """Return what tells an object of the destination from all others."""
    return info.st_dev, info.st_ino


class Folder:
    """An open directory of the destination; `path` is for messages."""

    def __init__(self, fd: int, path: bytes, created: bool) -> None:
        """`fd` is owned; `created` tells whether this copy made the directory."""
        self.fd = fd
        self.path = path
        self.created = created
        self._identity = identity(os.fstat(fd))

    @classmethod
    def at(cls, path: bytes) -> Folder:
        """Open an existing directory that the user named (links in its path count)."""
        return cls(os.open(path, _FOLDER_FLAGS & ~os.O_NOFOLLOW), path, False)

    def again(self) -> Folder:
        """Return another handle of the same directory."""
        return Folder(os.dup(self.fd), self.path, self.created)

    def close(self) -> None:
        """Close the descriptor; a second call does nothing."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def reopen_above(self, below: Folder) -> None:
        """Open this directory again, closed meanwhile, from its subdirectory `below`.

        OSError if `below` was moved elsewhere since.
        """
        fd = os.open("..", _FOLDER_FLAGS, dir_fd=below.fd)
        if identity(os.fstat(fd)) != self._identity:
            os.close(fd)
            raise OSError(f"{os.fsdecode(below.path)}: was moved while it was being filled")
        self.fd = fd

    def path_of(self, name: bytes) -> bytes:
        """Return the path of `name` for messages."""
        return os.path.join(self.path, name)

    def folder(self, name: bytes) -> Folder:
        """Make or open the subdirectory `name`; a link or a file of that name raises OSError."""
        check_name(name)
        path, created = self.path_of(name), True
        with naming(path):
            try:
                os.mkdir(name, 0o700, dir_fd=self.fd)
            except FileExistsError:
                created = False
                if not modes.S_ISDIR(self._lstat(name).st_mode):
                    raise FileExistsError(f"{os.fsdecode(path)}: is no directory") from None
            return Folder(os.open(name, _FOLDER_FLAGS, dir_fd=self.fd), path, created)

    def file(self, name: bytes) -> int:
        """Create a file that must not exist; return its descriptor."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(name, flags, 0o600, dir_fd=self.fd)

    def publish(self, partial: bytes, name: bytes, force: bool) -> None:
        """Give a finished copy its name; FileExistsError if it is taken, unless `force`."""
        check_name(name)
        if force:
            os.rename(partial, name, src_dir_fd=self.fd, dst_dir_fd=self.fd)
            return
        try:
            os.link(partial, name, src_dir_fd=self.fd, dst_dir_fd=self.fd, follow_symlinks=False)
        except FileExistsError:
            raise self._taken(name) from None
        except OSError:
            self._rename_new(partial, name)
        else:
            os.unlink(partial, dir_fd=self.fd)

    def _rename_new(self, partial: bytes, name: bytes) -> None:
        """Rename where hard links are not to be had; the check and the deed are two steps."""
        self.refuse_taken(name)
        os.rename(partial, name, src_dir_fd=self.fd, dst_dir_fd=self.fd)

    def refuse_taken(self, name: bytes) -> None:
        """Raise FileExistsError if there is anything of that name."""
        try:
            self._lstat(name)
        except FileNotFoundError:
            return
        raise self._taken(name)

    def _taken(self, name: bytes) -> FileExistsError:
        path = os.fsdecode(self.path_of(name))
        return FileExistsError(f"{path}: is there already (--force replaces it)")

    def link(self, anchor: Folder, place: bytes, made: Identity, name: bytes) -> None:
        """Link `name` to the copy made before at `place` below `anchor`.

        Raises FileExistsError, and OSError if that is not the copy any more.
        """
        check_name(name)
        fds = {"src_dir_fd": anchor.fd, "dst_dir_fd": self.fd}
        try:
            os.link(place, name, **fds, follow_symlinks=False)
        except FileExistsError:
            raise self._taken(name) from None
        if identity(self._lstat(name)) != made:
            os.unlink(name, dir_fd=self.fd)
            raise OSError("somebody replaced the first copy")

    def _lstat(self, name: bytes) -> os.stat_result:
        return os.stat(name, dir_fd=self.fd, follow_symlinks=False)

    def identity_of(self, name: bytes) -> Identity:
        """Return the identity of what has that name."""
        return identity(self._lstat(name))

    def discard(self, name: bytes) -> None:
        """Remove an unfinished copy, if it is there."""
        try:
            os.unlink(name, dir_fd=self.fd)
        except FileNotFoundError:
            return

    def proc_path(self, name: bytes) -> bytes:
        """Return a path of `name` for calls that take no directory descriptor."""
        return b"/proc/self/fd/%d/%s" % (self.fd, name)


class Lost:
    """What could not be kept, counted by what it is and why."""

    def __init__(self) -> None:
        self.counts: dict[tuple[str, str], int] = {}
        self.refused = False

    def attempt(self, what: str, call: Callable[..., object], *args: Any, **named: Any) -> bool:  # noqa: ANN401
        """Call; where the system refuses, count `what` and return False.

        That a user may not do it is expected; any other reason sets `refused`.
        """
        try:
            call(*args, **named)
        except OSError as error:
            self.add(what, (error.strerror or str(error)).lower())
            self.refused |= not isinstance(error, PermissionError)
            return False
        return True

    def add(self, what: str, why: str) -> None:
        """Count one thing that was not kept."""
        self.counts[what, why] = self.counts.get((what, why), 0) + 1


def write_at(fd: int, data: bytes, offset: int) -> None:
    """Write all of `data` at `offset`."""
    view = memoryview(data)
    while view:
        done = os.pwrite(fd, view, offset)
        view, offset = view[done:], offset + done


class Handle:
    """One object of the destination, to be given its attributes.

    Open it is known by its descriptor, a link or special file by its name in an open folder:
    `fd` is then the folder's.
    """

    def __init__(self, fd: int, folder: Folder | None = None, name: bytes = b"") -> None:
        self._target: int | bytes = fd if folder is None else name
        self._xattr_target: int | bytes = fd if folder is None else folder.proc_path(name)
        self._how: dict[str, Any] = {}
        self._nofollow: dict[str, Any] = {}
        if folder is not None:
            self._nofollow = {"follow_symlinks": False}
            self._how = {"dir_fd": fd, **self._nofollow}

    def complete(self, stat: Stat, xattrs: Mapping[bytes, bytes], lost: Lost) -> None:
        """Set owner, mode, attributes and times; what cannot be kept is counted."""
        self._set_owner(stat, lost)
        if not modes.S_ISLNK(stat.st_mode):
            self._set_mode(stat, lost)
        for name, value in _settable(xattrs):
            what = "access list" if name.startswith(b"system.") else "extended attribute"
            lost.attempt(what, os.setxattr, self._xattr_target, name, value, **self._nofollow)
        times = (stat.st_atime_ns, stat.st_mtime_ns)
        if lost.attempt("time", os.utime, self._target, ns=times, **self._how):
            kept = self._stat().st_mtime_ns
            if abs(kept - stat.st_mtime_ns) >= _TIME_GRAIN_NS:
                lost.add("time", "out of the destination's range")

    def _stat(self) -> os.stat_result:
        return os.stat(self._target, **self._how)

    def _set_owner(self, stat: Stat, lost: Lost) -> None:
        """Set owner and group, or the group alone where only that is allowed."""
        own, group = stat.st_uid, stat.st_gid
        if not lost.attempt("owner", os.chown, self._target, own, group, **self._how):
            with _expecting_refusal():
                os.chown(self._target, -1, group, **self._how)

    def _set_mode(self, stat: Stat, lost: Lost) -> None:
        """Set the permissions; set-id bits only where their owner or group is the right one."""
        mode, now = modes.S_IMODE(stat.st_mode), self._stat()
        keep = mode
        if now.st_uid != stat.st_uid:
            keep &= ~modes.S_ISUID
        if now.st_gid != stat.st_gid:
            keep &= ~modes.S_ISGID
        if keep != mode:
            lost.add("set-id bit", "its owner or group was not kept")
        how = {key: self._how[key] for key in self._how if key == "dir_fd"}
        lost.attempt("mode", os.chmod, self._target, keep, **how)


@contextmanager
def _expecting_refusal() -> Iterator[None]:
    """Let the system refuse what was counted as lost already."""
    try:
        yield
    except OSError:
        return


def _settable(xattrs: Mapping[bytes, bytes]) -> Iterable[tuple[bytes, bytes]]:
    return ((name, value) for name, value in xattrs.items() if name not in _ACL_STORED)
