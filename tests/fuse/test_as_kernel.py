"""What a mount shows and refuses is what the kernel's own mount of the image shows and refuses."""

from __future__ import annotations

import mmap
import os
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import cast

import pytest

from support import fuse, getdents, kernel
from support.pair import Pair
from support.probe import Facts, looked_through

pytestmark = pytest.mark.skipif(
    bool(fuse.lacking() or kernel.lacking()), reason=str(fuse.lacking() or kernel.lacking())
)

OTHERS = ("b1k-n8k", "n64k", "b64k", "grown", "ag64", "sparse-inodes")
"""Images with geometries of their own, beside "default"."""

STAT_FIELDS = (
    *("st_mode", "st_ino", "st_nlink", "st_uid", "st_gid", "st_rdev", "st_size", "st_blksize"),
    *("st_blocks", "st_atime_ns", "st_mtime_ns", "st_ctime_ns"),
)
COUNTS = ("f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail", "f_files", "f_ffree")


def folders(top: Path) -> Iterator[bytes]:
    """Yield all directories of a tree, relative to its top."""
    root = os.fsencode(top)
    for folder, _, _ in os.walk(root):
        yield folder[len(root) + 1 :]


def at(top: Path, path: bytes) -> bytes:
    return os.path.join(os.fsencode(top), path)


# ---- directories
def assert_same_directories(pair: Pair) -> None:
    """Compare every entry with its cookie, read with buffers from one entry up."""
    for folder in folders(pair.kernel):
        for size in (65536, 1100, 290):
            seen = getdents.whole(at(pair.kernel, folder), size)
            assert getdents.whole(at(pair.wofs, folder), size) == seen, folder


def test_entries_cookies_and_types(pair: Pair) -> None:
    assert_same_directories(pair)


@pytest.mark.parametrize("folder", ["dirs/sf", "dirs/block", "dirs/leaf", "dirs/holes"])
def test_listing_goes_on_at_any_position(pair: Pair, folder: str) -> None:
    end = getdents.whole(pair.kernel / folder)[-1][1]
    with ExitStack() as stack:
        fds = [os.open(top / folder, os.O_RDONLY) for top in (pair.kernel, pair.wofs)]
        for fd in fds:
            stack.callback(os.close, fd)
        for position in range(end + 9):
            for fd in fds:
                os.lseek(fd, position, os.SEEK_SET)
            seen, shown = (getdents.once(fd, 290) for fd in fds)
            fits = min(len(seen), len(shown))  # how much comes at once is not told by anything
            assert seen[:fits] == shown[:fits], position
            assert bool(seen) == bool(shown), position


# ---- attributes
def assert_same_stat(pair: Pair) -> None:
    for folder in folders(pair.kernel):
        for name in (b".", *os.listdir(at(pair.kernel, folder))):
            seen, shown = (
                os.lstat(os.path.join(at(top, folder), name)) for top in (pair.kernel, pair.wofs)
            )
            for field in STAT_FIELDS:
                assert getattr(seen, field) == getattr(shown, field), (folder, name, field)


def test_stat(pair: Pair) -> None:
    assert_same_stat(pair)


def test_statfs(pair: Pair) -> None:
    seen, shown = map(os.statvfs, (pair.kernel, pair.wofs))
    assert [getattr(seen, c) for c in COUNTS] == [getattr(shown, c) for c in COUNTS]
    assert shown.f_namemax == 255
    assert shown.f_flag & os.ST_RDONLY


@pytest.mark.parametrize("name", OTHERS)
def test_other_geometries(name: str, image: Callable[[str], Path], tmp_path: Path) -> None:
    path = image(name)
    with kernel.seen_by_kernel(path, tmp_path / "k"), fuse.mounted(path, tmp_path / "m"):
        pair = Pair(tmp_path / "k", tmp_path / "m")
        assert_same_directories(pair)
        assert_same_stat(pair)
        test_statfs(pair)


