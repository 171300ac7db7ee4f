"""`wofs check` and `wofs explain`: output, JSON, exit codes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from support.cli import Run, shell
from support.patched import parts_of
from wofs.check.problems import CODES
from wofs.cli.check import FsckVerb, NotChecked
from wofs.corrupt.parts import Part
from wofs.device.crc import crc_of

Unpack = Callable[[str], Path]


@pytest.fixture
def wrong_count(image: Unpack, tmp_path: Path) -> tuple[Path, Part]:
    """A copy of an image whose first AGF counts one free block too many."""
    agf = next(p for p in parts_of(image("default")) if p.kind == "agf")
    data = bytearray(image("default").read_bytes())
    sector = data[agf.start : agf.start + agf.size]
    sector[52:56] = (int.from_bytes(sector[52:56], "big") + 1).to_bytes(4, "big")
    sector[216:220] = crc_of(bytes(sector), 216).to_bytes(4, "little")
    data[agf.start : agf.start + agf.size] = sector
    path = tmp_path / "wrong.img"
    path.write_bytes(data)
    return path, agf


def test_clean(wofs: Run, image: Unpack) -> None:
    done = wofs("check", image("default"))
    assert (done.code, done.err) == (0, "")
    assert done.lines == [f"{image('default')}: nothing is wrong"]


def test_finding(wofs: Run, wrong_count: tuple[Path, Part]) -> None:
    path, agf = wrong_count
    before = path.read_bytes()
    done = wofs("check", path)
    assert done.code == 4
    assert any(line.startswith("WX0206 agf-freeblks: error:") for line in done.lines)
    assert any(f"[byte {agf.start:#x}]" in line for line in done.lines)
    assert path.read_bytes() == before


def test_the_last_line_counts(wofs: Run, image: Unpack, tmp_path: Path) -> None:
    path = tmp_path / "bad.img"
    for edits, verdict in (
        (["sb[1].crc=1"], "1 finding, 0 errors"),
        (["sb[1].crc=1", "agfl[0].crc=1"], "2 findings, 1 error"),
    ):
        assert wofs("corrupt", "-qf", image("default"), path, *edits).code == 0
        assert wofs("check", path).lines[-1] == f"{path}: {verdict}"


def test_json(wofs: Run, wrong_count: tuple[Path, Part]) -> None:
    path, agf = wrong_count
    done = wofs("check", "--json", path)
    assert done.code == 4
    found = {obj["code"]: obj for obj in done.objects}
    one = found["WX0206"]
    assert one["object"] == "ag 0 / agf"
    assert (one["field"], one["offset"], one["agno"]) == ("freeblks", agf.start, 0)
    assert int(str(one["found"])) == int(str(one["expected"])) + 1


def test_page(wofs: Run, wrong_count: tuple[Path, Part], tmp_path: Path) -> None:
    path, _ = wrong_count
    done = wofs("check", "--html", tmp_path / "map.html", path)
    assert done.code == 4
    shown = (tmp_path / "map.html").read_text()
    assert shown.startswith("<!doctype html>")
    assert "WX0206" in shown
    assert wofs("check", "--html", tmp_path / "none" / "map.html", path).code == 8


def test_jobs(wofs: Run, wrong_count: tuple[Path, Part]) -> None:
    path, _ = wrong_count
    assert wofs("check", "-j", "3", path).out == wofs("check", "-j", "1", path).out
    assert wofs("check", "-j", "0", path).code == 16


def test_not_xfs(wofs: Run, tmp_path: Path) -> None:
    (tmp_path / "zeros").write_bytes(bytes(65536))
    assert wofs("check", tmp_path / "zeros").code == 8
    assert wofs("check", tmp_path / "missing").code == 8


def test_usage(wofs: Run) -> None:
    assert wofs("check").code == 16
    assert wofs("check", "--nonsense", "x").code == 16
    assert wofs("check", "-o", "nonsense", "x").code == 16


def test_explain(wofs: Run) -> None:
    done = wofs("explain", "WX0312")
    assert done.code == 0
    assert done.lines[0] == "WX0312 dir-hash-order (error)"
    assert wofs("explain", "dir-hash-order").out == done.out
    assert len(wofs("explain").lines) == len(CODES)
    assert wofs("explain", "wx0312").out == wofs("explain", "0312").out == done.out
    family = [line for line in wofs("explain", "WX03").lines if line.startswith("WX")]
    assert len(family) == sum(code.startswith("WX03") for code in CODES)
    assert wofs("explain", "WX9999").code == 2
    assert "perhaps dir-hash-order" in wofs("explain", "dir-hash-oder").err


def test_explain_what_no_rule_can_tell(wofs: Run) -> None:
    done = wofs("explain", "invisible")
    assert done.code == 0
    assert any(line.startswith("inode mtime ") for line in done.lines)
    named = wofs("explain", "--json", "invisible").objects
    assert {
        key: found[key] for found in named for key in ("structure", "field")
        if (found["structure"], found["field"]) == ("value", "content")
    } == {"structure": "value", "field": "content"}  # fmt: skip


def test_a_page_replaces_nothing_but_a_page(
    wofs: Run, wrong_count: tuple[Path, Part], tmp_path: Path
) -> None:
    path, _ = wrong_count
    before, out = path.read_bytes(), tmp_path / "map.html"
    done = wofs("check", "--html", path, path)
    assert done.code == 8
    assert "is no page" in done.err
    assert path.read_bytes() == before
    assert wofs("check", "--html", out, tmp_path / "missing").code == 8
    assert not out.exists()
    for _ in range(2):
        assert wofs("check", "--html", out, path).code == 4
    assert sorted(os.listdir(tmp_path)) == ["map.html", "wrong.img"]
    done = wofs("check", "--html", "/dev/full", path)
    assert (done.code, done.err) == (12, "wofs: /dev/full: no space left on device\n")
    assert "WX0206" in done.text


def test_the_verdict_does_not_depend_on_who_reads_it(wrong_count: tuple[Path, Part]) -> None:
    path, _ = wrong_count
    done = shell('wofs check -a "$1" | true; echo "${PIPESTATUS[0]}"', path)
    assert done.lines == ["4"]
    assert shell('wofs check "$1" >/dev/full', path).code == 8
    assert shell('wofs check "$1" >&-', path).code == 8


def test_a_check_that_fails_is_no_verdict() -> None:
    """To fsck(8), 1 would be: errors were corrected."""

    @click.command("check", cls=FsckVerb)
    def broken() -> None:
        raise MemoryError

    with pytest.raises(NotChecked, match="internal error: MemoryError") as failed:
        broken.main([], standalone_mode=False)
    assert failed.value.exit_code == 8
