"""`wofs info` shows what xfs_db reads: geometry, features, counters of each AG, the log."""

from __future__ import annotations

import mmap
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import wofs as library
from support import kernel
from support.cli import Run, child, shell, terminal
from support.hostile import edited_super
from support.images import names
from wofs.device.crc import crc_of

Unpack = Callable[[str], Path]
AGF_FREEBLKS, AGF_CRC = 52, 216

needs_xfsprogs = pytest.mark.skipif(shutil.which("xfs_db") is None, reason="needs xfs_db")

PLAIN = {
    **{key: key for key in ("blocksize", "sectsize", "inodesize", "dblocks", "agblocks")},
    **{key: key for key in ("agcount", "rootino", "imax_pct", "icount", "ifree", "rblocks")},
    "uuid": "uuid",
    "meta_uuid": "meta_uuid",
}
"""Key of `wofs info --json` -> field of the superblock in xfs_db; numbers and UUIDs."""

OF_AGS = {
    "agf": {"length": "length", "freeblks": "freeblks", "longest": "longest", "flcount": "flcount"},
    "agi": {"icount": "count", "ifree": "freecount"},
}


def xfs_db(image: Path, *commands: str) -> list[dict[str, str]]:
    """Return for each "print" of xfs_db the fields it shows."""
    args = [arg for command in commands for arg in ("-c", command)]
    done = subprocess.run(
        ["xfs_db", "-r", *args, image], capture_output=True, text=True, check=True
    )
    found: list[dict[str, str]] = []
    for line in done.stdout.splitlines():
        key, _, value = line.partition(" = ")
        if key == "magicnum":
            found.append({})
        found[-1][key] = value
    return found


@needs_xfsprogs
@pytest.mark.parametrize("name", names("mountable"))
def test_numbers_are_those_of_xfs_db(name: str, wofs: Run, image: Unpack) -> None:
    path = image(name)
    about, *ags = wofs("info", "--json", path).objects
    prints = [f"{kind} {ag['agno']}" for ag in ags for kind in OF_AGS]
    sb, *headers = xfs_db(path, "sb 0", "p", *(c for at in prints for c in (at, "p")))
    for key, field in PLAIN.items():
        found = str(about[key])
        if sb["meta_uuid"].strip("0-") == "" and key == "meta_uuid":
            found, field = str(about["uuid"]), "uuid"
        assert found == sb[field], key
    assert about["label"] == sb["fname"].strip('"').replace("\\000", "")
    assert about["dirblksize"] == int(sb["blocksize"]) << int(sb["dirblklog"])
    assert about["stripe_unit"] == int(sb["unit"]) * int(sb["blocksize"])
    log = about["log"]
    assert isinstance(log, dict)
    assert log["external"] == (sb["logstart"] == "0")
    if not log["external"]:
        assert log["blocks"] * 512 == int(sb["logblocks"]) * int(sb["blocksize"])
        assert log["state"] == "clean"
    for number, ag in enumerate(ags):
        agf, agi = headers[2 * number : 2 * number + 2]
        for key, field in OF_AGS["agf"].items():
            assert ag[key] == int(agf[field]), (ag["agno"], key)
        for key, field in OF_AGS["agi"].items():
            assert ag[key] == int(agi[field]), (ag["agno"], key)


@pytest.mark.skipif(shutil.which("xfs_info") is None, reason="needs xfs_info")
@pytest.mark.parametrize("name", ["default", "b1k-rmap", "nrext64", "old-v5", "b2k-i1k"])
def test_features_are_those_of_xfs_info(name: str, wofs: Run, image: Unpack) -> None:
    done = subprocess.run(
        ["xfs_db", "-r", "-c", "info", image(name)], capture_output=True, text=True, check=True
    )
    shown = dict(re.findall(r"(\w[\w-]*)=(\S+)", done.stdout.replace(",", " ")))
    (about, *_) = wofs("info", "--json", image(name)).objects
    features = about["features"]
    assert isinstance(features, list)
    words = {
        **{word: word for word in ("crc", "finobt", "rmapbt", "reflink", "bigtime", "nrext64")},
        **{"attr": "attr", "ftype": "ftype", "sparse": "spinodes", "inobtcount": "inobtcount"},
        **{"projid32bit": "projid32bit", "lazy-count": "lazy-count"},
    }
    for theirs, ours in words.items():
        assert (ours in features) == (shown.get(theirs, "0") not in ("0",)), theirs
    assert about["version"] == 5


