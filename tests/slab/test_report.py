"""The crash report, in every company: other handlers, threads, small stacks, a file."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = str(Path(__file__).resolve().parent.parent)
PREPARE = f"""
import ctypes, faulthandler, os, resource, signal, sys, threading
sys.path.insert(0, {TESTS!r})
from support.slab import filled
from wofs.slab import _slab, report_to

def store(address, value=255):
    _slab.stray_store(address, value)
"""
STRIKE = """
print("before", flush=True)
store(_slab.address(handles[4], "wide"))
print("survived", flush=True)
"""
NAMED = r"hit +object s\[4\]\.wide\n"


def crash(script: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a script that must be ended by SIGSEGV before it prints `survived`."""
    done = subprocess.run(
        [sys.executable, *options, "-c", PREPARE + script],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == -signal.SIGSEGV, done.stdout + done.stderr
    assert done.stdout == "before\n", done.stderr
    return done


FILLED = "arena, handles = filled(); arena.finish()\n"


@pytest.mark.parametrize(
    ("script", "python_too"),
    [
        (FILLED + STRIKE, False),
        ("faulthandler.enable()\n" + FILLED + STRIKE, True),
        ("arena, handles = filled(); faulthandler.enable(); arena.finish()\n" + STRIKE, True),
        (FILLED + "faulthandler.disable()\n" + STRIKE, False),
        ("signal.signal(signal.SIGSEGV, lambda *_: None)\n" + FILLED + STRIKE, False),
        ("signal.signal(signal.SIGSEGV, signal.SIG_IGN)\n" + FILLED + STRIKE, False),
    ],
    ids=["alone", "faulthandler-first", "faulthandler-between", "disabled", "handler", "ignored"],
)
def test_other_handlers(script: str, python_too: bool) -> None:
    said = crash(script).stderr
    assert len(re.findall(NAMED, said)) == 1
    assert ("Fatal Python error: Segmentation fault" in said) == python_too


def test_the_report_names_thread_and_both_stacks() -> None:
    said = crash(
        FILLED
        + """
def guilty():
    store(_slab.address(handles[4], "wide"))
print("before", flush=True)
thread = threading.Thread(target=guilty)
thread.start()
thread.join()
print("survived", flush=True)
"""
    ).stderr
    assert re.search(NAMED, said)
    process, thread = re.search(r"thread +(\d+) \(.*\) of process (\d+)\n", said).groups()  # type: ignore[union-attr]
    assert process != thread
    assert re.search(r"#0 0x[0-9a-f]+ _slab\S*\.so\+0x", said)
    assert "line" in said or "faulthandler" in said
    assert "guilty" in said or "not known here" in said


def test_a_thread_with_a_small_stack() -> None:
    said = crash(
        FILLED
        + "threading.stack_size(64 << 10)\nprint('before', flush=True)\n"
        + "address = _slab.address(handles[4], 'wide')\n"
        + "thread = threading.Thread(target=ctypes.memset, args=(address, 1, 1))\n"
        + "thread.start(); thread.join(); print('survived')\n"
    ).stderr
    assert re.search(NAMED, said)


def test_several_threads_at_once_give_one_report() -> None:
    said = crash(
        FILLED
        + """
start = threading.Barrier(4)
address = _slab.address(handles[4], "wide")
libc = ctypes.CDLL(None)  # gives the lock away: the stores really come at once
def guilty():
    start.wait()
    libc.memset(ctypes.c_void_p(address), 1, 1)
print("before", flush=True)
threads = [threading.Thread(target=guilty) for _ in range(4)]
for t in threads: t.start()
for t in threads: t.join()
print("survived")
"""
    ).stderr
    assert len(re.findall(NAMED, said)) == 1


def test_the_report_goes_to_a_file_too(tmp_path: Path) -> None:
    path = tmp_path / "report"
    said = crash(f"report_to({str(path)!r})\n" + FILLED + STRIKE).stderr
    text = path.read_text()
    assert re.search(NAMED, text)
    assert text in said or text == said
    assert path.stat().st_mode & 0o777 == 0o600
    crash(f"report_to({str(path)!r})\n" + FILLED + STRIKE)
    assert len(re.findall(NAMED, path.read_text())) == 2, "appended"


@pytest.mark.parametrize("call", ["report_to({})", "report_json({}, False)"])
def test_a_pipe_without_a_reader_makes_nobody_wait(tmp_path: Path, call: str) -> None:
    pipe = tmp_path / "report"
    os.mkfifo(pipe)
    script = f"from wofs.slab import report_json, report_to\n{call.format(repr(str(pipe)))}\n"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60
    )
    assert "No such device or address" in done.stderr


def test_a_link_is_not_followed_for_the_report(tmp_path: Path) -> None:
    link = tmp_path / "report"
    link.symlink_to(tmp_path / "elsewhere")
    script = PREPARE + f"report_to({str(link)!r})\n"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60
    )
    assert "Too many levels of symbolic links" in done.stderr
    assert not (tmp_path / "elsewhere").exists()


def test_a_signal_from_outside_is_not_called_a_stray_write() -> None:
    said = crash(FILLED + "print('before', flush=True)\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    assert "stray access" not in said.stderr


@pytest.mark.parametrize("handler", ["lambda *_: None", "signal.SIG_IGN"])
def test_a_signal_that_was_survived_leaves_the_report_in_place(handler: str) -> None:
    said = crash(
        f"signal.signal(signal.SIGSEGV, {handler})\n"
        + FILLED
        + "for _ in range(3):\n    os.kill(os.getpid(), signal.SIGSEGV)\n"
        + STRIKE
    )
    assert said.stderr.count("stray access") == 1
    assert "hit       object s[4].wide" in said.stderr


@pytest.mark.parametrize("elsewhere", ["os.kill(os.getpid(), signal.SIGSEGV)", "store(16)"])
def test_handlers_that_lead_to_each_other_come_to_an_end(elsewhere: str) -> None:
    """faulthandler after the arena leads to ours, which `finish` puts before it again."""
    again = "faulthandler.enable()\narena.finish()\nprint('before', flush=True)\n"
    said = crash(FILLED + again + elsewhere)
    assert "stray access" not in said.stderr
    assert said.stderr.count("Fatal Python error") == 1


def test_an_access_elsewhere_is_not_called_a_stray_write() -> None:
    said = crash(FILLED + "print('before', flush=True)\nstore(16)\n")
    assert "stray access" not in said.stderr


def test_the_slab_s_own_tables_are_named() -> None:
    said = crash(
        FILLED
        + """
spans = [line.split()[0].split("-") for line in open("/proc/self/maps") if "wofs-slab" in line]
(registry,) = [int(a, 16) for a, b in spans if int(b, 16) - int(a, 16) == 1 << 20]
print("before", flush=True)
store(registry + 8)
"""
    )
    assert "the slab's own tables" in said.stderr


def test_the_control_area_is_named() -> None:
    said = crash(
        FILLED
        + "print('before', flush=True)\n"
        + "store(_slab.address(handles[0], 'first') - 40)\n"
    )
    assert "no object: control area" in said.stderr


def test_a_read_of_a_guard_is_told_from_a_write() -> None:
    said = crash(
        FILLED
        + "print('before', flush=True)\n"
        + "ctypes.string_at(_slab.address(handles[0], 'first') + 20 * 4096, 1)\n"
    )
    assert "guard page above the arena" in said.stderr
    assert ", a read by the code at" in said.stderr
