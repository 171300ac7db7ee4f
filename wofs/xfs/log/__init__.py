"""The log: where it ends, and whether it holds changes that are not in place yet."""

from wofs.xfs.log.find import area_of, state
from wofs.xfs.log.state import LogState, reason

__all__ = ["LogState", "area_of", "reason", "state"]
