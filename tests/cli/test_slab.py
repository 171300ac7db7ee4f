"""`wofs slab`: caches, the map of pages, the values of one object."""

from __future__ import annotations

import json
import mmap
import subprocess
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import wofs
from support.fuse import WOFS

Unpack = Callable[[str], Path]


def slab(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*WOFS, "slab", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"},
    )


def test_every_page_has_a_line(image: Unpack) -> None:
    done = slab(image("ag64"))
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line.split() for line in done.stdout.splitlines() if "0x" in line]
    marks: dict[str, int] = {}
    for _, _, cache, slots in rows:
        marks[cache] = marks.get(cache, 0) + slots.count("■")
    assert marks == {
        **{"agf": 64, "agi": 64, "agfl": 64},
        **{"superblock": 1, "geometry": 1, "log": 1, "options": 1},
    }


def test_json_says_the_same(image: Unpack) -> None:
    arena, *pages = map(json.loads, slab(image("ag64"), "--json").stdout.splitlines())
    assert (arena["object"], arena["backend"], arena["sealed"]) == ("arena", "memfd", True)
    assert len({page["page"] for page in pages}) <= arena["pages"]
    assert max(page["bytes"] for page in pages) <= mmap.PAGESIZE
    objects = sum(cache["objects"] for cache in arena["caches"])
    assert sum(page["slots"].count(True) for page in pages) == objects == 196


def test_an_object_shows_its_values(image: Unpack) -> None:
    path = image("default")
    with wofs.open(path) as filesystem:
        header = filesystem.mount.agf[3]
        assert header is not None
        free = header.freeblks
    done = slab(path, "--object", "agf[3]", "--json")
    fields = {line["field"]: line for line in map(json.loads, done.stdout.splitlines())}
    assert fields["freeblks"]["value"] == str(free)
    assert fields["freeblks"]["address"] - fields["seqno"]["address"] == 44
    assert f"freeblks           {free} fsblocks" in slab(path, "--object", "agf[3]").stdout
    missing = slab(path, "--object", "agf[9]")
    assert (missing.returncode, missing.stdout) == (1, "")
    assert "no mount structure is called 'agf[9]'" in missing.stderr


def test_the_picture_has_a_box_for_each_slot(image: Unpack, tmp_path: Path) -> None:
    path = tmp_path / "pages.svg"
    assert slab(image("default"), "--svg", path).returncode == 0
    drawing = ET.parse(path)
    boxes = [item for item in drawing.iter() if item.tag.endswith("rect")]
    assert len({box.get("fill") for box in boxes} - {"#eeeeee"}) == 7
    assert sum(box.get("fill") != "#eeeeee" for box in boxes) == 16


def test_the_picture_has_a_legend_and_a_height_to_look_at(image: Unpack, tmp_path: Path) -> None:
    path = tmp_path / "pages.svg"
    assert slab(image("ag64"), "--svg", path).returncode == 0
    root = ET.parse(path).getroot()
    assert 0 < int(root.attrib["height"]) <= 2000
    dots = [item.get("fill") for item in root.iter() if item.tag.endswith("circle")]
    words = [item.text for item in root.iter() if item.tag.endswith("text")]
    assert len(set(dots)) == 8
    assert {"agf", "agi", "superblock", "free slot"} <= set(words)


def test_since_when_it_is_published(image: Unpack) -> None:
    before = int(time.time())
    path = image("default")
    arena = json.loads(slab(path, "--json").stdout.splitlines()[0])
    assert before <= arena["published"] <= time.time()
    assert "published since 20" in slab(path).stdout.splitlines()[1]


def stats(*arguments: str | Path) -> dict[str, list[dict[str, Any]]]:
    rows: dict[str, list[dict[str, Any]]] = {"cache": [], "page": [], "total": []}
    done = slab(*arguments, "--stats", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    for line in map(json.loads, done.stdout.splitlines()):
        rows[line["object"]].append(line)
    return rows


def check_stats(rows: dict[str, list[dict[str, Any]]]) -> None:
    """Nothing of a run is lost between used, free and wasted, nor between the sums."""
    counted = ("objects", "used", "free", "wasted")
    for page in rows["page"]:
        assert (page["used"] + page["free"] + page["wasted"]) % 128 == 0
        assert page["objects"] > 0
        assert min(page["used"], page["free"] + 1, page["wasted"] + 1) > 0
    for cache in rows["cache"]:
        own = [page for page in rows["page"] if page["cache"] == cache["cache"]]
        assert [cache[k] for k in counted] == [sum(page[k] for page in own) for k in counted]
    (total,) = rows["total"]
    assert [total[k] for k in counted] == [sum(c[k] for c in rows["cache"]) for k in counted]


def test_stats_account_for_every_byte(image: Unpack) -> None:
    path = image("ag64")
    rows = stats(path)
    check_stats(rows)
    with wofs.open(path) as filesystem:
        caches = {cache.name: cache for cache in filesystem.mount.arena.stats().caches}
    for row in rows["cache"]:
        known = caches[row["cache"]]
        assert (row["objects"], row["pages"]) == (known.objects, known.pages)
        assert row["used"] == known.bytes_used == known.objects * known.object_bytes
        assert row["free"] + row["wasted"] == known.bytes_wasted
    assert rows["total"][0]["objects"] == 196


def test_stats_as_a_table(image: Unpack) -> None:
    done = slab(image("ag64"), "--stats")
    assert (done.returncode, done.stderr) == (0, "")
    caches, pages = (part.splitlines() for part in done.stdout.rstrip().split("\n\n"))
    total = stats(image("ag64"))["total"][0]
    assert caches[-1].split()[:5] == [
        "total",
        *(str(total[k]) for k in ("objects", "pages", "used", "free")),
    ]
    listed = len([line for line in pages if line.split()[0].isdecimal()])
    assert listed == len(stats(image("ag64"))["page"])
