"""Nothing but an errno leaves a handler: any other exception would end the mount."""

from __future__ import annotations

import errno
import inspect
import logging

import pytest

pyfuse3 = pytest.importorskip("pyfuse3", reason="pyfuse3 is not installed")
trio = pytest.importorskip("trio", reason="trio is not installed")

from wofs.errors import (  # noqa: E402
    BadChecksum,
    ImageError,
    IsDir,
    Loop,
    NotDir,
    NotFound,
    NotLink,
    NoXattr,
    StaleHandle,
    Truncated,
    Unsupported,
    Where,
)
from wofs.fuse.handler import answering  # noqa: E402
from wofs.fuse.ops import Operations  # noqa: E402
from wofs.fuse.readonly import ReadOnly  # noqa: E402

WHERE = Where("image", "inode 7")


class Owner:
    """Raises what it is told to."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
        self.reported: list[ImageError] = []

    def report(self, error: ImageError) -> None:
        self.reported.append(error)

    def place(self, node: int | None) -> str:
        return f"image: inode {node}"

    @answering
    def act(self, node: int) -> int:
        raise self.error


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (pyfuse3.FUSEError(errno.EXDEV), errno.EXDEV),
        (BadChecksum(WHERE), errno.EUCLEAN),
        (Truncated(WHERE), errno.EUCLEAN),
        (Unsupported(WHERE), errno.EOPNOTSUPP),
        (NotFound("x"), errno.ENOENT),
        (NotDir("x"), errno.ENOTDIR),
        (IsDir("x"), errno.EISDIR),
        (NotLink("x"), errno.EINVAL),
        (Loop("x"), errno.ELOOP),
        (NoXattr("x"), errno.ENODATA),
        (OSError(errno.EIO, "Input/output error"), errno.EIO),
        (OSError(errno.ENODATA, "critical medium error"), errno.EIO),
        (OSError(errno.ENOENT, "gone"), errno.EIO),
        (TimeoutError("slow"), errno.EIO),
        (MemoryError(), errno.ENOMEM),
        (RecursionError("deep"), errno.EIO),
        (KeyError("bug"), errno.EIO),
        (AssertionError("bug"), errno.EIO),
        (OverflowError("bug"), errno.EIO),
        (StaleHandle("closed"), errno.EIO),
        (ExceptionGroup("several", [ValueError("bug")]), errno.EIO),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_exception_becomes_an_errno(error: Exception, number: int) -> None:
    owner = Owner(error)
    with pytest.raises(pyfuse3.FUSEError) as caught:
        trio.run(owner.act, 7)
    assert caught.value.errno == number
    assert owner.reported == ([error] if isinstance(error, ImageError) else [])


def test_what_is_no_answer_passes() -> None:
    for error in (KeyboardInterrupt(), SystemExit(3)):
        with pytest.raises(type(error)):
            trio.run(Owner(error).act, 7)


def test_a_device_error_is_a_line_and_a_bug_a_traceback_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for error in (OSError(errno.EIO, "Input/output error"), ZeroDivisionError("a bug")):
        owner = Owner(error)
        for _ in range(3):
            with pytest.raises(pyfuse3.FUSEError):
                trio.run(owner.act, 4711)
    device, bug = caplog.records
    assert device.getMessage() == "image: inode 4711: act: Input/output error"
    assert (device.levelno, device.exc_info) == (logging.WARNING, None)
    assert bug.getMessage() == "image: inode 4711: act: ZeroDivisionError: a bug"
    assert bug.levelno == logging.ERROR
    assert bug.exc_info


def test_all_handlers_wear_the_wrapper() -> None:
    """Those of our own that are called for a request; the rest answer by themselves."""
    plain = {"forget", "release", "releasedir"}
    refused = {name for name in vars(ReadOnly) if not name.startswith("_")}
    requests = {
        name
        for name, member in inspect.getmembers(pyfuse3.Operations, inspect.iscoroutinefunction)
        if name in vars(Operations)
    }
    assert plain <= requests
    for name in requests - plain:
        assert hasattr(getattr(Operations, name), "__wrapped__"), name
    assert not refused & requests
    assert {"setattr", "write", "create", "mkdir", "unlink", "rename", "setxattr"} <= refused
