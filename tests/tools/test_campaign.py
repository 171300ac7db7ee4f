"""tools/campaign: the slice that goes with every change."""

from __future__ import annotations

import subprocess
from pathlib import Path

TOOL = Path(__file__).resolve().parent.parent.parent / "tools" / "campaign"


def test_the_slice_breaks_no_law() -> None:
    done = subprocess.run([TOOL, "-q", "-j", "2"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("2,000 faults (seed 1)\n")
