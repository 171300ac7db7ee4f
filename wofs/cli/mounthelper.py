"""`mount.wofs`: what mount(8) runs for `mount -t wofs` and for lines of fstab.

mount(8) looks for it in /sbin only, so the administrator links it there. It takes
`SOURCE DIRECTORY [-sfnvrw] [-o OPTIONS] [-t TYPE]` and hands that on to `wofs mount`.
"""

from __future__ import annotations

import getopt
import sys
from typing import NoReturn

from wofs.cli.main import Verbs
from wofs.cli.main import main as wofs
from wofs.cli.output import say

EXIT_USAGE = 1

_WORDS = {"-s": ["--sloppy"], "-f": ["--fake"], "-r": ["-o", "ro"], "-w": ["-o", "rw"]}
"""Flags in our words; -n (no mtab), -v (verbose) and -t (we are that type) say nothing to us."""


def main() -> NoReturn:
    """Mount as mount(8) says and exit with its status."""
    try:
        flags, places = getopt.gnu_getopt(sys.argv[1:], "sfnvrwt:o:")
    except getopt.GetoptError as error:
        say(f"{error}; usage: mount.wofs SOURCE DIRECTORY [-sfnvrw] [-o OPTIONS] [-t TYPE]")
        sys.exit(EXIT_USAGE)
    words: list[str] = []
    for flag, value in flags:
        words += ["-o", value] if flag == "-o" else _WORDS.get(flag, [])
    assert isinstance(wofs, Verbs)
    wofs.main(["mount", *words, "--", *places])
