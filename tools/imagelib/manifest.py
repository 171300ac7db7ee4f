"""What a tree holds, one JSON object per file: made of a mount, written, read, compared.

Keys: p path ("." is the root), t type (f d l c b p s), m mode (octal, 12 bits), u uid, g gid,
z size, n nlink, i inode, k 512-byte blocks, mt ct bt times ("sec.nanosec", sec rounded down),
r device ("major:minor"), l symlink target, x {xattr: hex value}, s data segments
[[start, end], ...] as SEEK_DATA tells them, h SHA-256 of the data, e errors met.

Byte strings are ASCII here: every byte outside 0x21..0x7e, and "%", is written %xx. Long values
are digests: an xattr above 64 bytes "sha256:LENGTH:HEX", above 64 segments "COUNT:HEX", and data
above 64 MiB "nz:HEX": the digest of all 64 KiB pieces that are not zero, each after its number.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import lzma
import os
import re
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from wofs.fs import Stat

T = TypeVar("T")

Entry = dict[str, object]
"""One file of a manifest: the keys above but "p"."""

Manifest = dict[str, Entry]
"""A tree by escaped path."""

BIG_BYTES = 64 << 20
"""Data above this length is hashed by the pieces that are not zero."""

MOST_READ_BYTES = 4 << 30
"""Data above this length is not read where nothing tells its holes."""

_MAY_BE_BIG = re.compile(rb'"z": ?\d{8}')
_PIECE_BYTES = 64 << 10
_ZEROS = bytes(_PIECE_BYTES)
_READ_BYTES = 1 << 20
_TYPES = {
    stat.S_IFREG: "f",
    stat.S_IFDIR: "d",
    stat.S_IFLNK: "l",
    stat.S_IFCHR: "c",
    stat.S_IFBLK: "b",
    stat.S_IFIFO: "p",
    stat.S_IFSOCK: "s",
}


def escape(name: bytes) -> str:
    """Return `name` in printable ASCII."""
    return "".join(chr(c) if 0x21 <= c <= 0x7E and c != 0x25 else f"%{c:02x}" for c in name)


def timestamp(ns: int) -> str:
    """Return a time in nanoseconds since 1970 as "sec.nanosec", sec rounded down."""
    sec, rest = divmod(ns, 10**9)
    return f"{sec}.{rest:09d}"


def file_type(mode: int) -> str:
    """Return the letter for the type in `mode`."""
    return _TYPES.get(stat.S_IFMT(mode), f"?{stat.S_IFMT(mode):o}")


def attributes(st: os.stat_result | Stat, born: str | None) -> Entry:
    """Return what a manifest says of a file by lstat alone; `born` is its birth time, if told."""
    entry: Entry = {
        "t": file_type(st.st_mode),
        "m": f"{stat.S_IMODE(st.st_mode):04o}",
        "u": st.st_uid,
        "g": st.st_gid,
        "z": st.st_size,
        "n": st.st_nlink,
        "mt": timestamp(st.st_mtime_ns),
        "ct": timestamp(st.st_ctime_ns),
        "i": st.st_ino,
        "k": st.st_blocks,
    }
    if born is not None:
        entry["bt"] = born
    if stat.S_ISCHR(st.st_mode) or stat.S_ISBLK(st.st_mode):
        entry["r"] = f"{os.major(st.st_rdev)}:{os.minor(st.st_rdev)}"
    return entry


def xattr_value(value: bytes) -> str:
    """Return a value in hex, or the digest of a long one."""
    if len(value) <= 64:
        return value.hex()
    return f"sha256:{len(value)}:{hashlib.sha256(value).hexdigest()}"


def segment_map(segments: list[tuple[int, int]]) -> object:
    """Return the data segments, or the digest of many."""
    as_lists = [list(s) for s in segments]
    if len(as_lists) <= 64:
        return as_lists
    return f"{len(as_lists)}:{hashlib.sha256(json.dumps(as_lists).encode()).hexdigest()}"


def data_hash(
    read: Callable[[int, int], bytes], size: int, segments: Iterable[tuple[int, int]]
) -> str:
    """Return the digest of `size` bytes that `read(offset, length)` gives.

    Of more than `BIG_BYTES` only `segments` is read. A file that ends early is "short:...".
    """
    if size > BIG_BYTES:
        return _sparse_hash(read, size, segments)
    digest, offset = hashlib.sha256(), 0
    while data := read(offset, _READ_BYTES):
        digest.update(data)
        offset += len(data)
    return digest.hexdigest() if offset == size else f"short:{offset}:{digest.hexdigest()}"


def _sparse_hash(
    read: Callable[[int, int], bytes], size: int, segments: Iterable[tuple[int, int]]
) -> str:
    digest, done = hashlib.sha256(), -1
    for start, end in segments:
        last = (min(end, size) + _PIECE_BYTES - 1) // _PIECE_BYTES
        for number in range(max(start // _PIECE_BYTES, done + 1), last):
            piece = read(number * _PIECE_BYTES, _PIECE_BYTES)
            if piece != _ZEROS[: len(piece)]:
                digest.update(number.to_bytes(8, "big") + piece)
            done = number
    return "nz:" + digest.hexdigest()


def fingerprint(path: Path) -> str:
    """Return a digest of an image's data; its holes are skipped, they cost most of the time."""
    with path.open("rb") as f:
        size = path.stat().st_size
        return data_hash(
            lambda at, n: os.pread(f.fileno(), n, at), size, segments(f.fileno(), size)
        )


