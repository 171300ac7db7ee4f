"""Other readers, driven over the same damaged copies: what do they say?"""

from __future__ import annotations

STATUSES = {
    "accepted": "it found nothing wrong (exit status 0)",
    "refused": "it found something wrong (another exit status)",
    "crashed": "it was ended by a signal",
    "hung": "it took too long and was killed",
}
"""What another reader says of a damaged copy."""

REPAIR = "kernel-repair"

_KNOWN_FALSE = {
    REPAIR: (
        "Known to be said of sound images by xfs_repair -n (6.1): faults in leaf blocks of "
        "directories that their hashes fill, and in images with blocks of 64 KiB.",
        "Known to be silent in it: a stale checksum of an attribute leaf; offset and owner in "
        "the header of a remote value; a remote value of length 0; the magic of an AGFL; odd "
        "sizes of directories; two namespace bits in an attribute's flags.",
    )
}


def known_false(target: str) -> tuple[str, ...]:
    """Return what a reader is known to say wrongly, or not to say."""
    return _KNOWN_FALSE.get(target, ())
