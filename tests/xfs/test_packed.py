"""What is kept in write-once memory, written down and read where it lies, is what it was."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wofs.errors import Where
from wofs.xfs import bmap
from wofs.xfs.dir.index import IndexBlock
from wofs.xfs.dir.packed import ENTRIES, INDEX, Entries
from wofs.xfs.dir.parse import Entry

NAMES = st.binary(min_size=1, max_size=40).filter(
    lambda name: b"/" not in name and b"\0" not in name
)
WORDS = st.integers(0, 2**32 - 1)
LONGS = st.integers(0, 2**64 - 1)


@given(st.lists(st.tuples(LONGS, LONGS, st.integers(0, 255), NAMES), unique_by=lambda e: e[3]))
def test_entries_are_found_by_place_cookie_and_name(found: list[Entry]) -> None:
    entries = sorted({entry[0]: entry for entry in found}.values())
    read = ENTRIES.decode((1, 0), memoryview(ENTRIES.encode(entries)))
    assert isinstance(read, Entries)
    assert list(read) == read[:] == entries
    for at, entry in enumerate(entries):
        assert read.at(entry[0]) == entry
        assert list(read.named(entry[3])) == [entry]
        assert read[read.behind(entry[0]) :] == entries[at + 1 :]
    cookies = {entry[0] for entry in entries}
    for cookie in {0, 1, 2**64 - 1, *(c - 1 for c in cookies if c)} - cookies:
        assert read.at(cookie) is None
    assert list(read.named(b"no such name at all, it is too long for one here")) == []


@given(
    st.integers(0, 5), WORDS, WORDS, st.lists(st.tuples(WORDS, WORDS)), st.text(max_size=9), LONGS
)
def test_an_index_block_also_knows_its_place(
    level: int, forw: int, back: int, pairs: list[tuple[int, int]], obj: str, daddr: int
) -> None:
    hashes, words = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    where = Where("disk.img", obj.replace("\0", ""), daddr, 4096)
    block = IndexBlock(b"bytes", where, level, forw, back, hashes, words)
    read = INDEX.decode((1, 2), memoryview(INDEX.encode(block)))
    assert (read.level, read.forw, read.back, read.where) == (level, forw, back, where)
    assert (list(read.hashes), list(read.words)) == (hashes, words)
    assert str(read.bad("forw", 1, 2)) == str(block.bad("forw", 1, 2))
    with pytest.raises(AttributeError):
        read.level = 7  # type: ignore[misc]


@given(st.lists(st.tuples(LONGS, LONGS, WORDS, st.booleans()), max_size=60))
def test_a_map_is_the_same_whether_of_one_extent_or_many(extents: list[bmap.Extent]) -> None:
    made = bmap.ExtentMap()
    for startoff, fsblock, count, unwritten in extents:
        made.startoff.append(startoff)
        made.fsblock.append(fsblock)
        made.count.append(count)
        made.unwritten.append(unwritten)
    read = bmap._FORM.decode((1, "data"), memoryview(bmap._FORM.encode(made)))
    assert list(read) == extents
