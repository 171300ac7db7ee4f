"""Errors to errno: the one place that knows both."""

from __future__ import annotations

import errno
import functools
import logging
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

import pyfuse3

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

log = logging.getLogger("wofs.fuse")

P = ParamSpec("P")
T = TypeVar("T")

_PATH_ERRORS: tuple[tuple[type[PathError], int], ...] = (
    (NotFound, errno.ENOENT),
    (NotDir, errno.ENOTDIR),
    (IsDir, errno.EISDIR),
    (NotLink, errno.EINVAL),
    (Loop, errno.ELOOP),
    (NoXattr, errno.ENODATA),
)


def errno_of(error: BaseException) -> int:
    """Return the errno a client is told for an error.

    A damaged object gives EUCLEAN as the kernel's XFS does, a device's own error EIO.
    """
    if isinstance(error, Unsupported):
        return errno.EOPNOTSUPP
    if isinstance(error, ImageError):
        return errno.EUCLEAN
    for kind, number in _PATH_ERRORS:
        if isinstance(error, kind):
            return number
    return errno.EIO


def answering(
    operation: Callable[P, Coroutine[Any, Any, T]],
) -> Callable[P, Coroutine[Any, Any, T]]:
    """Make an operation answer every error with an errno.

    pyfuse3 ends its main loop on any other exception, so every operation wears this. Its
    first argument must have `report(ImageError)`, which logs a damaged object once.
    """

    @functools.wraps(operation)
    async def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await operation(*args, **kwargs)
        except pyfuse3.FUSEError:
            raise
        except ImageError as error:
            served: Any = args[0]
            served.report(error)
            raise pyfuse3.FUSEError(errno_of(error)) from error
        except PathError as error:
            raise pyfuse3.FUSEError(errno_of(error)) from error
        except OSError as error:
            log.warning("device: %s", error)
            raise pyfuse3.FUSEError(errno.EIO) from error
        except Exception as error:
            log.exception("%s failed", operation.__name__)
            raise pyfuse3.FUSEError(errno.EIO) from error

    return wrapped


ENOATTR_UNSUPPORTED = errno.EOPNOTSUPP
NOT_IMPLEMENTED = errno.ENOSYS
