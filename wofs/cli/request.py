"""What all commands that read an image share: its options, opening it, the exit code."""

from __future__ import annotations

import functools
import logging
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, NoReturn, TypeVar

import click

from wofs.cli import progress
from wofs.cli.output import Failures, Output, say
from wofs.errors import ImageError
from wofs.fs import Filesystem, Path, open

F = TypeVar("F", bound=Callable[..., Any])

JSON_HELP = (
    "One JSON object a line. A name that is not UTF-8 has its odd bytes as \\xNN in `name`, "
    "and all its bytes in hexadecimal in `name_bytes`; so has `path`."
)


OPTIONS_HELP = (
    "As for mount: norecovery (read although the log is dirty), sb=N (use the superblock of "
    "AG N), logdev=FILE (where an external log is), slab=NAME (memory backend)."
)

_NUMBER = re.compile(r"[0-9]{1,20}", re.ASCII)


@dataclass
class OpenOptions:
    """The words of -o that concern reading an image."""

    norecovery: bool = False
    sb: int = 0
    logdev: str | None = None
    slab: str = "auto"


def parse_options(words: tuple[str, ...]) -> OpenOptions:
    """Parse the values of -o, each a list with commas; BadParameter for an unknown word."""
    options = OpenOptions()
    for word in ",".join(words).split(","):
        key, _, value = word.partition("=")
        if word == "norecovery":
            options.norecovery = True
        elif key == "sb" and _NUMBER.fullmatch(value) and int(value) < 1 << 32:
            options.sb = int(value)
        elif key == "logdev" and value:
            options.logdev = value
        elif key == "slab" and value:
            options.slab = value
        elif word not in ("", "ro"):
            known = "norecovery, sb=N, logdev=FILE, slab=NAME, ro"
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
        """Open the image for the time of the block; being told to end, undo what is half done."""
        o = self.options
        with logged(self.quiet, self.verbose), ended_tidily():
            with progress.unpacking(self.quiet) as tell:
                opened = open(
                    self.image,
                    norecovery=o.norecovery,
                    sb=o.sb,
                    logdev=o.logdev,
                    slab=o.slab,
                    progress=tell,
                )
            with opened as filesystem:
                yield filesystem
                self.out.flush()

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


@contextmanager
def ended_tidily() -> Iterator[None]:
    """Let SIGTERM and SIGHUP unwind the block instead of ending the process at once."""

    def end(number: int, _: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    before = {}
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:  # nohup(1) stays in force
            before[number] = signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Lines(logging.Handler):
    """Log records as lines on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        say(record.getMessage())


@contextmanager
def logged(quiet: bool, verbose: bool) -> Iterator[None]:
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
    @click.option("-o", "words", metavar="OPTIONS", multiple=True, help=OPTIONS_HELP)
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
