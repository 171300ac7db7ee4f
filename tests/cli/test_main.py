"""Exit codes, help, one-line errors, pipes that close, interrupts, odd locales."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import wofs as library
from support.cli import Run, child, shell
from support.fuse import WOFS
from support.hostile import edited_super
from wofs.cli.main import VERBS

Unpack = Callable[[str], Path]
READING = ("info", "ls", "tree", "cat", "stat", "cp", "find")


# ---- help
@pytest.mark.parametrize("verb", READING)
def test_help_teaches(verb: str, wofs: Run) -> None:
    done = wofs(verb, "--help")
    assert (done.code, done.err) == (0, "")
    assert done.lines[0].startswith(f"Usage: wofs {verb} [OPTIONS] IMAGE")
    assert f"  Examples:\n    wofs {verb} disk.img" in done.text
    for option in ("-o OPTIONS", "-q, --quiet", "-v, --verbose", "--help"):
        assert option in done.text
    assert ("--json" in done.text) == (verb not in ("cat", "cp"))


def test_help_of_the_whole(wofs: Run) -> None:
    done = wofs("--help")
    assert done.code == 0
    assert all(f"  {verb} " in done.text for verb in VERBS)
    assert "Exit codes: 0 done, 1 the request failed" in done.text
    assert wofs("-h").text == done.text
    nothing = wofs()
    assert (nothing.code, nothing.out, nothing.err) == (2, b"", done.text)
    assert re.fullmatch(r"wofs \d+\.\d+\.\d+\n", wofs("--version").text)


# ---- exit codes and their one line
def test_usage_is_2(wofs: Run, image: Unpack) -> None:
    path = image("empty")
    for args, line in (
        (["frobnicate"], "No such command 'frobnicate'."),
        (["ls"], "Missing argument 'IMAGE'."),
        (["cat", path], "Missing argument 'PATH...'."),
        (["cp", path, "/x"], "Missing argument 'DEST'."),
        (["ls", path, "--nonsense"], "No such option"),
        (["ls", path, "-o", "nonsense"], "'nonsense' is unknown: norecovery, sb=N"),
        (["ls", path, "-o", "sb=-1"], "'sb=-1' is unknown"),
        (["find", path, "-type", "x"], "'x' is not one of f d l c b p s"),
        (["find", path, "-size", "5x"], "'5x' is not [+-]N[cwbkMGT]"),
        (["find", path, "-mtime", "x"], "'x' is not [+-]N"),
        (["find", path, "-perm", "u=rw"], "'u=rw' is not [-/]MODE in octal"),
        (["find", path, "-newermt", "soon"], "'soon' is not a time"),
        (["find", path, "-maxdepth", "-1"], "-1 is not in the range"),
        (["cp", path, "/x", "/y", "/nowhere/z"], "'/nowhere/z' is no directory, and there are"),
    ):
        done = wofs(*args)
        assert (done.code, done.out) == (2, b""), args
        assert line in done.err
        assert re.fullmatch(r"wofs: .*\(see 'wofs( \w+)? --help'\)\n", done.err), done.err


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["cat", "IMAGE", "/nowhere"], "/nowhere: no such file or directory"),
        (["cat", "IMAGE", "/files"], "/files: is a directory"),
        (["cat", "IMAGE", "/special/fifo"], "/special/fifo: not a regular file"),
        (["ls", "IMAGE", "/files/one/x"], "/files/one/x: not a directory"),
        (["ls", "IMAGE", "/links/self/x"], "/links/self/x: too many levels of symbolic links"),
        (["stat", "IMAGE", "/nowhere"], "/nowhere: no such file or directory"),
        (["stat", "-L", "IMAGE", "/links/self"], "/links/self: too many levels of symbolic"),
        (["tree", "IMAGE", "/files/one"], "/files/one: not a directory"),
        (["find", "IMAGE", "/nowhere"], "/nowhere: no such file or directory"),
        (["find", "IMAGE", "-newer", "/nowhere"], "/nowhere: no such file or directory"),
        (["cp", "IMAGE", "/nowhere", "."], "/nowhere: no such file or directory"),
        (["cp", "IMAGE", "/files", "."], "/files: is a directory (-r copies it)"),
    ],
)
def test_a_request_that_fails_is_1(
    args: list[str], line: str, wofs: Run, image: Unpack, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    done = wofs(*(image("default") if arg == "IMAGE" else arg for arg in args))
    assert done.code == 1
    assert done.err.startswith(f"wofs: {line}")
    assert done.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_what_can_be_done_is_done_first(wofs: Run, image: Unpack) -> None:
    done = wofs("cat", image("default"), "/nowhere", "/files/one", "/files", "/files/one")
    assert (done.code, done.out) == (1, b"oo")
    assert done.err.count("\n") == 2
    done = wofs("ls", image("default"), "/nowhere", "/files/one")
    assert (done.code, done.out) == (1, b"/files/one\n")


def test_what_is_not_supported_is_3(wofs: Run, image: Unpack, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("no image\n" * 999)
    (tmp_path / "nothing").touch()
    for path, line in (
        (image("v4"), "v4.img: superblock (daddr 0x0, 512 B): version 4 of the format"),
        (image("ci"), "ci.img: superblock (daddr 0x0, 512 B): has case-insensitive names"),
        (image("dirty"), "dirty.img: log: is dirty (not replayed from block"),
        (text, "text: superblock (daddr 0x0, 512 B): no XFS here"),
        (tmp_path / "nothing", "nothing: superblock (daddr 0x0, 512 B): no XFS superblock"),
    ):
        done = wofs("ls", path)
        assert (done.code, done.out) == (3, b"")
        assert done.err.startswith(f"wofs: {line}")
        assert done.err.count("\n") == 1
    assert "-o norecovery" in wofs("info", image("dirty")).err


def test_a_damaged_superblock_is_4_and_names_a_copy(
    wofs: Run, image: Unpack, tmp_path: Path
) -> None:
    path = tmp_path / "disk.img"
    data = bytearray(image("empty").read_bytes())
    data[100:104] = edited_super(bytes(data), {88: (99).to_bytes(4, "big")})[100:104]
    data[90] ^= 1
    path.write_bytes(data)
    done = wofs("ls", path)
    assert (done.code, done.err.count("\n")) == (4, 1)
    assert re.match(r"wofs: disk.img: superblock .*crc is 0x\w+, expected 0x\w+: ", done.err)
    assert "try -o sb=1" in done.err
    assert wofs("ls", path, "-o", "sb=1").code == 0


def test_sources_that_are_no_files(wofs: Run, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path, line in (
        (tmp_path / "absent", f"{tmp_path}/absent: no such file or directory"),
        (tmp_path, f"{tmp_path}: is a directory, not an image"),
        (tmp_path / "fifo", f"{tmp_path}/fifo: is neither a file nor a block device"),
        (Path("/dev/null"), "/dev/null: is neither a file nor a block device"),
    ):
        done = wofs("info", path)
        assert (done.code, done.out, done.err) == (1, b"", f"wofs: {line}\n")


def test_warnings_are_for_stderr_and_can_be_silenced(wofs: Run, image: Unpack) -> None:
    path = image("dirty")
    done = wofs("ls", "-o", "norecovery", path)
    assert done.code == 0
    assert done.err.startswith("wofs: dirty.img: log: is dirty and was not replayed: recent")
    assert wofs("ls", "-q", "-o", "norecovery,ro", path).err == ""
    assert wofs("ls", "-o", "norecovery", "-o", "sb=0", path).out == done.out


def test_an_external_log_may_be_given(wofs: Run, image: Unpack, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as f:
        f.truncate(16 << 20)
    path = image("external-log")
    done = wofs("info", path)
    assert "whether it is clean is unknown" in done.err
    assert "log:         external, unknown: is on another device, not given" in done.lines
    done = wofs("info", "-o", f"logdev={log}", path)
    assert (done.code, done.err) == (0, "")
    assert "log:         external, 16.0 MiB, clean: was never written" in done.lines


# ---- streams
def test_a_closed_pipe_is_quiet(image: Unpack) -> None:
    path = image("default")
    for script in (
        'wofs find "$1" | head -1',
        'wofs ls -lR "$1" | head -1',
        'wofs cat "$1" /files/big /files/big | head -c 1 | wc -c',
        'wofs --help | head -1',
    ):  # fmt: skip
        done = shell(script, path)
        assert (done.code, done.err, len(done.lines)) == (0, "", 1), script


def test_a_copy_goes_on_when_nobody_hears(image: Unpack, tmp_path: Path) -> None:
    out = tmp_path / "out"
    script = 'exec 3>&1; (wofs cp -v -r "$1" /dirs "$2" 2>&1 >&3; echo "$?" >&3) | head -1 >&2'
    done = shell(script, image("default"), out)
    assert done.out == b"0\n"
    assert done.err.count("\n") == 1
    with library.open(image("default")) as fs:
        names = [top / name for top, below, others in fs.path("/dirs").walk() for name in others]
    assert sum(path.is_file() for path in out.rglob("*")) == len(names)


def test_output_that_cannot_be_written_is_told(image: Unpack) -> None:
    for script, line in (
        ('wofs find "$1" >/dev/full', "standard output: no space left on device"),
        ('wofs cat "$1" /files/big >/dev/full', "standard output: no space left on device"),
        ('wofs ls "$1" >&-', "standard output is closed"),
    ):
        done = shell(script, image("default"))
        assert (done.code, done.err) == (1, f"wofs: {line}\n")


def test_closed_streams_do_not_become_the_image(image: Unpack, tmp_path: Path) -> None:
    copy = tmp_path / "one"
    done = shell('wofs cp "$1" /files/one "$2" <&- >&- 2>&-', image("default"), copy)
    assert (done.code, done.out, done.err) == (0, b"", "")
    assert copy.read_bytes() == b"o"


def test_a_locale_without_unicode(image: Unpack) -> None:
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = child("tree", image("default"), "/names", env=plain)
    assert (done.code, done.err) == (0, "")
    assert b"|-- caf\\xe9\n" in done.out
    assert "`-- " in done.lines[-3]
    done = child("ls", image("default"), "/names", env=plain)
    assert (done.code, done.err) == (0, "")
    assert b"\ncaf\xc3\xa9\n" in done.out
    assert child("cat", image("default"), b"/names/caf\xe9", env=plain).out == b"caf\xe9"


# ---- signals
def interrupted(number: int, folder: Path, *args: str | Path) -> tuple[int, str]:
    """Send a signal to a copy while an unfinished file is there; return its code and stderr."""
    process = subprocess.Popen([*WOFS, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 30
    while True:
        assert process.poll() is None, "it ended before it was met with an unfinished file"
        assert time.monotonic() < deadline
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        if folder.exists() and list(folder.rglob(".wofs-partial*")):
            break
        process.send_signal(signal.SIGCONT)
        time.sleep(0.002)
    process.send_signal(number)
    process.send_signal(signal.SIGCONT)
    _, err = process.communicate(timeout=30)
    return process.returncode, err.decode()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_an_interrupted_copy_leaves_no_half_file(
    number: int, code: int, image: Unpack, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    ended = interrupted(number, out, "cp", "-r", image("sparse-inodes"), "/", out)
    assert ended == (code, "")
    assert list(out.rglob(".wofs-partial*")) == []


def test_an_interrupted_listing_is_130(image: Unpack) -> None:
    process = subprocess.Popen(
        [*WOFS, "find", "--json", image("default")], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.read(1) == b"{"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, b"")


INTERRUPTING = """
import os, signal, sys
class Interrupting:
    def find_spec(self, name, *_):
        if name == sys.argv[1]:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupting())
