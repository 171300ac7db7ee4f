"""What commands write: names safe for a terminal, JSON lines, tables, messages.

Data goes to stdout, everything else to stderr. On a terminal a name's control characters are
escaped; into a pipe or file it goes byte for byte, like `ls` does.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence

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


def say(message: str) -> None:
    """Write one line to stderr."""
    click.echo(f"wofs: {escape(message)}", err=True)


def message(error: BaseException) -> str:
    """Return an error as one line."""
    if isinstance(error, OSError) and not isinstance(error, PathError) and error.strerror:
        name = f"{os.fsdecode(error.filename)}: " if error.filename is not None else ""
        return f"{name}{error.strerror.lower()}"
    return str(error) or type(error).__name__


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


class Output:
    """Standard output."""

    def __init__(self) -> None:
        self.terminal = sys.stdout.isatty()
        self._binary = sys.stdout.buffer

    def name(self, raw: bytes) -> str:
        """Return a name or path as it is to be shown here."""
        text = os.fsdecode(raw)
        return escape(text) if self.terminal else text

    def line(self, text: str, end: bytes = b"\n") -> None:
        """Write a line of text."""
        self._binary.write(os.fsencode(text) + end)

    def raw(self, data: bytes) -> None:
        """Write bytes as they are."""
        self._binary.write(data)

    def json(self, value: Json) -> None:
        """Write one object as a line of ASCII JSON."""
        self._binary.write(json.dumps(value).encode("ascii") + b"\n")

    def flush(self) -> None:
        """Hand everything to the system."""
        self._binary.flush()

    def table(self, head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Write a table, numbers to the right; drawn on a terminal, plain otherwise."""
        if self.terminal:
            from rich.console import Console
            from rich.table import Table

            drawn = Table(box=None, pad_edge=False, header_style="bold")
            for name in head:
                drawn.add_column(name, justify="right", no_wrap=True)
            for row in rows:
                drawn.add_row(*row)
            self.flush()
            Console().print(drawn)
            return
        lines = [tuple(head), *map(tuple, rows)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
        for line in lines:
            cells = (cell.rjust(width) for cell, width in zip(line, widths, strict=True))
            self.line("  ".join(cells).rstrip())


def named(key: str, raw: bytes) -> Json:
    """Return a name for JSON: text, and its bytes in hexadecimal where they are not UTF-8."""
    try:
        return {key: raw.decode("utf-8")}
    except UnicodeDecodeError:
        return {key: raw.decode("utf-8", "backslashreplace"), f"{key}_bytes": raw.hex()}
