"""Run a script to which system calls are forbidden, as by a sandbox."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PWRITE64, MEMFD_CREATE, MSEAL = 18, 319, 462
"""Of x86-64."""

TESTS = str(Path(__file__).resolve().parent.parent)

SECCOMP = """
import ctypes, struct, sys
sys.path.insert(0, {tests!r})
from support.slab import filled
from wofs.errors import NoBackend
from wofs.slab import Arena

def forbid(*numbers):
    # load the system call's number; for each forbidden one return EPERM; else allow
    code = [(0x20, 0, 0, 0)]
    for n in numbers:
        code += [(0x15, 0, 1, n), (0x06, 0, 0, 0x00050001)]
    code.append((0x06, 0, 0, 0x7FFF0000))
    raw = b"".join(struct.pack("HBBI", *line) for line in code)
    kept = ctypes.create_string_buffer(raw)
    program = struct.pack("HxxxxxxQ", len(code), ctypes.addressof(kept))
    libc = ctypes.CDLL(None)
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    assert libc.prctl(22, 2, program) == 0

def cli(*words):
    from wofs.cli.main import main
    main(list(words))

forbid({numbers})
{script}
"""


def under_seccomp(numbers: tuple[int, ...], script: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a child in which the system calls end with EPERM."""
    text = SECCOMP.format(tests=TESTS, numbers=", ".join(map(str, numbers)), script=script)
    return subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, check=False, timeout=60
    )
