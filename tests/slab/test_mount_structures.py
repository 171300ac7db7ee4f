"""Every field of every mount structure, struck in every way: named right, or, bare, unnoticed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from wofs.demo.fields import in_child


@pytest.mark.parametrize("backend", ["memfd", "shared", "mprotect", "none"])
def test_every_field_is_named(image: Callable[[str], Path], backend: str) -> None:
    ags = 4 if backend in ("memfd", "none") else 1
    found = in_child(str(image("default")), backend, ags)
    assert found.wrong == []
    assert set(found.strikes) == {"memmove", "c function", "overrun"}
    assert min(found.strikes.values()) == found.fields >= (300 if ags == 4 else 150)
    assert found.objects == 4 + 3 * ags
    total = 3 * found.fields
    assert (found.ended, found.landed) == ((0, total) if backend == "none" else (total, 0))


def test_what_cannot_be_had_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "none.img").write_bytes(bytes(4096))
    with pytest.raises(RuntimeError, match=r"^none.img: superblock .* no XFS"):
        in_child(str(tmp_path / "none.img"), "memfd", 1)
