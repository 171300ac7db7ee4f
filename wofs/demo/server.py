"""A server to be struck: a process of its own that serves an image with one of the memories."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from wofs.errors import MountError
from wofs.fuse.mountpoint import mounts, resolve, unmount

PATIENCE_S = 20.0
"""How long a server may take to mount, to forget and to end."""

_DETACH_TRIES = 10


class Server:
    """A process that serves an image at `top`, and may be struck.

    Of the last strike: `place` is what was aimed at, `before` and `word` the bytes there and
    those stored (hex), `landed` whether the store went through; `struck` tells of each strike
    when (time.monotonic). `silent_at` is when the process ended, `killed` whether it hung,
    `text`, after the end, what it wrote to its standard error.
    """

    def __init__(self, child: subprocess.Popen[str], top: Path, said: IO[str]) -> None:
        self.child = child
        self.top = top
        self.place = self.before = self.word = self.text = ""
        self.struck: dict[int, float] = {}
        self.silent_at = 0.0
        self._number = 0
        self.landed = self.killed = False
        self._said = said
        self._heard = threading.Condition()
        self._mounted = self._forgotten = False
        self._volley: int | None = None
        self._listener = threading.Thread(target=self._listen, name="listener", daemon=True)
        self._listener.start()

    def _lines(self) -> Iterator[str]:
        """Yield what the process says, to its end or until an interrupt closed the pipe."""
        assert self.child.stdout is not None
        try:
            yield from self.child.stdout
        except ValueError:
            return

    def _listen(self) -> None:
        """Take what the process says, to its end."""
        for line in self._lines():
            told = json.loads(line)
            with self._heard:
                if "place" in told:
                    self.place, self.before = told["place"], told["before"]
                    self.word = told["word"]
                    self.struck[self._number] = told["at"]
                self.landed = self.landed or "landed" in told
                self._mounted = self._mounted or "mounted" in told
                self._forgotten = self._forgotten or "forgotten" in told
                self._volley = told.get("volley", self._volley)
                self._heard.notify_all()
        with self._heard:
            self.silent_at = time.monotonic()
            self._heard.notify_all()

    @property
    def ended(self) -> bool:
        """Whether the process has ended."""
        return self.silent_at > 0

    def wait_until_mounted(self) -> None:
        """Return once it serves; RuntimeError with what it said if it does not."""
        with self._heard:
            self._heard.wait_for(lambda: self._mounted or self.ended, PATIENCE_S)
        if not self._mounted:
            self.end()
            raise RuntimeError(self.text.strip().rpartition("\n")[2] or "the server said nothing")

    def forget(self, names: list[bytes]) -> bool:
        """Have the kernel drop what it keeps of the mount; False if the server is stuck."""
        with self._heard:
            self._forgotten = False
            self._send({"forget": [name.hex() for name in names]})
            return self._heard.wait_for(lambda: self._forgotten or self.ended, PATIENCE_S)

    def strike(self, number: int, seed: int, size: int, word: str) -> None:
        """Have it struck as `wofs.demo.injector` says; `settle` waits for what becomes of it."""
        with self._heard:
            self.landed, self._number = False, number
            self.place = self.before = self.word = ""
        self._send({"strike": seed, "bytes": size, "word": word})

    def seconds_since(self, number: int) -> float | None:
        """Return the time from a strike to the end of the process; None if it never came."""
        struck_at = self.struck.get(number)
        return None if struck_at is None else round(self.silent_at - struck_at, 4)

    def volley(self, seed: int, stores: int) -> int | None:
        """Have it struck so often at once, surviving; return what landed, None if it ended."""
        with self._heard:
            self._volley = None
            self._send({"volley": seed, "stores": stores})
            self._heard.wait_for(lambda: self._volley is not None or self.ended, PATIENCE_S)
            return self._volley

    def settle(self) -> None:
        """Wait until the strike has landed or ended the process, or the process hangs."""
        with self._heard:
            self._heard.wait_for(lambda: self.landed or self.ended, PATIENCE_S)

    def _send(self, wanted: dict[str, object]) -> None:
        assert self.child.stdin is not None
        try:
            self.child.stdin.write(json.dumps(wanted) + "\n")
            self.child.stdin.flush()
        except BrokenPipeError:  # it has ended, which the trial shows
            return

    def kill(self) -> None:
        """End a process that hangs; whoever waits for an answer of it gets an error."""
        self.killed = True
        self.child.kill()

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Kill the process if the block takes longer: it is taken to hang."""
        watchdog = threading.Timer(seconds, self.kill)
        watchdog.daemon = True
        watchdog.start()
        try:
            yield
        finally:
            watchdog.cancel()

    def end(self) -> None:
        """Unmount and wait for the end of the process, which is killed if it takes too long."""
        self._detach()
        if not self._mounted:
            self._dismiss()
        try:
            self.child.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.kill()
            self.child.wait()
        self._dismiss()
        self._detach()
        self._listener.join()
        if not self._said.closed:
            self._said.seek(0)
            self.text = self._said.read()

    def _dismiss(self) -> None:
        """End the input, and by that a server that has yet to mount."""
        assert self.child.stdin is not None
        with suppress(BrokenPipeError):  # what a dead server was still to be told
            self.child.stdin.close()

    def _detach(self) -> None:
        """Detach what is mounted; a server that ends does so itself at the same time, maybe."""
        where = resolve(str(self.top))
        for _ in range(_DETACH_TRIES):
            if all(mounted.mountpoint != where for mounted in mounts()):
                return
            with suppress(MountError):
                unmount(where, lazy=True)


@contextmanager
def served(image: str, backend: str, at: str = "", protect: str = "mount") -> Iterator[Server]:
    """Serve an image for the time of the block; nothing stays mounted and no process runs on.

    What strikes it goes anywhere, or to the object or field `at`.

    Raises RuntimeError with what the server said where it cannot.
    """
    with (
        tempfile.TemporaryDirectory(prefix="wofs-demo-") as folder,
        tempfile.TemporaryFile("w+", errors="replace") as said,
    ):
        top = Path(folder, "mnt")
        top.mkdir()
        argv = [sys.executable, "-m", "wofs.demo.injector", image, str(top), backend, protect, at]
        # A session of its own: an interrupt from the terminal is for us, who then unmount.
        with subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            start_new_session=True,
        ) as child:
            server = Server(child, top, said)
            try:
                server.wait_until_mounted()
                yield server
            finally:
                server.end()