# --- of a mounted tree ---------------------------------------------------------------------
def of_tree(top: Path, big: Manifest | None = None) -> Manifest:
    """Return the manifest of the tree mounted at `top`; never follows a link or another mount."""
    return dict(walk_tree(top, big))


def walk_tree(top: Path, big: Manifest | None = None) -> Iterator[tuple[str, Entry]]:
    """Yield (path, entry) of all that is mounted at `top`, parents before children.

    `big`: what is known of the files above `BIG_BYTES`; of others that long no data is read
    where the filesystem does not tell their holes.
    """
    known = big or {}
    root = os.fsencode(top)
    device = os.lstat(root).st_dev
    todo = [b"."]
    while todo:
        path = todo.pop()
        full = root if path == b"." else os.path.join(root, path)
        try:
            st = os.lstat(full)
        except OSError as error:
            yield escape(path), {"e": ["lstat:" + _errno_name(error)]}
            continue
        entry = _entry(full, st, known.get(escape(path)))
        if stat.S_ISDIR(st.st_mode) and st.st_dev == device:
            names = _guarded(entry, "readdir", partial(_names, full)) or []
            todo += [n if path == b"." else path + b"/" + n for n in names]
        yield escape(path), entry


def _names(full: bytes) -> list[bytes]:
    return os.listdir(full)


def _entry(full: bytes, st: os.stat_result, known: Entry | None) -> Entry:
    """Describe one file of a mounted tree."""
    entry = attributes(st, birth_time(full))
    if stat.S_ISLNK(st.st_mode):
        target = _guarded(entry, "readlink", lambda: os.readlink(full))
        if target is not None:
            entry["l"] = escape(target)
    if stat.S_ISREG(st.st_mode):
        _guarded(entry, "data", lambda: _describe_data(entry, full, st.st_size, known))
    xattrs = _guarded(entry, "xattr", lambda: _xattrs(full))
    if xattrs:
        entry["x"] = xattrs
    return entry


