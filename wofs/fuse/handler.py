"""The wrapper of every FUSE operation: an answer or an errno, never another exception."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast

from pyfuse3 import FUSEError

from wofs.errors import ImageError, PathError
from wofs.fuse.errmap import errno_of

log = logging.getLogger("wofs.fuse")

_LOGGED_MOST = 1000
_logged: set[str] = set()
"""Failures of the device and of our own that were logged."""


class Reporter(Protocol):
    """Who owns operations."""

    def report(self, error: ImageError) -> None:
        """Log a damaged object, the first time it is met."""
        ...

    def place(self, node: int | None) -> str:
        """Return what a log line calls the inode of a node id; the image, if it is None."""
        ...


S = TypeVar("S", bound=Reporter)
P = ParamSpec("P")
T = TypeVar("T")


def answering(
    operation: Callable[Concatenate[S, P], T],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """Turn a plain method into an asynchronous handler that raises FUSEError only.

    Any other exception would end pyfuse3's loop and with it the mount. Damaged objects are
    reported by the operation's owner, device errors and our own bugs logged once each.
    """

    @wraps(operation)
    async def handler(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return operation(self, *args, **kwargs)
        except FUSEError:
            raise
        except ImageError as error:
            self.report(error)
            raise FUSEError(errno_of(error)) from None
        except PathError as error:
            raise FUSEError(errno_of(error)) from None
        except Exception as error:
            node = args[0] if args and isinstance(args[0], int) else None
            log_once(self.place(node), operation.__name__, error)
            raise FUSEError(errno_of(error)) from None

    return cast(Callable[Concatenate[S, P], Coroutine[Any, Any, T]], handler)


def log_once(place: str, operation: str, error: Exception) -> None:
    """Log a device's error in a line, anything else as the bug it is, with its traceback."""
    if isinstance(error, OSError):
        line = key = f"{place}: {operation}: {error.strerror or error}"
    else:
        line = f"{place}: {operation}: {type(error).__name__}: {error}"
        key = f"{operation}: {type(error).__name__}: {_origin(error)}"
    if key in _logged or len(_logged) >= _LOGGED_MOST:
        return
    _logged.add(key)
    if isinstance(error, OSError):
        log.warning("%s", line)
    else:
        log.error("%s", line, exc_info=error)


def _origin(error: Exception) -> str:
    """Return the line of code that raised an error."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else str(error)
