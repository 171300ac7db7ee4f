"""The file of `--html`: written whole or not at all, and over nothing but a page."""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import suppress

from wofs.page import Html

_BEGIN = b"<!doctype html>"


def claim(path: str) -> None:
    """Raise OSError where no page can be written to `path`, before the work for it begins.

    A file that is there must be empty or a page: by a slip of the hand it would be an image, or
    the results of a campaign.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        _partial(path, b"")
        return
    if stat.S_ISREG(mode):
        with open(path, "rb") as there:
            begin = there.read(len(_BEGIN))
        if begin and begin.lower() != _BEGIN:
            raise FileExistsError(f"{path}: is there already and is no page; it is not replaced")
        _partial(path, b"")
    elif not (stat.S_ISCHR(mode) or stat.S_ISFIFO(mode)):
        raise OSError(f"{path}: is no file that a page can be written to")


def write(path: str, drawn: Html) -> None:
    """Write a page to a path that was claimed. Raises OSError."""
    data = drawn.encode("utf-8")
    if os.path.exists(path) and not os.path.isfile(path):  # /dev/stdout, a pipe
        try:
            with open(path, "wb") as out:
                out.write(data)
        except OSError as error:
            raise OSError(error.errno, error.strerror, path) from error
        return
    _partial(path, data)


def _partial(path: str, data: bytes) -> None:
    """Write a file beside the one that `path` leads to, and give it that name if it has bytes."""
    whole = os.path.realpath(path)
    partial = f"{whole}.wofs-partial-{secrets.token_hex(4)}"
    try:
        with open(partial, "xb") as out:
            out.write(data)
        if data:
            os.replace(partial, whole)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error
    finally:
        with suppress(FileNotFoundError):
            os.unlink(partial)
