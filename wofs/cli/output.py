"""What commands write: names safe for a terminal, JSON lines, tables, messages.

Data goes to stdout, everything else to stderr. A list of names has their control characters
escaped and backslashes doubled on a terminal, as `ls -b` does, and goes byte for byte into a
pipe or file; what is laid out for people (tree, stat, find -ls) is escaped always.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import BinaryIO, TextIO

import click

from wofs.errors import ImageError, NotXfs, PathError, Unsupported

DONE, FAILED, USAGE, REFUSED, DAMAGED, INTERRUPTED = 0, 1, 2, 3, 4, 130
"""Exit codes; of several, the highest of the first five is returned."""

Json = dict[str, object]


def escape(text: str) -> str:
    """Return `text` with every character that is not printable as a backslash escape."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8, by os.fsdecode
        return f"\\x{code - 0xDC00:02x}"
    return char.encode("unicode_escape").decode("ascii")


def quoted(raw: bytes) -> str:
    """Return a name or path in printable characters, backslashes doubled: none is like another."""
    return escape(os.fsdecode(raw).replace("\\", "\\\\"))


def say(message: str) -> None:
    """Write one line to stderr; where nobody reads it any more, the work goes on."""
    try:
        click.echo(f"wofs: {escape(message)}", err=True)
    except BrokenPipeError:
        drop(sys.stderr)


def message(error: BaseException) -> str:
    """Return an error as one line."""
    if isinstance(error, OSError) and not isinstance(error, PathError) and error.strerror:
        name = f"{os.fsdecode(error.filename)}: " if error.filename is not None else ""
        return f"{name}{error.strerror.lower()}"
    return str(error) or type(error).__name__


def internal(error: Exception) -> str:
    """Return an error of ours as one line."""
    return f"internal error: {type(error).__name__}: {error} (WOFS_DEBUG=1 shows where)"


def code_of(error: BaseException) -> int:
    """Return the exit code that an error asks for."""
    if isinstance(error, NotXfs | Unsupported):
        return REFUSED
    return DAMAGED if isinstance(error, ImageError) else FAILED


class Failures:
    """What went wrong while a command went on: told at once, remembered as an exit code."""

    def __init__(self) -> None:
        self.code = DONE

    def add(self, path: object, error: ImageError | OSError) -> None:
        """Tell of an error met at `path`."""
        line = message(error)
        told = str(path)
        if isinstance(error, PathError) or line.startswith(told + ":"):
            say(line)
        else:
            say(f"{told}: {line}")
        self.code = max(self.code, code_of(error))


class Unwritable(click.ClickException):
    """Standard output takes no more; ends the command with exit code 1."""

    exit_code = FAILED


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a standard stream (None: closed) is a terminal."""
    return stream is not None and stream.isatty()


def drop(stream: TextIO) -> None:
    """Point a standard stream to nowhere, so that flushing it stays quiet from now on."""
    try:
        number = stream.fileno()
    except (OSError, ValueError):
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)


class Output:
    """Standard output. A closed pipe raises BrokenPipeError, any other failure Unwritable."""

    def __init__(self) -> None:
        self.terminal = is_terminal(sys.stdout)
        self._binary = None if sys.stdout is None else sys.stdout.buffer

    def name(self, raw: bytes) -> str:
        """Return a name or path as it is to be shown here."""
        return quoted(raw) if self.terminal else os.fsdecode(raw)

    def line(self, text: str, end: bytes = b"\n") -> None:
        """Write a line of text; what the locale lacks is escaped."""
        self.raw(_encoded(text) + end)

    def raw(self, data: bytes) -> None:
        """Write bytes as they are."""
        try:
            self._stream().write(data)
        except OSError as error:
            raise self._refused(error) from error

    def json(self, value: Json) -> None:
        """Write one object as a line of ASCII JSON."""
        self.raw(json.dumps(value).encode("ascii") + b"\n")

    def flush(self) -> None:
        """Hand everything to the system."""
        if self._binary is None:
            return
        try:
            self._binary.flush()
        except OSError as error:
            raise self._refused(error) from error

    def _stream(self) -> BinaryIO:
        if self._binary is None:
            raise Unwritable("standard output is closed")
        return self._binary

    def _refused(self, error: OSError) -> Exception:
        drop(sys.stdout)
        if isinstance(error, BrokenPipeError):
            return error
        return Unwritable(f"standard output: {(error.strerror or str(error)).lower()}")

    def drawable(self, text: str) -> bool:
        """Whether the locale has the characters of `text`."""
        try:
            os.fsencode(text)
        except UnicodeEncodeError:
            return False
        return True

    def table(self, head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Write a table, numbers to the right; with a bold head on a terminal."""
        if self.terminal:
            self._draw_table(head, rows)
            return
        lines = [tuple(head), *map(tuple, rows)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
        for line in lines:
            cells = (cell.rjust(width) for cell, width in zip(line, widths, strict=True))
            self.line("  ".join(cells).rstrip())

    def _draw_table(self, head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        from rich.console import Console
        from rich.table import Table

        drawn = Table(box=None, pad_edge=False, header_style="bold")
        for name in head:
            drawn.add_column(name, justify="right", no_wrap=True)
        for row in rows:
            drawn.add_row(*row)
        self.flush()
        Console(markup=False).print(drawn)


def _encoded(text: str) -> bytes:
    try:
        return os.fsencode(text)
    except UnicodeEncodeError:
        encoding = sys.getfilesystemencoding()
        return b"".join(
            os.fsencode(c) if "\udc80" <= c <= "\udcff" else c.encode(encoding, "backslashreplace")
            for c in text
        )


def named(key: str, raw: bytes) -> Json:
    """Return a name for JSON: text, and its bytes in hexadecimal where they are not UTF-8."""
    try:
        return {key: raw.decode("utf-8")}
    except UnicodeDecodeError:
        return {key: raw.decode("utf-8", "backslashreplace"), f"{key}_bytes": raw.hex()}
