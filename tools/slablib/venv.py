"""Tools that import wofs, or run its tests, go on in the Python in which it is installed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

VENV = Path(__file__).resolve().parent.parent.parent / ".venv"


def enter() -> None:
    """Start this script again in .venv's Python, if there is one and this is another."""
    python = VENV / "bin" / "python"
    if python.exists() and Path(sys.prefix).resolve() != VENV.resolve():
        os.execv(python, [str(python), *sys.argv])
