"""A serving process keeps no decoded mount structure beside the slab."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support import fuse

pytestmark = pytest.mark.skipif(fuse.lacking() is not None, reason=str(fuse.lacking()))

SERVER = """
import gc, json, os, signal, sys, threading, time
sys.path.insert(0, {tests!r})
from support.census import records_alive

def look():
    while not os.path.ismount({mountpoint!r}):
        time.sleep(0.02)
    os.listdir({mountpoint!r})
    gc.unfreeze()
    gc.collect()
    print(json.dumps(records_alive()), flush=True)
    os.kill(os.getpid(), signal.SIGTERM)

threading.Thread(target=look, daemon=True).start()
from wofs.cli.main import main
sys.exit(main(["mount", "-f", "-o", "uid=7,fsname=name", {image!r}, {mountpoint!r}]))
"""


def test_no_record_outlives_the_mounting(image: Callable[[str], Path], tmp_path: Path) -> None:
    mountpoint = tmp_path / "mnt"
    mountpoint.mkdir()
    script = SERVER.format(
        tests=str(Path(__file__).resolve().parent.parent),
        image=str(image("default")),
        mountpoint=str(mountpoint),
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    finally:
        if os.path.ismount(mountpoint):
            fuse.unmount(mountpoint)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []
