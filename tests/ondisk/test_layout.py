"""The declarations: sizes and offsets as the kernel's, decoding and encoding, fast readers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wofs.ondisk import attr, btree, inode, symlink
from wofs.ondisk import dir as directory
from wofs.ondisk.ag import Agf, Agfl, Agi
from wofs.ondisk.attr import AttrEntry, AttrLeafHeader, RemoteHeader
from wofs.ondisk.btree import BmbtRecord, InobtFullRecord, InobtRecord, LongHeader, ShortHeader
from wofs.ondisk.dir import DaHeader
from wofs.ondisk.inode import InodeCore
from wofs.ondisk.log import LogExtension, LogOp, LogRecord
from wofs.ondisk.sb import Superblock
from wofs.ondisk.symlink import SymlinkHeader
from wofs.record import Record

RECORDS: list[type[Record]] = [
    Agf, Agfl, Agi, AttrEntry, AttrLeafHeader, BmbtRecord, DaHeader, InobtFullRecord, InobtRecord,
    InodeCore, LogExtension, LogOp, LogRecord, LongHeader, RemoteHeader, ShortHeader, Superblock,
    SymlinkHeader,
]  # fmt: skip

OFFSETS = {
    Superblock: {
        "uuid": 32, "logstart": 48, "rootino": 56, "agblocks": 84, "versionnum": 100,
        "blocklog": 120, "icount": 128, "dirblklog": 192, "features2": 200,
        "features_incompat": 216, "crc": 224, "meta_uuid": 248,
    },
    Agf: {"seqno": 8, "length": 12, "bno_level": 28, "flfirst": 40, "uuid": 64, "crc": 216},
    Agi: {"count": 16, "root": 20, "unlinked": 40, "uuid": 296, "crc": 312, "free_root": 328},
    Agfl: {"seqno": 4, "uuid": 8, "lsn": 24, "crc": 32},
    ShortHeader: {"numrecs": 6, "blkno": 16, "uuid": 32, "owner": 48, "crc": 52},
    LongHeader: {"leftsib": 8, "blkno": 24, "uuid": 40, "owner": 56, "crc": 64},
    InodeCore: {
        "mode": 2, "nlink": 16, "big_nextents": 24, "atime": 32, "di_size": 56, "nextents": 76,
        "forkoff": 82, "flags": 90, "crc": 100, "flags2": 120, "crtime": 144, "ino": 152,
        "uuid": 160,
    },
    LogRecord: {"lsn": 16, "crc": 32, "cycle_data": 44, "fmt": 300, "size": 320},
}  # fmt: skip
"""Source: the kernel's `xfs_ondisk.h`."""

SIZES = {
    Superblock: 304, Agf: 224, Agi: 344, Agfl: 36, ShortHeader: 56, LongHeader: 72,
    InodeCore: 176, InobtRecord: 16, InobtFullRecord: 16, BmbtRecord: 16, AttrLeafHeader: 80,
    AttrEntry: 8, RemoteHeader: 56, SymlinkHeader: 56, DaHeader: 64, LogRecord: 328, LogOp: 12,
}  # fmt: skip

PACKED: list[type[Record]] = [InobtRecord, InobtFullRecord, AttrEntry]

Picker = Callable[[bytes, int], tuple[int | bytes, ...]]

PICKS: list[tuple[Picker, type[Record], str]] = [
    (
        inode.CORE,
        InodeCore,
        "magicnum mode version format uid gid nlink projid_lo projid_hi big_nextents atime mtime "
        "ctime di_size nblocks nextents anextents forkoff aformat flags gen flags2 crtime ino uuid",
    ),
    (btree.SHORT_LINK, ShortHeader, "level numrecs leftsib rightsib"),
    (btree.LONG_LINK, LongHeader, "level numrecs leftsib rightsib"),
    (directory.DA_HEADER, DaHeader, "forw back count level"),
    (attr.LEAF_HEADER, AttrLeafHeader, "count usedbytes firstused"),
    (attr.PART, RemoteHeader, "offset bytes"),
    (symlink.PART, SymlinkHeader, "offset bytes"),
]


@pytest.mark.parametrize("record", OFFSETS, ids=lambda r: r.__name__)
def test_fields_lie_where_the_kernel_has_them(record: type[Record]) -> None:
    found = {f.name: f.offset for f in record.spec.fields if f.name in OFFSETS[record]}
    assert found == OFFSETS[record]


@pytest.mark.parametrize("record", SIZES, ids=lambda r: r.__name__)
def test_records_are_as_long_as_the_kernels(record: type[Record]) -> None:
    assert record.spec.size == SIZES[record]


@pytest.mark.parametrize("record", RECORDS, ids=lambda r: r.__name__)
def test_what_is_encoded_decodes_to_the_same(record: type[Record]) -> None:
    @settings(max_examples=40, deadline=None)
    @given(st.binary(min_size=record.spec.size, max_size=record.spec.size), st.integers(0, 9))
    def holds(raw: bytes, offset: int) -> None:
        first = record.decode(bytes(offset) + raw, offset)
        again = record.decode(first.encode())
        assert again == first
        assert again.encode() == first.encode()

    holds()


@pytest.mark.parametrize(("pick", "record", "names"), PICKS, ids=[r.__name__ for _, r, _ in PICKS])
def test_fast_readers_agree_with_the_declaration(
    pick: Picker, record: type[Record], names: str
) -> None:
    @settings(max_examples=40, deadline=None)
    @given(st.binary(min_size=record.spec.size, max_size=record.spec.size), st.integers(0, 9))
    def holds(raw: bytes, offset: int) -> None:
        whole = record.decode(raw)
        assert pick(bytes(offset) + raw, offset) == tuple(getattr(whole, n) for n in names.split())

    holds()


@pytest.mark.parametrize("record", PACKED, ids=lambda r: r.__name__)
def test_packed_records_agree_with_the_declaration(record: type[Record]) -> None:
    @settings(max_examples=40, deadline=None)
    @given(st.integers(0, 5), st.data())
    def holds(count: int, data: st.DataObject) -> None:
        size = record.spec.size
        raw = data.draw(st.binary(min_size=size * count, max_size=size * count))
        found = list(record.iter(b"??" + raw, 2, count))
        wanted = [record.decode(raw, size * n) for n in range(count)]
        assert found == [tuple(one.asdict().values()) for one in wanted]

    holds()
