"""Writing copies: every object is made under a marked name, completed, then given its own.

All of it relative to open directories and without following links, so that nothing in the
destination can lead a copy out of it; nothing is replaced unless told to.
"""

from __future__ import annotations

import os
import stat as modes
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from wofs.fs import Stat

PARTIAL_PREFIX = b".wofs-partial-"
"""How the name of an unfinished copy begins; one is left behind only by a kill."""

_ACL_STORED = (b"trusted.SGI_ACL_FILE", b"trusted.SGI_ACL_DEFAULT")
"""The stored side of what is copied as system.posix_acl_*."""

_SET_ID = modes.S_ISUID | modes.S_ISGID


def check_name(name: bytes) -> None:
    """Raise OSError for a name that would lead out of its directory."""
    if name in (b"", b".", b"..") or b"/" in name or b"\0" in name:
        raise OSError(f"the name {os.fsdecode(name)!r} leads out of the destination")


class Folder:
    """An open directory of the destination."""

    def __init__(self, fd: int, created: bool) -> None:
        """`fd` is owned; `created` tells whether this copy made the directory."""
        self.fd = fd
        self.created = created

    @classmethod
    def at(cls, path: str | bytes) -> Folder:
        """Open an existing directory that the user named (links in its path count)."""
        return cls(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), False)

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.fd)

    def folder(self, name: bytes) -> Folder:
        """Make or open the subdirectory `name`; a link or a file of that name raises OSError."""
        check_name(name)
        created = True
        try:
            os.mkdir(name, 0o700, dir_fd=self.fd)
        except FileExistsError:
            created = False
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        return Folder(os.open(name, flags, dir_fd=self.fd), created)

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
            raise FileExistsError("somebody made it meanwhile") from None
        except OSError:
            self._rename_new(partial, name)
        else:
            os.unlink(partial, dir_fd=self.fd)

    def _rename_new(self, partial: bytes, name: bytes) -> None:
        """Rename where hard links are not to be had; the check and the deed are two steps."""
        if self.holds(name):
            raise FileExistsError(f"{os.fsdecode(name)}: exists")
        os.rename(partial, name, src_dir_fd=self.fd, dst_dir_fd=self.fd)

    def holds(self, name: bytes) -> bool:
        """Whether there is anything of that name."""
        try:
            os.stat(name, dir_fd=self.fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

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
            key = (what, (error.strerror or str(error)).lower())
            self.counts[key] = self.counts.get(key, 0) + 1
            self.refused |= not isinstance(error, PermissionError)
            return False
        return True


def write_at(fd: int, data: bytes, offset: int) -> None:
    """Write all of `data` at `offset`."""
    view = memoryview(data)
    while view:
        done = os.pwrite(fd, view, offset)
        view, offset = view[done:], offset + done


def set_open(fd: int, stat: Stat, xattrs: Mapping[bytes, bytes], lost: Lost) -> None:
    """Give an open file or directory its owner, mode, attributes and times."""
    owned = lost.attempt("owner", os.chown, fd, stat.st_uid, stat.st_gid)
    os.fchmod(fd, _mode(stat, owned))
    for name, value in _settable(xattrs):
        lost.attempt("extended attribute", os.setxattr, fd, name, value)
    os.utime(fd, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def set_named(
    folder: Folder, name: bytes, stat: Stat, xattrs: Mapping[bytes, bytes], lost: Lost
) -> None:
    """Give a link or special file its owner, mode, attributes and times."""
    owner, group = stat.st_uid, stat.st_gid
    owned = lost.attempt(
        "owner", os.chown, name, owner, group, dir_fd=folder.fd, follow_symlinks=False
    )
    if not modes.S_ISLNK(stat.st_mode):
        os.chmod(name, _mode(stat, owned), dir_fd=folder.fd)
    path = folder.proc_path(name)
    for key, value in _settable(xattrs):
        what = "extended attribute"
        lost.attempt(what, os.setxattr, path, key, value, follow_symlinks=False)
    times = (stat.st_atime_ns, stat.st_mtime_ns)
    os.utime(name, ns=times, dir_fd=folder.fd, follow_symlinks=False)


def _settable(xattrs: Mapping[bytes, bytes]) -> Iterable[tuple[bytes, bytes]]:
    return ((name, value) for name, value in xattrs.items() if name not in _ACL_STORED)


def _mode(stat: Stat, owned: bool) -> int:
    """Return the permissions; set-id bits only where the owner could be kept."""
    mode = modes.S_IMODE(stat.st_mode)
    return mode if owned else mode & ~_SET_ID
