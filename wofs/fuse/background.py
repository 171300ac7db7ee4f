"""Into the background, but only once it works: the parent waits for the child's word.

The fork comes before trio, before the image is opened and before the slab exists.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass

_MOUNTED = b"mounted"


@dataclass(frozen=True)
class Outcome:
    """What became of the child, for the parent: its exit status and what it says."""

    status: int
    message: str = ""


class Child:
    """The child's end: it says once either that it is ready or that it failed."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe

    def ready(self) -> None:
        """Become a daemon and let the parent go with status 0."""
        os.setsid()
        os.chdir("/")
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        os.close(null)
        _close_inherited()
        self._say(_MOUNTED)

    def fail(self, status: int, message: str) -> bool:
        """Let the parent end with `status` and say `message`; False if it is gone already."""
        return self._say(f"{status} {message}".encode(errors="surrogateescape"))

    def _say(self, word: bytes) -> bool:
        if self._pipe < 0:
            return False
        os.write(self._pipe, word)
        os.close(self._pipe)
        self._pipe = -1
        return True


def fill_standard_streams() -> None:
    """Open descriptors 0, 1 and 2 where our caller closed them.

    Else the image or the mount would get their numbers, and `ready` would replace it.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)


def _close_inherited() -> None:
    """Let go of what our caller left open: a lock, say, would be held as long as the mount.

    What this process opened itself is closed on exec, which tells the two apart.
    """
    for name in os.listdir("/proc/self/fd"):
        number = int(name)
        with suppress(OSError):  # the list's own descriptor is closed by now
            if number > 2 and os.get_inheritable(number):
                os.close(number)


def fork() -> Child | Outcome:
    """Fork; return a Child in the child, and in the parent, when the child spoke, an Outcome."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        return Child(writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        word = pipe.read()
    if word == _MOUNTED:
        return Outcome(0)
    _, status = os.waitpid(pid, 0)
    if word:
        number, _, message = word.decode(errors="surrogateescape").partition(" ")
        return Outcome(int(number), message)
    code = os.waitstatus_to_exitcode(status)
    ending = f"signal {-code}" if code < 0 else f"status {code}"
    return Outcome(32, f"the server ended with {ending} before it had mounted")
