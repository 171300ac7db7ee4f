"""Fill a mounted XFS so that every on-disk form appears: files, links, names, times, inodes.

Sizes follow the filesystem's own geometry. Contents come from a short pattern, so that an image
compresses well; every block still differs from its neighbours.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import socket
import stat
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from imagelib.kernel import Geometry

KEEP_SIZE, PUNCH, COLLAPSE, ZERO, INSERT = 1, 2, 8, 16, 32  # fallocate(2)
FICLONE, _FICLONERANGE = 0x40049409, 0x4020940D
_FSGETXATTR, _FSSETXATTR = 0x801C581F, 0x401C5820
_FITRIM = 0xC0185879
_EXTSIZE_FLAG = 0x800

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    """fallocate(2), whose modes Python does not offer."""
    if _libc.fallocate(fd, mode, offset, length) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def pattern(key: str, length: int) -> bytes:
    """Return `length` bytes that depend on `key` and compress well."""
    line = f"{key} 0123456789abcdefghijklmnopqrstuvwxyz\n".encode()
    return (line * (length // len(line) + 1))[:length]


@dataclass(frozen=True)
class Site:
    """A place to fill: the mount's root and its geometry."""

    top: Path
    geo: Geometry

    def path(self, *parts: str | bytes) -> bytes:
        """Return a path below the root."""
        return os.path.join(os.fsencode(self.top), *(os.fsencode(p) for p in parts))

    def folder(self, *parts: str | bytes) -> bytes:
        """Make a directory and return its path."""
        path = self.path(*parts)
        os.mkdir(path)
        return path

    def trim(self) -> None:
        """Zero the free space: what is in the way no longer costs room in the image."""
        os.sync()
        fd = os.open(self.top, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, _FITRIM, struct.pack("=QQQ", 0, 2**64 - 1, 0))
        finally:
            os.close(fd)


def put(path: bytes, data: bytes = b"") -> None:
    """Make a file."""
    with open(path, "wb", buffering=0) as f:
        f.write(data)


@contextmanager
def opened(path: bytes) -> Iterator[int]:
    """Open a file for reading and writing, made if need be."""
    fd = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
    try:
        yield fd
    finally:
        os.close(fd)


def hard_links(folder: bytes, names: Iterable[bytes]) -> None:
    """Many names, one inode: large directories without large inode tables."""
    first = os.path.join(folder, b"0")
    put(first, b"one inode, many names")
    for name in names:
        os.link(first, os.path.join(folder, name))


def wide(tag: str, count: int, width: int) -> list[bytes]:
    """Return `count` different names of `width` bytes."""
    return [f"{tag}{i:05d}".ljust(width, "_").encode() for i in range(count)]


def colliding(bits: int) -> list[bytes]:
    """Return 2**bits names of 8 bytes that share one directory hash.

    The hash rotates by 7 bits a byte and xors: bit 4 of a byte in the first word meets bit 0 of
    the same byte in the second (`xfs_da_hashname`).
    """
    names = []
    for number in range(1 << bits):
        first, second = bytearray(b"aaaa"), bytearray(b"bbbb")
        for bit in range(bits):
            if number >> bit & 1:
                first[3 - bit] ^= 0x10
                second[3 - bit] ^= 0x01
        names.append(bytes(first + second))
    return names


# --- files ---------------------------------------------------------------------------------
def files(site: Site) -> None:
    """Sizes around a block, holes, unwritten extents, data beyond EOF, shifted ranges."""
    bs = site.geo.block
    site.folder("files")
    sizes = {"empty": 0, "one": 1, "block-1": bs - 1, "block": bs, "block+1": bs + 1}
    for name, size in {**sizes, "several": 5 * bs + 123, "big": 256 << 10}.items():
        put(site.path("files", name), pattern(name, size))
    spaced(site, "holes4", 4, 3)
    spaced(site, "hole_first", 2, 2, start=3)
    spaced(site, "extents_full", site.geo.fork_extents, 2)
    spaced(site, "btree1", site.geo.fork_extents + 9, 2)
    with opened(site.path("files/unwritten")) as fd:
        fallocate(fd, 0, 0, 12 * bs)
        os.pwrite(fd, pattern("written", bs), 3 * bs)
        os.pwrite(fd, pattern("written", 100), 8 * bs + 50)
    with opened(site.path("files/all_unwritten")) as fd:
        fallocate(fd, 0, 0, 9 * bs)
    with opened(site.path("files/all_hole")) as fd:
        os.ftruncate(fd, 3 * bs + 5)
    with opened(site.path("files/beyond_eof")) as fd:
        os.pwrite(fd, pattern("eof", 777), 0)
        fallocate(fd, KEEP_SIZE, 0, 16 * bs)
    with opened(site.path("files/cut")) as fd:  # bytes after EOF must never show
        os.pwrite(fd, b"C" * (2 * bs), 0)
        os.fsync(fd)
        os.ftruncate(fd, bs + 10)
    with opened(site.path("files/shifted")) as fd:
        os.pwrite(fd, b"".join(pattern(f"s{i}", bs) for i in range(20)), 0)
        os.fsync(fd)
        for i in range(1, 20, 4):
            fallocate(fd, PUNCH | KEEP_SIZE, i * bs, 2 * bs)
        fallocate(fd, ZERO, 3 * bs + 9, bs)
        fallocate(fd, COLLAPSE, 4 * bs, bs)
        fallocate(fd, INSERT, 2 * bs, 2 * bs)
    with opened(site.path("files/extsize")) as fd:
        _set_fsx(fd, extent_size=8 * bs)
        os.pwrite(fd, b"hinted", 20 * bs)


