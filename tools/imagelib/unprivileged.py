"""Run a command as a user without rights, in mount and process namespaces of its own.

There /dev/fuse is a device node whose mode the caller chooses, whatever the machine's is, and
the interpreter can be read even where it is installed in root's home. When the command ends,
every process it started is killed, and every mount they made is gone with the namespace.
Run as a script (by `command`), this prepares all that as root and becomes the command.
"""

from __future__ import annotations

import ctypes
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

NOBODY = 65534

_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 1 << 18
_FUSE_NUMBER = os.makedev(10, 229)

_libc = ctypes.CDLL(None, use_errno=True)


def lacking() -> str | None:
    """Return why this cannot be done here, None when it can."""
    if os.geteuid() != 0:
        return "not root: cannot become another user"
    done = subprocess.run([*_NAMESPACES, "true"], capture_output=True, text=True, check=False)
    return f"no namespaces: {done.stderr.strip()}" if done.returncode else None


_NAMESPACES = ("unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child")


def command(
    argv: Sequence[str], fuse_mode: int = 0o666, uid: int = NOBODY, python: str = sys.executable
) -> list[str]:
    """Return the command that runs `argv` as user `uid`, with /dev/fuse of mode `fuse_mode`.

    `python` is the interpreter that `argv` needs.
    """
    return [*_NAMESPACES, python, __file__, f"{fuse_mode:o}", str(uid), *argv]


def _mount(source: str, target: str, fstype: str = "", flags: int = 0, data: str = "") -> None:
    words = [os.fsencode(word) for word in (source, target, fstype)]
    if _libc.mount(*words, ctypes.c_ulong(flags), os.fsencode(data)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), target)


def _reveal(paths: Iterable[Path]) -> None:
    """Make `paths` reachable for everybody: closed folders above them are covered by open ones."""
    held: list[tuple[Path, int]] = []
    closed: set[Path] = set()
    for path in sorted(paths):
        above = [p for p in path.parents if not p.stat().st_mode & stat.S_IXOTH]
        if above and not any(path.is_relative_to(other) for other, _ in held):
            held.append((path, os.open(path, os.O_PATH)))
            closed.add(above[-1])
    for folder in closed:
        _mount("none", str(folder), "tmpfs", data="mode=755")
    for path, fd in held:
        path.mkdir(parents=True)
        _mount(f"/proc/self/fd/{fd}", str(path), flags=_MS_BIND | _MS_REC)
        os.close(fd)


def _fuse_node(mode: int) -> None:
    """Put a FUSE device of that mode where /dev/fuse is."""
    folder = tempfile.mkdtemp()
    _mount("none", folder, "tmpfs")
    node = os.path.join(folder, "fuse")
    os.mknod(node, stat.S_IFCHR, _FUSE_NUMBER)
    os.chmod(node, mode)
    _mount(node, "/dev/fuse", flags=_MS_BIND)
    _libc.umount2(os.fsencode(folder), 2)
    os.rmdir(folder)


def main() -> None:
    """Prepare the namespace, give up all rights, become the command."""
    mode, uid, *argv = sys.argv[1:]
    _mount("none", "/", flags=_MS_REC | _MS_PRIVATE)
    _reveal(map(Path, {sys.base_prefix, sys.prefix, str(Path(__file__).parents[2])}))
    _fuse_node(int(mode, 8))
    number = int(uid)
    if number:
        os.setgroups([])
        os.setresgid(number, number, number)
        os.setresuid(number, number, number)
    os.execvp(argv[0], argv)


if __name__ == "__main__":
    main()
