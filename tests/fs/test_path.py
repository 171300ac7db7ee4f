"""Paths of a real image: stat, links, listings, walks, files, attributes."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import wofs
from wofs.device import BytesDevice
from wofs.errors import IsDir, Loop, NotDir, NotFound, NotLink, NotXfs, NoXattr, PathError


@pytest.fixture(scope="module")
def fs(image: Callable[[str], Path]) -> Iterator[wofs.Filesystem]:
    with wofs.open(image("default")) as opened:
        yield opened


def test_root(fs: wofs.Filesystem) -> None:
    st = fs.root.stat()
    assert st.st_ino == 128
    assert stat.S_ISDIR(st.st_mode)
    assert fs.path() == fs.path("/") == fs.root
    assert fs.root.parent == fs.root
    assert fs.path("dirs/../files/..").ino == 128
    assert fs.path("../../..").ino == 128


def test_stat_has_floats_too(fs: wofs.Filesystem) -> None:
    st = fs.path("/times/1901").stat()
    assert st.st_mtime_ns < 0
    assert st.st_mtime == st.st_mtime_ns / 1e9
    assert (st.st_atime, st.st_ctime, st.st_birthtime) == (
        st.st_atime_ns / 1e9,
        st.st_ctime_ns / 1e9,
        st.st_birthtime_ns / 1e9,
    )


def test_types(fs: wofs.Filesystem) -> None:
    kinds = {
        "is_dir": "/dirs",
        "is_file": "/files/one",
        "is_symlink": "/links/ok",
        "is_fifo": "/special/fifo",
        "is_socket": "/special/socket",
        "is_char_device": "/special/null",
        "is_block_device": "/special/sdb1",
    }
    for method, path in kinds.items():
        assert getattr(fs.path(path), method)(), path
        assert not getattr(fs.path("/nowhere"), method)()
    assert fs.path("/links/ok").is_file()
    assert not fs.path("/links/self").exists()
    assert fs.path("/links/self").exists(follow_symlinks=False)
    assert not fs.path("/files/one/below").exists()


def test_block_size_of_devices_is_a_page(fs: wofs.Filesystem) -> None:
    st = fs.path("/special/null").stat()
    assert (os.major(st.st_rdev), os.minor(st.st_rdev), st.st_blksize) == (1, 3, 4096)


@pytest.mark.parametrize(
    ("path", "error", "line"),
    [
        ("/nowhere", NotFound, "/nowhere: no such file or directory"),
        ("/files/none/x", NotFound, "/files/none/x: no such file or directory"),
        ("/files/one/x", NotDir, "/files/one/x: not a directory"),
        ("/links/self", Loop, "/links/self: too many levels of symbolic links"),
        ("/links/self/x", Loop, "/links/self/x: too many levels of symbolic links"),
        ("/" + "n" * 256, NotFound, "/" + "n" * 256 + ": no such file or directory"),
    ],
)
def test_errors_name_the_path(
    fs: wofs.Filesystem, path: str, error: type[PathError], line: str
) -> None:
    with pytest.raises(error) as caught:
        fs.path(path).stat()
    assert str(caught.value) == line
    assert caught.value.path == path.encode()
    assert isinstance(caught.value, OSError)


def test_links_are_followed_inside_the_image(fs: wofs.Filesystem) -> None:
    link, file = fs.path("/links/ok"), fs.path("/files/one")
    assert link.readlink() == "../files/one"
    assert link.stat() == file.stat()
    assert link.lstat().st_ino != file.ino
    assert link.samefile(file)
    assert link.samefile("/files/one")
    assert link.resolve() == file
    assert link.read_bytes() == file.read_bytes()
    with pytest.raises(NotLink):
        file.readlink()


def test_resolve_keeps_what_is_missing(fs: wofs.Filesystem) -> None:
    path = fs.path("/dirs/../files/none/x")
    assert path.resolve() == fs.path("/files/none/x")
    with pytest.raises(NotFound):
        path.resolve(strict=True)
    with pytest.raises(Loop):
        fs.path("/links/self").resolve()


def test_long_link_survives(fs: wofs.Filesystem) -> None:
    assert len(fs.path("/links/s1023").readlink_bytes()) == 1023
    assert b"\xff" in fs.path("/links/bytes").readlink_bytes()


def test_iterdir_gives_every_form(fs: wofs.Filesystem) -> None:
    for name in ("sf", "block", "leaf", "leafn", "node", "holes", "holes_end", "empty"):
        folder = fs.path("/dirs", name)
        listed = list(folder.iterdir())
        assert len({bytes(p) for p in listed}) == len(listed)
        assert all(p.parent == folder for p in listed)
        for path in listed[:50]:
            assert path.lstat() == fs.path(bytes(path)).lstat()


def test_iterdir_of_a_link_and_of_a_file(fs: wofs.Filesystem) -> None:
    with pytest.raises(NotDir, match="/files/one: not a directory"):
        list(fs.path("/files/one").iterdir())


def test_walk_visits_all_and_prunes(fs: wofs.Filesystem) -> None:
    seen = 1
    for _, folders, files in fs.root.walk():
        seen += len(folders) + len(files)
    assert seen == 2466  # the lines of the kernel's manifest
    visited = []
    for path, folders, _ in fs.root.walk():
        visited.append(str(path))
        if "dirs" in folders:
            folders.remove("dirs")
    assert "/attrs" in visited
    assert not any(path.startswith("/dirs/") for path in visited)


def test_glob(fs: wofs.Filesystem) -> None:
    assert {str(p) for p in fs.root.glob("dirs/s*")} == {"/dirs/sf", "/dirs/sf_full"}
    assert [str(p) for p in fs.root.glob("links/ok")] == ["/links/ok"]
    assert list(fs.root.glob("links/nothing")) == []
    deep = {str(p) for p in fs.root.rglob("0[12]")}
    assert "/dirs/deep/00/01" in deep
    assert deep == {str(p) for p in fs.root.glob("**/0[12]")}
    with pytest.raises(ValueError, match="empty"):
        fs.root.glob("")


def test_glob_finds_each_once_and_passes_dead_links(fs: wofs.Filesystem) -> None:
    found = [str(p) for p in fs.root.glob("**/deep/**/0*")]
    assert len(found) == len(set(found)) == 10
    assert [str(p) for p in fs.root.glob("**/**/hard")] == ["/links/hard"]
    assert len(list(fs.root.glob("links/*/h1"))) == 1
    below = [str(p) for p in fs.root.glob("links/*/*")]
    assert len(below) == 31
    assert list(fs.root.glob("**/nothing/**")) == []


def test_walk_bottom_up(fs: wofs.Filesystem) -> None:
    down = list(fs.path("/dirs/deep").walk())
    up = list(fs.path("/dirs/deep").walk(top_down=False))
    assert up == down[::-1]
    whole = [path for path, _, _ in fs.root.walk(top_down=False)]
    assert whole[-1] == fs.root
    place = {path: number for number, path in enumerate(whole)}
    assert all(place[path] < place[path.parent] for path in whole[:-1])


def test_names_of_any_bytes(fs: wofs.Filesystem) -> None:
    for path in fs.path("/names").iterdir():
        again = fs.path(str(path))
        assert bytes(again) == bytes(path)
        assert again.lstat() == path.lstat()
        content = path.read_bytes()
        assert len(content) == path.stat().st_size


def test_read_text_and_modes(fs: wofs.Filesystem) -> None:
    path = fs.path("/files/one")
    assert path.read_text("latin-1").encode("latin-1") == path.read_bytes()
    with path.open("r", encoding="latin-1") as file:
        assert isinstance(file, io.TextIOBase)
    for mode in ("w", "a", "r+b", "x"):
        with pytest.raises(ValueError, match="only read"):
            path.open(mode)  # type: ignore[call-overload]
    with pytest.raises(IsDir):
        fs.path("/dirs").open()
    with pytest.raises(PathError, match="not a regular file"):
        fs.path("/special/fifo").open()


def test_files_seek_like_files(fs: wofs.Filesystem) -> None:
    path = fs.path("/attrs/both_forks")
    data = path.read_bytes()
    with path.open() as file:
        assert file.read(10) == data[:10]
        assert file.seek(-5, os.SEEK_END) == len(data) - 5
        assert file.read() == data[-5:]
        assert file.read() == b""
        file.seek(100)
        assert file.seek(5, os.SEEK_CUR) == 105
        assert file.read(200_000) == data[105:200_105]
        file.seek(len(data) + 50)
        assert file.read(1) == b""
        buffer = bytearray(33)
        file.seek(7)
        assert file.readinto(buffer) == 33
        assert bytes(buffer) == data[7:40]
        with pytest.raises(ValueError, match="negative"):
            file.seek(-1)
    with pytest.raises(ValueError, match="closed"):
        file.read()


def test_seek_data_and_hole_follow_the_map(fs: wofs.Filesystem) -> None:
    path = fs.path("/attrs/both_forks")
    segments = list(path.segments())
    assert len(segments) > 2
    found = []
    with path.open() as file:
        end, size = 0, path.stat().st_size
        while end < size:
            start = file.seek(end, os.SEEK_DATA)
            end = file.seek(start, os.SEEK_HOLE)
            found.append((start, end))
        assert found == segments == list(file.segments())
        assert file.seek(segments[0][1], os.SEEK_HOLE) == segments[0][1]
        for whence in (os.SEEK_DATA, os.SEEK_HOLE):
            with pytest.raises(OSError, match="beyond the end"):
                file.seek(size, whence)


class Counting(BytesDevice):
    """Counts the bytes asked for."""

    asked = 0

    def pread(self, offset: int, length: int) -> bytes:
        """Read as ever."""
        self.asked += length
        return super().pread(offset, length)


def test_all_xattrs_are_read_at_once_and_as_one_by_one(image: Callable[[str], Path]) -> None:
    costs = []
    with wofs.open(Counting(image("default").read_bytes(), "counting.img")) as fs:
        device = fs.root.image.mount.device
        assert isinstance(device, Counting)
        for top, folders, files in fs.root.walk():
            for path in (top, *(top / name for name in (*folders, *files))):
                xattrs = path.xattrs(follow_symlinks=False)
                start = device.asked
                single = [(name, xattrs[name]) for name in xattrs]
                middle = device.asked
                assert list(xattrs.items()) == single
                costs.append((len(single), middle - start, device.asked - middle))
    count, apart, together = max(costs)
    assert count > 400
    assert together * 10 < apart


def test_xattrs_are_a_mapping(fs: wofs.Filesystem) -> None:
    xattrs = fs.path("/attrs/sf").xattrs()
    assert xattrs[b"user.a"] == xattrs["user.a"] == b"1"
    assert b"trusted.t" in xattrs
    assert b"user.none" not in xattrs
    names: tuple[object, ...] = ("user.a", "user.none", 5)
    assert [name in xattrs for name in names] == [True, False, False]
    assert xattrs.get("user.none") is None
    assert xattrs.get("user.none", b"else") == b"else"
    assert len(xattrs) == len(list(xattrs)) == len(dict(xattrs))
    with pytest.raises(NoXattr, match=r"/attrs/sf: no extended attribute 'user.none'"):
        xattrs["user.none"]
    assert dict(fs.path("/files/one").xattrs()) == {}


def test_import_is_light() -> None:
    heavy = "{'pyfuse3', 'trio', 'click', 'rich', 'fsspec'}"
    code = f"import sys, wofs; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_close_is_final(image: Callable[[str], Path]) -> None:
    opened = wofs.open(image("empty"))
    opened.close()
    with pytest.raises((ReferenceError, wofs.WofsError)):
        opened.root.stat()


class Noting(BytesDevice):
    """Remembers that it was closed."""

    closed = False

    def close(self) -> None:
        self.closed = True


def test_failed_open_closes_the_device() -> None:
    device = Noting(b"no filesystem at all" * 1000)
    with pytest.raises(NotXfs):
        wofs.open(device)
    assert device.closed
