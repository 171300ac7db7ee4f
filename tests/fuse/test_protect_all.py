"""A mount with protect=all: right answers, and a heap without metadata between requests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from imagelib import manifest
from support import fuse
from support.images import IMAGES

pytestmark = pytest.mark.skipif(fuse.lacking() is not None, reason=str(fuse.lacking()))

Unpack = Callable[[str], Path]


def test_the_same_as_the_kernel_says(image: Unpack, tmp_path: Path) -> None:
    top = tmp_path / "m"
    with fuse.mounted(image("default"), top, ["-o", "protect=all"]):
        truth = manifest.read(IMAGES["default"].truth())
        listed = manifest.of_tree(top, truth)
        assert list(manifest.differences(truth, listed, ("bt", "s"))) == []
        shown = fuse.run("slab", top)
        assert "protect all, backend memfd, sealed, locked" in shown.stdout
        rows = [json.loads(row) for row in fuse.run("slab", "--json", top).stdout.splitlines()]
        shelves = {row["name"]: row for row in rows if row["object"] == "shelf"}
        assert shelves["inode"]["objects"] > 100
        assert shelves["directory entries"]["objects"]


SERVER = """
import json, os, signal, sys, threading, time
sys.path.insert(0, {tests!r})
from support.heap import found

def look():
    while not os.path.ismount({mountpoint!r}):
        time.sleep(0.02)
    os.system("find {mountpoint} -ls > /dev/null; cat {mountpoint}/files/one > /dev/null")
    os.system("ls -lR {mountpoint}/dirs | head -3 > /dev/null")
    time.sleep(0.2)
    print(json.dumps(found()), flush=True)
    os.kill(os.getpid(), signal.SIGTERM)

threading.Thread(target=look, daemon=True).start()
from wofs.cli.main import main
sys.exit(main(["mount", "-f", "-o", "protect={protect}", {image!r}, {mountpoint!r}]))
"""


@pytest.mark.parametrize("protect", ["all", "mount"])
def test_what_a_server_keeps_between_requests(
    image: Unpack, tmp_path: Path, protect: str
) -> None:
    top = tmp_path / "m"
    top.mkdir()
    script = SERVER.format(
        tests=str(Path(__file__).resolve().parent.parent),
        image=str(image("default")),
        mountpoint=str(top),
        protect=protect,
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=90
        )
    finally:
        if os.path.ismount(top):
            fuse.unmount(top)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    if protect == "all":
        assert seen == []
    else:
        assert {"Inode", "ExtentMap", "Block"} <= set(seen), "the walk finds what is kept"