def _describe_data(entry: Entry, full: bytes, size: int, known: Entry | None) -> None:
    fd = os.open(full, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        found = segments(fd, size)
        entry["s"] = segment_map(found)
        if size > BIG_BYTES and found == [(0, size)]:
            # A server without SEEK_HOLE calls all of a sparse exabyte data.
            told = segments_to_read(known, size)
            if told is None:
                return
            found = told
        entry["h"] = data_hash(lambda at, n: os.pread(fd, n, at), size, found)
    finally:
        os.close(fd)


def segments_to_read(known: Entry | None, size: int) -> list[tuple[int, int]] | None:
    """Return what to read of a file above `BIG_BYTES` that does not tell its holes.

    That is where `known` has data, or all of the file if `known` does not say; None if that is
    too much, or if `known` is of another size.
    """
    if known is None or known.get("z") != size:
        return None
    told = known.get("s")
    found = [(start, end) for start, end in told] if isinstance(told, list) else [(0, size)]
    return found if sum(end - start for start, end in found) <= MOST_READ_BYTES else None


def segments(fd: int, size: int) -> list[tuple[int, int]]:
    """Return the data segments of an open file."""
    found, at = [], 0
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only a hole follows
                break
            raise
        at = os.lseek(fd, start, os.SEEK_HOLE)
        found.append((start, at))
    return found


def _xattrs(full: bytes) -> dict[str, str]:
    """Return escaped names and values, sorted by name."""
    names = sorted(os.fsencode(n) for n in os.listxattr(full, follow_symlinks=False))
    return {escape(n): xattr_value(os.getxattr(full, n, follow_symlinks=False)) for n in names}


def _guarded(entry: Entry, what: str, act: Callable[[], T]) -> T | None:
    """Return `act()`; note the error in the entry when the system refuses."""
    try:
        return act()
    except OSError as error:
        errors = entry.setdefault("e", [])
        assert isinstance(errors, list)
        errors.append(f"{what}:{_errno_name(error)}")
        return None


def _errno_name(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, str(error.errno))


_libc = ctypes.CDLL(None, use_errno=True)
_STATX_BTIME = 0x800
_AT_FDCWD = -100
_AT_SYMLINK_NOFOLLOW = 0x100


def birth_time(full: bytes) -> str | None:
    """Return the birth time that statx tells, None where the filesystem has none."""
    buf = ctypes.create_string_buffer(256)
    if _libc.statx(_AT_FDCWD, full, _AT_SYMLINK_NOFOLLOW, _STATX_BTIME, buf) != 0:
        return None
    raw = buf.raw
    if not int.from_bytes(raw[:4], sys.byteorder) & _STATX_BTIME:
        return None
    sec = int.from_bytes(raw[80:88], sys.byteorder, signed=True)
    return timestamp(sec * 10**9 + int.from_bytes(raw[88:92], sys.byteorder))


# --- files ---------------------------------------------------------------------------------
def write(manifest: Manifest, path: Path) -> None:
    """Write a manifest sorted by path, compressed when the name ends in .xz."""
    lines = (json.dumps({"p": p, **manifest[p]}, separators=(",", ":")) for p in sorted(manifest))
    text = "".join(line + "\n" for line in lines).encode()
    path.write_bytes(lzma.compress(text, preset=9) if path.suffix == ".xz" else text)


def read(path: Path) -> Manifest:
    """Read what `write` wrote."""
    raw = path.read_bytes()
    text = lzma.decompress(raw) if path.suffix == ".xz" else raw
    entries = (json.loads(line) for line in text.splitlines())
    return {entry.pop("p"): entry for entry in entries}


def read_big(path: Path) -> Manifest:
    """Read what `write` wrote of files above `BIG_BYTES` only."""
    with lzma.open(path) if path.suffix == ".xz" else path.open("rb") as f:
        entries = [json.loads(line) for line in f if _MAY_BE_BIG.search(line)]
    return {entry.pop("p"): entry for entry in entries if entry["z"] > BIG_BYTES}


# --- comparing -----------------------------------------------------------------------------
def differences(truth: Manifest, other: Manifest, ignore: Iterable[str] = ()) -> Iterator[str]:
    """Yield a line for each path that is missing, too many, or differs in a key.

    `ignore` names keys that are not compared at all.
    """
    left_out = set(ignore)
    for path in sorted(truth.keys() | other.keys()):
        if path not in other:
            yield f"{path}: missing"
        elif path not in truth:
            yield f"{path}: should not exist"
        else:
            yield from _differing_keys(path, truth[path], other[path], left_out)


def _differing_keys(
    path: str, truth: Mapping[str, object], other: Mapping[str, object], left_out: set[str]
) -> Iterator[str]:
    for key in sorted((truth.keys() | other.keys()) - left_out):
        want, have = truth.get(key), other.get(key)
        if want != have:
            yield f"{path}: {key} is {have!r}, expected {want!r}"
