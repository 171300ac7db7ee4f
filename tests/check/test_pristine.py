"""Sound images break no rule; what is not clean by design breaks only that."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from support.images import names
from wofs.check.run import check
from wofs.device.source import open_device

Unpack = Callable[[str], Path]


@pytest.mark.parametrize("name", names("mountable"))
def test_sound(image: Unpack, name: str) -> None:
    device = open_device(image(name))
    report = check(device)
    device.close()
    assert set(report.counts) <= ({"WX0112"} if name == "external-log" else set())
    assert report.clean


@pytest.mark.parametrize("name", names("dirty"))
def test_dirty(image: Unpack, name: str) -> None:
    device = open_device(image(name))
    report = check(device)
    device.close()
    assert "WX0111" in report.counts
    assert not report.clean


@pytest.mark.parametrize("name", ["default", "b1k"])
def test_sound_by_a_copy_of_the_superblock(image: Unpack, name: str) -> None:
    device = open_device(image(name))
    report = check(device, sb_agno=1)
    device.close()
    assert report.clean
    assert not report.counts
