"""A real FUSE mount served by a child process, undone on every way out."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

WOFS = [sys.executable, "-c", "import sys; from wofs.cli.main import main; sys.exit(main())"]
"""The `wofs` command of this interpreter, installed or not."""

_PATIENCE_S = 30.0


def lacking() -> str | None:
    """Return why FUSE cannot be tested here, None when it can."""
    if find_spec("pyfuse3") is None or find_spec("trio") is None:
        return "pyfuse3 or trio is not installed"
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "/dev/fuse is missing or closed to this user"
    if os.geteuid() != 0 and shutil.which("fusermount3") is None:
        return "not root, and fusermount3 is missing"
    return None


def unmount(mountpoint: Path) -> None:
    """Unmount as the user we are; lazily, so that nothing is left behind."""
    command = ["umount", "-l"] if os.geteuid() == 0 else ["fusermount3", "-uz"]
    subprocess.run([*command, str(mountpoint)], check=False, capture_output=True)


@contextmanager
def mounted(
    image: Path, mountpoint: Path, options: Sequence[str] = ()
) -> Iterator[subprocess.Popen[str]]:
    """Serve `image` at `mountpoint` by `wofs mount -f` in a child for the time of the block.

    Afterwards the child must end by itself with status 0; what it said is in the failure.
    """
    mountpoint.mkdir(exist_ok=True)
    command = [*WOFS, "mount", "-f", *options, str(image), str(mountpoint)]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        _wait_until_mounted(child, mountpoint)
        yield child
        unmount(mountpoint)
        _, said = child.communicate(timeout=_PATIENCE_S)
        assert child.returncode == 0, f"wofs mount ended with {child.returncode}:\n{said}"
    finally:
        if child.poll() is None:
            unmount(mountpoint)
            child.kill()
            child.communicate()


def _wait_until_mounted(child: subprocess.Popen[str], mountpoint: Path) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not os.path.ismount(mountpoint):
        if child.poll() is not None:
            _, said = child.communicate()
            raise AssertionError(f"wofs mount ended with {child.returncode}:\n{said}")
        assert time.monotonic() < deadline, "wofs mount did not come up"
        time.sleep(0.02)
