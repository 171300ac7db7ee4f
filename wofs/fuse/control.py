"""Ask a live mount what its write-once memory holds.

The server listens on a socket named after the mount's device number and answers root and its
own user: a line with the question (`arena`, `pages`, `shelves`, `fields NAME`), JSON lines back.
It only tells; nothing can be changed through it.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
from contextlib import suppress

from wofs.errors import MountError
from wofs.fs import memory
from wofs.fuse.mountpoint import Mounted, Refused, listening, peer_uid
from wofs.xfs.mount import Mount

log = logging.getLogger("wofs.fuse")

_PATIENCE_S = 5.0
_QUESTION_BYTES = 256


def address(device: int) -> str:
    """Return the abstract socket address of the mount with that st_dev."""
    return f"\0wofs-slab-{os.major(device)}:{os.minor(device)}"


class Control:
    """The server's end: a thread that answers one question at a time until `close`."""

    def __init__(self, mounted: Mount, device: int) -> None:
        self._mounted = mounted
        self._socket: socket.socket | None = None
        try:
            self._socket = listening(address(device), 4)
            serve = threading.Thread(target=self._serve, name="control", args=(self._socket,))
            serve.daemon = True
            serve.start()
        except (OSError, RuntimeError) as error:  # RuntimeError: no room for a thread
            log.warning("wofs slab cannot look at this mount: %s", error)
            self.close()

    def _serve(self, questions: socket.socket) -> None:
        while True:
            try:
                line, _ = questions.accept()
            except OSError:  # closed
                return
            with line:
                try:
                    self._answer(line)
                except OSError as error:
                    log.info("a question about the slab was not answered: %s", error)

    def _answer(self, line: socket.socket) -> None:
        if peer_uid(line) not in (0, os.geteuid()):
            return  # before anything is waited for: a stranger must not keep others waiting
        line.settimeout(_PATIENCE_S)
        question = line.recv(_QUESTION_BYTES).decode("ascii", "replace").rstrip("\n")
        word, _, name = question.partition(" ")
        found: list[memory.Json] = []
        if word == "arena":
            found = [memory.arena(self._mounted)]
        elif word == "pages":
            found = memory.pages(self._mounted)
        elif word == "shelves":
            found = memory.shelves(self._mounted)
        elif word == "fields":
            found = memory.fields(self._mounted, name)
        text = "".join(json.dumps(item) + "\n" for item in found)
        line.sendall(text.encode("ascii") + b"\n")

    def close(self) -> None:
        """Answer no more."""
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)  # wakes the thread
            self._socket.close()


def ask(mounted: Mounted, question: str) -> list[memory.Json]:
    """Return a live mount's answer; raises MountError, Refused for another user's mount."""
    where = mounted.mountpoint
    line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    line.settimeout(_PATIENCE_S)
    with line:
        try:
            line.connect(address(mounted.number))
            if peer_uid(line) != mounted.owner:
                raise MountError(f"{where}: somebody else answers for its server")
            line.sendall(question.encode("ascii", "replace") + b"\n")
            with line.makefile("rb") as answer:
                text = answer.read()
        except (BrokenPipeError, ConnectionResetError):  # closed before the question was read
            text = b""
        except OSError as error:
            why = error.strerror or str(error)  # that time is over has no number
            raise MountError(f"{where}: its server does not answer: {why}") from error
    if not text:
        raise Refused(f"{where}: its server answers root and its own user only")
    return [json.loads(row) for row in text.splitlines() if row]