# ---- who may do what
LOOKED_AT = ("attrs", "special", "links", "files")
USERS = {
    "root": (0, (0,)),
    "nobody": (65534, (65534,)),
    "owner": (12345, (54321,)),
    "in an access list": (77777, (1,)),
    "in a list by group": (65534, (65534, 5)),
    "in a list, denied": (3000, (1,)),
    "in a list of forty": (3005, (1,)),
    "in a default list": (1000, (1000,)),
}


def without_labels(found: Facts) -> Facts:
    """Leave out what only a security module of the machine would add."""
    for facts in found.values():
        facts.pop("security.selinux", None)
    return found


def modes(found: Facts, path: str) -> int:
    return cast(int, found[path]["stat"])


@pytest.mark.parametrize("who", USERS)
def test_rights_access_lists_and_xattrs(pair: Pair, who: str) -> None:
    uid, gids = USERS[who]
    seen, shown = (
        without_labels(looked_through(top, uid, gids, LOOKED_AT))
        for top in (pair.kernel, pair.wofs)
    )
    # The one difference that is meant: device nodes of an image do not work.
    for path in (p for p in seen if stat.S_IFMT(modes(seen, p)) in (stat.S_IFBLK, stat.S_IFCHR)):
        assert shown[path].pop("open") == "EACCES"
        del seen[path]["open"]
    assert seen.keys() == shown.keys()
    differing = {path: (seen[path], shown[path]) for path in seen if seen[path] != shown[path]}
    assert not differing


# ---- writing
def _bind(top: Path) -> None:
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(top / "s"))


def _opened(flags: int, name: str = "files/one") -> Callable[[Path], object]:
    def attempt(top: Path) -> str:
        os.close(os.open(top / name, flags))
        return "opened"

    return attempt


def _on_descriptor(act: Callable[[int], object]) -> Callable[[Path], object]:
    def attempt(top: Path) -> object:
        fd = os.open(top / "files/big", os.O_RDONLY)
        try:
            return act(fd)
        finally:
            os.close(fd)

    return attempt


ACL = b"\2\0\0\0" + b"".join(tag + b"\0\4\0\xff\xff\xff\xff" for tag in (b"\1", b"\4", b"\x20"))

WRITES: dict[str, Callable[[Path], object]] = {
    "open to write": _opened(os.O_WRONLY),
    "open to read and write": _opened(os.O_RDWR),
    "open to append": _opened(os.O_WRONLY | os.O_APPEND),
    "open and truncate": _opened(os.O_RDONLY | os.O_TRUNC),
    "create": _opened(os.O_CREAT | os.O_WRONLY, "new"),
    "create nameless": _opened(os.O_TMPFILE | os.O_WRONLY, "."),
    "mkdir": lambda top: os.mkdir(top / "new"),
    "rmdir": lambda top: os.rmdir(top / "dirs/empty"),
    "rmdir nothing": lambda top: os.rmdir(top / "nothing"),
    "unlink": lambda top: os.unlink(top / "files/one"),
    "unlink nothing": lambda top: os.unlink(top / "nothing"),
    "symlink": lambda top: os.symlink("target", top / "new"),
    "link": lambda top: os.link(top / "files/one", top / "new"),
    "rename": lambda top: os.rename(top / "files/one", top / "new"),
    "fifo": lambda top: os.mkfifo(top / "new"),
    "device": lambda top: os.mknod(top / "new", stat.S_IFCHR | 0o600, os.makedev(1, 3)),
    "socket": _bind,
    "chmod": lambda top: os.chmod(top / "files/one", 0o600),
    "fchmod": _on_descriptor(lambda fd: os.fchmod(fd, 0o600)),
    "chown": lambda top: os.chown(top / "files/one", 1, 1),
    "lchown": lambda top: os.lchown(top / "links/ok", 1, 1),
    "utimes": lambda top: os.utime(top / "files/one"),
    "truncate": lambda top: os.truncate(top / "files/one", 0),
    "setxattr": lambda top: os.setxattr(top / "files/one", b"user.a", b"1"),
    "set an access list": lambda top: os.setxattr(
        top / "files/one", b"system.posix_acl_access", ACL
    ),
    "removexattr": lambda top: os.removexattr(top / "attrs/sf", b"user.a"),
}


