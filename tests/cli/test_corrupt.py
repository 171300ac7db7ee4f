"""`wofs corrupt`: what was asked for is done, nothing else, and it can be taken back."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import wofs as library
from support.cli import Run
from support.fuse import WOFS

Unpack = Callable[[str], Path]

needs_xfs_db = pytest.mark.skipif(shutil.which("xfs_db") is None, reason="needs xfs_db")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "bad.img"


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _xfs_db(image: Path, commands: Sequence[str]) -> subprocess.CompletedProcess[str]:
    argv = ["xfs_db", "-r", "-f", *(word for command in commands for word in ("-c", command))]
    return subprocess.run([*argv, image], capture_output=True, text=True, check=True)


def xfs_db(image: Path, *commands: str) -> dict[str, str]:
    """Return what xfs_db prints of an image, read-only: field -> value."""
    lines = _xfs_db(image, commands).stdout.splitlines()
    pairs = (line.split(" = ", 1) for line in lines if " = " in line)
    return {name.strip(): value.strip() for name, value in pairs}


def xfs_db_says(image: Path, command: str) -> str:
    """Return what xfs_db complains of when it reads a structure."""
    return _xfs_db(image, [command]).stderr


@needs_xfs_db
@pytest.mark.parametrize(
    ("edit", "where", "field", "value"),
    [
        ("agf[2].freeblks=77", ["agf 2", "p"], "freeblks", "77"),
        ("agi[1].count=12", ["agi 1", "p"], "count", "12"),
        ("agfl[0].bno[3]=99", ["agfl 0", "p bno[3]"], "bno[3]", "99"),
        ("sb[1].agblocks=4095", ["sb 1", "p"], "agblocks", "4095"),
        ('sb[0].fname="twelve bytes"', ["sb 0", "p fname"], "fname", '"twelve bytes"'),
        ("agi[0].unlinked[5]=7", ["agi 0", "p unlinked[5]"], "unlinked[5]", "7"),
    ],
)  # fmt: skip
def test_the_maker_of_the_format_sees_the_value(
    wofs: Run, image: Unpack, out: Path, edit: str, where: list[str], field: str, value: str
) -> None:
    assert wofs("corrupt", image("default"), out, edit, "--crc", "fix").code == 0
    assert xfs_db(out, *where)[field] == value
    assert "CRC error" not in xfs_db_says(out, where[0])
    out.unlink()
    assert wofs("corrupt", image("default"), out, edit).code == 0
    assert "CRC error" in xfs_db_says(out, where[0])


@needs_xfs_db
@pytest.mark.parametrize(
    ("path", "field", "value", "shown"),
    [
        ("/files/one", "di_size", "7", ("core.size", "7")),
        ("/files/one", "nlink", "-1", ("core.nlinkv2", "4294967295")),
        ("/files/several", "extent[0].startblock", "5", ("u3.bmx[0].startblock", "5")),
        ("/files/holes4", "extent[1].blockcount", "1", ("u3.bmx[1].blockcount", "1")),
        ("/dirs/sf", 'entry["f00001__"].ino', "9", ("u3.sfdir3.list[1].inumber.i4", "9")),
    ],
)
def test_the_maker_of_the_format_sees_inodes(
    wofs: Run, image: Unpack, out: Path, path: str, field: str, value: str, shown: tuple[str, str]
) -> None:
    with library.open(image("default")) as fs:
        ino = fs.path(path).ino
    edit = f'inode["{path}"].{field}={value}'
    assert wofs("corrupt", image("default"), out, edit, "--crc", "fix").code == 0
    name = shown[0]
    if name.startswith("u3.bmx"):
        index = int(name[7])
        row = xfs_db_rows(out, ino)[index]
        key = ("startblock", "blockcount").index(name.split(".")[-1])
        assert row[1 + key] == shown[1]
        return
    found = xfs_db(out, f"inode {ino}", f"p {name}")
    assert found[name] == shown[1]
    assert "(correct)" in xfs_db(out, f"inode {ino}", "p v3.crc")["v3.crc"]


def xfs_db_rows(image: Path, ino: int) -> list[list[str]]:
    """Return [startoff, startblock, blockcount, flag] of each extent, by xfs_db."""
    text = _xfs_db(image, [f"inode {ino}", "p u3.bmx"]).stdout
    return [row.split(",") for row in re.findall(r"\d+:\[([\d,]+)\]", text)]


def test_random_flips_can_be_repeated(wofs: Run, image: Unpack, tmp_path: Path) -> None:
    path, outs = image("default"), [tmp_path / name for name in "abc"]
    argv = ["--flip", "40", "--in", "inode", "--in", "agf[0]", "--crc", "fix"]
    for out, seed in zip(outs, ("5", "5", "6"), strict=True):
        done = wofs("corrupt", path, out, *argv, "--seed", seed)
        assert done.code == 0
        changes = json.loads(done.out)["changes"]
        assert sum(change["op"] == "flip" for change in changes) == 40
        assert {change["object"].split("[")[0] for change in changes} <= {"inode", "agf"}
    assert digest(outs[0]) == digest(outs[1]) != digest(outs[2])


def test_all_bits_of_a_structure_can_be_flipped(wofs: Run, image: Unpack, out: Path) -> None:
    path = image("default")
    done = wofs("corrupt", path, out, "--flip", "4096", "--in", "agf[1]")
    at = json.loads(done.out)["changes"][0]["byte"] & ~511
    before, after = (one.read_bytes()[at : at + 512] for one in (path, out))
    assert bytes(byte ^ 255 for byte in before) == after


@pytest.mark.parametrize(
    ("path", "name"), [("/dirs/sf", "f00001__"), ("/dirs/leaf", "0")]
)  # fmt: skip
def test_the_record_names_the_entry(
    wofs: Run, image: Unpack, out: Path, path: str, name: str
) -> None:
    """The name in the record is no field of the directory's own, and makes the same edit."""
    path_of, edit = image("default"), f'inode["{path}"].entry["{name}"].ino=9'
    first = json.loads(wofs("corrupt", path_of, out, edit).out)["changes"][0]
    assert re.fullmatch(r"(sf|entry)\[\d+\]\.ino", first["field"])
    again = f"{first['object']}.{first['field']}=9"
    done = wofs("corrupt", "-f", path_of, out, again)
    assert json.loads(done.out)["changes"] == [first]


