"""tools/strike: stray writes by the thousand into the memory of a real mount."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support import fuse

STRIKE = Path(__file__).resolve().parent.parent.parent / "tools" / "strike"

needs_fuse = pytest.mark.skipif(fuse.lacking() is not None, reason=str(fuse.lacking()))


def run(*options: str | Path) -> subprocess.CompletedProcess[str]:
    """Run tools/strike to its end."""
    argv = [sys.executable, STRIKE, *options]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)


def strike(image: Path, backend: str) -> dict[str, Any]:
    """Strike 41,000 times, 60 of them for real; return the tally."""
    options = ("--image", image, "--backend", backend, "--count", "41000", "--deaths", "60")
    done = run(*options)
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


@needs_fuse
@pytest.mark.parametrize("protect", ["mount", "all"])
def test_a_server_answers_right_meanwhile(protect: str) -> None:
    options = ("--serving", "--protect", protect, "--count", "5000")
    done = run(*options)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["judge"].startswith("the kernel's manifest")
    assert (found["struck"], found["landed"], found["wrong"], found["errors"]) == (5000, 0, 0, 0)
    assert set(found["runs"]) == {"find", "tar", "random"}


@needs_fuse
def test_ordinary_memory_gives_wrong_answers() -> None:
    """The control: enough stores, and what is told of the same image is no longer right."""
    options = ("--serving", "--backend", "none", "--count", "400")
    done = run(*options)
    found = json.loads(done.stdout)
    assert found["landed"] > 0
    assert found["wrong"] + found["errors"] > 0 or found["said"] or found["hung"]


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
