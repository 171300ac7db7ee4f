"""Those who serve an image: the kernel, wofs, and a server that decodes nothing."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchlib.images import kernel_mount, mountpoint, run

ROOT = Path(__file__).resolve().parent.parent.parent
PYTHON = ROOT / ".venv" / "bin" / "python"
WOFS = ROOT / ".venv" / "bin" / "wofs"


@dataclass(frozen=True)
class Mounted:
    """An image that is served: where, and by which process (None: the kernel)."""

    top: Path
    pid: int | None = None

    def cpu(self) -> float:
        """Return the seconds of processor time the server's threads have used."""
        if self.pid is None:
            return 0.0
        threads = Path(f"/proc/{self.pid}/task").iterdir()
        return sum(int((one / "schedstat").read_text().split()[0]) for one in threads) / 1e9

    def memory_mib(self, line: str) -> float:
        """Return a line of the server's status (VmRSS, VmHWM) in MiB."""
        for text in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if text.startswith(line + ":"):
                return int(text.split()[1]) / 1024
        return 0.0


@contextlib.contextmanager
def by_kernel(image: Path) -> Iterator[Mounted]:
    """Serve by the kernel's own XFS on a loop device."""
    with kernel_mount(image, "loop,ro") as top:
        yield Mounted(top)


@contextlib.contextmanager
def by_wofs(image: Path, options: str = "") -> Iterator[Mounted]:
    """Serve by `wofs mount`, in the background."""
    with mountpoint() as top:
        run(WOFS, "mount", *(["-o", options] if options else []), image, top)
        pid = server_pid(top)
        try:
            yield Mounted(top, pid)
        finally:
            run("umount", top)
            while Path(f"/proc/{pid}").exists():
                time.sleep(0.01)


@contextlib.contextmanager
def by_ceiling(image: Path) -> Iterator[Mounted]:
    """Serve by the server of `ceiling`."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tools")}
    with mountpoint() as top:
        argv = [str(PYTHON), "-m", "benchlib.ceiling", str(image), str(top)]
        server = subprocess.Popen(argv, stdout=subprocess.PIPE, env=environment)
        try:
            assert server.stdout is not None
            if server.stdout.readline() != b"ready\n":
                sys.exit("bench: the server of the ceiling did not start")
            try:
                yield Mounted(top, server.pid)
            finally:
                run("umount", top)
        finally:
            server.wait(60)


def server_pid(top: Path) -> int:
    """Return the pid of the wofs process that serves at `top`."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                argv = (entry / "cmdline").read_bytes().split(b"\0")
                if b"mount" in argv and os.fsencode(top) in argv:
                    return int(entry.name)
    sys.exit(f"bench: no wofs process serves {top}")


Side = Callable[[Path], contextlib.AbstractContextManager[Mounted]]

SIDES: dict[str, Side] = {"kernel": by_kernel, "wofs": by_wofs, "ceiling": by_ceiling}


def rotated(names: Sequence[str], by: int) -> list[str]:
    """Return the names from another one on: who begins changes from round to round."""
    return [names[(at + by) % len(names)] for at in range(len(names))]


def drop_caches() -> None:
    """Empty the page, dentry and inode caches: the image's own pages go too, on every side."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3\n")
