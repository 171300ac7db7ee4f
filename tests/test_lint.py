"""Linter and type checker find nothing: they are part of the suite."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def scripts() -> list[str]:
    """Return the tools that are Python without a suffix; the checkers do not find these alone."""
    tools = (p for p in (ROOT / "tools").iterdir() if p.is_file() and not p.suffix)
    return sorted(str(p) for p in tools if b"python" in p.read_bytes().split(b"\n", 1)[0])


COMMANDS = {
    "ruff": ["ruff", "check", "wofs", "tests", "tools", "setup.py", *scripts()],
    "mypy": ["mypy", "wofs", "tests", "tools", *scripts()],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_finds_nothing(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *COMMANDS[name]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
