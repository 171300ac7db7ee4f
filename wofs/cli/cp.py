"""`wofs cp`: copy files and trees out of the image."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from wofs.cli.copier import Copier, Progress
from wofs.cli.output import FAILED, escape, say
from wofs.cli.request import Request, reads_image
from wofs.cli.target import Folder
from wofs.errors import ImageError, IsDir
from wofs.fs import Path

if TYPE_CHECKING:
    from rich.progress import Progress as Bar


@click.command(
    "cp",
    epilog="\b\nExamples:\n  wofs cp disk.img /etc/passwd .\n"
    "  wofs cp -r disk.img /etc ./etc-of-disk\n"
    "  wofs cp -r disk.img / ./everything",
)
@reads_image
@click.argument("paths", nargs=-1, required=True, metavar="PATH... DEST")
@click.option("-r", "-R", "--recursive", is_flag=True, help="Copy directories and all in them.")
@click.option("-f", "--force", is_flag=True, help="Replace what is in the way (no directory).")
def command(request: Request, paths: tuple[str, ...], recursive: bool, force: bool) -> None:
    """Copy the files at PATH to DEST: into it if it is a directory, else under that name.

    Holes, times, modes, links, hard links and special files are kept; owners and extended
    attributes where the system allows it. With -r links are copied as links.

    Nothing that exists is replaced without --force; an existing directory is filled, and keeps
    its own mode and times. Links in the destination are never followed. A damaged file is told
    and not copied, the rest goes on (exit code 4).
    """
    *sources, destination = paths
    if not sources:
        raise click.UsageError("Missing argument 'DEST'.")
    into = os.path.isdir(destination)
    if len(sources) > 1 and not into:
        raise click.UsageError(f"{destination!r} is no directory, and there are several PATHs.")
    raw = os.fsencode(destination)
    above, new_name = (raw, b"") if into else os.path.split(raw.rstrip(b"/"))
    with request.opened() as filesystem, _progress(request) as progress:
        anchor = Folder.at(above or b".")
        try:
            copier = Copier(anchor, request.tell, force, progress)
            for source in request.paths(filesystem, tuple(sources)):
                try:
                    path = _source(source, recursive)
                    copier.copy(path, new_name or source.name_bytes or path.name_bytes)
                except (ImageError, OSError) as error:
                    request.tell(source, error)
        finally:
            anchor.close()
        _summary(request, copier)


def _source(path: Path, recursive: bool) -> Path:
    """Return what to copy: with -r the path as it is, else what it leads to."""
    if recursive:
        return path.resolve(strict=True) if path.name in ("", "..") else path
    if path.is_dir():
        raise IsDir(f"{path}: is a directory (-r copies it)", bytes(path))
    return path.resolve(strict=True)


def _summary(request: Request, copier: Copier) -> None:
    """Tell what could not be kept, a line for each kind."""
    if not request.quiet:
        for (what, why), count in copier.lost.counts.items():
            say(f"{count} {what}{'s' if count > 1 else ''} not kept: {why}")
    if copier.lost.refused:
        request.failures.code = max(request.failures.code, FAILED)


class _Silent:
    """No progress bar."""

    def starts(self, path: Path) -> None:
        """Do nothing."""

    def copied(self, size: int) -> None:
        """Do nothing."""


class _Shown:
    """A progress bar on stderr: bytes so far, speed, the file at hand."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar
        self._task = bar.add_task("copying", total=None)

    def starts(self, path: Path) -> None:
        """Show the path."""
        self._bar.update(self._task, description=escape(str(path))[-60:])

    def copied(self, size: int) -> None:
        """Add to the bytes."""
        self._bar.advance(self._task, size)


@contextmanager
def _progress(request: Request) -> Iterator[Progress]:
    """Show a progress bar for the time of the block, on a terminal only."""
    if request.quiet or not sys.stderr.isatty():
        yield _Silent()
        return
    from rich.console import Console
    from rich.progress import DownloadColumn, SpinnerColumn, TextColumn, TransferSpeedColumn
    from rich.progress import Progress as Bar

    name = TextColumn("{task.description}", markup=False)
    columns = (SpinnerColumn(), DownloadColumn(), TransferSpeedColumn(), name)
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        yield _Shown(bar)
