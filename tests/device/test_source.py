"""Compressed sources: unpacked once, sparse, whole or not at all, and never by their name."""

from __future__ import annotations

import fcntl
import gzip
import io
import logging
import lzma
import os
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from wofs.device import Device, FileDevice, open_device
from wofs.device.codec import codec_of, decode
from wofs.device.unpacked import Folder, Key, default_folder, key_of, write_sparse
from wofs.errors import Corrupt, ImageError, MountError, Truncated

Pack = Callable[[bytes], bytes]
MIB = 1 << 20


def zstd(data: bytes) -> bytes:
    """Compress to a frame with a checksum, as the zstd command does."""
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


PACKERS: dict[str, Pack] = {"gzip": gzip.compress, "xz": lzma.compress, "zstd": zstd}
every_codec = pytest.mark.parametrize("codec", PACKERS)

SKIPPABLE_FRAME = b"\x50\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"notes"


def content() -> bytes:
    """Return 3 MiB and a bit: data, a hole, a few bytes in the middle of nothing, data."""
    noise = zlib.compress(bytes(range(256)) * 40)
    return b"XFSB" + noise + bytes(MIB) + b"\1" + bytes(2 * MIB - 5) + noise


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "wofs"


def whole(device: Device) -> bytes:
    """Return all of a device's bytes and close it."""
    data = device.pread(0, device.size)
    device.close()
    return data


def unpack(packed: bytes) -> bytes:
    """Return what a stream decodes to, in memory."""
    codec = codec_of(packed[:6], "disk.img")
    assert codec is not None
    return b"".join(decode(io.BytesIO(packed), codec, "disk.img"))


@every_codec
def test_is_unpacked_by_its_magic_and_not_by_its_name(
    codec: str, tmp_path: Path, cache: Path
) -> None:
    path = tmp_path / "disk.img"
    path.write_bytes(PACKERS[codec](content()))
    device = open_device(path, cache_dir=cache)
    assert (device.name, device.size) == ("disk.img", len(content()))
    assert whole(device) == content()


