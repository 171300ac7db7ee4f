"""tools/campaign: the slice that goes with every change, here a few faults of it."""

from __future__ import annotations

import subprocess
from pathlib import Path

TOOL = Path(__file__).resolve().parent.parent.parent / "tools" / "campaign"


def test_some_of_the_slice() -> None:
    done = subprocess.run(
        [TOOL, "--faults", "30", "-j", "2"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("30 faults (seed 1)\n")