def spaced(site: Site, name: str, count: int, stride: int, start: int = 0) -> None:
    """Write `count` blocks `stride` blocks apart: as many extents, holes between them."""
    bs = site.geo.block
    with opened(site.path("files", name)) as fd:
        for i in range(count):
            os.pwrite(fd, pattern(f"{name}{i}", 64), (start + i * stride) * bs)
        os.ftruncate(fd, (start + (count - 1) * stride + 5) * bs)


def huge(site: Site) -> None:
    """Sizes and offsets beyond 32 bits, and the largest a file can have."""
    with opened(site.path("huge_sparse")) as fd:
        for offset in (0, (1 << 32) - 1, (1 << 40) + 12345, (1 << 42) - 3):
            os.pwrite(fd, b"mark%d" % offset, offset)
    with opened(site.path("max_size")) as fd:
        os.ftruncate(fd, (1 << 63) - 1)


def extent_btree(site: Site) -> None:
    """More extents than one btree block holds; with 1 KiB blocks also two levels."""
    bs, per_block = site.geo.block, (site.geo.block - 72) // 16
    count = 3 * per_block
    if bs <= 1024:
        count = (site.geo.fork - 4) // 16 * per_block + per_block
    with opened(site.path("many_extents")) as fd:
        fallocate(fd, 0, 0, 2 * count * bs)
        for i in range(count):
            fallocate(fd, PUNCH | KEEP_SIZE, (2 * i + 1) * bs, bs)
        for i in range(0, count, max(1, count // 40)):
            os.pwrite(fd, pattern(f"e{i}", 60), 2 * i * bs + 13)
        os.ftruncate(fd, (2 * count + 3) * bs + 1)


def reflink(site: Site) -> None:
    """Shared extents: whole files, ranges, clones written to afterwards."""
    bs = site.geo.block
    site.folder("reflink")
    with (
        opened(site.path("reflink/a")) as a,
        opened(site.path("reflink/b")) as b,
        opened(site.path("reflink/c")) as c,
    ):
        os.pwrite(a, b"".join(pattern(f"a{i}", bs) for i in range(16)), 0)
        os.fsync(a)
        fcntl.ioctl(b, FICLONE, a)
        os.pwrite(b, b"B" * (bs // 2), 5 * bs + 7)
        fcntl.ioctl(c, _FICLONERANGE, struct.pack("=qQQQ", a, 2 * bs, 6 * bs, 9 * bs))
        fcntl.ioctl(c, _FICLONERANGE, struct.pack("=qQQQ", a, 0, 2 * bs, 3 * bs))
        for i in range(8):
            with opened(site.path("reflink", f"d{i}")) as d:
                fcntl.ioctl(d, FICLONE, a)
                os.pwrite(d, b"%d" % i, i * bs)


# --- names, links, specials, times ---------------------------------------------------------
ODD_NAMES = [
    *(b" ", b"  lead", b"trail ", b"new\nline", b"tab\t", b"back\\slash", b"quote\"'", b"*"),
    *(b"-rf", b"\x01\x02", b"\x7f", b"\x80", b"\xff" * 255, b"caf\xc3\xa9", b"caf\xe9"),
    *(b"cafe\xcc\x81", b"\xf0\x9f\x90\xb8", b"\xed\xa0\x80", b"...", b"..a", b".hidden"),
    *(b"%41", b"A", b"a", b"z" * 255),
]


def names(site: Site) -> None:
    """Every kind of byte and length in a name, and names that share a hash."""
    site.folder("names")
    for name in ODD_NAMES:
        put(site.path("names", name), name)
    folder = site.folder("names_lengths")
    hard_links(folder, (b"l" * n for n in range(1, 256, 7)))
    folder = site.folder("names_hash")
    for name in colliding(3):
        put(os.path.join(folder, name), name)
    # A common prefix of whole 4-byte words keeps the collision.
    hard_links(
        site.folder("names_hash_many"),
        (b"%04d" % i + name for name in colliding(3) for i in range(20)),
    )


def links(site: Site) -> None:
    """Symlinks in the inode, at the edge of it, and in blocks; hard links."""
    site.folder("links")
    room = site.geo.fork
    edges = {1, 10, room - 1, room, room + 1, 600, site.geo.block - 56, 1000, 1023}
    for length in sorted(n for n in edges if 0 < n <= 1023):
        os.symlink(
            (b"%d/" % length + b"abcdefghi/" * 103)[:length], site.path("links", f"s{length}")
        )
    os.symlink(b"../files/one", site.path("links/ok"))
    os.symlink(b"\xff\xfe\n not UTF-8", site.path("links/bytes"))
    os.symlink(b"self", site.path("links/self"))
    hard_links(site.folder("links/hard"), (b"h%d" % i for i in range(30)))
    path = site.path("links/with_attribute")
    os.symlink(b"t" * 200, path)
    os.setxattr(path, b"trusted.t", b"v" * 60, follow_symlinks=False)


def special(site: Site) -> None:
    """File types, modes, owners and project numbers at their limits."""
    folder = site.folder("special")
    for mode in (0o0, 0o7777, 0o4755, 0o2711, 0o1777, 0o400):
        path = os.path.join(folder, b"mode%04o" % mode)
        put(path, b"m")
        os.chmod(path, mode)
    os.chmod(site.folder("special/sticky"), 0o1777)
    os.chmod(site.folder("special/sgid"), 0o2775)
    for ids, uid, gid in [(b"ids", 12345, 54321), (b"ids_max", 2**32 - 2, 2**32 - 2)]:
        put(os.path.join(folder, ids))
        os.chown(os.path.join(folder, ids), uid, gid)
    with opened(os.path.join(folder, b"project")) as fd:
        _set_fsx(fd, project=0x12345678)
    os.mkfifo(os.path.join(folder, b"fifo"))
    devices = {"null": (stat.S_IFCHR, 1, 3), "sdb1": (stat.S_IFBLK, 8, 17)}
    devices |= {"chr_max": (stat.S_IFCHR, 511, 262143), "whiteout": (stat.S_IFCHR, 0, 0)}
    for name, (kind, major, minor) in devices.items():
        os.mknod(site.path("special", name), kind | 0o640, os.makedev(major, minor))
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(os.path.join(folder, b"socket"))


TIMES = {
    "epoch": 0,
    "epoch_ns": 999999999,
    "before_epoch": -500000000,
    "1901": -(2**31) * 10**9,
    "1918": -1613826000 * 10**9 + 123456789,
    "2038": (2**31 - 1) * 10**9 + 1,
    "2038+1": 2**31 * 10**9 + 7,
    "2486": 16299260424 * 10**9,
    "beyond": 2**33 * 10**9,
}


def times(site: Site) -> None:
    """Times at the limits of the old and the wide format; the kernel clamps what does not fit."""
    site.folder("times")
    for name, ns in TIMES.items():
        path = site.path("times", name)
        put(path)
        os.utime(path, ns=(ns, ns))


def inodes(site: Site) -> None:
    """Several inode chunks with freed inodes among the used ones."""
    site.folder("inodes")
    for i in range(300):
        put(site.path("inodes", f"i{i:05d}"), b"%d" % i if i % 3 == 0 else b"")
    for i in range(300):
        if i % 11 in (3, 4, 5) or 100 < i < 190:
            os.unlink(site.path("inodes", f"i{i:05d}"))


def sparse_inodes(site: Site) -> None:
    """Fragment the free space of a small filesystem until inode chunks come in parts."""
    folder = site.folder("fragments")
    bs = site.geo.block
    large = _fill(folder, "l", max(4 * bs, 16384))
    _fill(folder, "s", bs)
    for path in large[::2]:
        os.unlink(path)
    os.sync()
    site.folder("sparse")

    def one(number: int) -> None:
        put(site.path("sparse", f"i{number:05d}"))

    _until_full(one, limit=3700)  # and the inode btree gets two levels


def _fill(folder: bytes, tag: str, size: int) -> list[bytes]:
    """Take all free space in files of `size` bytes; return their paths."""
    made: list[bytes] = []

    def one(number: int) -> None:
        path = os.path.join(folder, f"{tag}{number:06d}".encode())
        with opened(path) as fd:
            fallocate(fd, 0, 0, size)
        made.append(path)

    _until_full(one)
    return made


def _until_full(make: Callable[[int], None], limit: int = 60000) -> None:
    for number in range(limit):
        try:
            make(number)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            return


def _set_fsx(fd: int, extent_size: int = 0, project: int | None = None) -> None:
    """Set the extent size hint or the project of an open file (struct fsxattr)."""
    answer = fcntl.ioctl(fd, _FSGETXATTR, bytes(28))
    flags, hint, count, old_project, cow = struct.unpack_from("=5I", answer)
    if extent_size:
        flags, hint = flags | _EXTSIZE_FLAG, extent_size
    new_project = old_project if project is None else project
    fcntl.ioctl(fd, _FSSETXATTR, struct.pack("=5I8x", flags, hint, count, new_project, cow))
