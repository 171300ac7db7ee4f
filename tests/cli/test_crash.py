"""`wofs crash`: reports of real crashes, read back."""

from __future__ import annotations

import json
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from support.fuse import WOFS
from wofs.slab.crashes import crashes

TESTS = Path(__file__).resolve().parent.parent
CRASH = """
import ctypes, faulthandler, sys
sys.path.insert(0, {tests!r})
from support.slab import filled
from wofs.slab import address_of, report_to
faulthandler.enable(report_to({path!r}))
arena, handles = filled({backend!r})
arena.finish()
{strike}
"""
STORE = "ctypes.memset(address_of(handles[{at}], 'wide'), 1, 1)"
CHANGE = STORE + "; arena.enforce()"


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    """Return a file with three reports: two stray writes and one change nobody stopped."""
    path = tmp_path / "reports"
    for backend, strike in (
        ("memfd", STORE.format(at=2)),
        ("none", CHANGE.format(at=5)),
        ("mprotect", STORE.format(at=7)),
    ):
        script = CRASH.format(tests=str(TESTS), path=str(path), backend=backend, strike=strike)
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
        assert done.returncode == -11, done.stderr
    return path


def crash(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*WOFS, "crash", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_list_has_a_line_for_each(reports: Path) -> None:
    head, *rows = crash("list", "--file", reports).stdout.splitlines()
    assert head.split() == ["number", "when", "process", "kind", "hit"]
    assert [row.split()[0] for row in rows] == ["1", "2", "3"]
    assert [row.split()[-1] for row in rows] == ["s[2].wide", "s[5]", "s[7].wide"]


def test_json_holds_every_fact(reports: Path) -> None:
    lines = crash("list", "--file", reports, "--json").stdout.splitlines()
    first, changed, last = map(json.loads, lines)
    assert first["kind"] == last["kind"] == "stray access"
    assert first["facts"]["hit"] == "object s[2].wide"
    assert first["facts"]["cache"] == "sample, slot 2"
    assert "backend memfd" in first["facts"]["arena"]
    (row,) = [row for row in first["memory"] if row.startswith("> 0x")]
    assert row.endswith("s[2].first"), "the row of the hit begins with another field"
    assert "[ff]" in row
    assert first["c_stack"]
    assert first["python_stack"], "faulthandler's is kept where the report has none"
    assert first["pid"] != last["pid"]
    assert first["when"] <= last["when"]
    assert (changed["kind"], changed["hit"]) == ("changed memory", "object s[5]")
    assert changed["facts"]["backend"] == "none"


def test_one_is_shown_as_it_was_written(reports: Path) -> None:
    whole = reports.read_text()
    last = crash("show", "--file", reports)
    assert last.stdout == crash("show", "3", "--file", reports).stdout
    assert "object s[7].wide" in last.stdout
    for number in "123":
        assert crash("show", number, "--file", reports).stdout.strip() in whole
    missing = crash("show", "4", "--file", reports)
    assert (missing.returncode, missing.stdout) == (1, "")
    assert "there is no report 4: 3 in all" in missing.stderr


def test_a_page_is_sound_html(reports: Path) -> None:
    class Balance(HTMLParser):
        open_tags: list[str] = []  # noqa: RUF012
        text = ""

        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag != "meta":
                self.open_tags.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert self.open_tags.pop() == tag

        def handle_data(self, data: str) -> None:
            self.text += data

    parser = Balance()
    parser.feed(crash("show", "1", "--html", "--file", reports).stdout)
    assert not parser.open_tags
    assert "Report 1: stray access, object s[2].wide" in parser.text
    assert "C stack" in parser.text


def test_other_text_is_no_report(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.write_text("something else\n\x1b[31m\n")
    assert list(crashes(path.read_text())) == []
    assert (crash("list", "--file", path).stdout, crash("list", "--file", path).returncode) == (
        "",
        0,
    )
    assert crash("list", "--file", tmp_path / "none").returncode == 1
