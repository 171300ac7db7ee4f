"""`wofs cp`: copy files and trees out of the image."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import click

from wofs.cli import progress
from wofs.cli.copier import Copier, Progress
from wofs.cli.output import FAILED, say
from wofs.cli.request import Request, reads_image
from wofs.cli.target import Folder
from wofs.errors import ImageError, IsDir, NotDir
from wofs.fs import Path, Stat
from wofs.fs.stat import DIR, REG
from wofs.fs.walk import Damage, descend
from wofs.units import SECTOR_BYTES

log = logging.getLogger("wofs.cli")

Source = tuple[Path, bytes, Stat]
"""What is copied, its name in the destination (b"": its content fills it), its attributes."""


@click.command(
    "cp",
    epilog="\b\nExamples:\n  wofs cp disk.img /etc/passwd .\n"
    "  wofs cp -r disk.img /etc ./etc-of-disk\n"
    "  wofs cp -r disk.img / ./everything\n"
    "  wofs cp -r -f disk.img /var/log /var/www backup/",
)
@reads_image
@click.argument("paths", nargs=-1, required=True, metavar="PATH... DEST")
@click.option("-r", "-R", "-a", "--recursive", is_flag=True, help="Copy directories and all in.")
@click.option("-f", "--force", is_flag=True, help="Replace what is in the way (no directory).")
def command(request: Request, paths: tuple[str, ...], recursive: bool, force: bool) -> None:
    """Copy the files at PATH to DEST: into it if it is a directory, else under that name.

    Holes, times, modes, links, hard links and special files are kept; owners, extended
    attributes and access lists where the system allows it: what it does not is counted at the
    end. Without the owner the set-id bits go too. With -r links are copied as links.

    DIR/. as a PATH, and the root, mean what is in them.

    Nothing that exists is replaced without --force; a directory that exists is filled, and
    keeps its own mode and times unless --force is given. Links in the destination are never
    followed. A file appears under its name when it is whole. A damaged one is told and not
    copied, the rest goes on (exit code 4).
    """
    *sources, destination = paths
    if not sources:
        raise click.UsageError("Missing argument 'DEST'.")
    above, new_name = _split(destination, len(sources) > 1)
    with request.opened() as filesystem:
        found = [
            source
            for text in sources
            if (source := _source(request, filesystem.path(text), text, recursive)) is not None
        ]
        if destination.endswith("/") and any(stat.type != DIR for _, _, stat in found) and new_name:
            raise NotADirectoryError(f"{destination}: no such directory")
        anchor = Folder.at(above)
        with _shown(request, [path for path, _, _ in found]) as shown:
            copier = Copier(anchor, request.tell, force, shown)
            try:
                for path, name, _ in found:
                    try:
                        copier.copy(path, new_name or name)
                    except (ImageError, OSError) as error:
                        request.tell(path, error)
            finally:
                anchor.close()
        _summary(request, copier)


def _split(destination: str, several: bool) -> tuple[bytes, bytes]:
    """Return the directory to copy into and the new name there, b"" for the old names."""
    raw = os.fsencode(destination)
    if os.path.isdir(raw):
        return raw, b""
    if several:
        raise click.UsageError(f"{destination!r} is no directory, and there are several PATHs.")
    above, name = os.path.split(raw.rstrip(b"/"))
    if name in (b"", b".", b".."):
        raise click.UsageError(f"{destination!r} is no directory and no name for a new file.")
    return above or b".", name


def _source(request: Request, given: Path, text: str, recursive: bool) -> Source | None:
    """Return what to copy: with -r the path as it is, else what it leads to.

    `text` is what the user wrote; "DIR/." and the root fill the destination itself. What
    cannot be copied is told, and None returned.
    """
    try:
        path = given
        if not recursive or given.name in ("", "..") or _is_content(text):
            path = given.resolve(strict=True)
        stat = path.lstat()
        if stat.type == DIR and not recursive:
            raise IsDir(f"{given}: is a directory (-r copies it)", bytes(given))
        if stat.type != DIR and _is_content(text):
            raise NotDir(f"{given}: not a directory", bytes(given))
    except (ImageError, OSError) as error:
        request.tell(given, error)
        return None
    if _is_content(text):
        return path, b"", stat
    return path, path.name_bytes if given.name in ("", "..") else given.name_bytes, stat


def _is_content(text: str) -> bool:
    """Whether a path means what is in a directory, not the directory: it ends in "/."."""
    return os.path.basename(text) == "."


def _summary(request: Request, copier: Copier) -> None:
    """Tell what could not be kept, a line for each kind."""
    if not request.quiet:
        for (what, why), count in copier.lost.counts.items():
            say(f"{count} {what}{'s' if count > 1 else ''} not kept: {why}")
    if copier.lost.refused:
        request.failures.code = max(request.failures.code, FAILED)


class _Told:
    """Tells the progress bar, if there is one, and with -v names each copy."""

    def __init__(self, bar: progress.Shown | None) -> None:
        self._bar = bar

    def starts(self, path: Path, copy: bytes) -> None:
        """Show the path."""
        log.debug("%s -> %s", path, os.fsdecode(copy))
        if self._bar is not None:
            self._bar.at(str(path))

    def copied(self, size: int) -> None:
        """Add to the bytes."""
        if self._bar is not None:
            self._bar.more(size)


@contextmanager
def _shown(request: Request, paths: list[Path]) -> Iterator[Progress]:
    """Show a progress bar for the time of the block, on a terminal only."""
    if not progress.wanted(request.quiet):
        yield _Told(None)
        return
    with progress.bar("counting") as bar:
        bar.total(sum(map(data_bytes, paths)))
        yield _Told(bar)


def data_bytes(top: Path) -> int:
    """Return how many bytes of data a tree holds, about; damage counts nothing here."""

    def ignore(_: Path, error: Damage) -> None:
        log.debug("%s: %s", top, error)

    def size(stat: Stat | None) -> int:
        if stat is None or stat.type != REG or stat.st_ino in seen:
            return 0
        if stat.st_nlink > 1:
            seen.add(stat.st_ino)
        return min(stat.st_size, stat.st_blocks * SECTOR_BYTES)

    seen: set[int] = set()
    try:
        own = top.lstat()
    except (ImageError, OSError) as error:
        ignore(top, error)
        return 0
    below = descend(top, ignore) if own.type == DIR else ()
    return size(own) + sum(size(stat) for _, stat, _ in below)
