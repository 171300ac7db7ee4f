"""Corpora: files called after their content; and inputs cut down to what matters."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from fuzzlib.target import Target, judge

CORPUS = Path(__file__).resolve().parent.parent.parent / "tests" / "corpus"
"""A folder a parser."""

SHRINK_S = 60.0


def write(folder: Path, inputs: Iterable[bytes]) -> None:
    """Write inputs to a folder, each under the digest of its content."""
    folder.mkdir(parents=True, exist_ok=True)
    for data in inputs:
        (folder / hashlib.sha1(data).hexdigest()).write_bytes(data)


def files(folder: Path) -> list[Path]:
    """Return the inputs of a folder, none where there is no such folder."""
    return sorted(path for path in folder.glob("*") if path.is_file())


def failure(target: Target, data: bytes) -> str:
    """Return what an input breaks: the exception and where it was raised; "" for nothing."""
    try:
        judge(target, data)
    except Exception as error:
        at = error.__traceback__
        while at is not None and at.tb_next is not None:
            at = at.tb_next
        line = "" if at is None else f" ({at.tb_frame.f_code.co_filename}:{at.tb_lineno})"
        return f"{type(error).__name__}{line}"
    return ""


def shrunk(data: bytes, fails: Callable[[bytes], bool], seconds: float = SHRINK_S) -> bytes:
    """Return a shorter input that still fails, as far as time allows: pieces left out, zeroed."""
    deadline, size = time.monotonic() + seconds, max(1, len(data) // 2)
    while size and time.monotonic() < deadline:
        at, before = 0, data
        while at < len(data) and time.monotonic() < deadline:
            without = data[:at] + data[at + size :]
            zeros = data[:at] + bytes(len(data[at : at + size])) + data[at + size :]
            if fails(without):
                data = without
            else:
                if zeros != data and fails(zeros):
                    data = zeros
                at += size
        if data == before or size > 1:
            size //= 2
    return data
