"""mount(2) itself, for what mount(8) makes too much of."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_REMOUNT = 1, 2, 4, 32


def remount(mountpoint: Path, writable: bool = False) -> None:
    """Remount: read-only as it was, or writable. The kernel forgets all names not in use."""
    flags = _MS_REMOUNT | _MS_NOSUID | _MS_NODEV | (0 if writable else _MS_RDONLY)
    if _libc.mount(b"none", os.fsencode(mountpoint), None, ctypes.c_ulong(flags), None) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), mountpoint)
