"""The same questions, asked of a real FUSE mount of a damaged copy by the system's own calls."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from wofs.campaign.subject import Answer, Answers, Failure, digest
from wofs.corrupt.writer import Writer
from wofs.device.base import Device
from wofs.errors import ImageError as Refused
from wofs.errors import MountError, Where, WofsError
from wofs.fs.stat import Stat
from wofs.fuse.errmap import name_of

PATIENCE_S = 20.0
MOST_READ_BYTES = 8 << 20
"""Most bytes of one file that are read: FUSE does not tell where its holes are."""

_MAIN = "from wofs.cli.main import main; main()"
_PIECE = 1 << 20
_DAMAGE = ("EUCLEAN", "EBADMSG", "EOPNOTSUPP")
"""What a mount answers for what is damaged, or needs what wofs lacks."""


class Lost(WofsError):
    """The server of the mount ended or hangs."""


def ask_mounted(device: Device, norecovery: bool) -> Answers:
    """Mount a copy of the device, do everything, and return the answers.

    Raises `ImageError` where the server does not mount it, `Lost` where it does not live.
    """
    with tempfile.TemporaryDirectory(prefix="wofs-campaign-") as folder:
        image = Path(folder, "image")
        _copy(device, str(image))
        with _mounted(image, Path(folder, "mnt"), norecovery) as top:
            return _Asker(os.fsencode(top)).tree()


def _copy(device: Device, path: str) -> None:
    """Write a device to a file, with holes where it is zero."""
    zeros = bytes(_PIECE)
    with closing(Writer(path, create=True, durable=False)) as writer:
        writer.cut(device.size)
        for at in range(0, device.size, _PIECE):
            piece = device.pread(at, _PIECE)
            if piece != zeros[: len(piece)]:
                writer.write(at, piece)


@contextmanager
def _mounted(image: Path, top: Path, norecovery: bool) -> Iterator[Path]:
    """Serve an image for the time of the block; MountError where a server does not end."""
    top.mkdir()
    argv = [sys.executable, "-c", _MAIN, "mount", "--foreground", str(image), str(top)]
    argv += ["-o", "norecovery"] if norecovery else []
    with subprocess.Popen(argv, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as server:
        try:
            _wait(server, top)
            yield top
        finally:
            server.terminate()
            try:
                server.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                server.kill()
                raise MountError("the server of a mount did not end") from None


def _wait(server: subprocess.Popen[bytes], top: Path) -> None:
    """Return once it is mounted."""
    until = time.monotonic() + PATIENCE_S
    before = top.parent.stat().st_dev
    while time.monotonic() < until:
        if server.poll() is not None:
            assert server.stderr is not None
            said = server.stderr.read().decode(errors="backslashreplace").strip()
            raise Refused(Where("", "image"), said.rpartition("\n")[2])
        if os.stat(top).st_dev != before:
            return
        time.sleep(0.005)
    raise Lost("the server did not mount in time")


class _Asker:
    """Goes through one mount by absolute paths."""

    def __init__(self, top: bytes) -> None:
        self._top = top
        self._of_inode: dict[int, list[tuple[str, Answer]]] = {}
        self.answers: Answers = {}

    def tree(self) -> Answers:
        """Walk everything."""
        todo = [b"/"]
        while todo:
            path = todo.pop()
            if self._node(path):
                todo += reversed(self._children(path))
        return self.answers

    def _put(self, path: bytes, what: str, ask: Callable[[], Answer]) -> Answer:
        """Keep an answer, or the error instead of it."""
        try:
            answer = ask()
        except OSError as error:
            name = name_of(error)
            if name == "ENOTCONN":
                raise Lost(f"the server is gone at {path!r}") from error
            line = f"{os.fsdecode(path)}: {what}: {name}"
            answer = Failure(name, os.fsdecode(path), line) if name in _DAMAGE else name
        self.answers[path, what] = answer
        return answer

    def _node(self, path: bytes) -> bool:
        """Ask for all of one path; return whether it is a directory that can be listed."""
        real = self._top + path
        found = self._put(path, "lstat", lambda: _stat(os.lstat(real)))
        if not isinstance(found, Stat):
            return False
        kind = stat.S_IFMT(found.st_mode)
        known = self._of_inode.get(found.st_ino)
        if known is None:
            known = [(name, self._put(path, name, ask)) for name, ask in _questions(real, kind)]
            self._of_inode[found.st_ino] = known
        for name, answer in known:
            self.answers[path, name] = answer
        return kind == stat.S_IFDIR

    def _children(self, path: bytes) -> list[bytes]:
        names: list[bytes] = []

        def listing() -> Answer:
            with os.scandir(self._top + path) as entries:
                names.extend(entry.name for entry in entries)
            return tuple(names)

        self._put(path, "readdir", listing)
        return [path.rstrip(b"/") + b"/" + name for name in names]


def _questions(real: bytes, kind: int) -> Iterator[tuple[str, Callable[[], Answer]]]:
    yield "xattrs", lambda: _xattrs(real)
    if kind == stat.S_IFREG:
        yield "data", lambda: _data(real)
    elif kind == stat.S_IFLNK:
        yield "target", lambda: os.readlink(real).hex()


def _xattrs(real: bytes) -> Answer:
    names = os.listxattr(real, follow_symlinks=False)
    return tuple((n, digest(os.getxattr(real, n, follow_symlinks=False))) for n in names)


def _stat(found: os.stat_result) -> Stat:
    """Return what lstat told; what it does not tell is zero."""
    return Stat(
        found.st_mode, found.st_ino, found.st_nlink, found.st_uid, found.st_gid, found.st_size,
        found.st_blocks, found.st_blksize, found.st_rdev, found.st_atime_ns, found.st_mtime_ns,
        found.st_ctime_ns, 0, 0, 0,
    )  # fmt: skip


def _data(real: bytes) -> Answer:
    """Read a file, holes too, to its end or to the most that is read."""
    parts, left = [], MOST_READ_BYTES
    with Path(os.fsdecode(real)).open("rb", buffering=0) as f:
        while left > 0 and (piece := f.read(min(_PIECE, left))):
            parts.append(digest(piece))
            left -= len(piece)
    return digest("".join(parts).encode())
