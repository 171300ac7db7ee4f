"""`wofs demo`: tables and JSON of what stray writes do, by backend."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from support.fuse import WOFS


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*WOFS, "demo", *arguments], capture_output=True, text=True, check=False, timeout=120
    )


def test_race_tells_windows_from_none() -> None:
    done = demo("race", "--stores", "50000", "-b", "none", "-b", "memfd", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    bare, memfd = map(json.loads, done.stdout.splitlines())
    assert bare["landed"] == bare["tried"] >= 50_000
    assert (memfd["landed"], memfd["spoiled"]) == (0, 0)


def test_fields_draws_a_table(image: Callable[[str], Path]) -> None:
    done = demo("fields", str(image("default")), "--ags", "1", "-b", "memfd")
    assert (done.returncode, done.stderr) == (0, "")
    head, row = (line.split() for line in done.stdout.splitlines())
    assert head[0] == "backend"
    backend, objects, fields, strikes, named, landed = row
    assert (backend, objects, landed) == ("memfd", "7", "0")
    assert int(named) == int(strikes) == 3 * int(fields)


def test_what_cannot_be_had_is_a_line_and_a_code() -> None:
    done = demo("fields", sys.executable, "-b", "memfd")
    assert (done.returncode, done.stdout) == (1, "")
    assert "no XFS" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert demo("race", "-b", "paper").returncode == 2
