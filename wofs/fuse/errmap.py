"""Errors to errno and back: the one place that knows both."""

from __future__ import annotations

import errno

from wofs.errors import (
    ImageError,
    IsDir,
    Loop,
    NotDir,
    NotFound,
    NotLink,
    NoXattr,
    PathError,
    Unsupported,
)

NOT_SERVED = errno.ENOSYS
"""The kernel stops asking this kind of request, for the whole mount."""

NOT_SUPPORTED = errno.EOPNOTSUPP
INVALID = errno.EINVAL
NAME_TOO_LONG = errno.ENAMETOOLONG
READ_ONLY = errno.EROFS
STALE = errno.ESTALE

_PATH_ERRNOS: dict[type[PathError], int] = {
    NotFound: errno.ENOENT,
    NotDir: errno.ENOTDIR,
    IsDir: errno.EISDIR,
    NotLink: errno.EINVAL,
    Loop: errno.ELOOP,
    NoXattr: errno.ENODATA,
}


def errno_of(error: BaseException) -> int:
    """Return the errno that a client is told for an error.

    A damaged object is EUCLEAN whatever is wrong with it, a feature we lack EOPNOTSUPP. What
    the device says is EIO: its own errno may be one that means something else to the caller
    (a medium error is ENODATA in the block layer).
    """
    if isinstance(error, Unsupported):
        return errno.EOPNOTSUPP
    if isinstance(error, ImageError):
        return errno.EUCLEAN
    if isinstance(error, PathError):
        return next((n for kind, n in _PATH_ERRNOS.items() if isinstance(error, kind)), errno.EIO)
    return errno.ENOMEM if isinstance(error, MemoryError) else errno.EIO


def is_taken(error: OSError) -> bool:
    """Whether a socket's address is somebody's already."""
    return error.errno == errno.EADDRINUSE


def is_dead_mount(error: OSError) -> bool:
    """Whether an error of stat(2) says that the server of a FUSE mount is gone."""
    return error.errno in (errno.ENOTCONN, errno.ECONNABORTED)


def is_busy(error: OSError) -> bool:
    """Whether unmounting failed because the mount is in use."""
    return error.errno == errno.EBUSY


def name_of(error: OSError) -> str:
    """Return the name of an error's number, such as "EUCLEAN"."""
    return errno.errorcode.get(error.errno or 0, str(error.errno))
