"""Directory entries: the bulk parser in C gives what the Python beside it gives, or declines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wofs
from wofs.errors import ImageError, Where
from wofs.fs import Filesystem
from wofs.ondisk import dir as disk
from wofs.ondisk.inode import FMT_LOCAL
from wofs.xfs import _decode
from wofs.xfs.dir import parse
from wofs.xfs.geometry import ino_bounds
from wofs.xfs.inode import Inode
from wofs.xfs.mount import Mount

WHERE = Where("an image", "a directory")
FLIPS = st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), max_size=4)


@pytest.fixture(scope="module")
def opened(image: Callable[[str], Path]) -> Iterator[Mount]:
    with wofs.open(image("default")) as fs:
        yield fs.root.image.mount


@pytest.fixture(scope="module")
def directories(opened: Mount, image: Callable[[str], Path]) -> list[Inode]:
    with wofs.open(image("default")) as fs:
        inos = [path.stat().st_ino for path in walk(fs)]
    return [opened.inodes.get(ino) for ino in inos]


def numbers(mount: Mount) -> tuple[tuple[int, int, int, int, int], bool]:
    return ino_bounds(mount.geo), bool(mount.geo.has_ftype)


def walk(fs: Filesystem) -> Iterator[wofs.Path]:
    for top, _, _ in fs.root.walk():
        yield top


def changed(data: bytes, flips: list[tuple[int, int]]) -> bytes:
    out = bytearray(data)
    for at, value in flips:
        out[at % len(out)] = value
    return bytes(out)


def slowly(read: Callable[[], list[parse.Entry]]) -> list[parse.Entry] | None:
    try:
        return read()
    except ImageError:
        return None


@settings(max_examples=500, deadline=None)
@given(data=st.data(), flips=FLIPS)
def test_shortform_entries(
    opened: Mount, directories: list[Inode], data: st.DataObject, flips: list[tuple[int, int]]
) -> None:
    inode = data.draw(st.sampled_from([d for d in directories if d.format == FMT_LOCAL]))
    fork = changed(inode.dfork[: inode.size], flips)
    quick = _decode.sf_entries(fork, *numbers(opened))
    slow = slowly(lambda: parse._sf_entries(opened.geo, inode, fork, lambda: WHERE))
    assert quick == slow, "a sound shortform directory is never declined"


@settings(max_examples=500, deadline=None)
@given(data=st.data(), flips=FLIPS)
def test_data_block_entries(
    opened: Mount, directories: list[Inode], data: st.DataObject, flips: list[tuple[int, int]]
) -> None:
    inode = data.draw(st.sampled_from([d for d in directories if d.format != FMT_LOCAL]))
    block = opened.dirs.load(inode, 0, disk.DIR_DATA)
    end = parse.data_end(block, WHERE)
    content = changed(block.data, flips)
    quick = _decode.data_entries(content, end, 0, *numbers(opened))
    slow = slowly(lambda: parse._data_entries(opened.geo, content, end, 0, WHERE))
    assert quick == slow, "a sound block is never declined"


def test_nothing_is_read_beyond_the_end(opened: Mount) -> None:
    known = numbers(opened)
    for size in range(40):
        assert _decode.sf_entries(b"\x03" + b"\0" * size, *known) is None
    assert _decode.data_entries(bytes(64), 65, 0, *known) is None
    assert _decode.data_entries(bytes(80), 80, 0, *known) is None
    assert _decode.data_entries(bytes(64) + b"\xff\xff\0\x10" + bytes(4), 72, 0, *known) is None


def spelled_hash(name: bytes) -> int:
    """The hash as `xfs_da_hashname` spells it: four bytes at a time, then the rest."""

    def turned(value: int, bits: int) -> int:
        return (value << bits | value >> 32 - bits) & 0xFFFFFFFF

    value = 0
    whole = len(name) & ~3
    for at in range(0, whole, 4):
        a, b, c, d = name[at : at + 4]
        value = a << 21 ^ b << 14 ^ c << 7 ^ d ^ turned(value, 28)
    match list(name[whole:]):
        case [a, b, c]:
            value = a << 14 ^ b << 7 ^ c ^ turned(value, 21)
        case [a, b]:
            value = a << 7 ^ b ^ turned(value, 14)
        case [a]:
            value = a ^ turned(value, 7)
    return value & 0xFFFFFFFF


@given(st.binary(max_size=300))
def test_hash_of_a_name(name: bytes) -> None:
    assert _decode.da_hashname(name) == spelled_hash(name)


def test_only_bytes_have_a_hash() -> None:
    with pytest.raises(TypeError):
        _decode.da_hashname("name")  # type: ignore[arg-type]
