"""CRC32C: known answers, and the fast implementation against the portable one."""

from hypothesis import given
from hypothesis import strategies as st

from wofs.device import crc


def test_known_answer() -> None:
    assert crc.crc32c_portable(b"123456789") == 0xE3069283
    assert crc.crc32c(b"123456789") == 0xE3069283


@given(st.binary(max_size=2000))
def test_the_implementation_in_use_agrees_with_the_portable_one(data: bytes) -> None:
    assert crc.crc32c(data) == crc.crc32c_portable(data)


@given(st.binary(min_size=8, max_size=600), st.data())
def test_the_checksum_field_counts_as_zero(data: bytes, draw: st.DataObject) -> None:
    at = draw.draw(st.integers(0, len(data) - 4))
    zeroed = data[:at] + bytes(4) + data[at + 4 :]
    assert crc.crc_of(data, at) == crc.crc32c_portable(zeroed)


def test_the_implementation_has_a_name() -> None:
    assert crc.implementation() in {"crcmod", "google-crc32c"}
