"""`wofs find` finds what find(1) finds in the kernel's mount of the same image."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from support.cli import Run, same
from wofs.cli.pattern import Pattern

Unpack = Callable[[str], Path]

QUESTIONS = (
    "",
    "-type d",
    "-type f,l",
    "-type b",
    "-type c",
    "-name *e*",
    "-name [!a-m]*",
    "-name [^a-m]*",
    "-name [[:digit:]]*",
    "-name ?",
    "-name caf?",
    "-name \\*",
    "-name -rf",
    "-iname A",
    "-iname *OnE*",
    "-path */dirs/*/f0000?_*",
    "-ipath */DIRS/SF/*",
    "-size 0",
    "-size 1",
    "-size +1",
    "-size -2",
    "-size +100k",
    "-size 1c",
    "-size +3w",
    "-size -1M",
    "-size 1M",
    "-size +1G",
    "-empty",
    "-empty -type d",
    "-links +1",
    "-links 2",
    "-inum -140",
    "-perm 644",
    "-perm -4000",
    "-perm /6001",
    "-perm /0",
    "-perm 0",
    "-uid 12345",
    "-gid +50000",
    "-maxdepth 0",
    "-maxdepth 1",
    "-mindepth 3",
    "-mindepth 2 -maxdepth 2 -type d",
    "-newermt 1970-01-01",
    "-newermt @0",
)


def gnu_find(top: Path, *args: str) -> list[bytes]:
    """Return the sorted paths, from the mount's root, that find(1) prints."""
    env = {**os.environ, "LC_ALL": "C.UTF-8"}
    done = subprocess.run(["find", top, *args, "-print0"], env=env, capture_output=True, check=True)
    root = os.fsencode(top)
    return sorted(path[len(root) :] or b"/" for path in done.stdout.split(b"\0")[:-1])


def found_here(wofs: Run, image: Path, *args: str) -> list[bytes]:
    """Return the sorted paths that our find prints."""
    done = wofs("find", image, *args, "-print0")
    assert (done.code, done.err) == (0, "")
    return sorted(done.out.split(b"\0")[:-1])


@pytest.mark.parametrize("question", QUESTIONS)
def test_finds_what_find_finds(question: str, wofs: Run, image: Unpack, kernel_view: Path) -> None:
    args = question.split()
    if "name" in question:  # that of the root is the mount point's there
        args += ["-mindepth", "1"]
    truth = gnu_find(kernel_view, *args)
    same(found_here(wofs, image("default"), *args), truth)
    assert truth, "the question asks for nothing"


def test_the_root_is_called_slash(wofs: Run, image: Unpack) -> None:
    assert wofs("find", image("default"), "-name", "/").lines == ["/"]


@pytest.mark.parametrize("unit", [("mtime", 86400), ("mmin", 60), ("atime", 86400), ("cmin", 60)])
def test_ages_are_counted_like_finds(
    unit: tuple[str, int], wofs: Run, image: Unpack, kernel_view: Path
) -> None:
    word, seconds = unit
    age = int((time.time() - os.stat(kernel_view / "files/one").st_mtime) / seconds)
    for number in {str(max(0, age + off)) for off in (-1, 0, 1, 2)} | {"5000", "0", "1.5"}:
        for sign in ("+", "", "-"):
            args = [f"-{word}", f"{sign}{number}"]
            before = set(gnu_find(kernel_view, *args))
            found = set(found_here(wofs, image("default"), *args))
            after = set(gnu_find(kernel_view, *args))
            moving = before ^ after  # what grew a unit older meanwhile
            same(sorted(found - moving), sorted(before - moving))


def test_newer_and_samefile(wofs: Run, image: Unpack, kernel_view: Path) -> None:
    for name in ("times/epoch", "files/one", "links/ok", "attrs/sf"):
        found = wofs("find", image("default"), "-newer", f"/{name}", "-print0").out
        truth = gnu_find(kernel_view, "-newer", str(kernel_view / name))
        same(sorted(found.split(b"\0")[:-1]), truth)
    names = wofs("find", image("default"), "-samefile", "/links/hard/h1").lines
    assert len(names) == 31
    assert all(path.startswith("/links/hard/") for path in names)


def test_ls_form_is_that_of_find(wofs: Run, image: Unpack, kernel_view: Path) -> None:
    env = {**os.environ, "LC_ALL": "C"}
    done = subprocess.run(["find", kernel_view, "-ls"], env=env, capture_output=True, check=True)

    def facts(lines: list[str]) -> list[tuple[str, ...]]:
        """Return inode, blocks, mode, links and size or device of each line."""
        rows = [re.sub(r",\s+", ",", line).split() for line in lines]
        return sorted((r[0], r[1], r[2], r[3], r[6]) for r in rows)

    same(
        facts(wofs("find", "-ls", image("default")).lines),
        facts(done.stdout.decode().split("\n")[:-1]),
    )


def test_json_and_print0(wofs: Run, image: Unpack) -> None:
    found = wofs("find", "--json", image("default"), "/times").objects
    paths = wofs("find", "--print0", image("default"), "/times").text.split("\0")[:-1]
    assert [o["path"] for o in found] == paths
    assert wofs("find", "-print", image("default"), "/times").lines == paths
    several = wofs("find", image("default"), "/times", "/times/1901", "-name", "19*").lines
    assert several == [p for p in paths if "/19" in p] + ["/times/1901"]


# ---- patterns, against the C library's
libc = ctypes.CDLL(None)
FNM_CASEFOLD = 16
PIECES = st.sampled_from([*"ab*?[]!^-\\B1", "[!a]", "[a-b]", "[[:alpha:]]", "[[:digit:]", "[:"])


@given(st.lists(PIECES, max_size=7).map("".join), st.text("ab1-]B[^\\!:", max_size=5))
@example("[]a]", "]")
@example("[!]a]*", "b")
@example("a[", "a[")
@example("\\", "\\")
@example("[[:nonsense:]]", ":]")
def test_patterns_are_those_of_fnmatch(pattern: str, name: str) -> None:
    truth = libc.fnmatch(pattern.encode(), name.encode(), 0) == 0
    assert Pattern(pattern).matches(name.encode()) == truth
    if "-" not in pattern:  # of a range's ends in two cases the C library makes its own sense
        folded = libc.fnmatch(pattern.encode(), name.encode(), FNM_CASEFOLD) == 0
        assert Pattern(pattern, fold=True).matches(name.encode()) == folded


def test_patterns_take_characters_or_bytes() -> None:
    assert Pattern("caf?").matches("café".encode())
    assert Pattern("caf?").matches(b"caf\xe9")
    assert not Pattern("caf?").matches("cafe\u0301".encode())
    assert Pattern("CAFÉ", fold=True).matches("café".encode())
    assert Pattern(os.fsdecode(b"caf[\xe0-\xef]")).matches(b"caf\xe9")
    assert not Pattern("*a" * 40 + "b").matches(b"a" * 255)  # and ends
