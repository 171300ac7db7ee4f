"""The slab holds the only copy of a mount's structures: nothing in Python stands beside it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support import fuse

TESTS = Path(__file__).resolve().parent.parent
Unpack = Callable[[str], Path]


@pytest.fixture
def odd_image(image: Unpack, tmp_path: Path) -> Path:
    """Return an image whose numbers are unlike others, in a file longer than the filesystem."""
    copy = tmp_path / "odd.img"
    copy.write_bytes(image("grown").read_bytes() + bytes(12345))
    return copy


def census(image: Path, *words: str) -> dict[str, list[str]]:
    done = subprocess.run(
        [sys.executable, "-m", "support.census", str(image), *words],
        cwd=TESTS,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("words", [(), ("fuse",)], ids=["library", "operations"])
def test_no_mount_field_is_kept_in_python(odd_image: Path, words: tuple[str, ...]) -> None:
    if words and fuse.lacking() is not None:
        pytest.skip(str(fuse.lacking()))
    found = census(odd_image, *words)
    assert len(found["compared"]) > 30
    assert {name.split(".")[0].split("[")[0] for name in found["compared"]} >= {
        *("sb", "geo", "log", "agf", "agi", "agfl"),
    }
    assert (found["twins"], found["records"]) == ([], [])


def test_a_twin_would_be_found(odd_image: Path) -> None:
    found = census(odd_image, "plant")
    assert [line.partition(" ")[0] for line in found["twins"]] == ["sb.fdblocks"]
    assert found["records"] == ["Agi"]
