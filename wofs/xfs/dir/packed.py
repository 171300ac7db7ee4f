"""Entries of a directory's block, and its index, written down so that one is read by itself.

For what is kept in write-once memory: a lookup reads a few bytes where they lie, instead of
parsing the block again. Written only from what `parse` and `index` have verified.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import overload

from wofs.errors import Where
from wofs.xfs.dir.index import IndexBlock
from wofs.xfs.dir.parse import Entry
from wofs.xfs.kept import KIND_OF, Form

Key = tuple[int, int]
"""(inode number of the directory, place in it)."""

_COUNT = struct.Struct("=Q")
_END = struct.Struct("=I")
_SEPARATOR = b"/"
"""Stands before and after each name; no name has it in it."""


class Entries(Sequence[Entry]):
    """The entries of one block: a sequence that reads each when it is asked for.

    Written are: how many, their cookies, inode numbers, ends of names, types; then the names.
    """

    __slots__ = ("_count", "_written")

    def __init__(self, written: memoryview) -> None:
        self._written = written
        self._count: int = _COUNT.unpack_from(written)[0]

    def __len__(self) -> int:
        return self._count

    def _cookies(self) -> memoryview:
        return self._written[_COUNT.size : _COUNT.size + 8 * self._count].cast("Q")

    @overload
    def __getitem__(self, index: int) -> Entry: ...
    @overload
    def __getitem__(self, index: slice) -> list[Entry]: ...
    def __getitem__(self, index: int | slice) -> Entry | list[Entry]:
        count, written = self._count, self._written
        if isinstance(index, slice):
            return self._part(*index.indices(count)[:2])
        if index >= count:
            raise IndexError(index)
        at, types = _COUNT.size + 8 * index, _COUNT.size + 20 * count
        names, end = types + count, _COUNT.size + 16 * count + 4 * index
        start = _END.unpack_from(written, end - 4)[0] + 1 if index else 1
        name = bytes(written[names + start : names + _END.unpack_from(written, end)[0]])
        (cookie,) = _COUNT.unpack_from(written, at)
        (ino,) = _COUNT.unpack_from(written, at + 8 * count)
        return cookie, ino, written[types + index], name

    def _part(self, first: int, end: int) -> list[Entry]:
        """Return the entries from index `first` up to `end`."""
        if first >= end:
            return []
        count, written = self._count, self._written
        ends, types = _COUNT.size + 16 * count, _COUNT.size + 20 * count
        start = _END.unpack_from(written, ends + 4 * first - 4)[0] + 1 if first else 1
        stop = _END.unpack_from(written, ends + 4 * end - 4)[0]
        names = bytes(written[types + count + start : types + count + stop]).split(_SEPARATOR)
        cookies = struct.unpack_from(f"={end - first}Q", written, _COUNT.size + 8 * first)
        inos = struct.unpack_from(f"={end - first}Q", written, _COUNT.size + 8 * (count + first))
        ftypes = bytes(written[types + first : types + end])
        return list(zip(cookies, inos, ftypes, names, strict=True))

    def at(self, cookie: int) -> Entry | None:
        """Return the entry with a cookie, None if there is none."""
        cookies = self._cookies()
        index = bisect_left(cookies, cookie)
        return self[index] if index < self._count and cookies[index] == cookie else None

    def behind(self, after: int) -> int:
        """Return the index of the first entry behind a cookie."""
        return bisect_right(self._cookies(), after)

    def named(self, name: bytes) -> Iterator[Entry]:
        """Yield the entry called `name`, if there is one."""
        types = _COUNT.size + 20 * self._count
        names, ends = bytes(self._written[types + self._count :]), types - 4 * self._count
        at = names.find(_SEPARATOR + name + _SEPARATOR)
        if at >= 0 and name and _SEPARATOR not in name:
            yield self[bisect_right(self._written[ends:types].cast("I"), at)]


def _write_entries(entries: Sequence[Entry]) -> bytes:
    cookies, inos, ftypes, names = zip(*entries, strict=True) if entries else ((), (), (), ())
    ends, at = array("I"), 0
    for name in names:
        at += 1 + len(name)
        ends.append(at)
    text = _SEPARATOR + _SEPARATOR.join(names) + _SEPARATOR
    columns = (array("Q", cookies).tobytes(), array("Q", inos).tobytes(), ends.tobytes())
    return b"".join((_COUNT.pack(len(names)), *columns, bytes(ftypes), text))


def _read_entries(_key: Key, written: memoryview) -> Sequence[Entry]:
    return Entries(written)


ENTRIES: Form[Key, Sequence[Entry]] = Form(
    "directory entries",
    lambda key: (KIND_OF["directory entries"], key[0], key[1]),
    _write_entries,
    _read_entries,
)

_HEAD = struct.Struct("=6Q")


class WrittenIndex(IndexBlock):
    """A block of the index where it lies; its place is read when an error is to tell it."""

    __slots__ = ("_written",)

    _written: memoryview

    def __init__(self, written: memoryview) -> None:
        level, forw, back, _, _, count = _HEAD.unpack_from(written)
        at, end = _HEAD.size, _HEAD.size + 4 * count
        put = object.__setattr__
        put(self, "_written", written)
        put(self, "data", b"")
        put(self, "level", level)
        put(self, "forw", forw)
        put(self, "back", back)
        put(self, "hashes", written[at:end].cast("I"))
        put(self, "words", written[end : end + 4 * count].cast("I"))

    @property
    def where(self) -> Where:
        """The place an error speaks of."""
        written = self._written
        _, _, _, daddr, length, count = _HEAD.unpack_from(written)
        texts = bytes(written[_HEAD.size + 8 * count :]).decode(errors="surrogateescape")
        image, obj = texts.split("\0")
        return Where(image, obj, daddr, length)


def _write_index(found: IndexBlock) -> bytes:
    """Write an index block down without its bytes, which only an attribute's are needed of."""
    where = found.where
    numbers = (found.level, found.forw, found.back, where.daddr, where.length)
    head = _HEAD.pack(*numbers, len(found.hashes))
    texts = f"{where.image}\0{where.object}".encode(errors="surrogateescape")
    hashes, words = array("I", found.hashes), array("I", found.words)
    return b"".join((head, hashes.tobytes(), words.tobytes(), texts))


def _read_index(_key: Key, written: memoryview) -> IndexBlock:
    return WrittenIndex(written)


INDEX: Form[Key, IndexBlock] = Form(
    "directory index",
    lambda key: (KIND_OF["directory index"], key[0], key[1]),
    _write_index,
    _read_index,
)
