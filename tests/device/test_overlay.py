"""An overlay shows what a plain copy with the same changes would."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wofs.device import BytesDevice
from wofs.device.overlay import Overlay

SIZE = 10_000
CHANGES = st.lists(st.tuples(st.integers(0, SIZE - 1), st.binary(max_size=9000)), max_size=8)


@given(CHANGES, st.integers(0, SIZE + 5), st.integers(0, SIZE + 5))
def test_it_reads_as_a_changed_copy(
    changes: list[tuple[int, bytes]], offset: int, length: int
) -> None:
    below = bytes(i * 7 % 251 for i in range(SIZE))
    model, device = bytearray(below), Overlay(BytesDevice(below))
    for start, value in changes:
        value = value[: SIZE - start]
        model[start : start + len(value)] = value
        device.put(start, value)
    assert device.pread(offset, length) == bytes(model[offset : offset + length])
    device.restore()
    assert device.pread(0, SIZE) == below


def test_it_ends_where_it_was_cut() -> None:
    device = Overlay(BytesDevice(bytes(SIZE)))
    device.cut(10)
    assert (device.size, device.pread(8, 10)) == (10, bytes(2))
    with pytest.raises(ValueError, match="not in"):
        device.put(9, b"ab")
