"""The log: where it ends, and whether it holds changes that are not in place yet."""

from wofs.xfs.log.find import state
from wofs.xfs.log.state import LogState, reason

__all__ = ["LogState", "reason", "state"]
