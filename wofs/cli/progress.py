"""Progress bars on stderr: on a terminal only, gone when the work is done.

rich is loaded when a bar is shown and not before.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from wofs.cli.output import escape, is_terminal

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

_NAME_CHARS = 60
_DRAWN_EVERY_S = 0.1


def wanted(quiet: bool) -> bool:
    """Whether there is anybody to show a bar to."""
    return not quiet and is_terminal(sys.stderr)


class Shown:
    """A bar: what is being done, how much of how much, how fast, how long it will take."""

    def __init__(self, bar: Bar, task: TaskID) -> None:
        self._bar = bar
        self._task = task

    def at(self, name: str) -> None:
        """Show what is being worked on."""
        self._bar.update(self._task, description=escape(name)[-_NAME_CHARS:])

    def total(self, size: int) -> None:
        """Show that it will be `size` bytes in all."""
        self._bar.update(self._task, total=size)

    def more(self, size: int) -> None:
        """Show that `size` bytes more are done."""
        self._bar.advance(self._task, size)

    def done(self, size: int) -> None:
        """Show that `size` bytes are done."""
        self._bar.update(self._task, completed=size)


@contextmanager
def bar(name: str) -> Iterator[Shown]:
    """Show a bar for the time of the block."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        BarColumn(20),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}", markup=False),
    )
    console = Console(stderr=True, markup=False, highlight=False, emoji=False)
    with Progress(*columns, console=console, transient=True) as shown:
        yield Shown(shown, shown.add_task(name, total=None))


@contextmanager
def counting(name: str, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Yield what is to be told (how many are done, of how many); shown only to a terminal."""
    if not wanted(quiet):
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    text = TextColumn("{task.description}", markup=False)
    columns = (BarColumn(20), MofNCompleteColumn(), TimeRemainingColumn(), text)
    console = Console(stderr=True, markup=False, highlight=False, emoji=False)
    # drawn when told, without a thread: what is counted may be done by processes made by fork
    with Progress(*columns, console=console, transient=True, auto_refresh=False) as shown:
        task = shown.add_task(name, total=None)
        drawn = 0.0

        def tell(done: int, total: int) -> None:
            nonlocal drawn
            shown.update(task, completed=min(done, total), total=total)
            if time.monotonic() - drawn > _DRAWN_EVERY_S:
                shown.refresh()
                drawn = time.monotonic()

        yield tell


@contextmanager
def unpacking(quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    """Yield what is to be told how far unpacking is, None if nobody looks.

    The bar appears when it is told for the first time and goes when all is read.
    """
    if not wanted(quiet):
        yield None
        return
    with ExitStack() as stack:
        shown: list[Shown] = []

        def tell(done: int, total: int) -> None:
            if not shown:
                shown.append(stack.enter_context(bar("unpacking")))
                shown[0].total(total)
            shown[0].done(done)
            if done >= total:
                shown.clear()
                stack.close()

        yield tell
