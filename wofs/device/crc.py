"""CRC32C, by the fastest implementation installed.

crcmod is the portable one and always there; google-crc32c uses the processor's own
instruction when its compiled form is installed. Both take bytes and return the final value.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import crcmod.predefined

crc32c_portable: Callable[[bytes], int] = crcmod.predefined.mkPredefinedCrcFun("crc-32c")
"""CRC32C by crcmod: the second opinion of the tests."""

_ZEROS = b"\0\0\0\0"


def _choose() -> tuple[Callable[[bytes], int], str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # that its compiled form is not there
            import google_crc32c
    except ImportError:
        return crc32c_portable, "crcmod"
    if google_crc32c.implementation != "c":
        return crc32c_portable, "crcmod"
    return google_crc32c.value, "google-crc32c"


crc32c, _name = _choose()


def implementation() -> str:
    """Return the name of the package that `crc32c` comes from."""
    return _name


def crc_of(block: bytes, offset: int) -> int:
    """Return the CRC32C of `block` with its four bytes at `offset` taken as zero.

    Source: the kernel's `xfs_cksum.h: xfs_start_cksum_safe`.
    """
    return crc32c(block[:offset] + _ZEROS + block[offset + 4 :])
