"""The map of an image and the page with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from support.html import Sound
from support.patched import Patched, parts_of
from support.subject import Subject
from wofs.check.atlas import COLUMNS, DATA, FOLDERS, FREE, HEADERS, LOG, NOBODY, Atlas
from wofs.check.findings import Report
from wofs.check.page import page
from wofs.check.run import check
from wofs.device import FileDevice
from wofs.device.base import Device

Unpack = Callable[[str], Path]
HOSTILE = "</title></style><script>alert('x')</script>\"'&\x00\udcff"


def drawn(device: Device) -> tuple[Report, Atlas]:
    atlas = Atlas()
    return check(device, atlas=atlas), atlas


@pytest.mark.parametrize("name", ["default", "b1k-rmap", "grown", "ag300", "sparse-inodes"])
def test_every_block_of_a_sound_image_is_on_the_map(image: Unpack, name: str) -> None:
    device = FileDevice(image(name))
    _, atlas = drawn(device)
    device.close()
    totals = atlas.totals
    assert totals[NOBODY] == 0
    assert totals.total() == atlas.blocks
    assert min(totals[kind] for kind in (FREE, DATA, LOG, HEADERS)) > 0
    assert [len(pieces) for pieces in atlas.pieces] == [COLUMNS] * len(atlas.rows)
    assert [agno for row in atlas.rows for agno in range(*row)] == list(range(atlas.agcount))


def test_shared_blocks_count_once(image: Unpack) -> None:
    device = FileDevice(image("b1k-rmap"))
    report, atlas = drawn(device)
    assert report.clean
    assert sum(piece.total() for pieces in atlas.pieces for piece in pieces) == atlas.blocks
    device.close()


def test_findings_lie_where_their_bytes_do(image: Unpack) -> None:
    subject = Subject(image("default"))
    part = subject.part("agf", 2)
    subject.add(part, 52, "I", 1)
    subject.spoil(subject.part("dirdata"), 64)
    report, atlas = drawn(subject.device)
    rows = {mark.finding.problem.name: mark.row for mark in atlas.marks}
    assert rows["agf-freeblks"] == 2
    block = subject.part("dirdata")
    mark = next(mark for mark in atlas.marks if mark.finding.problem.name == "dir-damaged")
    ag_blocks = (subject.starts[1] - subject.starts[0]) // subject.blocksize
    agno, agbno = divmod(block.start // subject.blocksize, ag_blocks)
    assert mark.row == agno
    assert abs(mark.column - agbno * COLUMNS // ag_blocks) <= 1
    assert atlas.pieces[mark.row][mark.column][FOLDERS] > 0
    shown = Sound(page("x.img", report, atlas))
    assert not shown.open
    assert {"svg", "polygon", "details", "table"} <= shown.tags
    assert "agf-freeblks" in shown.words
    subject.device.really_close()


def test_names_out_of_the_image_are_no_markup(image: Unpack) -> None:
    subject = Subject(image("default"))
    entry = subject.file()
    report, atlas = drawn(subject.device)
    report.add("inode-nlink", HOSTILE, HOSTILE, expected=HOSTILE, found=HOSTILE, ino=entry.owner)
    report.findings[-1].path = HOSTILE.encode("utf-8", "surrogateescape")
    drawing = page(HOSTILE, report, atlas)
    shown = Sound(drawing)
    assert not shown.open
    assert "script" not in shown.tags
    assert drawing.encode()  # odd bytes are shown as escapes
    assert "http" not in drawing.replace("http://www.w3.org/2000/svg", "")  # nothing is fetched
    subject.device.really_close()


def test_what_is_not_known_is_said(image: Unpack) -> None:
    path = image("default")
    device = Patched(path)
    agf = next(p for p in parts_of(path) if p.kind == "agf")
    device.change(agf, 8, b"\xff\xff\xff\xff")
    report, atlas = drawn(device)
    assert atlas.totals[NOBODY] > 0
    assert atlas.totals.total() == atlas.blocks
    assert NOBODY in Sound(page("x", report, atlas)).words
    device.really_close()
