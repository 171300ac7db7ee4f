"""The hash of names in directories and attribute forks (`xfs_da_btree.c: xfs_da_hashname`)."""

_MASK = 0xFFFFFFFF


def da_hashname(name: bytes) -> int:
    """Return the 32-bit rotate-and-xor hash of a name."""
    value, at, left = 0, 0, len(name)
    while left >= 4:
        value = (
            name[at] << 21
            ^ name[at + 1] << 14
            ^ name[at + 2] << 7
            ^ name[at + 3]
            ^ ((value << 28 | value >> 4) & _MASK)
        )
        at += 4
        left -= 4
    for byte in name[at:]:
        value = byte ^ ((value << 7 | value >> 25) & _MASK)
    return value & _MASK
