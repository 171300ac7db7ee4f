"""Compressed images on the command line: unpacked once, with a bar, refused in one line."""

from __future__ import annotations

import gzip
import lzma
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from support.cli import Run, as_nobody, child, terminal
from support.fuse import WOFS

Unpack = Callable[[str], Path]

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gz": lambda data: gzip.compress(data, 1),
    "xz": lambda data: lzma.compress(data, preset=0),
    "zst": zstandard.ZstdCompressor(write_checksum=True).compress,
}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "wofs"


@pytest.fixture(scope="module")
def packed(image: Unpack, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One image, compressed in each way, in two members where that is allowed."""
    data = image("noreflink").read_bytes()
    folder = tmp_path_factory.mktemp("packed")
    half = len(data) // 2
    out = {}
    for ending, pack in PACKERS.items():
        out[ending] = folder / f"disk.img.{ending}"
        out[ending].write_bytes(pack(data[:half]) + pack(data[half:]))
    return out


@pytest.mark.parametrize("ending", PACKERS)
def test_any_verb_reads_it(
    ending: str, wofs: Run, image: Unpack, packed: dict[str, Path], cache: Path
) -> None:
    plain = wofs("ls", "-lR", image("noreflink"))
    done = wofs("ls", "-lR", packed[ending])
    assert (done.code, done.err, done.out) == (0, "", plain.out)
    (entry,) = cache.iterdir()
    before = entry.stat()
    assert wofs("cat", packed[ending], "/files/one").out == b"o"
    (after,) = [path.stat() for path in cache.iterdir()]
    assert (before.st_ino, before.st_ctime_ns) != (0, 0)
    assert (after.st_ino, after.st_size) == (before.st_ino, image("noreflink").stat().st_size)
    assert after.st_blocks * 512 < after.st_size // 4


def test_a_bar_shows_the_unpacking_once(packed: dict[str, Path], cache: Path) -> None:
    done, shown = terminal("cat", packed["gz"], "/files/one", stdout=False)
    assert (done.code, done.out) == (0, b"o")
    assert b"unpacking" in shown
    again, silence = terminal("cat", packed["gz"], "/files/one", stdout=False)
    assert (again.code, again.out, silence) == (0, b"o", b"")


def test_no_bar_in_a_pipe_or_when_quiet(packed: dict[str, Path], cache: Path) -> None:
    assert child("ls", packed["gz"]).err == ""
    for entry in cache.iterdir():
        entry.unlink()
    assert terminal("ls", "-q", packed["gz"], stdout=False)[1] == b""


@pytest.mark.parametrize("ending", PACKERS)
def test_what_is_not_whole_is_4(
    ending: str, wofs: Run, packed: dict[str, Path], cache: Path, tmp_path: Path
) -> None:
    data = bytearray(packed[ending].read_bytes())
    path = tmp_path / f"part.{ending}"
    path.write_bytes(data[: len(data) - 9])
    name = {"gz": "gzip", "xz": "xz", "zst": "zstd"}[ending]
    done = wofs("ls", path)
    assert (done.code, done.out) == (4, b"")
    line = rf"wofs: part.{ending}: {name} stream: the file ends within it, after \d+ bytes\n"
    assert re.fullmatch(line, done.err)
    data[len(data) // 3] ^= 0xFF
    path.write_bytes(data)
    done = wofs("ls", path)
    assert (done.code, done.out) == (4, b"")
    assert re.fullmatch(rf"wofs: part.{ending}: {name} stream: damaged before byte .*\n", done.err)
    assert list(cache.iterdir()) == []


def test_what_holds_no_image_is_3(wofs: Run, cache: Path, tmp_path: Path) -> None:
    path = tmp_path / "notes.gz"
    for content in (b"some notes\n" * 999, b""):
        path.write_bytes(gzip.compress(content))
        done = wofs("info", path)
        assert (done.code, done.err.count("\n")) == (3, 1)
        assert done.err.startswith("wofs: notes.gz: superblock (daddr 0x0, 512 B): no XFS")


def test_a_cache_that_cannot_be_is_done_without(
    wofs: Run, packed: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert wofs("cat", packed["zst"], "/files/one").out == b"o"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else")
def test_an_image_of_somebody_else_is_1(image: Unpack, tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    path.write_bytes(image("empty").read_bytes())
    path.chmod(0o600)
    done = as_nobody(path, tmp_path, "info", "IMAGE")
    assert (done.code, done.out) == (1, b"")
    assert re.fullmatch(r"wofs: /proc/self/fd/\d+: permission denied\n", done.err)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_unpacking_leaves_nothing(number: int, cache: Path, tmp_path: Path) -> None:
    path = tmp_path / "endless.gz"
    noise = gzip.compress(os.urandom(1 << 20), 1)
    path.write_bytes(noise * 120)
    process = subprocess.Popen([*WOFS, "ls", path], stderr=subprocess.PIPE)
    deadline = time.monotonic() + 30
    while not (cache.exists() and any(entry.stat().st_size for entry in cache.iterdir())):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130 if number == signal.SIGINT else 143, b"")
    assert list(cache.iterdir()) == []
