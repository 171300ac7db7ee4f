"""Look through a tree as one user: what may be listed, opened, used, and which xattrs there are.

Run as a script: `probe.py UID GID[,GID...] TOP FOLDER...` prints a JSON object, path -> facts.
It gives up its rights only when everything is imported: the interpreter need not be that user's
to read.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import cast

_libc = ctypes.CDLL(None, use_errno=True)

MODES = {"r": os.R_OK, "w": os.W_OK, "x": os.X_OK, "rx": os.R_OK | os.X_OK}
ABSENT = (
    *("user.none", "trusted.none", "security.none", "system.none", "foo.bar", "user.", "user"),
    *("trusted.SGI_ACL_FILE", "system.posix_acl_access", "system.posix_acl_default"),
    *("user." + "n" * 250, "user." + "n" * 251),
)
SIZES = (0, 1, 40, 65535, 65536, 100_000)

Facts = dict[str, dict[str, object]]


def looked_through(top: Path, uid: int, gids: tuple[int, ...], folders: tuple[str, ...]) -> Facts:
    """Return what a user finds in some folders of `top`, found by a process of that user."""
    groups = ",".join(map(str, gids))
    done = subprocess.run(
        [sys.executable, __file__, str(uid), groups, str(top), *folders],
        capture_output=True,
        text=True,
        check=True,
    )
    return cast(Facts, json.loads(done.stdout))


def _try(ask: Callable[[], object]) -> object:
    try:
        return ask()
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def _facts(path: bytes) -> dict[str, object]:
    facts: dict[str, object] = {"stat": _try(lambda: os.lstat(path).st_mode)}
    for name, mode in MODES.items():
        facts[name] = os.access(path, mode, follow_symlinks=False)
    facts["open"] = _try(lambda: _opened(path))
    names = _try(lambda: os.listxattr(path, follow_symlinks=False))
    facts["xattrs"] = names
    facts["list sizes"] = [_size(path, None, size) for size in SIZES]
    for name in (*(names if isinstance(names, list) else ()), *ABSENT):
        facts[name] = [_size(path, os.fsencode(name), size) for size in SIZES]
    return facts


def _opened(path: bytes) -> str:
    os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW))
    return "opened"


def _size(path: bytes, name: bytes | None, room: int) -> object:
    """Return the length that lgetxattr(2) or llistxattr(2) tells with `room` bytes for it."""
    buffer, size = ctypes.create_string_buffer(max(1, room)), ctypes.c_size_t(room)
    got = (
        _libc.llistxattr(path, buffer, size)
        if name is None
        else _libc.lgetxattr(path, name, buffer, size)
    )
    return got if got >= 0 else errno.errorcode[ctypes.get_errno()]


def main() -> None:
    """Become the user, look, print."""
    uid, groups = int(sys.argv[1]), [int(g) for g in sys.argv[2].split(",")]
    top, *starts = map(os.fsencode, sys.argv[3:])
    os.setgroups(groups[1:])
    os.setresgid(groups[0], groups[0], groups[0])
    os.setresuid(uid, uid, uid)
    found: Facts = {"/": _facts(top)}
    for start in starts:
        for folder, folders, files in os.walk(os.path.join(top, start)):
            for name in (b".", *folders, *files):
                path = os.path.join(folder, name)
                found[os.fsdecode(path[len(top) :])] = _facts(path)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
