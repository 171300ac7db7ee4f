"""The `wofs` command: in this process, in a child, on a terminal, as another user."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.fuse import WOFS

NOBODY = 65534
_PATIENCE_S = 60.0
_PATHS = (str, bytes, Path)

Arg = str | bytes | Path


@dataclass(frozen=True)
class Done:
    """How a command ended: its code, its output as bytes, what it said on stderr."""

    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        """The output as text."""
        return os.fsdecode(self.out)

    @property
    def lines(self) -> list[str]:
        """The lines of the output."""
        return self.text.splitlines()

    @property
    def objects(self) -> list[dict[str, object]]:
        """The JSON objects of the output, one a line."""
        return [json.loads(line) for line in self.out.splitlines()]


Run = Callable[..., Done]


def runner(capture: pytest.CaptureFixture[bytes]) -> Run:
    """Return a function that runs the command in this process."""
    from wofs.cli.main import main

    def run(*args: Arg) -> Done:
        capture.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([os.fsdecode(arg) for arg in args])
        sys.stdout.flush()
        out, err = capture.readouterr()
        code = ended.value.code
        assert isinstance(code, int)
        return Done(code, out, os.fsdecode(err))

    return run


def child(*args: Arg, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Done:
    """Run the command in a child."""
    done = subprocess.run(
        [*WOFS, *args],
        env={**os.environ, **(env or {})},
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=_PATIENCE_S,
        check=False,
    )
    return Done(done.returncode, done.stdout, os.fsdecode(done.stderr))


def shell(script: str, *args: Arg) -> Done:
    """Run a script of bash, in which `wofs` is the command and $1... are `args`."""
    wofs = f"wofs() {{ '{WOFS[0]}' {WOFS[1]} '{WOFS[2]}' \"$@\"; }}\nset -o pipefail\n"
    done = subprocess.run(
        ["bash", "-c", wofs + script, "bash", *args],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=_PATIENCE_S,
        check=False,
    )
    return Done(done.returncode, done.stdout, os.fsdecode(done.stderr))


def terminal(
    *args: Arg, stdout: bool = True, env: Mapping[str, str] | None = None
) -> tuple[Done, bytes]:
    """Run the command in a child whose stderr, and stdout if wanted, is a terminal.

    Returns how it ended, with what went to a pipe, and all that reached the terminal.
    """
    main_fd, terminal_fd = pty.openpty()
    process = subprocess.Popen(
        [*WOFS, *args],
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "24", **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=terminal_fd if stdout else subprocess.PIPE,
        stderr=terminal_fd,
    )
    os.close(terminal_fd)
    streams = [main_fd] if stdout or process.stdout is None else [main_fd, process.stdout.fileno()]
    got: dict[int, bytes] = dict.fromkeys(streams, b"")
    deadline = time.monotonic() + _PATIENCE_S
    while streams:
        for fd in select.select(streams, [], [], _PATIENCE_S)[0]:
            data = _read(fd)
            got[fd] += data
            if not data:
                streams.remove(fd)
        assert time.monotonic() < deadline, "the command does not end"
    code = process.wait(_PATIENCE_S)
    shown = got.pop(main_fd)
    os.close(main_fd)
    if process.stdout is not None:
        process.stdout.close()
    return Done(code, b"".join(got.values()), ""), shown


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 1 << 16)
    except OSError:  # the other side of a terminal is gone
        return b""


def as_nobody(image: Path, folder: Path, *args: Arg) -> Done:
    """Run a verb in a child without rights, in `folder`; IMAGE stands for the image in `args`.

    The image is opened first, so that neither it nor this checkout must be within reach.
    """
    code = (
        "import difflib, os, sys, wofs.cli.cp, wofs.cli.info, wofs.cli.ls\n"
        "from wofs.cli.main import main\n"
        "image, folder, *args = sys.argv[1:]\n"
        "fd = os.open(image, os.O_RDONLY)\n"
        "os.chdir(folder)\n"
        "if os.geteuid() == 0:\n"
        f"    os.setgroups([]); os.setresgid({NOBODY}, {NOBODY}, {NOBODY})\n"
        f"    os.setresuid({NOBODY}, {NOBODY}, {NOBODY})\n"
        "main([f'/proc/self/fd/{fd}' if arg == 'IMAGE' else arg for arg in args])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, image, folder, *args],
        capture_output=True,
        timeout=_PATIENCE_S,
        check=False,
    )
    return Done(done.returncode, done.stdout, os.fsdecode(done.stderr))


def fields(line: str, count: int) -> list[str]:
    """Split a line at its first `count` runs of spaces."""
    return line.split(None, count)


def same(found: Sequence[object], truth: Sequence[object]) -> None:
    """Fail with the first items in which two lists differ."""
    pairs = [(a, b) for a, b in zip(found, truth, strict=False) if a != b]
    assert not pairs, f"{len(pairs)} differ, the first: {pairs[0]}"
    assert len(found) == len(truth)
