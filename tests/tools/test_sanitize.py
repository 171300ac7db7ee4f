"""tools/sanitize and tools/fuzz-slab: they build, they run, and they can find something."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from slablib import build

ROOT = Path(__file__).resolve().parent.parent.parent


def lacking(*runtimes: str) -> bool:
    """Whether this machine has no compiler with those runtimes."""
    try:
        for name in runtimes:
            asked = [build.compiler(), f"-print-file-name={name}"]
            said = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
            if not os.path.isabs(said):
                return True
    except FileNotFoundError:
        return True
    return False


needs_asan = pytest.mark.skipif(lacking("libasan.so", "libubsan.so"), reason="no libasan, libubsan")
needs_tsan = pytest.mark.skipif(lacking("libtsan.so"), reason="no libtsan")


def tool(name: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "tools" / name, *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.mark.parametrize("name", ["sanitize", "fuzz-slab", "strike"])
def test_a_tool_says_what_it_does(name: str) -> None:
    done = tool(name, "--help")
    assert done.returncode == 0
    assert f"usage: tools/{name}" in done.stdout


@needs_asan
def test_the_driver_runs_instrumented() -> None:
    done = tool("sanitize", "ubsan", "--only", "driver", "--steps", "1")
    assert (done.returncode, done.stdout) == (0, "")
    lines = done.stderr.splitlines()
    assert len(lines) == 3 * 5 + 1
    assert lines[-1] == "sanitize: ubsan: nothing found"


@needs_tsan
@pytest.mark.parametrize("locked", [True, False])
def test_threads_without_the_lock_are_found(tmp_path: Path, locked: bool) -> None:
    sanitizer = build.SANITIZERS["tsan"]
    extra = () if locked else ("-DSTRESS_WITHOUT_LOCK",)
    program = build.driver(tmp_path, (*sanitizer.flags, *extra))
    done = subprocess.run(
        ["setarch", os.uname().machine, "-R", program, "1", "4", "3", "memfd"],
        env={**os.environ, **sanitizer.options},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    found = "WARNING: ThreadSanitizer: data race" in done.stderr
    assert (found, done.returncode == 0) == (not locked, locked)


@needs_asan
def test_random_calls_run_instrumented() -> None:
    done = tool("fuzz-slab", "--seconds", "0.1", "--steps", "300", "--seed", "5")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 rounds of 300 steps, seeds 5 to 5: nothing found" in done.stdout
    again = tool("fuzz-slab", "--replay", "5", "--only", "0-20,40")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "status 0" in again.stdout