def test_text_names_everything(wofs: Run, image: Unpack) -> None:
    text = wofs("info", image("empty")).text
    facts = dict(re.findall(r"^([a-z0-9 ]+): +(.+)$", text, re.M))
    assert facts["image"] == "empty.img, 32.0 MiB"
    assert facts["format"] == "XFS version 5"
    assert facts["label"] == "twelve-chars"
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", facts["uuid"])
    assert "8192 blocks of 4096 bytes" in facts["size"]
    assert facts["inodes"] == "3 in use, 61 free, 64 made"
    assert facts["sizes"] == "block 4096, sector 512, inode 512, directory block 4096"
    assert facts["log"].endswith("clean: ends with an unmount record") or "never" in facts["log"]
    assert facts["crc32c by"] in ("crcmod", "google-crc32c")
    assert re.match(
        r"protect mount, \w+, sealed(, locked)?, \d+ pages of objects, \d+ bytes of control",
        facts["memory"],
    )
    for cache in ("superblock", "geometry", "agf", "agi", "agfl", "log", "options"):
        assert re.search(rf"^ *{cache}( +\d+){{5}}$", text, re.M), cache
    assert re.search(r"^ag +blocks +free +longest +reserve +inodes +inodes free$", text, re.M)


def test_what_the_slab_holds_adds_up(wofs: Run, image: Unpack) -> None:
    about, *ags = wofs("info", "--json", image("ag64")).objects
    slab = about["slab"]
    assert isinstance(slab, dict)
    assert slab["sealed"] is True
    caches = {cache["name"]: cache for cache in slab["caches"]}
    assert {name: caches[name]["objects"] for name in ("agf", "agi", "agfl", "superblock")} == {
        "agf": 64, "agi": 64, "agfl": 64, "superblock": 1,
    }  # fmt: skip
    assert len(ags) == 64
    held = sum(cache["bytes_used"] + cache["bytes_wasted"] for cache in caches.values())
    assert 0 <= slab["pages"] * mmap.PAGESIZE - held < slab["control_bytes"] + mmap.PAGESIZE


def test_many_groups_are_cut_short(wofs: Run, image: Unpack) -> None:
    short = wofs("info", image("ag64")).lines
    assert short[-1] == "(32 more: --all)"
    every = wofs("info", "--all", image("ag64")).lines
    assert every[-1].split()[0] == "63"


def test_a_damaged_header_costs_its_counters(wofs: Run, image: Unpack, tmp_path: Path) -> None:
    with library.open(image("default")) as fs:
        sb = fs.mount.sb
        at = sb.agblocks * sb.blocksize + sb.sectsize
    data = bytearray(image("default").read_bytes())
    data[at + AGF_FREEBLKS] ^= 1
    path = tmp_path / "disk.img"
    path.write_bytes(data)
    done = wofs("info", path)
    assert done.code == 4
    assert re.match(r"wofs: disk.img: agf 1 \(daddr 0x\w+, 512 B\): crc is 0x\w+, exp", done.err)
    assert done.err.count("\n") == 1
    row = next(line.split() for line in done.lines if line.split()[:1] == ["1"])
    assert row[2:5] == ["damaged"] * 3
    assert row[5].isdecimal()
    # A lie with a right checksum is named by its field.
    data[at + AGF_CRC : at + AGF_CRC + 4] = crc_of(bytes(data[at : at + 512]), AGF_CRC).to_bytes(
        4, "little"
    )
    path.write_bytes(data)
    done = wofs("info", path)
    assert (done.code, done.err.count("\n")) == (4, 1)
    assert "agf 1 (daddr" in done.err
    assert "freeblks is 167" in done.err


def test_labels_of_any_bytes(wofs: Run, image: Unpack, tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    path.write_bytes(edited_super(image("empty").read_bytes(), {108: b"\x1b[2J\xff\n" + bytes(6)}))
    assert "label:       \\x1b[2J\\xff\\n\n" in wofs("info", path).text
    assert wofs("info", "--json", path).objects[0]["label"] == "\x1b[2J\\xff\n"


def test_the_log_of_a_crashed_image(wofs: Run, image: Unpack) -> None:
    text = wofs("info", "-q", "-o", "norecovery", image("dirty")).text
    assert re.search(r"^log: +internal, [\d.]+ MiB, dirty, not replayed: holds \d+ rec", text, re.M)


def test_tables_are_drawn_on_a_terminal(image: Unpack) -> None:
    done, shown = terminal("info", image("empty"), env={"TERM": "dumb"})
    assert done.code == 0
    assert re.search(rb"^ *agf +2( +\d+){4} *\r$", shown, re.M)


@pytest.mark.skipif(kernel.lacking() is not None, reason=str(kernel.lacking()))
def test_a_block_device_is_a_source(wofs: Run, image: Unpack) -> None:
    with kernel.loop_device(image("default")) as device:
        done = wofs("info", device)
        assert (done.code, done.err) == (0, "")
        assert done.lines[0] == f"image:       {Path(device).name}, 64.0 MiB"
        assert wofs("cat", device, "/files/one").out == b"o"
        assert wofs("ls", "-lR", device).out == wofs("ls", "-lR", image("default")).out


def test_pipes_of_the_examples(image: Unpack) -> None:
    done = shell('wofs info --json "$1" | head -1', image("empty"))
    assert done.objects[0]["object"] == "filesystem"
    assert child("info", image("empty")).code == 0