def test_other_sources_are_read_where_they_are(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "disk.img.gz"
    path.write_bytes(b"XFSB" + bytes(600))
    device = open_device(os.fsencode(path), cache_dir=cache)
    assert isinstance(device, FileDevice)
    assert (device.name, device.size) == ("disk.img.gz", 604)
    device.close()
    (tmp_path / "empty").touch()
    open_device(tmp_path / "empty", cache_dir=cache).close()
    assert not cache.exists()
    with pytest.raises(IsADirectoryError, match="not an image"):
        open_device(tmp_path)
    with pytest.raises(FileNotFoundError):
        open_device(tmp_path / "absent")


@every_codec
def test_entry_is_sparse_private_and_used_again(codec: str, tmp_path: Path, cache: Path) -> None:
    data = content() + bytes(8 * MIB)
    path = tmp_path / "disk"
    path.write_bytes(PACKERS[codec](data))
    told: list[tuple[int, int]] = []
    device = open_device(path, cache_dir=cache, progress=lambda *at: told.append(at))
    (entry,) = cache.iterdir()
    info = entry.stat()
    assert info.st_size == len(data)
    assert info.st_blocks * 512 < 256 << 10
    assert (info.st_mode & 0o777, cache.stat().st_mode & 0o777) == (0o600, 0o700)
    assert isinstance(device, FileDevice)
    assert fcntl.fcntl(device.fileno(), fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
    assert told[-1] == (path.stat().st_size, path.stat().st_size)
    again = open_device(path, cache_dir=cache, progress=lambda *_: pytest.fail("unpacked twice"))
    assert (again.name, whole(again)) == ("disk", data)
    assert whole(device) == data


@every_codec
def test_members_follow_one_another(codec: str) -> None:
    pack = PACKERS[codec]
    parts = [b"one" * 1000, bytes(5000), b"", b"three"]
    assert unpack(b"".join(map(pack, parts))) == b"".join(parts)
    padded = pack(b"one") + bytes(8) + pack(b"two") + bytes(1 << 20)
    assert unpack(padded) == b"onetwo"


def test_zstd_skips_frames_that_hold_no_data() -> None:
    packed = SKIPPABLE_FRAME + zstd(b"one") + SKIPPABLE_FRAME + zstd(b"two")
    assert unpack(packed) == b"onetwo"


@every_codec
def test_garbage_after_the_end_is_left_out_with_a_warning(
    codec: str, caplog: pytest.LogCaptureFixture
) -> None:
    packed = PACKERS[codec](b"data")
    with caplog.at_level(logging.WARNING):
        assert unpack(packed + b"\1garbage") == b"data"
    assert f"disk.img: {codec} stream: what follows its end at byte {len(packed)}" in caplog.text
    caplog.clear()
    assert unpack(packed + b"\1") == b"data"
    assert "is ignored" in caplog.text


@every_codec
def test_truncated_stream_leaves_nothing_behind(codec: str, tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "disk.img"
    packed = PACKERS[codec](content())
    for length in (7, 20, len(packed) // 2, len(packed) - 1):
        path.write_bytes(packed[:length])
        with pytest.raises(Truncated, match=f"^disk.img: {codec} stream: the file ends within it"):
            open_device(path, cache_dir=cache)
        assert list(cache.iterdir()) == []


@every_codec
def test_damaged_stream_leaves_nothing_behind(codec: str, tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "disk.img"
    packed = bytearray(PACKERS[codec](content()))
    packed[len(packed) // 2] ^= 0xFF
    path.write_bytes(packed)
    with pytest.raises(Corrupt, match=f"^disk.img: {codec} stream: damaged before byte") as caught:
        open_device(path, cache_dir=cache)
    assert "\n" not in str(caught.value)
    assert list(cache.iterdir()) == []


@every_codec
@given(data=st.data())
def test_flipped_bits_give_bytes_or_an_image_error(codec: str, data: st.DataObject) -> None:
    packed = bytearray(PACKERS[codec](b"some data " * 50))
    for at in data.draw(st.lists(st.integers(6, len(packed) - 1), min_size=1, max_size=4)):
        packed[at] ^= 1 << data.draw(st.integers(0, 7))
    try:
        unpack(bytes(packed[: data.draw(st.integers(6, len(packed)))]))
    except ImageError:
        return


def test_bomb_is_decoded_in_pieces() -> None:
    for pack in PACKERS.values():
        packed = pack(bytes(40 * MIB))
        codec = codec_of(packed, "bomb")
        assert codec is not None
        sizes = [len(piece) for piece in decode(io.BytesIO(packed), codec, "bomb")]
        assert sum(sizes) == 40 * MIB
        assert max(sizes) <= 33 * MIB


def test_an_interrupted_unpacking_leaves_nothing_behind(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "disk.img"
    path.write_bytes(gzip.compress(content()))

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_device(path, cache_dir=cache, progress=stop)
    assert list(cache.iterdir()) == []


def test_changed_source_replaces_its_entry(tmp_path: Path, cache: Path) -> None:
    path, other = tmp_path / "disk", tmp_path / "other"
    other.write_bytes(gzip.compress(b"other"))
    open_device(other, cache_dir=cache).close()
    for data in (b"first", b"second"):
        path.write_bytes(gzip.compress(data))
        assert whole(open_device(path, cache_dir=cache)) == data
    assert len(list(cache.iterdir())) == 2
    assert whole(open_device(other, cache_dir=cache)) == b"other"


def test_short_or_foreign_entry_is_not_believed(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(gzip.compress(content()))
    open_device(path, cache_dir=cache).close()
    (entry,) = cache.iterdir()
    os.truncate(entry, 100)
    assert whole(open_device(path, cache_dir=cache)) == content()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"x" * len(content()))
    entry.unlink()
    entry.symlink_to(elsewhere)
    assert whole(open_device(path, cache_dir=cache)) == content()
    assert elsewhere.read_bytes() == b"x" * len(content())


def test_an_open_entry_may_be_pruned(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(gzip.compress(content()))
    device = open_device(path, cache_dir=cache)
    for entry in cache.iterdir():
        entry.unlink()
    assert whole(device) == content()


@pytest.mark.parametrize("blocked", ["a file is in the way", "no home"])
def test_without_a_cache_a_nameless_file_serves(blocked: str, tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    path.write_bytes(gzip.compress(content()))
    (tmp_path / "tmp").mkdir()
    (tmp_path / "file").touch()
    environment = {**os.environ, "TMPDIR": str(tmp_path / "tmp"), "HOME": "nowhere"}
    environment.pop("XDG_CACHE_HOME", None)
    where = f"{str(tmp_path / 'file' / 'cache')!r}" if blocked != "no home" else "None"
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from wofs.device import open_device; import os\n"
            f"d = open_device({str(path)!r}, cache_dir={where})\n"
            "print(d.name, d.size, d.pread(0, 4), os.listdir(os.environ['TMPDIR']))\n"
            "d.close()",
        ],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"disk.img {len(content())} b'XFSB' []\n"
    assert list((tmp_path / "tmp").iterdir()) == []


def test_missing_package_is_named(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    path.write_bytes(zstd(content()))
    code = (
        "import sys; sys.modules['zstandard'] = None\n"  # as if it were not installed
        "from wofs.device import open_device; from wofs.errors import Unsupported\n"
        f"try: open_device({str(path)!r})\n"
        "except Unsupported as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    line = "disk.img: zstd stream: reading it needs the package zstandard: "
    assert done.stdout == line + "pip install 'wofs[zstd]'\n"


def test_concurrent_openers_all_get_the_image(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(lzma.compress(content()))
    code = (
        "from wofs.device import open_device; import zlib\n"
        f"d = open_device({str(path)!r}, cache_dir={str(cache)!r})\n"
        "print(zlib.crc32(d.pread(0, d.size)))"
    )
    command = [sys.executable, "-c", code]
    children = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(3)]
    results = {child.communicate()[0] for child in children}
    assert results == {b"%d\n" % zlib.crc32(content())}
    assert len(list(cache.iterdir())) == 1


def test_least_recently_opened_entries_are_pruned(tmp_path: Path, cache: Path) -> None:
    folder = Folder(cache, limit=300 << 10)
    long_ago = time.time() - 1000

    def add(name: str, age: int) -> Key:
        fd, part = folder.begin()
        size = write_sparse(fd, [b"x" * (100 << 10)], name)
        key = Key(name * 24, "0" * 24)
        os.utime(fd, (long_ago - age, long_ago - age))
        os.close(fd)
        folder.publish(part, key, size)
        return key

    a, b, c = add("a", 3), add("b", 2), add("c", 1)
    fd = folder.find(a)  # opened: now the newest
    assert fd is not None
    os.close(fd)
    d = add("d", 0)
    found = [folder.find(key) for key in (a, b, c, d)]
    assert [fd is not None for fd in found] == [True, False, True, True]
    for fd in found:
        if fd is not None:
            os.close(fd)
    stale = cache / "part-of-a-killed-process"
    stale.touch()
    os.utime(stale, (long_ago - 90_000, long_ago - 90_000))
    (cache / "unrelated").touch()
    add("e", 0)
    assert not stale.exists()
    assert (cache / "unrelated").exists()


def test_key_follows_links_and_notices_changes(tmp_path: Path) -> None:
    path, link = tmp_path / "disk", tmp_path / "link"
    path.write_bytes(b"1")
    link.symlink_to(path)
    first = key_of(str(path), path.stat())
    assert key_of(str(link), link.stat()) == first
    os.utime(path, (1, 1))
    second = key_of(str(path), path.stat())
    assert (second.source, second.state != first.state) == (first.source, True)


def test_full_disk_is_said_in_one_line() -> None:
    fd = os.open("/dev/full", os.O_WRONLY)
    try:
        with pytest.raises(MountError, match=r"^disk.img: cannot be unpacked: No space left"):
            write_sparse(fd, [b"data"], "disk.img")
    finally:
        os.close(fd)


def test_unpacking_leaves_room_on_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    path.write_bytes(zstd(b"data" * MIB))
    code = (
        "from wofs.device import open_device; from wofs.errors import MountError\n"
        f"try: open_device({str(path)!r}, cache_dir={str(tmp_path / 'small')!r})\n"
        "except MountError as error: print(error)"
    )
    (tmp_path / "small").mkdir()
    mount = f"mount -t tmpfs -o size=100m none '{tmp_path}/small' || exit 77"
    script = f"{mount}; '{sys.executable}' -c \"$0\"; ls -A '{tmp_path}/small'"
    command = ["unshare", "-rm", "sh", "-c", script, code]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("unshare(1) is not installed")
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip(f"cannot mount a small disk in a namespace: {done.stderr.strip()}")
    expected = "disk.img: cannot be unpacked: the cache's disk is full after 0 MiB of it; "
    assert done.stdout.startswith(expected), done.stderr
    assert done.stdout.count("\n") == 1


@given(st.lists(st.tuples(st.booleans(), st.sampled_from([1, 511, 16384, 16385, MIB]))))
def test_sparse_writing_keeps_every_byte(parts: list[tuple[bool, int]]) -> None:
    data = b"".join((b"\xa5" if full else b"\0") * count for full, count in parts)

    def pieces() -> Iterator[bytes]:
        for at in range(0, len(data), 100_000):
            yield data[at : at + 100_000]

    fd = os.memfd_create("sparse")
    try:
        assert write_sparse(fd, pieces(), "x") == len(data) == os.fstat(fd).st_size
        assert os.pread(fd, len(data) + 1, 0) == data
    finally:
        os.close(fd)


def test_gigabytes_of_zeros_cost_no_disk(tmp_path: Path, cache: Path) -> None:
    frame = zstd(bytes(64 * MIB))
    path = tmp_path / "huge"
    path.write_bytes(zstd(b"start") + frame * 64 + zstd(b"end"))
    device = open_device(path, cache_dir=cache)
    (entry,) = cache.iterdir()
    assert device.size == 64 * 64 * MIB + 8
    assert entry.stat().st_blocks * 512 <= 128 << 10
    assert device.pread(device.size - 4, 4) == b"\0end"
    device.close()


def test_default_folder_follows_the_environment() -> None:
    code = "from wofs.device.unpacked import default_folder; print(default_folder())"
    for changes, expected in (
        ({"XDG_CACHE_HOME": "/x"}, "/x/wofs"),
        ({"XDG_CACHE_HOME": "relative", "HOME": "/h"}, "/h/.cache/wofs"),
    ):
        environment = {**os.environ, **changes}
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == expected
    assert default_folder().name == "wofs"
