"""The crash report as JSON: what it says, where it goes, in which company."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from wofs.slab.crashes import files_in, reports

TESTS = str(Path(__file__).resolve().parent.parent)
PREPARE = f"""
import ctypes, os, signal, sys, threading
sys.path.insert(0, {TESTS!r})
from support.slab import filled
from wofs.slab import _slab, address_of, report_json

libc = ctypes.CDLL(None)
arena, handles = filled()
address = address_of(handles[4], "wide")
def store():
    _slab.stray_store(address, 255)
"""


def crash(folder: Path, script: str, *, to: str = "", status: int = -signal.SIGSEGV) -> str:
    """Run a script that reports to a folder, or the file `to` in it; return what it said."""
    place = f"report_json({str(folder / to)!r}, {not to})\n"
    done = subprocess.run(
        [sys.executable, "-c", PREPARE + place + script],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stderr


def only(folder: Path) -> dict[str, object]:
    """Return the one report in a folder."""
    (path,) = files_in(folder)
    assert path.stat().st_mode & 0o777 == 0o600
    found: dict[str, object] = json.loads(path.read_text())
    assert path.name == f"{found['time']}-{found['pid']}.json"
    return found


def test_it_says_what_the_text_says(tmp_path: Path) -> None:
    said = crash(tmp_path, "arena.finish(); store()")
    found = only(tmp_path)
    assert found["text"] == said
    expected = {
        **{"kind": "stray access", "signal": "SIGSEGV", "code": 2, "access": "write"},
        **{"target": "object", "object": "s[4]", "field": "wide", "cache": "sample", "slot": 4},
        **{"label": "object", "backend": "memfd", "sealed": True, "tid": found["pid"]},
    }
    assert {name: found[name] for name in expected} == expected
    assert f"{found['address']}, a write by the code at {found['instruction']}\n" in said
    (crash_read,) = reports(tmp_path)
    assert crash_read.hit == "object s[4].wide"
    assert crash_read.pid == found["pid"]
    assert crash_read.members["field"] == "wide"


@pytest.mark.parametrize(
    ("strike", "members"),
    [
        ("_slab.stray_store(address - 32, 1)", {"target": "header", "object": "s[4]"}),
        ("_slab.stray_store(address + 20 * 4096, 1)", {"target": "guard page", "object": None}),
        ("_slab.stray_store(address + 4096, 1)", {"target": "unused space", "object": "s[8]"}),
    ],
)
def test_what_is_no_field(tmp_path: Path, strike: str, members: dict[str, object]) -> None:
    crash(tmp_path, strike)
    found = only(tmp_path)
    assert {name: found.get(name) for name in members} == members
    assert found.get("field") is None


def test_memory_that_changed(tmp_path: Path) -> None:
    script = "arena, handles = filled('none')\naddress = address_of(handles[4], 'wide')\n"
    crash(tmp_path, script + "_slab.stray_store(address, 1)\narena.enforce()")
    found = only(tmp_path)
    assert (found["kind"], found["object"], found["backend"]) == ("changed memory", "s[4]", "none")
    (crash_read,) = reports(tmp_path)
    assert (crash_read.hit, crash_read.when) == ("object s[4]", found["time"])


def test_a_file_takes_a_line_a_report(tmp_path: Path) -> None:
    for _ in range(2):
        crash(tmp_path, "store()", to="reports")
    path = tmp_path / "reports"
    assert path.read_text().count("\n") == 2
    assert [crash_read.hit for crash_read in reports(path)] == ["object s[4].wide"] * 2


def test_no_crash_leaves_nothing(tmp_path: Path) -> None:
    crash(tmp_path, "", status=0)
    assert not list(tmp_path.iterdir())


COMPANY = {
    "a signal handler": """
handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(lambda number: store())
libc.signal(signal.SIGUSR1, handler)
os.kill(os.getpid(), signal.SIGUSR1)
""",
    "libc": "libc.memset(ctypes.c_void_p(address), 1, 8)",
    "a thread with a small stack": """
threading.stack_size(64 << 10)
thread = threading.Thread(target=ctypes.memset, args=(address, 1, 1))
thread.start(); thread.join()
""",
    "a forked child": """
child = os.fork()
if child == 0:
    store()
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
assert status == -11, status
os.kill(os.getpid(), 11)
""",
}


@pytest.mark.parametrize("company", COMPANY)
def test_in_every_company(tmp_path: Path, company: str) -> None:
    crash(tmp_path, COMPANY[company])
    found = only(tmp_path)
    assert (found["object"], found["field"]) == ("s[4]", "wide")


def test_a_fault_while_it_is_written(tmp_path: Path) -> None:
    """The memory of the arena is unmapped: looking at what was hit faults again."""
    said = crash(tmp_path, "libc.munmap(ctypes.c_void_p(address & ~4095), 4096)\nstore()")
    assert re.search(r"hit +no object: the memory of an arena is no longer there\n", said)
    assert "The report met a fault of its own at 0x" in said
    found = only(tmp_path)
    assert (found["target"], found["text"]) == ("unreadable", said)


def test_a_report_that_was_cut_off_is_read(tmp_path: Path) -> None:
    crash(tmp_path, "store()")
    (path,) = files_in(tmp_path)
    whole = path.read_text()
    stack = whole.index("C stack")
    for end in (len(whole) - 3, *range(stack - 12, stack), whole.index("memory around")):
        path.write_text(whole[:end])
        (crash_read,) = reports(tmp_path)
        assert crash_read.hit == "object s[4].wide"
    path.write_text(whole[:20])
    assert reports(tmp_path) == []


FILL = """
reading, writing = os.pipe()
os.set_blocking(writing, False)
try:
    while True:
        os.write(writing, b"x" * 512)
except BlockingIOError:
    os.set_blocking(writing, True)
os.dup2(writing, 2)
arena.finish(); store()
"""


def test_a_full_pipe_keeps_nobody_from_ending(tmp_path: Path) -> None:
    assert crash(tmp_path, FILL) == ""
    text = only(tmp_path)["text"]
    assert isinstance(text, str)
    assert text.endswith("  The memory was not changed; the process ends here.\n")


@pytest.mark.parametrize("folder", [True, False])
def test_what_cannot_be_written_is_refused(tmp_path: Path, folder: bool) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere")
    script = PREPARE + f"report_json({str(link)!r}, {folder})"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60
    )
    words = "No such file or directory" if folder else "Too many levels of symbolic links"
    assert words in done.stderr
    assert not (tmp_path / "elsewhere").exists()
