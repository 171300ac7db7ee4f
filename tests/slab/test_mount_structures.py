"""Every field of every mount structure, struck in every way: named right, or, bare, unnoticed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("backend", ["memfd", "shared", "mprotect", "none"])
def test_every_field_is_named(image: Callable[[str], Path], backend: str) -> None:
    ags = "4" if backend in ("memfd", "none") else "1"
    done = subprocess.run(
        [sys.executable, "-m", "support.strike", str(image("default")), backend, ags],
        cwd=TESTS,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["wrong"] == []
    assert set(found["strikes"]) == {"memmove", "c function", "overrun"}
    assert min(found["strikes"].values()) >= (300 if ags == "4" else 150)
