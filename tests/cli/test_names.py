"""Names of any bytes: escaped on a terminal, whole in a pipe, told from one another in JSON."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from imagelib.populate import ODD_NAMES
from support.cli import Run, terminal
from support.hostile import INODE_MODE, SB_LABEL, Edited, edited_super

Unpack = Callable[[str], Path]
RAW = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\xc2[\x80-\x9f]")
"""Control characters but tab and line end: 7-bit ones, and the 8-bit ones of UTF-8."""

ESCAPES = {
    b"\x1b]0;owned\x07\x1b[2J": "\\x1b]0;owned\\x07\\x1b[2J",
    b"two\nlines": "two\\nlines",
    b"back\\slash": "back\\\\slash",
    b"\\x1b[2J": "\\\\x1b[2J",
    "right\u202eleft".encode(): "right\\u202eleft",
    b"eight\xc2\x9bbits": "eight\\x9bbits",
    b"not\xffUTF-8": "not\\xffUTF-8",
    "é🐸 ".encode(): "é🐸 ",
}
"""Name -> what a terminal may see of it."""


HOME = "/dirs/empty"
"""The directory that holds them."""

PATHS = [HOME.encode() + b"/" + name for name in ESCAPES]


@pytest.fixture(scope="module")
def evil(image: Unpack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image with the names of ESCAPES in HOME, one of them damaged, and an evil label."""
    edited = Edited(image("default"))
    one, damaged = edited.ino("/files/one"), edited.ino("/files/empty")
    names = list(ESCAPES)
    edited.shortform(HOME, [(name, damaged if name is names[0] else one) for name in names])
    edited.inode("/files/empty", INODE_MODE, b"\xff\xff", fix=False)
    edited.close()
    label = b"\x1b[31mred".ljust(12, b"\0")
    path = tmp_path_factory.mktemp("evil") / "\x1b[2Jdisk.img"
    path.write_bytes(edited_super(bytes(edited.data), {SB_LABEL: label}))
    return path


@pytest.mark.parametrize(
    "args",
    [
        ("ls", "IMAGE", HOME),
        ("ls", "-la", "IMAGE", HOME),
        ("ls", "-R", "IMAGE"),
        ("tree", "IMAGE", HOME),
        ("find", "IMAGE", HOME),
        ("find", "--ls", "IMAGE", HOME),
        ("stat", "IMAGE", *PATHS),
        ("info", "IMAGE"),
        ("cat", "IMAGE", *PATHS),
        ("cp", "IMAGE", *PATHS, "/nowhere/\x1b[2J/x"),
        ("cp", "-v", "-r", "IMAGE", "/", "OUT"),
        ("ls", "--json", "IMAGE", HOME),
        ("ls", "IMAGE", "/\x1b[2J"),
        ("ls", "-o", "\x1b[2J", "IMAGE"),
        ("\x1b[2J", "IMAGE"),
        ("info", "\x1b[2J"),
    ],
    ids=lambda args: " ".join(map(repr, args[:3])),
)
def test_no_name_reaches_a_terminal_raw(
    args: tuple[str | bytes, ...], evil: Path, tmp_path: Path
) -> None:
    places: dict[object, Path] = {"IMAGE": evil, "OUT": tmp_path / "out"}
    done, shown = terminal(*(places.get(arg, arg) for arg in args), env={"TERM": "dumb"})
    found = RAW.search(shown)
    assert found is None, shown[max(0, found.start() - 40) : found.end() + 40]
    assert done.code in (0, 1, 2, 4)
    assert "internal error" not in os.fsdecode(shown)


def test_a_bar_shows_no_name_raw(evil: Path, tmp_path: Path) -> None:
    done, shown = terminal("cp", "-r", evil, "/", tmp_path / "out")
    assert done.code == 4
    assert b"owned\x07" not in shown
    assert b"\x1b]" not in shown
    assert b"B/s" in shown


def test_each_escape_is_what_it_should_be(evil: Path) -> None:
    done, shown = terminal("ls", "-1", evil, HOME)
    assert done.code == 0
    lines = os.fsdecode(shown).replace("\r\n", "\n").splitlines()
    assert sorted(ESCAPES.values()) == sorted(lines)


def test_a_pipe_gets_every_byte(wofs: Run, evil: Path) -> None:
    found = wofs("find", evil, HOME, "-mindepth", "1", "-print0").out
    assert set(found.split(b"\0")[:-1]) == set(PATHS)
    listed = b"".join(name + b"\n" for name in sorted(ESCAPES))
    assert wofs("ls", evil, HOME).out == listed


def test_json_is_ascii_and_tells_names_apart(wofs: Run, evil: Path) -> None:
    done = wofs("ls", "--json", evil, HOME)
    assert done.code == 4
    assert done.out.isascii()
    found = [
        bytes.fromhex(str(o["name_bytes"])) if "name_bytes" in o else str(o["name"]).encode()
        for o in done.objects
    ]
    assert sorted(found) == sorted(ESCAPES)
    assert [o.get("damaged", False) for o in done.objects].count(True) == 1
    odd = next(o for o in done.objects if "name_bytes" in o)
    assert odd["name"] == "not\\xffUTF-8"
    assert bytes.fromhex(str(odd["path_bytes"])) == HOME.encode() + b"/not\xffUTF-8"


@pytest.mark.parametrize("name", ODD_NAMES, ids=repr)
def test_any_name_can_be_asked_for(name: bytes, wofs: Run, image: Unpack, tmp_path: Path) -> None:
    path = b"/names/" + name
    assert wofs("cat", image("default"), path).out == name
    assert wofs("ls", "-d", image("default"), path).out == path + b"\n"
    found = wofs("find", "--json", image("default"), path).objects
    assert found[0]["size"] == len(name)
    assert wofs("cp", image("default"), path, tmp_path).code == 0
    assert (Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))).read_bytes() == name


def test_an_argument_that_looks_like_an_option(wofs: Run, image: Unpack) -> None:
    assert wofs("cat", image("default"), "--", "names/-rf").out == b"-rf"
    assert wofs("cat", image("default"), "/names/-rf").out == b"-rf"


def test_targets_of_links_are_names_too(wofs: Run, image: Unpack) -> None:
    done = wofs("ls", "-l", image("default"), "/links/bytes")
    assert done.out.endswith(b" /links/bytes -> \xff\xfe\n not UTF-8\n")
    _, shown = terminal("ls", "-l", image("default"), "/links/bytes")
    assert shown.endswith(b" /links/bytes -> \\xff\\xfe\\n not UTF-8\r\n")
    (found,) = wofs("stat", "--json", image("default"), "/links/bytes").objects
    assert bytes.fromhex(str(found["target_bytes"])) == b"\xff\xfe\n not UTF-8"


def test_a_message_escapes_what_it_quotes(wofs: Run, image: Unpack) -> None:
    done = wofs("cat", image("default"), b"/\x1b[2J\n\xff")
    assert done.err == "wofs: /\\x1b[2J\\n\\xff: no such file or directory\n"
