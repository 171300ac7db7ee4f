"""A real FUSE mount served by a child process, undone on every way out."""

from __future__ import annotations

import os
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from signal import SIGKILL

from support.rights import may_mount

WOFS = [sys.executable, "-c", "import sys; from wofs.cli.main import main; sys.exit(main())"]
"""The `wofs` command of this interpreter, installed or not."""

_PATIENCE_S = 30.0


def lacking() -> str | None:
    """Return why FUSE cannot be tested here, None when it can."""
    if find_spec("pyfuse3") is None or find_spec("trio") is None:
        return "pyfuse3 or trio is not installed"
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "/dev/fuse is missing or closed to this user"
    if os.geteuid() == 0:
        return None if may_mount() else "root without the right to mount (CAP_SYS_ADMIN)"
    if shutil.which("fusermount3") is None:
        return "not root, and fusermount3 is missing"
    if not os.path.exists("/etc/mtab"):
        return "not root, and /etc/mtab is missing, which fusermount3 looks into"
    return None


def run(*arguments: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    """Run `wofs` to its end and return how it ended and what it said."""
    return subprocess.run(  # type: ignore[call-overload,no-any-return]
        [*WOFS, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=_PATIENCE_S,
        **options,
    )


def table(mountpoint: Path) -> list[str]:
    """Return the lines of the mount table for a mount point: source, type and options each."""
    found = []
    for line in Path("/proc/self/mounts").read_text(errors="surrogateescape").splitlines():
        source, place, kind, options = line.split(" ")[:4]
        if place == str(mountpoint):
            found.append(f"{source} {kind} {options}")
    return found


def is_root() -> bool:
    """Whether we may mount for all users."""
    return os.geteuid() == 0


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


@dataclass(frozen=True)
class Server:
    """A server in the background, known by `process`, a descriptor of it that stays true."""

    pid: int
    process: int
    log: Path

    def ended(self, patience_s: float = _PATIENCE_S) -> bool:
        """Whether the process ends within the time given."""
        poller = select.poll()
        poller.register(self.process, select.POLLIN)
        return bool(poller.poll(patience_s * 1000))


@contextmanager
def background(
    image: Path, mountpoint: Path, *options: str | Path, log: Path | None = None
) -> Iterator[Server]:
    """Mount by `wofs mount`, which must say nothing; unmount and kill what is left afterwards."""
    mountpoint.mkdir(exist_ok=True)
    log = log or mountpoint.with_name(f"{mountpoint.name}.log")
    done = run("mount", "--log", log, *options, image, mountpoint)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    server = server_of(log)
    try:
        yield server
    finally:
        while table(mountpoint):
            unmount(mountpoint)
        if not server.ended(1.0):
            os.kill(server.pid, SIGKILL)
        os.close(server.process)


def server_of(log: Path) -> Server:
    """Return the server that wrote the last line of a log."""
    pid = int(re.findall(r" wofs\[(\d+)\] ", log.read_text())[-1])
    return Server(pid, os.pidfd_open(pid), log)


@contextmanager
def open_folder() -> Iterator[Path]:
    """Make a folder that every user can reach, unlike pytest's, for the time of the block.

    What a failed test left mounted in it is detached before it is removed.
    """
    folder = Path(tempfile.mkdtemp(prefix="wofs-test-")).resolve()
    os.chmod(folder, 0o755)
    try:
        yield folder
    finally:
        for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
            place = Path(line.split(" ")[1])
            if folder in place.parents:
                unmount(place)
        shutil.rmtree(folder)
