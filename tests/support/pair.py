"""The same image mounted by the kernel and by wofs, and asking both the same."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Pair:
    """The two mount points."""

    kernel: Path
    wofs: Path

    def answers(self, ask: Callable[[Path], object]) -> tuple[object, object]:
        """Return what `ask` gives for either: a value, or the name of the errno."""
        return answer(ask, self.kernel), answer(ask, self.wofs)


def answer(ask: Callable[[Path], object], top: Path) -> object:
    """Return what `ask` gives, or the name of the errno it fails with."""
    try:
        return ask(top)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
