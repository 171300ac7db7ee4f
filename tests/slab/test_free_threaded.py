"""A Python built without the global interpreter lock: it takes the lock back, or is refused."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

import pytest

import wofs
from wofs.slab import _slab
from wofs.xfs import _decode

pytestmark = pytest.mark.skipif(
    not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="not a free-threaded Python"
)

ROOT = str(Path(wofs.__file__).resolve().parent.parent)

LOAD = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location({name!r}, {path!r})
before = sys._is_gil_enabled()
importlib.util.module_from_spec(spec)
print(before, sys._is_gil_enabled())
"""
"""Makes an extension module without what is imported beside it, which may take the lock too."""

STRIVE = """
import sys, threading
from support.slab import VALUES, Sample
from wofs.slab import Arena
assert sys._is_gil_enabled()
arena = Arena.create(16)
cache = arena.cache(Sample)
wrong = []

def live(number):
    for turn in range(3000):
        handle = cache.init_once(f"t{number}", **{**VALUES, "first": turn, "wide": number})
        if (handle.first, handle.wide) != (turn, number):
            wrong.append((number, turn))
        cache.free(handle)

threads = [threading.Thread(target=live, args=(number,)) for number in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(wrong, len(arena.verify()), cache.stats().objects)
"""


def run(script: str, lock: str | None) -> subprocess.CompletedProcess[str]:
    """Run a script with PYTHON_GIL set so, or not set."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHON_GIL"}
    environment["PYTHONPATH"] = os.pathsep.join((ROOT, str(Path(__file__).resolve().parent.parent)))
    if lock is not None:
        environment["PYTHON_GIL"] = lock
    return subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("module", [_slab, _decode], ids=["slab", "decode"])
def test_the_lock_is_taken_back_with_a_warning(module: ModuleType) -> None:
    name, path = module.__name__, str(module.__file__)
    done = run(LOAD.format(name=name, path=path), None)
    assert (done.returncode, done.stdout) == (0, "False True\n")
    assert f"has been enabled to load module '{name}'" in done.stderr


@pytest.mark.parametrize("lock", [None, "1"], ids=["taken back", "kept"])
def test_threads_share_an_arena(lock: str | None) -> None:
    done = run(STRIVE, lock)
    assert (done.returncode, done.stdout) == (0, "[] 0 0\n")
    assert lock is None or not done.stderr


def test_to_do_without_the_lock_is_refused() -> None:
    done = run("import wofs.slab", "0")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("ImportError: wofs.slab needs the global inter")