@pytest.mark.parametrize("what", WRITES)
def test_no_kind_of_write(pair: Pair, what: str) -> None:
    assert pair.answers(WRITES[what]) == ("EROFS", "EROFS")


# ---- odd requests
def _reading(name: str, offset: int, length: int) -> Callable[[Path], object]:
    def attempt(top: Path) -> bytes:
        fd = os.open(top / name, os.O_RDONLY)
        try:
            return os.pread(fd, length, offset)
        finally:
            os.close(fd)

    return attempt


LAST = 2**63 - 1
FIVE = 5 * 4096 + 123
"""Length of files/several."""

ODD: dict[str, Callable[[Path], object]] = {
    "create what is there": _opened(os.O_CREAT | os.O_RDONLY),
    "create anew what is there": _opened(os.O_CREAT | os.O_EXCL | os.O_RDONLY),
    "mkdir what is there": lambda top: os.mkdir(top / "dirs"),
    "a name of 255 bytes": lambda top: os.lstat(top / ("n" * 255)).st_size,
    "a name of 256 bytes": lambda top: os.lstat(top / ("n" * 256)).st_size,
    "255 bytes 0xff": lambda top: os.lstat(at(top / "names", b"\xff" * 255)).st_size,
    "256 bytes 0xff": lambda top: os.lstat(at(top / "names", b"\xff" * 256)).st_size,
    "not UTF-8": lambda top: os.lstat(at(top / "names", b"caf\xe9")).st_ino,
    "UTF-8": lambda top: os.lstat(at(top / "names", b"caf\xc3\xa9")).st_ino,
    "case": lambda top: [os.lstat(top / "names" / n).st_ino for n in "aA"],
    "a file as directory": lambda top: os.lstat(top / "files/one/x").st_size,
    "a slash behind a file": lambda top: os.lstat(f"{top}/files/one/").st_size,
    "a link to itself": lambda top: os.stat(top / "links/self").st_size,
    "a link, not followed": _opened(os.O_RDONLY | os.O_NOFOLLOW, "links/ok"),
    "the target of a file": lambda top: os.readlink(top / "files/one"),
    "the target of bytes": lambda top: os.readlink(at(top, b"links/bytes")),
    "a directory to write": _opened(os.O_WRONLY, "files"),
    "a directory read as file": _on_descriptor(lambda fd: os.read(fd, 1)),
    "a file listed": lambda top: os.listdir(top / "files/one"),
    "a socket opened": _opened(os.O_RDONLY, "special/socket"),
    "a fifo opened": _opened(os.O_RDONLY | os.O_NONBLOCK, "special/fifo"),
    "direct I/O": _opened(os.O_RDONLY | os.O_DIRECT),
    "no access time": _opened(os.O_RDONLY | os.O_NOATIME),
    "truncate a descriptor": _on_descriptor(lambda fd: os.ftruncate(fd, 0)),
    "fsync": _on_descriptor(os.fsync),
    "a shared map to write": _on_descriptor(lambda fd: mmap.mmap(fd, 10)),
    "dots of the root": lambda top: [os.stat(f"{top}/{n}").st_ino for n in (".", "files/..")],
    "read up to the last byte": _reading("max_size", LAST - 50, 50),
    "read beyond the last byte": _reading("max_size", LAST - 50, 51),
    "read at the far end": _reading("huge_sparse", (1 << 42) - 3, 100),
    "read across the end": _reading("files/several", FIVE - 10, 1000),
    "read at the end": _reading("files/several", FIVE, 10),
    "read behind the end": _reading("files/several", FIVE + 4096, 10),
    "read a hole": _reading("huge_sparse", 1 << 33, 70_000),
    "read nothing": _reading("files/several", 0, 0),
    "the far end": _on_descriptor(lambda fd: os.lseek(fd, 0, os.SEEK_END)),
}


@pytest.mark.parametrize("what", ODD)
def test_odd_requests(pair: Pair, what: str) -> None:
    seen, shown = pair.answers(ODD[what])
    assert seen == shown
