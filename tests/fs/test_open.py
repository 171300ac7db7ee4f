"""Opening and closing: external logs, sources that are no image, use after close, threads."""

from __future__ import annotations

import gc
import gzip
import os
import random
import shutil
import struct
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest

import wofs
from support.hostile import SB_LOGSTART, edited_super
from support.images import ROOT
from wofs.device import BytesDevice, Device, FileDevice
from wofs.errors import Corrupt, NotXfs, StaleHandle, Truncated, Unsupported
from wofs.xfs.geometry import fsb_to_byte

Unpack = Callable[[str], Path]
MIB = 1 << 20


class Counting:
    """A device that counts what is read through it."""

    def __init__(self, device: Device) -> None:
        self.name, self.size = device.name, device.size
        self.bytes = 0
        self._device = device

    def pread(self, offset: int, length: int) -> bytes:
        data = self._device.pread(offset, length)
        self.bytes += len(data)
        return data

    def expect(self, offset: int, length: int) -> None:
        self._device.expect(offset, length)

    def close(self) -> None:
        self._device.close()


def test_what_is_no_source_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match="an image is a path or a Device, not int"):
        wofs.open(3)  # type: ignore[arg-type]


# ---- external logs
@pytest.fixture
def split(image: Unpack, tmp_path: Path) -> tuple[Path, Path]:
    """The crashed image with its log taken out into a file of its own."""
    data = image("dirty").read_bytes()
    with wofs.open(BytesDevice(data), norecovery=True) as fs:
        sb, geo = fs.mount.sb, fs.mount.geo
        start = fsb_to_byte(geo, sb.logstart)
        log = data[start : start + sb.logblocks * sb.blocksize]
    disk, log_file = tmp_path / "disk.img", tmp_path / "disk.log"
    disk.write_bytes(edited_super(data, {SB_LOGSTART: bytes(8)}))
    log_file.write_bytes(log)
    return disk, log_file


