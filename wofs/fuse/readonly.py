"""What every operation that would change something answers, should the kernel let it through.

A mount is read-only, so it does not; but root may remount it writable.
"""

from __future__ import annotations

from typing import Any, NoReturn

import pyfuse3
from pyfuse3 import FUSEError

from wofs.fuse.errmap import READ_ONLY


async def _refuse(*_: object) -> NoReturn:
    raise FUSEError(READ_ONLY)


_refusal: Any = _refuse


class ReadOnly(pyfuse3.Operations):
    """Operations of which all that write are refused with EROFS."""

    setattr = mknod = mkdir = unlink = rmdir = symlink = rename = link = _refusal
    create = write = setxattr = removexattr = _refusal
