"""A short, seeded slice of what tools/fuzz-slab runs for hours; and that its model notices."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from slablib.fuzz import as_text, numbers_in

ROOT = Path(__file__).resolve().parent.parent.parent


def fuzz(*options: str, before: str = "") -> subprocess.CompletedProcess[str]:
    """Take a round in a child."""
    script = f"{before}\nimport sys\nfrom slablib.fuzz import main\nsys.exit(main())"
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", script, *options],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tools")))},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize("seed", range(1, 5))
def test_random_calls_are_answered_as_the_model_says(seed: int) -> None:
    done = fuzz("--seed", str(seed), "--steps", "1200")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "objects" in done.stdout


def test_a_wrong_answer_is_told_with_its_seed_and_step() -> None:
    """The control: a face that loses an object in a hundred."""
    lie = """
from slablib import model
def added(self, life):
    if life.serial % 100:
        self.alive.append(life)
model.Arena.added = added
"""
    done = fuzz("--seed", "1", "--steps", "1200", before=lie)
    assert done.returncode == 1
    assert "fuzz: seed 1 step " in done.stderr
    assert "Wrong" in done.stderr


def test_steps_are_written_as_spans() -> None:
    assert as_text([1, 2, 3, 5, 8, 9]) == "1-3,5,8-9"
    assert numbers_in("1-3,5,8-9") == [1, 2, 3, 5, 8, 9]
