"""A server comes up, goes to the background, ends: each way cleanly, with nothing left."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support import fuse
from support.fuse import Server

pytestmark = pytest.mark.skipif(fuse.lacking() is not None, reason=str(fuse.lacking()))

Unpack = Callable[[str], Path]


def by_command(*command: str) -> Callable[[Server, Path], None]:
    def end(server: Server, mountpoint: Path) -> None:
        done = subprocess.run(
            [*command, str(mountpoint)], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    return end


def by_signal(number: signal.Signals) -> Callable[[Server, Path], None]:
    return lambda server, mountpoint: signal.pidfd_send_signal(server.process, number)


ENDINGS = {
    "wofs umount": by_command(*fuse.WOFS, "umount"),
    "wofs umount -l": by_command(*fuse.WOFS, "umount", "-l"),
    "fusermount3 -u": by_command("fusermount3", "-u"),
    "SIGINT": by_signal(signal.SIGINT),
    "SIGTERM": by_signal(signal.SIGTERM),
    "SIGHUP": by_signal(signal.SIGHUP),
    "SIGQUIT": by_signal(signal.SIGQUIT),
}
if fuse.is_root():
    ENDINGS["umount"] = by_command("umount")


def assert_nothing_left(mountpoint: Path, expected: set[str]) -> None:
    assert not fuse.table(mountpoint)
    assert not list(mountpoint.iterdir())
    assert {path.name for path in mountpoint.parent.iterdir()} == expected


@pytest.mark.parametrize("how", ENDINGS)
def test_ends_with_nothing_left(how: str, image: Unpack, tmp_path: Path) -> None:
    mountpoint = tmp_path / "m"
    with fuse.background(image("empty"), mountpoint, "--report", tmp_path / "report") as server:
        ENDINGS[how](server, mountpoint)
        assert server.ended()
        assert_nothing_left(mountpoint, {"m", "m.log", "report"})
        told = server.log.read_text().splitlines()
        assert re.search(r"INFO mounted empty\.img on .* backend", told[0])
        assert re.search(r"INFO unmounted empty\.img", told[-1])
        assert len(told) == (3 if how.startswith("SIG") else 2)
        assert not (tmp_path / "report").read_text()


def test_signals_without_a_meaning_change_nothing(image: Unpack, tmp_path: Path) -> None:
    mountpoint = tmp_path / "m"
    with fuse.background(image("default"), mountpoint) as server:
        before = sorted(os.listdir(mountpoint))
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            signal.pidfd_send_signal(server.process, number)
            assert sorted(os.listdir(mountpoint)) == before
        by_command(*fuse.WOFS, "umount")(server, mountpoint)
        assert server.ended()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_in_the_foreground_a_signal_ends_with_0(
    number: signal.Signals, image: Unpack, tmp_path: Path
) -> None:
    (tmp_path / "m").mkdir()
    child = subprocess.Popen(
        [*fuse.WOFS, "mount", "-f", str(image("empty")), str(tmp_path / "m")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert child.stdout is not None
    first = child.stdout.readline()  # told when the mount answers
    assert first.startswith("wofs: mounted empty.img on ")
    assert os.path.ismount(tmp_path / "m")
    child.send_signal(number)
    said, _ = child.communicate(timeout=30)
    assert child.returncode == 0
    assert said.splitlines()[0] == f"wofs: ending on {number.name}"
    assert_nothing_left(tmp_path / "m", {"m"})


def test_a_signal_ends_it_while_it_is_busy(image: Unpack, tmp_path: Path) -> None:
    top = tmp_path / "m"
    ask = "import os, sys\nwhile True:\n list(os.scandir(sys.argv[1]))\n"
    with fuse.background(image("default"), top) as server:
        clients = [
            subprocess.Popen(
                [sys.executable, "-c", ask, str(top / "dirs/leafn")], stderr=subprocess.DEVNULL
            )
            for _ in range(3)
        ]
        assert len(os.listdir(top / "dirs/leafn")) > 100
        signal.pidfd_send_signal(server.process, signal.SIGTERM)
        assert server.ended()
        for client in clients:
            client.wait(timeout=30)  # they meet the end of the mount
        assert_nothing_left(top, {"m", "m.log"})
        assert " ending on SIGTERM" in server.log.read_text()


def test_nohup_is_respected(image: Unpack, tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with fuse.mounted(image("empty"), tmp_path / "m") as child:
            child.send_signal(signal.SIGHUP)
            assert os.path.ismount(tmp_path / "m")
            os.statvfs(tmp_path / "m")
            assert child.poll() is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_in_the_background_it_holds_nothing_of_its_caller(image: Unpack, tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.set_inheritable(lock.fileno(), True)
        (tmp_path / "m").mkdir()
        done = fuse.run(
            "mount", "--log", tmp_path / "log", image("empty"), tmp_path / "m", close_fds=False
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    server = fuse.server_of(tmp_path / "log")
    try:
        proc = Path(f"/proc/{server.pid}")
        assert os.readlink(proc / "cwd") == "/"
        assert {os.readlink(proc / "fd" / n) for n in "012"} == {os.devnull}
        assert os.getsid(server.pid) == server.pid
        with (tmp_path / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        assert fuse.run("umount", tmp_path / "m").returncode == 0
        assert server.ended()
        os.close(server.process)


def test_without_standard_streams(image: Unpack, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    shell = 'exec <&- >&- 2>&-; "$@"'
    words = map(str, ("mount", "--log", tmp_path / "log", image("default"), tmp_path / "m"))
    done = subprocess.run(["sh", "-c", shell, "sh", *fuse.WOFS, *words], check=False)
    assert done.returncode == 0
    server = fuse.server_of(tmp_path / "log")
    assert len((tmp_path / "m/files/big").read_bytes()) == 256 << 10
    assert fuse.run("umount", tmp_path / "m").returncode == 0
    assert server.ended()
    os.close(server.process)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_a_log_that_is_full_is_one_line(image: Unpack, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    done = fuse.run("mount", "--log", "/dev/full", image("empty"), tmp_path / "m")
    fuse.unmount(tmp_path / "m")
    assert done.returncode == 0
    told = "warning: /dev/full: no space left on device: its log misses lines"
    assert done.stderr == f"wofs: {told}\n"


def test_umount_returns_when_the_image_is_closed(image: Unpack, tmp_path: Path) -> None:
    path = image("default")
    with fuse.background(path, tmp_path / "m") as server:
        held = Path(f"/proc/{server.pid}/fd")
        assert str(path) in {os.readlink(fd) for fd in held.iterdir()}
        assert fuse.run("umount", tmp_path / "m").returncode == 0
        links = []
        try:
            links = [os.readlink(held / name) for name in os.listdir(held)]
        except (FileNotFoundError, PermissionError):  # it is ending in this moment
            assert server.ended()
        assert str(path) not in links


def test_a_mount_in_use_is_not_unmounted_but_can_be_detached(image: Unpack, tmp_path: Path) -> None:
    mountpoint = tmp_path / "m"
    with fuse.background(image("default"), mountpoint) as server:
        with (mountpoint / "files/one").open("rb") as file:
            done = fuse.run("umount", mountpoint)
            assert done.returncode == 32
            assert done.stderr.startswith(f"wofs: {mountpoint}: is in use")
            assert done.stderr.count("\n") == 1
            done = fuse.run("umount", "--lazy", mountpoint)
            assert (done.returncode, done.stderr) == (0, "")
            assert not os.path.ismount(mountpoint)
            assert len(file.read()) == 1
            assert not server.ended(0.1)
        assert server.ended()


def test_a_killed_server_leaves_a_mount_that_is_explained_and_cleared(
    image: Unpack, tmp_path: Path
) -> None:
    mountpoint, path = tmp_path / "m", image("default")
    with fuse.background(path, mountpoint) as server:
        (mountpoint / "files").stat()  # what the kernel keeps of it must not hide the death
        signal.pidfd_send_signal(server.process, signal.SIGKILL)
        assert server.ended()
        done = fuse.run("mount", path, mountpoint)
        assert done.returncode == 32
        assert done.stderr == (
            f"wofs: {mountpoint}: a mount whose server is gone; "
            f"`wofs umount {mountpoint}` clears it\n"
        )
        done = fuse.run("umount", mountpoint)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert not fuse.table(mountpoint)
    with fuse.background(path, mountpoint):
        assert (mountpoint / "files/one").exists()


@pytest.mark.skipif(not fuse.is_root(), reason="needs root")
def test_a_cut_connection_leaves_no_dead_mount(image: Unpack, tmp_path: Path) -> None:
    top = tmp_path / "m"
    with fuse.background(image("default"), top) as server:
        file = (top / "files/one").open("rb")
        done = subprocess.run(["umount", "-f", top], capture_output=True, text=True, check=False)
        assert done.returncode == 32  # it is in use; but the kernel has cut the connection
        assert server.ended()
        assert_nothing_left(top, {"m", "m.log"})
        with pytest.raises(OSError, match=r"not connected|abort"):
            os.pread(file.fileno(), 10, 0)
        file.close()


@pytest.mark.skipif(not fuse.is_root(), reason="needs root")
def test_a_mount_that_shows_twice_is_unmounted_here(image: Unpack, tmp_path: Path) -> None:
    top, second = tmp_path / "m", tmp_path / "second"
    second.mkdir()
    with fuse.background(image("default"), top) as server:
        subprocess.run(["mount", "--bind", top, second], check=True)
        done = fuse.run("umount", top)
        assert done.returncode == 0
        assert done.stderr == (
            f"wofs: {top}: unmounted; its server goes on, the mount shows elsewhere too\n"
        )
        assert not fuse.table(top)
        assert (second / "files/one").exists()
        done = fuse.run("umount", second)
        assert (done.returncode, done.stderr) == (0, "")
        assert server.ended()


@pytest.mark.parametrize(
    ("act", "outcome"),
    [
        ("os.kill(os.getpid(), 9)", (32, "the server ended with signal 9 before it had mounted")),
        ("os._exit(3)", (32, "the server ended with status 3 before it had mounted")),
        ("child.fail(1, 'a reason')", (1, "a reason")),
        ("child.ready()", (0, "")),
        ("child.ready(); os.kill(os.getpid(), 9)", (0, "")),
    ],
)
def test_the_parent_tells_what_became_of_the_child(act: str, outcome: tuple[int, str]) -> None:
    code = f"""
import os
from wofs.fuse.background import Outcome, fork
child = fork()
if isinstance(child, Outcome):
    print((child.status, child.message))
else:
    {act}
    os._exit(0)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30
    )
    assert (done.stdout, done.stderr) == (f"{outcome}\n", "")