from wofs.cli import entry
getattr(entry, sys.argv[2])()
"""


@pytest.mark.parametrize("loading", ["wofs.cli.main", "click"])
@pytest.mark.parametrize("command", ["wofs", "mount_helper"])
def test_interrupted_while_its_modules_load_a_command_is_silent(loading: str, command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTING, loading, command], capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, b"", b"")


def test_the_library_loads_its_parts_when_they_are_used() -> None:
    code = (
        "import sys, wofs; assert 'wofs.fs' not in sys.modules; assert 'open' in dir(wofs); "
        "assert wofs.open is wofs.fs.open; from wofs import Path; wofs.nothing"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    last = done.stderr.splitlines()[-1]
    assert last.startswith("AttributeError: module 'wofs' has no attribute 'nothing'")


def test_a_bug_is_one_line_too() -> None:
    code = "import wofs.cli.main as m; m.VERBS['broken'] = ''; m.main(['broken'])"
    for debug in ("", "1"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "WOFS_DEBUG": debug},
            capture_output=True,
            text=True,
            check=False,
        )
        lines = done.stderr.splitlines()
        assert done.returncode == 1
        assert lines[-1].startswith("wofs: internal error: ModuleNotFoundError: No module named")
        assert ("Traceback" in lines[0]) == bool(debug)
        assert debug or len(lines) == 1
