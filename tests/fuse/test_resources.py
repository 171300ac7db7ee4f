"""A server that works for long needs no more than at first: memory, descriptors, threads."""

from __future__ import annotations

import json
import os
import platform
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support import fuse
from support.mounting import remount
from support.seccomp import MEMFD_CREATE, under_seccomp

pytestmark = pytest.mark.skipif(fuse.lacking() is not None, reason=str(fuse.lacking()))

Unpack = Callable[[str], Path]

GROWTH_KIB = 2048
"""Most that memory may grow by after the first rounds: allocators breathe."""


def resident_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found
    return int(found[1])


def use_everything(top: Path) -> int:
    """List, look at and read all there is, and ask for what is not there; return the paths."""
    count = 0
    for folder, folders, files in os.walk(os.fsencode(top)):
        for name in (*folders, *files):
            path = os.path.join(folder, name)
            st = os.lstat(path)
            for xattr in os.listxattr(path, follow_symlinks=False):
                os.getxattr(path, xattr, follow_symlinks=False)
            if os.path.islink(path):
                os.readlink(path)
            elif os.path.isfile(path) and st.st_size < 10 << 20:
                with open(path, "rb") as file:
                    file.read()
            count += 1
        for absent in (b"none", b"none2"):
            assert not os.path.lexists(os.path.join(folder, absent))
    return count


@pytest.mark.skipif(not fuse.is_root(), reason="needs root to make the kernel forget")
def test_nothing_grows(image: Unpack, tmp_path: Path) -> None:
    top = tmp_path / "m"
    with fuse.mounted(image("default"), top, ["--log", str(tmp_path / "log")]) as child:
        sizes, descriptors, threads = [], [], []
        for _ in range(7):
            remount(top)
            assert use_everything(top) > 2000
            sizes.append(resident_kib(child.pid))
            descriptors.append(len(os.listdir(f"/proc/{child.pid}/fd")))
            threads.append(len(os.listdir(f"/proc/{child.pid}/task")))
        print(sizes)
    assert sizes[-1] - sizes[1] < GROWTH_KIB, sizes
    assert len(set(descriptors)) == 1
    assert threads[-1] <= threads[0]
    assert len((tmp_path / "log").read_text().splitlines()) == 2  # mounted, unmounted


def test_requests_that_are_given_up(image: Unpack, tmp_path: Path) -> None:
    """Clients killed in the middle of what they ask do no harm."""
    top = tmp_path / "m"
    script = "import os, sys\nwhile True:\n list(os.walk(sys.argv[1]))\n"
    with fuse.mounted(image("default"), top) as child:
        for _ in range(5):
            clients = [subprocess.Popen([sys.executable, "-c", script, str(top)]) for _ in range(2)]
            for client in clients:
                assert client.poll() is None
                os.listdir(top / "dirs/leafn")
                client.send_signal(signal.SIGKILL)
                client.wait()
        assert child.poll() is None
        assert len(os.listdir(top)) == 18


STRIKE = """
import os, sys, threading, time
from wofs.cli.main import main
from wofs.demo.struck import live_mount
from wofs.slab import _slab

image, place, report = sys.argv[1:]

def hit():
    while not os.path.ismount(place):
        time.sleep(0.02)
    structures = dict(live_mount().structures())
    _slab.stray_store(_slab.address(structures["agf[1]"], "freeblks"), 0)

threading.Thread(target=hit, daemon=True).start()
main(["mount", "-f", "--report", report, image, place])
"""


def test_a_stray_write_is_reported_to_the_file_and_its_mount_is_explained(
    image: Unpack, tmp_path: Path
) -> None:
    top, report = tmp_path / "m", tmp_path / "report"
    top.mkdir()
    words = [str(image("default")), str(top), str(report)]
    try:
        done = subprocess.run(
            [sys.executable, "-c", STRIKE, *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == -signal.SIGSEGV, done.stderr
        assert "agf[1].freeblks" in report.read_text()
        assert "agf[1].freeblks" in done.stderr
    finally:
        while fuse.table(top):
            fuse.unmount(top)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="system call numbers are x86-64's")
def test_a_sandbox_without_memory_files(image: Unpack, tmp_path: Path) -> None:
    """The server takes weaker memory and says so, once."""
    place, log = tmp_path / "m", tmp_path / "log"
    place.mkdir()
    order = ("mount", "--log", str(log), str(image("default")), str(place))
    done = under_seccomp((MEMFD_CREATE,), f"cli(*{order!r})")
    try:
        assert (done.returncode, done.stdout) == (0, "")
        assert len(done.stderr.splitlines()) == 1
        assert "lie in shared memory: this machine refuses memfd, the strongest" in done.stderr
        assert use_everything(place) > 1000
        assert json.loads(fuse.run("slab", "--json", place).stdout.splitlines()[0])["backend"] == (
            "shared"
        )
    finally:
        fuse.unmount(place)
    assert log.read_text().count("this machine refuses memfd") == 1
