"""`wofs crash`: reports of real crashes, read back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from support.fuse import WOFS, lacking, run
from wofs.cli.serverlog import CRASHES, CRASHES_KEPT, set_json_report, state_folder
from wofs.slab.crashes import crashes, files_in
from wofs.slab.crashes import reports as reports_in

needs_fuse = pytest.mark.skipif(lacking() is not None, reason=str(lacking()))
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
    assert row.endswith("s[2].wide"), "the row of the hit begins with the field"
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


# ---- where a server leaves them
LEFT = """
import sys
sys.path.insert(0, {tests!r})
from support.slab import filled
from wofs.cli.serverlog import set_json_report
from wofs.slab import _slab, address_of
set_json_report(None)
arena, handles = filled()
_slab.stray_store(address_of(handles[{at}], 'wide'), 1)
"""


def test_without_arguments_those_of_servers_are_read() -> None:
    folder = state_folder() / CRASHES
    assert crash("list").stdout == ""
    for at in (3, 6):
        script = LEFT.format(tests=str(TESTS), at=at)
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
        assert done.returncode == -11, done.stderr
    assert len(files_in(folder)) == 2
    objects = [json.loads(line) for line in crash("list", "--json").stdout.splitlines()]
    assert sorted(item["members"]["object"] for item in objects) == ["s[3]", "s[6]"]
    assert "object s[" in crash("show", "2").stdout
    assert "<h1>Report 2: stray access, object s[" in crash("show", "2", "--html").stdout


def test_old_ones_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    folder = state_folder() / CRASHES
    folder.mkdir()
    for number in range(CRASHES_KEPT + 5):
        (folder / f"{900 + number}-1.json").touch()
    (folder / "mine.json").touch()
    set_json_report(None)
    names = [path.name for path in files_in(folder)]
    assert len(names) == CRASHES_KEPT
    assert (names[0], names[-1]) == ("905-1.json", f"{900 + CRASHES_KEPT + 4}-1.json")
    assert (folder / "mine.json").exists(), "not ours"


SERVER = """
import os, sys, threading, time
from wofs.cli.main import main
from wofs.slab import _slab

def strike():
    while not os.path.ismount(sys.argv[-1]):
        time.sleep(0.02)
    spans = [line.split()[0].split("-") for line in open("/proc/self/maps") if "wofs-slab" in line]
    for start, end in spans:
        if int(end, 16) - int(start, 16) != 1 << 20:  # not the slab's own tables
            _slab.stray_store(int(start, 16), 1)

threading.Thread(target=strike, daemon=True).start()
main(sys.argv[1:])
"""


@needs_fuse
@pytest.mark.parametrize("named", [True, False], ids=["report=FILE", "default"])
def test_a_server_leaves_its_report(
    image: Callable[[str], Path], tmp_path: Path, named: bool
) -> None:
    place = tmp_path / "m"
    place.mkdir()
    file = tmp_path / "reports"
    options = ["-o", f"report={file}"] if named else []
    done = subprocess.run(
        [sys.executable, "-c", SERVER, "mount", "-f", *options, str(image("empty")), str(place)],
        env={**os.environ, "XDG_STATE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == -11, done.stderr
    subprocess.run(["fusermount3", "-uz", place], capture_output=True, check=False)
    (found,) = reports_in(file if named else tmp_path / "wofs" / CRASHES)
    assert found.hit == "no object: control area"
    assert found.members["sealed"] is True
    assert file.exists() == named


@needs_fuse
def test_a_report_that_cannot_be_written_is_refused(
    image: Callable[[str], Path], tmp_path: Path
) -> None:
    (tmp_path / "m").mkdir()
    words = ("-o", f"report={tmp_path}/none/reports")
    done = run("mount", *words, image("empty"), tmp_path / "m")
    assert done.returncode == 1
    assert done.stderr == f"wofs: {tmp_path}/none/reports: No such file or directory\n"