def test_undo_gives_the_image_back(wofs: Run, image: Unpack, out: Path, tmp_path: Path) -> None:
    path = image("default")
    before = digest(path)
    done = wofs("corrupt", path, out, "agf[0].freeblks=1", "agf[0].freeblks=2", "--flip", "9",
                "--swap", "agi[0]", "agi[1]", "--zero", "sb[1]", "--crc", "fix")  # fmt: skip
    assert (done.code, digest(path)) == (0, before)
    assert digest(out) != before
    record = tmp_path / "done.json"
    record.write_bytes(done.out)
    undone = wofs("corrupt", "--undo", record, out)
    assert undone.code == 0
    assert digest(out) == before
    again = wofs("corrupt", "--undo", record, out)
    assert (again.code, digest(out)) == (1, before)
    assert "is not what the record left there" in again.err


def test_in_place_writes_the_image_itself(wofs: Run, image: Unpack, out: Path) -> None:
    out.write_bytes(image("default").read_bytes())
    done = wofs("corrupt", out, "--in-place", "agf[1].longest=3", "--crc", "fix")
    assert done.code == 0
    with library.open(out) as fs:
        assert fs.mount.agf[1] is not None
        assert fs.mount.agf[1].longest == 3


def test_what_cannot_be_replaced_is_refused(wofs: Run, image: Unpack, out: Path) -> None:
    edit = "agf[0].freeblks=1"
    out.write_bytes(image("empty").read_bytes())
    before = digest(out)
    done = wofs("corrupt", "-f", out, out.parent / "." / out.name, edit)
    assert (done.code, digest(out)) == (1, before)
    assert done.err.endswith("is the image itself (--in-place changes it)\n")
    pipe = out.parent / "pipe"
    os.mkfifo(pipe)
    done = wofs("corrupt", "-f", out, pipe, edit)
    assert (done.code, pipe.is_fifo()) == (1, True)
    packed = out.parent / "packed.img.gz"
    packed.write_bytes(gzip.compress(out.read_bytes()))
    size = packed.stat().st_size
    done = wofs("corrupt", "--in-place", packed, edit)
    assert (done.code, packed.stat().st_size) == (1, size)
    assert "is compressed" in done.err
    assert not list(out.parent.glob("*wofs-partial*"))


