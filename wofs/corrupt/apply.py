"""Write edits to a copy of an image (or to the image itself), and take them back."""

from __future__ import annotations

import json
import os
import secrets
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress

from wofs.corrupt.edit import Change, Editor
from wofs.corrupt.writer import Progress, Writer
from wofs.device import FileDevice
from wofs.device.overlay import Overlay
from wofs.errors import WofsError


class NotUndone(WofsError):
    """A record cannot be undone; nothing was written."""


@contextmanager
def copied(
    editor: Editor, device: FileDevice, out: str, force: bool, told: Progress | None = None
) -> Iterator[None]:
    """Write the edited image beside `out`, and give it that name when the block has ended well.

    `out` must not exist; with `force` it may be a regular file that is not the image. What was
    begun is removed when anything fails, and what was at `out` stays. Raises `OSError`.
    """
    _refuse_taken(out, device, force)
    partial = f"{out}.wofs-partial-{secrets.token_hex(4)}"
    writer = Writer(partial, create=True)
    try:
        with closing(writer):
            writer.copy(device, told)
            _write(writer, editor)
        yield
        _refuse_taken(out, device, force)
        if force:
            os.replace(partial, out)
        else:
            os.link(partial, out)
    finally:
        with suppress(FileNotFoundError):  # it has its name
            os.unlink(partial)


def _refuse_taken(out: str, device: FileDevice, force: bool) -> None:
    """Raise FileExistsError if a copy may not have that name."""
    try:
        found = os.lstat(out)
    except FileNotFoundError:
        return
    if not force:
        raise FileExistsError(f"{out}: is there already (--force replaces it)")
    if not stat.S_ISREG(found.st_mode):
        raise FileExistsError(f"{out}: is no regular file, and is not replaced")
    if os.path.samestat(found, os.fstat(device.fileno())):
        raise FileExistsError(f"{out}: is the image itself (--in-place changes it)")


@contextmanager
def scratch(editor: Editor, device: FileDevice) -> Iterator[str]:
    """Write the edited image to a file that is gone after the block; yield its path.

    It lies in a folder of its own below TMPDIR, shares its blocks with the image where the
    disk can, and keeps its holes. Raises `OSError`.
    """
    with tempfile.TemporaryDirectory(prefix="wofs-damaged-") as folder:
        path = os.path.join(folder, "image")
        with closing(Writer(path, create=True, durable=False)) as writer:
            writer.copy(device)
            _write(writer, editor)
        yield path


def write_in_place(editor: Editor, device: FileDevice, path: str) -> None:
    """Write the edits to the image itself; OSError for one that is compressed."""
    if not os.path.samestat(os.stat(path), os.fstat(device.fileno())):
        raise OSError(f"{path}: is compressed: a copy of it can be damaged, not the file itself")
    with closing(Writer(path, create=False)) as writer:
        _write(writer, editor)


def _write(writer: Writer, editor: Editor) -> None:
    for change in editor.changes:
        writer.write(change.byte, bytes.fromhex(change.after))
    if editor.was_cut:
        writer.cut(editor.image.size)


def undo(record: bytes, path: str) -> list[Change]:
    """Take back what the JSON `record` says was done to the image at `path`.

    Raises NotUndone where the record is none, the image was cut, or its bytes are not those
    that the record left; then nothing is written.
    """
    changes = _changes(record)
    with closing(FileDevice(path)) as device:
        found = Overlay(device)
        for change in reversed(changes):
            after = bytes.fromhex(change.after)
            there = change.byte + len(after) <= found.size
            if not there or found.pread(change.byte, len(after)) != after:
                raise NotUndone(f"{path}: byte {change.byte} is not what the record left there")
            found.put(change.byte, bytes.fromhex(change.before))
    with closing(Writer(path, create=False)) as writer:
        for change in reversed(changes):
            writer.write(change.byte, bytes.fromhex(change.before))
    return changes


def _changes(text: bytes) -> list[Change]:
    try:
        record = json.loads(text)
        before, after = record["size"]
        changes = [Change(**change) for change in record["changes"]]
        sound = all(_is_change(change) for change in changes)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise NotUndone("this is no record of `wofs corrupt`") from error
    if not sound:
        raise NotUndone("this is no record of `wofs corrupt`")
    if before != after:
        raise NotUndone("the image was cut: what was behind its end is not in the record")
    return changes


def _is_change(change: Change) -> bool:
    return (
        isinstance(change.byte, int)
        and change.byte >= 0
        and len(bytes.fromhex(change.before)) == len(bytes.fromhex(change.after))
    )


def flat(changes: Iterable[Change]) -> list[str]:
    """Return a line about each change, for people."""
    lines = []
    for change in changes:
        name = f"{change.object}.{change.field}" if change.field else change.object
        what = f"{change.op} {name}"
        if change.found is not None:
            what += f": {change.found} -> {change.value}"
        lines.append(what)
    return lines