def test_an_external_log_that_is_not_given_is_unknown(
    split: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    with wofs.open(split[0]) as fs:
        log = fs.info().log
    assert (log.state, log.external) == ("unknown", True)
    assert [record.getMessage() for record in caplog.records] == [
        "disk.img: log: is external and was not given: whether it is clean is unknown"
    ]


def test_an_external_log_that_is_given_is_looked_at(
    split: tuple[Path, Path], image: Unpack
) -> None:
    disk, log = split
    with pytest.raises(Unsupported, match=r"disk.img: log: is dirty \(not replayed from block"):
        wofs.open(disk, logdev=log)
    with (
        wofs.open(disk, logdev=log, norecovery=True) as fs,
        wofs.open(image("dirty"), norecovery=True) as inside,
    ):
        found, truth = fs.info().log, inside.info().log
    assert (found.state, found.external) == ("dirty", True)
    assert (found.tail_block, found.head_block) == (truth.tail_block, truth.head_block)
    log.write_bytes(bytes(log.stat().st_size))
    with wofs.open(disk, logdev=log) as fs:
        assert fs.info().log.state == "clean"


def test_what_is_not_the_log_is_refused(split: tuple[Path, Path], image: Unpack) -> None:
    disk, log = split
    os.truncate(log, MIB)
    with pytest.raises(Truncated, match=r"^disk.log: log block \d+ .*: the image ends first"):
        wofs.open(disk, logdev=log)
    with pytest.raises(Corrupt, match=r"^default.img: log block"):
        wofs.open(disk, logdev=image("default"))


def test_a_log_that_is_not_asked_for_is_told(
    image: Unpack, caplog: pytest.LogCaptureFixture
) -> None:
    log = BytesDevice(b"", "the.log")
    with wofs.open(image("empty"), logdev=log) as fs:
        assert not fs.info().log.external
    assert "empty.img: log: lies inside the image: the.log is not looked at" in caplog.text


# ---- sources
def test_what_is_no_image_is_named(tmp_path: Path) -> None:
    for content, found in ((b"", "the source has 0 bytes only"), (b"#!/bin/sh\n" * 99, "no XFS")):
        path = tmp_path / "thing"
        path.write_bytes(content)
        with pytest.raises(NotXfs, match=f"^thing: superblock .*{found}"):
            wofs.open(path)


def test_a_compressed_archive_is_given_up_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "backup.tar.gz"
    piece = gzip.compress(b"some archive\n" * 100_000, 1)
    path.write_bytes(piece * 400)
    told: list[int] = []
    with pytest.raises(NotXfs, match="no XFS here"):
        wofs.open(path, progress=lambda done, total: told.append(done))
    assert max(told) < path.stat().st_size // 2
    assert list((tmp_path / "cache" / "wofs").iterdir()) == []


def test_a_compressed_image_without_its_first_superblock_is_still_unpacked(
    tmp_path: Path, image: Unpack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "disk.gz"
    path.write_bytes(gzip.compress(bytes(4096) + image("empty").read_bytes()[4096:], 1))
    with pytest.raises(NotXfs, match=r"the copy in AG 1 is sound: try -o sb=1"):
        wofs.open(path)
    with wofs.open(path, sb=1) as fs:
        assert list(fs.root.iterdir()) == []


def test_opening_a_sparse_image_reads_what_it_needs(image: Unpack) -> None:
    device = Counting(FileDevice(image("ag64")))
    with wofs.open(device) as fs:
        assert len(list(fs.root.iterdir())) > 1
    assert device.bytes < 4 * MIB < device.size


# ---- closing
USES: dict[str, Callable[[wofs.Filesystem, wofs.Path], object]] = {
    "stat": lambda fs, path: path.stat(),
    "iterdir": lambda fs, path: list(path.iterdir()),
    "walk": lambda fs, path: list(path.walk()),
    "glob": lambda fs, path: list(path.glob("*")),
    "read": lambda fs, path: fs.path("/files/one").read_bytes(),
    "xattrs": lambda fs, path: path.xattrs(),
    "info": lambda fs, path: fs.info(),
    "ags": lambda fs, path: list(fs.ags()),
    "statfs": lambda fs, path: fs.statfs(),
    "with": lambda fs, path: fs.__enter__(),
}


@pytest.mark.parametrize("use", USES)
def test_use_after_close_is_named(use: str, image: Unpack) -> None:
    fs = wofs.open(image("default"))
    path = fs.path("/files")
    fs.close()
    fs.close()
    assert fs.closed
    assert repr(fs) == "Filesystem('default.img', closed)"
    with pytest.raises(StaleHandle, match=r"^default.img: the filesystem is closed$") as caught:
        USES[use](fs, path)
    assert isinstance(caught.value, ReferenceError)


def test_what_was_handed_out_is_closed_too(image: Unpack) -> None:
    fs = wofs.open(image("default"))
    seen = list(fs.path("/files").iterdir())
    file = fs.path("/attrs/both_forks").open()
    xattrs = fs.path("/attrs/sf").xattrs()
    file.read(1)
    assert seen[0].lstat()
    fs.close()
    for use in (seen[1].lstat, lambda: file.read(1 << 20), lambda: dict(xattrs)):
        with pytest.raises(StaleHandle, match="closed"):
            use()
    assert seen[1].name  # a name is only a name
    file.close()


def test_a_device_is_not_read_after_it_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    path.write_bytes(b"x" * 512)
    for device in (FileDevice(path), BytesDevice(b"x" * 512, "disk.img")):
        device.close()
        device.close()
        with pytest.raises(StaleHandle, match=r"^disk.img: is closed$"):
            device.pread(0, 1)


def test_nothing_stays_open(image: Unpack) -> None:
    path = image("empty")
    before = os.listdir("/proc/self/fd")
    for _ in range(3):
        with wofs.open(path) as fs:
            fs.root.stat()
    dropped = wofs.open(path)
    del dropped
    gc.collect()
    for wrong in ({"norecovery": True, "sb": 3000}, {"slab": "no such backend"}):
        with pytest.raises(wofs.WofsError):
            wofs.open(path, **wrong)
    assert os.listdir("/proc/self/fd") == before


# ---- threads
def described(path: wofs.Path) -> tuple[object, ...]:
    """Return all that is known of a file, its data as a digest."""
    stat = path.lstat()
    small = path.is_file() and not path.is_symlink() and stat.st_size < 4 * MIB
    data = sha256(path.read_bytes()).hexdigest() if small else None
    target = path.readlink_bytes() if path.is_symlink() else None
    return stat, data, target, dict(path.xattrs(follow_symlinks=False))


def some_paths(fs: wofs.Filesystem) -> list[bytes]:
    """Return the paths of every directory form, attributes, files and links, 250 of them."""
    found = [bytes(top / name) for top, below, others in fs.root.walk() for name in below + others]
    return random.Random(3).sample(found, 250)


def test_eight_threads_see_what_one_sees(image: Unpack) -> None:
    with wofs.open(image("default")) as fs:
        paths = some_paths(fs)
        truth = {path: described(fs.path(path)) for path in paths}
    with wofs.open(image("default")) as fs:
        start = threading.Barrier(8)

        def hammer(seed: int) -> int:
            mine = random.Random(seed).sample(paths, len(paths))
            start.wait()
            return sum(described(fs.path(path)) != truth[path] for path in mine)

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(hammer, range(8))) == [0] * 8


CLOSED_UNDER_WAY = """
import os, sys, threading, wofs
image = sys.argv[1]
errors = []
def hammer(fs):
    try:
        while True:
            for top, below, others in fs.root.walk():
                for name in others:
                    path = top / name
                    if path.is_file() and path.lstat().st_size < 100_000:
                        path.read_bytes()
    except ReferenceError as error:
        return
    except BaseException as error:
        errors.append(repr(error))
for delay in range(6):
    fs = wofs.open(image)
    threads = [threading.Thread(target=hammer, args=(fs,)) for _ in range(8)]
    for thread in threads: thread.start()
    threads[0].join(delay * 0.02)
    fs.close()
    spoil = [os.open(os.devnull, os.O_RDONLY) for _ in range(8)]
    for thread in threads: thread.join()
    for fd in spoil: os.close(fd)
print(errors)
"""


def test_closing_under_readers_ends_them_cleanly(image: Unpack) -> None:
    command = [sys.executable, "-c", CLOSED_UNDER_WAY, str(image("noreflink"))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


# ---- for programs of others
CLIENT = """
    import wofs

    def main(image: str) -> int:
        total: int = 0
        with wofs.open(image, norecovery=True) as fs:
            for path in fs.path("/etc").iterdir():
                st: wofs.Stat = path.stat()
                total += st.st_size
                name: str = path.name
                raw: bytes = path.name_bytes
                with path.open() as file:
                    data: bytes = file.read(10)
                    file.seek(-1, 2)
                text: str = (path / "x").open("r").read()
                for key, value in path.xattrs().items():
                    print(key.hex(), value.hex(), name, raw, data, text)
            for top, folders, files in fs.root.walk():
                print(top / folders[0], files)
            try:
                fs.path("x").read_bytes()
            except wofs.Corrupt as error:
                daddr: int | None = error.where.daddr
                print(error.where.object, daddr, error.expected, error.found)
            free: int = fs.statfs().f_bfree
        return total + free + WRONG
"""


@pytest.mark.parametrize(("wrong", "code"), [("0", 0), ("fs.path('/')", 1)])
def test_a_strictly_typed_program_may_use_it(wrong: str, code: int, tmp_path: Path) -> None:
    program = tmp_path / "client.py"
    program.write_text(textwrap.dedent(CLIENT).replace("WRONG", wrong))
    options = ["--strict", "--config-file=", "--follow-imports=silent"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, f"--cache-dir={tmp_path}", str(program)],
        env={**os.environ, "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout
    assert Path(wofs.__file__).with_name("py.typed").exists()


def test_errors_carry_what_they_say(image: Unpack) -> None:
    data = bytearray(image("default").read_bytes())
    with wofs.open(BytesDevice(bytes(data))) as fs:
        extents = fs.mount.maps.extents(fs.path("/dirs/leaf").inode())
        at = fsb_to_byte(fs.mount.geo, extents.fsblock[0])
    data[at + 4 : at + 8] = struct.pack("<I", 0xDEAD)
    with wofs.open(BytesDevice(bytes(data), "disk.img")) as fs:
        with pytest.raises(wofs.BadChecksum) as caught:
            next(fs.path("/dirs/leaf").iterdir())
        error = caught.value
        assert error.where.image == "disk.img"
        assert "directory" in error.where.object
        assert (error.where.daddr, error.where.length, error.where.field) == (at >> 9, 4096, "crc")
        assert error.found == "0x0000dead"
        assert str(error.expected).startswith("0x")
        assert error.__notes__ == ["path: /dirs/leaf"]
        assert str(error) == (
            f"disk.img: {error.where.object} (daddr {at >> 9:#x}, 4096 B): "
            f"crc is 0x0000dead, expected {error.expected}"
        )


@pytest.mark.skipif(shutil.which("mkfs.xfs") is None, reason="needs mkfs.xfs")
def test_three_terabytes_of_nothing_open_by_few_reads(tmp_path: Path) -> None:
    path = tmp_path / "huge.img"
    with path.open("wb") as f:
        f.truncate(3 << 40)
    options = ["-q", "-d", "agsize=300g", "-l", "size=64m"]
    subprocess.run(["mkfs.xfs", *options, str(path)], check=True, capture_output=True)
    device = Counting(FileDevice(path))
    with wofs.open(device) as fs:
        assert (fs.info().agcount, fs.info().log.state) == (11, "clean")
        assert list(fs.root.iterdir()) == []
    assert device.bytes < MIB
