"""The record DSL: decoding, encoding, partial readers, refused declarations, rules."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wofs.errors import BadField, Where
from wofs.record import (
    HEX,
    NEXT,
    TEXT,
    UUID,
    Between,
    Eq,
    Ge,
    Le,
    Log2Of,
    Lt,
    Mask,
    Ne,
    OneOf,
    PowerOfTwo,
    Record,
    array_u32,
    as_json,
    bits,
    broken,
    check,
    crc32c,
    ctx,
    i64,
    raw,
    record,
    u8,
    u16,
    u32,
    u64,
)


@record("sample", size=64, magic=b"SMPL", source="this test")
class Sample(Record):
    """A record with every kind of field."""

    magicnum = u32(0, "magic", show=HEX)
    kind = u8(4, "kind", rules=[OneOf(1, 2)])
    count = u16(6, "count", rules=[Le("limit"), Eq(ctx.count)])
    limit = u32(8, "limit")
    uuid = raw(12, 16, "uuid", show=UUID)
    items = array_u32(28, 3, "items")
    label = raw(40, 4, "label", show=TEXT)
    when = i64(48, "when")
    crc = crc32c(56)


@record("packed", size=16, source="xfs_bmbt_rec")
class Packed(Record):
    """A bit-packed record."""

    flag = bits(127, 127, "flag")
    off = bits(126, 73, "offset")
    block = bits(72, 21, "block")
    count = bits(20, 0, "count")


samples = st.builds(
    Sample,
    magicnum=st.integers(0, 2**32 - 1),
    kind=st.integers(0, 255),
    count=st.integers(0, 2**16 - 1),
    limit=st.integers(0, 2**32 - 1),
    uuid=st.binary(min_size=16, max_size=16),
    items=st.tuples(*[st.integers(0, 2**32 - 1)] * 3),
    label=st.binary(min_size=4, max_size=4),
    when=st.integers(-(2**63), 2**63 - 1),
    crc=st.integers(0, 2**32 - 1),
)


@given(samples)
def test_decode_gives_back_what_was_encoded(sample: Sample) -> None:
    assert Sample.decode(sample.encode()) == sample
    assert Sample.decode(b"xyz" + sample.encode(), 3) == sample


@given(
    st.integers(0, 1),
    st.integers(0, 2**54 - 1),
    st.integers(0, 2**52 - 1),
    st.integers(0, 2**21 - 1),
)
def test_bit_packed_records_round_trip(flag: int, off: int, block: int, count: int) -> None:
    packed = Packed(flag=flag, off=off, block=block, count=count)
    whole = int.from_bytes(packed.encode(), "big")
    assert whole == flag << 127 | off << 73 | block << 21 | count
    assert Packed.decode(packed.encode()) == packed


@given(samples)
def test_pick_agrees_with_decode(sample: Sample) -> None:
    pick = Sample.pick("kind", "limit", "uuid", "when")
    assert pick(sample.encode(), 0) == (sample.kind, sample.limit, sample.uuid, sample.when)


def test_pick_refuses_arrays_and_little_endian_fields() -> None:
    with pytest.raises(TypeError, match="plain big-endian"):
        Sample.pick("items")
    with pytest.raises(TypeError, match="plain big-endian"):
        Sample.pick("crc")


def test_the_checksum_is_little_endian_and_the_rest_big() -> None:
    data = Sample(limit=1, crc=1).encode()
    assert data[8:12] == b"\0\0\0\1"
    assert data[56:60] == b"\1\0\0\0"


def test_a_short_buffer_is_an_error_of_struct() -> None:
    with pytest.raises(struct.error):
        Sample.decode(bytes(63))


def test_iter_walks_packed_records() -> None:
    @record("pair", size=8, source="this test")
    class Pair(Record):
        """Two numbers."""

        hashval = u32(0, "hash")
        address = u32(4, "address")

    data = b"".join(Pair(hashval=i, address=i * 2).encode() for i in range(5))
    assert list(Pair.iter(b"??" + data, 2, 4)) == [(i, i * 2) for i in range(4)]


def test_overlapping_and_overlong_declarations_are_refused() -> None:
    with pytest.raises(TypeError, match="overlaps"):

        @record("bad", size=8, source="this test")
        class Overlap(Record):
            """Two fields on one byte."""

            a = u32(0, "a")
            b = u16(2, "b")

    with pytest.raises(TypeError, match="fields end at 8"):

        @record("bad", size=6, source="this test")
        class TooLong(Record):
            """A field beyond the end."""

            a = u64(0, "a")


def test_next_offsets_follow_at_natural_alignment() -> None:
    @record("derived", derived=True, source="this test")
    class Derived(Record):
        """Fields one behind the other."""

        a = u8(NEXT, "a")
        b = u32(NEXT, "b")
        c = u16(NEXT, "c")

    assert [f.offset for f in Derived.spec.fields] == [0, 4, 8]
    assert Derived.spec.slab_fields == (("a", "B", 1), ("b", "I", 1), ("c", "H", 1))


def test_check_names_place_field_found_and_expected() -> None:
    where = Where("disk.img", "sample 3", 0x10, 64)
    check(Sample(kind=1, count=2, limit=2), where, count=2)
    with pytest.raises(BadField) as caught:
        check(Sample(kind=1, count=3, limit=2), where, count=3)
    error = caught.value
    assert str(error) == "disk.img: sample 3 (daddr 0x10, 64 B): count is 3, expected at most 2"
    assert (error.where.field, error.found, error.rule) == ("count", "3", "sample.count.le")


RULES = [
    (Eq(7), 7),
    (Ne(7), 8),
    (Le(7), 7),
    (Lt(7), 6),
    (Ge(7), 7),
    (Between(3, 9), 5),
    (OneOf(4, 6), 6),
    (Mask(0b111), 0b101),
    (PowerOfTwo(), 8),
    (Log2Of("limit"), 4),
    (Eq(b"abc"), b"abc"),
]


@pytest.mark.parametrize(("rule", "good"), RULES, ids=[r.name for r, _ in RULES])
def test_each_rule_holds_for_a_good_value_and_breaks_for_its_own_breakers(
    rule: object, good: object
) -> None:
    sample = Sample(limit=16)
    assert rule.holds(good, sample, {})  # type: ignore[attr-defined]
    breakers = list(rule.breaking(sample, {}))  # type: ignore[attr-defined]
    assert breakers
    assert not any(rule.holds(value, sample, {}) for value in breakers)  # type: ignore[attr-defined]


def test_broken_collects_every_broken_rule() -> None:
    names = [
        f"{field.name}.{rule.name}"
        for field, rule in broken(Sample.spec, Sample(kind=9, count=5, limit=1), {"count": 4})
    ]
    assert names == ["kind.one-of", "count.le", "count.eq"]


def test_values_are_shown_as_people_read_them() -> None:
    sample = Sample(magicnum=0x534D504C, label=b"ab\0\0", items=(1, 2, 3))
    shown = as_json(Sample.spec, sample)
    assert shown["label"] == "ab"
    assert shown["uuid"] == "00000000-0000-0000-0000-000000000000"
    assert shown["items"] == [1, 2, 3]
    assert Sample.spec.field("magicnum").text(sample.magicnum) == "0x534d504c"
    assert Sample.spec.field("items").text(sample.items) == "[1, 2, 3]"
