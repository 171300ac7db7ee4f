"""A live mount tells root and its own user what its write-once memory holds, and nobody else."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import wofs
from support import fuse
from wofs.errors import MountError
from wofs.fuse import control, mountpoint
from wofs.fuse.mountpoint import wofs_mount_at
from wofs.slab.arena import PAGE

pytestmark = pytest.mark.skipif(fuse.lacking() is not None, reason=str(fuse.lacking()))

Unpack = Callable[[str], Path]
NOBODY = 65534


def slab(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*fuse.WOFS, "slab", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_mount_point_tells_what_its_server_holds(image: Unpack, tmp_path: Path) -> None:
    path, top = image("ag64"), tmp_path / "mnt"
    with wofs.open(path) as filesystem:
        header = filesystem.mount.agi[63]
        assert header is not None
        length = header.length
    with fuse.mounted(path, top) as server:
        arena, *runs = map(json.loads, slab(top, "--json").stdout.splitlines())
        assert (arena["sealed"], arena["image"]) == (True, path.name)
        ends = [(run["address"], run["address"] + run["bytes"] - 1) for run in runs]
        touched = {at for a, b in ends for at in range(a // PAGE, b // PAGE + 1)}
        assert len(touched) == arena["pages"]
        rows = map(json.loads, slab(top, "--object", "agi[63]", "--json").stdout.splitlines())
        fields = {row["field"]: row for row in rows}
        assert fields["length"]["value"] == str(length)
        maps = Path(f"/proc/{server.pid}/maps").read_text()
        spans = [line.split()[0].split("-") for line in maps.splitlines() if "wofs-slab" in line]
        address = fields["length"]["address"]
        assert any(int(a, 16) <= address < int(b, 16) for a, b in spans), "the server's own"
        stats = [json.loads(row) for row in slab(top, "--stats", "--json").stdout.splitlines()]
        afresh = [json.loads(row) for row in slab(path, "--stats", "--json").stdout.splitlines()]
        for row in (*stats, *afresh):
            row.pop("address", None)
        assert stats == afresh, "the same image fills the same memory"
        missing = slab(top, "--object", "agi[64]")
        assert (missing.returncode, missing.stdout) == (1, "")
        assert "backend memfd, sealed, locked" in slab(top).stdout
    assert slab(top).returncode == 1, "an empty directory is neither mount nor image"


@pytest.mark.skipif(os.geteuid() != 0, reason="asks as another user")
def test_another_user_is_not_answered(image: Unpack, tmp_path: Path) -> None:
    with fuse.mounted(image("empty"), tmp_path / "mnt"):
        mounted = wofs_mount_at(str(tmp_path / "mnt"))
        assert mounted is not None
        script = f"""
import os, socket
os.setuid({NOBODY})
line = socket.socket(socket.AF_UNIX)
line.connect({control.address(mounted.number)!r})
try:
    line.sendall(b"arena\\n")
    print(line.recv(100))
except (BrokenPipeError, ConnectionResetError):
    print(b"")
"""
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30
        )
        assert done.stdout.strip() == "b''"
        assert control.ask(mounted, "nonsense") == []
        assert control.ask(mounted, "fields no such thing") == []


def test_an_impostor_is_told_from_the_server(image: Unpack, tmp_path: Path) -> None:
    with fuse.mounted(image("empty"), tmp_path / "mnt"):
        mounted = wofs_mount_at(str(tmp_path / "mnt"))
    assert mounted is not None
    with pytest.raises(MountError, match="its server does not answer"):
        control.ask(mounted, "arena")
    with socket.socket(socket.AF_UNIX) as line:
        line.bind(control.address(mounted.number))
        line.listen(1)
        stranger = type(mounted)(**{**vars(mounted), "owner": os.geteuid() + 1})
        with pytest.raises(MountError, match="somebody else answers"):
            control.ask(stranger, "arena")


def test_a_stranger_at_the_lifeline_is_not_waited_for(image: Unpack, tmp_path: Path) -> None:
    with fuse.mounted(image("empty"), tmp_path / "mnt"):
        mounted = wofs_mount_at(str(tmp_path / "mnt"))
    assert mounted is not None
    with mountpoint.listening(mountpoint.lifeline(mounted.number), 1):
        others = type(mounted)(**{**vars(mounted), "owner": os.geteuid() + 1})
        for asked, grasped in ((mounted, True), (others, os.geteuid() == 0)):
            line = mountpoint._grasp_lifeline(asked)
            assert (line is not None) == grasped
            if line is not None:
                line.close()
    assert mountpoint._grasp_lifeline(mounted) is None


def test_an_address_is_had_once_its_last_holder_is_gone() -> None:
    address = control.address(os.makedev(0, (1 << 20) - 2))  # of no mount
    holder = mountpoint.listening(address, 1)
    with pytest.raises(OSError, match="Address already in use"):
        mountpoint.listening(address, 1)
    leaving = threading.Timer(0.1, holder.close)
    leaving.start()
    mountpoint.listening(address, 1).close()
    leaving.join()


def test_no_room_for_a_thread_is_no_reason_to_fail(
    image: Unpack, caplog: pytest.LogCaptureFixture
) -> None:
    device = os.makedev(0, (1 << 20) - 1)  # of no mount
    usual = threading.stack_size(1 << 46)
    try:
        with wofs.open(image("empty")) as fs:
            control.Control(fs.root.image.mount, device).close()
    finally:
        threading.stack_size(usual)
    assert "cannot look at this mount: can't start new thread" in caplog.text
    with socket.socket(socket.AF_UNIX) as line, pytest.raises(ConnectionRefusedError):
        line.connect(control.address(device))
