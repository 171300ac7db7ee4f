from collections.abc import Callable, Sequence
from typing import TypeVar

class Core:
    raw: bytes
    ino: int
    mode: int
    uid: int
    gid: int
    nlink: int
    projid: int
    size: int
    nblocks: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    crtime_ns: int
    gen: int
    flags: int
    flags2: int
    format: int
    nextents: int
    aformat: int
    anextents: int
    forkoff: int
    rdev: int

_T = TypeVar("_T", bound=Core)
_Bounds = tuple[int, int, int, int, int]
_Entry = tuple[int, int, int, bytes]

def inodes(
    type: type[_T],
    run: list[tuple[int, int]],
    data: bytes,
    isize: int,
    uuid: bytes,
    bad_flags2: int,
    crc32c: Callable[[bytes], int],
    chunk: Callable[[int], tuple[int, int]],
    sound: list[tuple[int, _T]],
    /,
) -> list[tuple[int, int]]: ...
def places(
    inos: list[int], bounds: _Bounds, inode_log: int, ag_bytes: int, gap: int, most: int, /
) -> tuple[list[list[tuple[int, int]]], list[int]]: ...
def remarkable(
    entries: Sequence[_Entry], inodes: Sequence[object], modes: bytes, /
) -> list[int]: ...
def kept(type: type[_T], raws: list[bytes | None], /) -> list[_T | None]: ...
def da_hashname(name: bytes, /) -> int: ...
def data_entries(
    data: bytes, end: int, base: int, bounds: _Bounds, has_ftype: bool, /
) -> list[_Entry] | None: ...
def sf_entries(fork: bytes, bounds: _Bounds, has_ftype: bool, /) -> list[_Entry] | None: ...
