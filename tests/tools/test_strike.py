"""tools/strike: stray writes by the thousand into the memory of a real mount."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

STRIKE = Path(__file__).resolve().parent.parent.parent / "tools" / "strike"


def strike(image: Path, backend: str) -> dict[str, Any]:
    """Strike 41,000 times, 60 of them for real; return the tally."""
    options = ("--image", image, "--backend", backend, "--count", "41000", "--deaths", "60")
    done = subprocess.run(
        [sys.executable, STRIKE, *options], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert (found["struck"], found["volleys"], found["wrong"]) == (41_000, 3, [])
    assert found["bytes_compared"] > 0
    return found


@pytest.mark.parametrize("backend", ["memfd", "shared", "mprotect"])
def test_nothing_lands(image: Callable[[str], Path], backend: str) -> None:
    found = strike(image("default"), backend)
    assert (found["faulted"], found["landed"], found["volleys_changed"]) == (41_000, 0, 0)
    assert found["died"] == found["named_right"] == 60


def test_on_ordinary_memory_all_land(image: Callable[[str], Path]) -> None:
    found = strike(image("default"), "none")
    assert (found["faulted"], found["landed"], found["volleys_changed"]) == (0, 41_000, 3)
    assert found["died"] == 0


@pytest.mark.parametrize("tool", ["strike", "fuzz-slab", "sanitize"])
def test_any_python_will_do(tool: str) -> None:
    python = Path(sys.base_prefix) / "bin" / "python3"
    if not (STRIKE.parent.parent / ".venv").exists() or not python.exists():
        pytest.skip("needs a .venv beside the tools and the Python it was made from")
    done = subprocess.run(
        [python, "-E", STRIKE.parent / tool, "--help"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: ")
