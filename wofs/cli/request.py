"""What all commands that read an image share: its options, opening it, the exit code."""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import click

from wofs.cli.output import Failures, Output, say
from wofs.errors import ImageError
from wofs.fs import Filesystem, Path, open

F = TypeVar("F", bound=Callable[..., Any])

JSON_HELP = (
    "One JSON object a line. A name that is not UTF-8 has its odd bytes as \\xNN in `name`, "
    "and all its bytes in hexadecimal in `name_bytes`; so has `path`."
)


@dataclass
class OpenOptions:
    """The words of -o that concern reading an image."""

    norecovery: bool = False
    sb: int = 0
    slab: str = "auto"


def parse_options(words: tuple[str, ...]) -> OpenOptions:
    """Parse the values of -o, each a list with commas; BadParameter for an unknown word."""
    options = OpenOptions()
    for word in ",".join(words).split(","):
        key, _, value = word.partition("=")
        if word == "norecovery":
            options.norecovery = True
        elif key == "sb" and value.isdecimal() and value.isascii():
            options.sb = int(value)
        elif key == "slab" and value:
            options.slab = value
        elif word not in ("", "ro"):
            known = "norecovery, sb=N, slab=NAME, ro"
            raise click.BadParameter(f"{word!r} is unknown: {known}", param_hint="'-o'")
    return options


@dataclass
class Request:
    """One invocation of a command: its image, its output, what failed."""

    image: str
    options: OpenOptions
    quiet: bool
    verbose: bool
    out: Output = field(default_factory=Output)
    failures: Failures = field(default_factory=Failures)

    @contextmanager
    def opened(self) -> Iterator[Filesystem]:
        """Open the image for the time of the block."""
        with _logging(self.quiet, self.verbose), self._progress() as progress:
            o = self.options
            opened = open(
                self.image, norecovery=o.norecovery, sb=o.sb, slab=o.slab, progress=progress
            )
            with opened as filesystem:
                yield filesystem
                self.out.flush()

    @contextmanager
    def _progress(self) -> Iterator[Callable[[int, int], None] | None]:
        """Show on a terminal how far unpacking a compressed image is."""
        if self.quiet or not sys.stderr.isatty():
            yield None
            return
        shown: list[Any] = []

        def tell(done: int, total: int) -> None:
            if not shown:
                from rich.console import Console
                from rich.progress import Progress

                bar = Progress(console=Console(stderr=True), transient=True)
                bar.start()
                shown.extend((bar, bar.add_task("unpacking", total=total or None)))
            shown[0].update(shown[1], completed=done, total=total or None)
            if total and done >= total:
                shown[0].stop()

        try:
            yield tell
        finally:
            if shown:
                shown[0].stop()

    def paths(self, filesystem: Filesystem, given: tuple[str, ...]) -> list[Path]:
        """Return the paths asked for; the root if none."""
        return [filesystem.path(path) for path in given or ("/",)]

    def tell(self, path: Path, error: ImageError | OSError) -> None:
        """Take note of what could not be read at `path`, and go on."""
        self.failures.add(path, error)

    def target(self, path: Path) -> bytes | None:
        """Return the target of a symbolic link; None, after telling, where it is damaged."""
        try:
            return path.readlink_bytes()
        except (ImageError, OSError) as error:
            self.tell(path, error)
            return None


class _Lines(logging.Handler):
    """Log records as lines on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        say(record.getMessage())


@contextmanager
def _logging(quiet: bool, verbose: bool) -> Iterator[None]:
    """Send the library's log to stderr for the time of the block."""
    logger, handler = logging.getLogger("wofs"), _Lines()
    level, propagate = logger.level, logger.propagate
    logger.setLevel(logging.ERROR if quiet else logging.DEBUG if verbose else logging.WARNING)
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
        logger.setLevel(level)


def reads_image(command: F) -> F:
    """Give a command the argument IMAGE and the common options; it gets a `Request`."""

    @click.argument("image")
    @click.option(
        "-o",
        "words",
        metavar="OPTIONS",
        multiple=True,
        help="As for mount: norecovery (read although the log is dirty), sb=N (use the "
        "superblock of AG N), slab=NAME (memory backend).",
    )
    @click.option("-q", "--quiet", is_flag=True, help="No warnings and no progress bar.")
    @click.option("-v", "--verbose", is_flag=True, help="Say more on stderr.")
    @functools.wraps(command)
    def wrapped(
        image: str, words: tuple[str, ...], quiet: bool, verbose: bool, **rest: object
    ) -> int:
        request = Request(image, parse_options(words), quiet, verbose)
        command(request, **rest)
        return request.failures.code

    # functools.wraps keeps the parameters that options already put on `command`
    return wrapped  # type: ignore[return-value]
