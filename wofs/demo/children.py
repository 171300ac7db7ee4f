"""Experiments in processes of their own, which tell how far they are.

A child prints JSON lines: a list for its progress, an object for the outcome, its last line.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import TypeVar

from wofs.errors import WofsError

T = TypeVar("T")


def in_child(
    made: Callable[..., T], module: str, arguments: tuple[object, ...], told: Callable[..., object]
) -> T:
    """Run a module of this package with `arguments`; return what is `made` of its outcome.

    `told` gets the numbers of each line of progress. Raises RuntimeError with the last line of
    what the child said where it found nothing.
    """
    argv = [sys.executable, "-m", module, *map(str, arguments)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        for line in child.stdout:
            found = json.loads(line)
            if isinstance(found, dict):
                return made(**found)
            told(*found)
        raise RuntimeError(child.stderr.read().strip().rpartition("\n")[2])


def be_child(work: Callable[..., object]) -> None:
    """Be such a child: `work` gets the command line's arguments and what is to be told."""

    def told(*progress: int) -> None:
        print(json.dumps(progress), flush=True)

    try:
        print(json.dumps(vars(work(*sys.argv[1:], told))))
    except (WofsError, OSError) as error:
        sys.exit(str(error))
