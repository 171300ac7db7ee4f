"""The hash of names in directories and attribute forks (`xfs_da_btree.c: xfs_da_hashname`)."""

from wofs.xfs._decode import da_hashname

__all__ = ["da_hashname"]