def test_no_copy_without_its_record(image: Unpack, out: Path) -> None:
    out.write_text("precious")
    argv = [*WOFS, "corrupt", "-f", str(image("empty")), str(out), "agf[0].freeblks=1"]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(argv, stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 1
    assert out.read_text() == "precious"
    assert not list(out.parent.glob("*wofs-partial*"))


@pytest.mark.parametrize(
    "text", ["", "\udcff", "{}", "[]", '{"size": [1, 1], "changes": [{"op": 1}]}']
)
def test_what_is_no_record_is_refused(wofs: Run, image: Unpack, out: Path, text: str) -> None:
    out.write_bytes(text.encode("utf-8", "surrogateescape"))
    done = wofs("corrupt", "--undo", out, image("empty"))
    assert done.code == 1
    assert done.err == "wofs: this is no record of `wofs corrupt`\n"


def test_a_cut_cannot_be_undone(wofs: Run, image: Unpack, out: Path, tmp_path: Path) -> None:
    done = wofs("corrupt", image("empty"), out, "--truncate", "4096")
    assert (done.code, out.stat().st_size) == (0, 4096)
    size = image("empty").stat().st_size
    assert done.err == f"wofs: truncate {size} -> 4096 bytes\n"
    record = tmp_path / "done.json"
    record.write_bytes(done.out)
    assert "cannot" not in wofs("corrupt", "--undo", record, out).out.decode()
    assert wofs("corrupt", "--undo", record, out).code == 1


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["agf[99].freeblks=1"], "agf[99]: there are 4, from 0"),
        (["agf[0].nothing=1"], "nothing: no field of agf[0]; there are magicnum,"),
        (["agf[0].freeblks=4294967296"], "freeblks=4294967296: does not fit 32 bits"),
        (["agf[0].freeblks=x"], "freeblks=x: is no number, nor max"),
        (["agf[0].uuid=12"], "12: uuid has 16 bytes"),
        (["agf.freeblks=1"], "agf takes a number in brackets: agf[0]"),
        (["what[0].x=1"], "what: no such structure; there are sb,"),
        (["agf[0]..x=1"], "agf[0]..x: is not a name"),
        (['inode["/files"].entry["gone"].ino=1'], "gone: no such file"),
        (['inode["/files/one"].extent[7].startblock=1'], "extent[7]: there are 1, from 0"),
        (["inode[5].mode=1"], "inode[5]: lies outside the filesystem"),
        (["--zero", "agf[0].freeblks"], "agf[0].freeblks: is a field; name a whole structure"),
        (["--swap", "agf[0]", "inobt[0]"], "agf[0] has 512 bytes, inobt[0].block[0] 4096"),
        (["--truncate", "999999999999"], "the image has 67108864 bytes"),
        (["bytes[99999999999].x=1"], "the image has 67108864 bytes"),
        (["bytes[0:0]=00"], "bytes[0:0]: are no bytes"),
        (["inobt[0].rec[999].free=0"], "rec[999].free: inobt[0].block[0] has 1 rec[N].free"),
        (["--tear", "agf[0]", "1"], "agf[0]: is one sector, which is written whole"),
        (["--flip", "4097", "--in", "agf[1]"], "4097 bits cannot be flipped where there are 4096"),
    ],
)
def test_a_bad_edit_is_one_line(
    wofs: Run, image: Unpack, out: Path, argv: list[str], line: str
) -> None:
    done = wofs("corrupt", image("default"), out, *argv)
    assert done.code == 1
    assert done.err.startswith(f"wofs: {line}")
    assert done.err.count("\n") == 1
    assert not out.exists()


def test_nothing_is_replaced_unless_told_to(wofs: Run, image: Unpack, out: Path) -> None:
    out.write_text("precious")
    assert wofs("corrupt", image("empty"), out, "agf[0].freeblks=1").code == 1
    assert out.read_text() == "precious"
    link = out.parent / "link.img"
    link.symlink_to(out)
    assert wofs("corrupt", image("empty"), link, "agf[0].freeblks=1").code == 1
    assert out.read_text() == "precious"
    assert wofs("corrupt", "-f", image("empty"), out, "agf[0].freeblks=1").code == 0
    assert out.stat().st_size == image("empty").stat().st_size


def test_force_never_writes_to_the_source(wofs: Run, image: Unpack, out: Path) -> None:
    """OUT may be another name of IMAGE."""
    out.write_bytes(image("empty").read_bytes())
    link = out.parent / "same.img"
    link.hardlink_to(out)
    before = digest(out)
    assert wofs("corrupt", "-f", out, link, "agf[0].freeblks=1").code == 1
    assert digest(out) == before == digest(link)


def test_holes_stay_holes(wofs: Run, image: Unpack, out: Path) -> None:
    path = out.parent / "sparse.img"
    with path.open("wb") as file:
        file.write(image("empty").read_bytes())
        file.truncate(4 << 30)
    assert wofs("corrupt", path, out, "agf[0].freeblks=1").code == 0
    assert out.stat().st_size == 4 << 30
    assert out.stat().st_blocks <= path.stat().st_blocks + 64
