"""`wofs ls`, `tree` and `stat`: what ls(1) and stat(1) say of the kernel's mount."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from support.cli import Run, same, terminal
from support.hostile import INODE_MODE, Edited

Unpack = Callable[[str], Path]


def gnu_ls(*args: str | Path) -> list[str]:
    """Return the lines of ls(1) without its totals, escapes as bytes are."""
    env = {**os.environ, "LC_ALL": "C"}
    done = subprocess.run(["ls", *args], env=env, capture_output=True, check=True)
    return [ln for ln in os.fsdecode(done.stdout).split("\n") if not ln.startswith("total ")]


def columns(lines: list[str]) -> list[list[str]]:
    """Split lines of `ls -l` at the spaces, device numbers taken together."""
    return [re.sub(r",\s+", ",", line).split() for line in lines]


FORMS = ("/", "/special", "/times", "/names", "/links", "/attrs", "/files", "/dirs/node")


@pytest.mark.parametrize("folder", FORMS)
def test_long_listing_is_that_of_the_kernels_mount(
    folder: str, wofs: Run, image: Unpack, kernel_view: Path
) -> None:
    # ls sorts by bytes in the C locale, as we do; its marks of file capabilities are none
    truth = gnu_ls("-ln", "--time-style=full-iso", f"{kernel_view}{folder}")
    done = wofs("ls", "-l", "--full-time", image("default"), folder)
    assert (done.code, done.err) == (0, "")
    same(columns(done.text.split("\n")), columns(truth))


def test_unsorted_is_the_directorys_own_order(wofs: Run, image: Unpack, kernel_view: Path) -> None:
    for folder in ("dirs/block", "dirs/leaf", "dirs/holes"):
        truth = [ln for ln in gnu_ls("-lU", "-a", "-n", kernel_view / folder) if ln]
        names = [line.split()[8] for line in truth]
        found = wofs("ls", "-aU", image("default"), f"/{folder}").lines
        same(found, names)


@pytest.mark.parametrize("order", ["-t", "-S", "-tr", "-Sr", "-r"])
def test_orders_are_those_of_ls(order: str, wofs: Run, image: Unpack, kernel_view: Path) -> None:
    for folder in ("times", "files", "dirs/sf_full"):
        truth = gnu_ls(order, kernel_view / folder)[:-1]
        same(wofs("ls", order, image("default"), f"/{folder}").lines, truth)


def test_recursive_listing_has_everything(wofs: Run, image: Unpack, kernel_view: Path) -> None:
    truth = "\n".join(gnu_ls("-AR", kernel_view)).replace(f"{kernel_view}/", "/")
    truth = truth.replace(f"{kernel_view}:", "/:")
    found = wofs("ls", "-aR", image("default")).text
    kept = "\n".join(line for line in found.split("\n") if line not in (".", ".."))
    same(kept.split("\n"), truth.split("\n"))


def test_human_sizes_and_inode_numbers(wofs: Run, image: Unpack, kernel_view: Path) -> None:
    truth = [ln.split() for ln in gnu_ls("-lihn", kernel_view / "files") if ln]
    found = [ln.split() for ln in wofs("ls", "-l", "-i", "-h", image("default"), "/files").lines]
    same([(f[0], f[5], f[-1]) for f in found], [(t[0], t[5], t[-1]) for t in truth])
    assert wofs("ls", "-i", image("default"), "/files/one").text.split()[0] in {t[0] for t in truth}


def test_links_on_the_command_line(wofs: Run, image: Unpack) -> None:
    path = image("default")
    assert wofs("ls", path, "/links/ok").lines == ["/links/ok"]
    assert wofs("ls", "-l", path, "/links/ok").text.endswith(" /links/ok -> ../files/one\n")
    assert wofs("ls", "-d", path, "/dirs", "/files").lines == ["/dirs", "/files"]
    several = wofs("ls", path, "/dirs/empty", "/files/one", "/dirs/sf")
    first, *rest = several.text.split("\n\n")
    assert first == "/files/one"
    assert [part.split("\n")[0] for part in rest] == ["/dirs/empty:", "/dirs/sf:"]


def test_columns_on_a_terminal(image: Unpack) -> None:
    _, shown = terminal("ls", image("default"), "/dirs/sf_full")
    lines = os.fsdecode(shown).splitlines()
    names = [name for line in lines for name in line.split()]
    assert len(names) > len(lines) > 1
    assert max(map(len, lines)) <= 80
    downwards = [line.split()[0] for line in lines]
    assert sorted(names)[: len(lines)] == downwards


def test_json_of_a_listing(wofs: Run, image: Unpack, kernel_view: Path) -> None:
    found = {str(o["path"]): o for o in wofs("ls", "-R", "--json", image("default")).objects}
    for name in ("special/sdb1", "special/mode7777", "times/1901", "links/ok", "files/several"):
        o, st = found[f"/{name}"], os.lstat(kernel_view / name)
        assert o["mode"] == f"{st.st_mode & 0o7777:04o}"
        keys = ("ino", "nlink", "uid", "gid", "size", "blocks", "blksize")
        assert [o[key] for key in keys] == [getattr(st, f"st_{key}") for key in keys]
        times = ("atime_ns", "mtime_ns", "ctime_ns")
        assert [o[key] for key in times] == [getattr(st, f"st_{key}") for key in times]
    assert found["/special/sdb1"]["rdev"] == [8, 17]
    assert found["/links/ok"]["target"] == "../files/one"
    assert found["/special/fifo"]["type"] == "fifo"


def test_damage_is_marked_and_told(wofs: Run, image: Unpack, tmp_path: Path) -> None:
    edited = Edited(image("default"))
    edited.inode("/dirs/sf/f00001__", INODE_MODE, b"\xff\xff", fix=False)
    edited.close()
    path = tmp_path / "disk.img"
    path.write_bytes(edited.data)
    done = wofs("ls", "-l", path, "/dirs/sf")
    assert (done.code, len(done.lines)) == (4, 3)
    assert done.lines[1].split() == ["?---------", *"?????", "f00001__"]
    assert done.err.startswith("wofs: /dirs/sf/f00001__: disk.img: inode ")
    assert done.err.count("\n") == 1
    assert wofs("ls", path, "/dirs/sf").code == 0  # names alone are sound
    tree = wofs("tree", path, "/dirs/sf")
    assert (tree.code, tree.lines[2]) == (4, "├── f00001__ [damaged]")
    found = wofs("find", path, "/dirs/sf", "-name", "f*1__")
    assert (found.code, found.text) == (4, "/dirs/sf/f00001__\n")
    assert wofs("find", path, "/dirs/sf", "-type", "f", "-name", "f*1__").out == b""
    assert wofs("stat", path, "/dirs/sf/f00001__").code == 4


# ---- tree
def test_tree_draws(wofs: Run, image: Unpack) -> None:
    done = wofs("tree", image("default"), "/links")
    assert done.code == 0
    assert done.lines[0] == "/links"
    assert "├── ok -> ../files/one" in done.lines
    assert "│   ├── h1" in done.lines
    below = wofs("find", image("default"), "/links", "-mindepth", "1").lines
    assert done.lines[-1] == f"1 directory, {len(below) - 1} others"
    shallow = wofs("tree", "-L", "1", "-d", image("default"))
    assert len(shallow.lines) == shallow.text.count("── ") + 3
    deep = wofs("tree", image("default"), "/dirs/deep")
    assert deep.text.count("└── ") == 24


def test_tree_as_json_is_the_same_tree(wofs: Run, image: Unpack) -> None:
    drawn = wofs("tree", image("default"), "/")
    found = wofs("tree", "--json", image("default"), "/").objects
    kinds = [o["type"] == "directory" for o in found]
    counts = f"{sum(kinds) - 1} directories, {len(kinds) - sum(kinds)} others"
    assert drawn.lines[-1] == counts


# ---- stat
def test_stat_says_what_stat_says(wofs: Run, image: Unpack, kernel_view: Path) -> None:
    names = ("special/mode7777", "times/1901", "times/beyond", "special/chr_max", "dirs/leaf")
    form = "%s %b %o %i %h %04a %A %u %g|%x|%y|%z|%w"
    for name in names:
        done = subprocess.run(
            ["stat", "-c", form, kernel_view / name], capture_output=True, text=True, check=True
        )
        counts, *times = done.stdout.rstrip("\n").split("|")
        size, blocks, io, ino, links, mode, letters, uid, gid = counts.split()
        text = wofs("stat", image("default"), f"/{name}").text
        facts = dict(line.strip().split(": ", 1) for line in text.splitlines())
        assert facts["Size"].startswith(f"{size}  ")
        assert facts["Size"].endswith(f"Blocks: {blocks}  IO block: {io}")
        assert facts["Inode"].startswith(f"{ino}  Links: {links}  ")
        assert facts["Mode"].startswith(
            f"0{mode[-4:]}"[-4:] + f"/{letters}  Uid: {uid}  Gid: {gid}"
        )
        assert [facts[key] for key in ("Access", "Modify", "Change", "Birth")] == times


def test_stat_shows_attributes(wofs: Run, image: Unpack) -> None:
    text = wofs("stat", image("default"), "/attrs/sf", "/attrs/bytes").text
    assert '  Xattr: user.a = "1"\n' in text
    assert "  Xattr: trusted.t = 0001ff\n" in text
    assert "  Xattr: user.\\xff\\xfe\\n = 00\n" in text
    assert "(65536 bytes)" in wofs("stat", image("default"), "/attrs/remote_max").text
    (found,) = wofs("stat", "--json", image("default"), "/attrs/bytes").objects
    assert found["xattrs"] == [
        {"name": "user.\\xff\\xfe\n", "name_bytes": b"user.\xff\xfe\n".hex(), "value": "00"}
    ]
    followed = wofs("stat", "-L", image("default"), "/links/ok").text
    assert "File: /files/one\n" in followed
    assert "File: /links/ok -> ../files/one\n" in wofs("stat", image("default"), "/links/ok").text
