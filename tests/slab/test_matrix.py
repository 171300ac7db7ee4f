"""The report names the right thing whatever kind of access hit whatever kind of place."""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXPECTED = {
    "first of all": r"object s\[0\]\.first",
    "middle of a page": r"object s\[\d+\]\.wide",
    "last to begin in a page": r"object s\[\d+\]\.first",
    "a page later": r"object s\[\d+\]\.first",
    "another cache": r"object o\[1\]\.number",
    "a header": r"object s\[1\] \(its header\)",
    "a freed object": r"no object: free object; the nearest below is object s\[\d+\]",
    "unused space": r"no object: unused space; the nearest below is object o\[1\]",
    "the control area": r"no object: control area",
    "the guard below": r"no object: guard page below the arena, \d+ bytes? outside",
    "the guard above": r"no object: guard page above the arena, \d+ bytes? outside",
}


@pytest.mark.skipif(platform.machine() != "x86_64", reason="has a string operation of x86-64")
@pytest.mark.parametrize("backend", ["memfd", "shared", "mprotect"])
def test_every_cell_is_named_right(backend: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "support.matrix", backend],
        cwd=Path(__file__).resolve().parent.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found) == 9
    wrong = [
        f"{kind} at {place}: {said}"
        for kind, cells in found.items()
        for place, said in cells.items()
        if not re.fullmatch(EXPECTED[place], said)
    ]
    assert not wrong, "\n".join(wrong)
    assert all(set(cells) == set(EXPECTED) for cells in found.values())
