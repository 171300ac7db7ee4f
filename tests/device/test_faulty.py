"""The faulty device: every fault strikes where and as often as it was told."""

from __future__ import annotations

import errno
import time

import pytest

from wofs.device import BytesDevice
from wofs.device.faulty import Fault, FaultyDevice

DATA = bytes(range(256)) * 8


def faulty(*faults: Fault) -> FaultyDevice:
    return FaultyDevice(BytesDevice(DATA, "disk.img"), faults)


def test_reads_elsewhere_are_those_of_the_device_below() -> None:
    device = faulty(Fault(512, 512, error=OSError(errno.EIO, "broken")))
    assert (device.name, device.size) == ("disk.img", len(DATA))
    assert device.pread(0, 512) == DATA[:512]
    assert device.pread(1024, 5000) == DATA[1024:]
    assert device.struck == 0
    device.close()


def test_error_strikes_each_read_that_touches_the_range() -> None:
    device = faulty(Fault(512, 512, error=OSError(errno.EIO, "broken")))
    seen = set()
    for offset, length in ((0, 513), (512, 1), (1023, 10), (0, 2048)):
        with pytest.raises(OSError, match="broken") as caught:
            device.pread(offset, length)
        assert caught.value.errno == errno.EIO
        seen.add(id(caught.value))
    assert device.struck == 4


def test_error_keeps_its_class() -> None:
    device = faulty(Fault(0, 1, error=TimeoutError(errno.ETIMEDOUT, "slow")))
    with pytest.raises(TimeoutError):
        device.pread(0, 1)


def test_short_read_ends_where_the_fault_begins() -> None:
    device = faulty(Fault(512, 512, short=True), Fault(300, 10, short=True))
    assert device.pread(0, 1000) == DATA[:300]
    assert device.pread(400, 1000) == DATA[400:512]
    assert device.pread(600, 10) == b""
    assert device.pread(1024, 10) == DATA[1024:1034]


def test_fault_wears_off_after_so_many_times() -> None:
    device = faulty(Fault(0, 10, error=OSError(errno.EIO, "broken"), times=2))
    for _ in range(2):
        with pytest.raises(OSError, match="broken"):
            device.pread(5, 1)
    assert device.pread(5, 1) == DATA[5:6]
    assert device.struck == 2


def test_delay_passes_before_the_read() -> None:
    device = faulty(Fault(0, 10, delay=0.02))
    start = time.monotonic()
    assert device.pread(0, 4) == DATA[:4]
    assert time.monotonic() - start >= 0.02
