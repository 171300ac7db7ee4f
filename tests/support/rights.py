"""What this process may do."""

from __future__ import annotations

import re
from pathlib import Path

_CAP_SYS_ADMIN = 21


def may_mount() -> bool:
    """Return whether this process holds CAP_SYS_ADMIN: not even every root does."""
    status = Path("/proc/self/status").read_text()
    found = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return found is not None and bool(int(found[1], 16) >> _CAP_SYS_ADMIN & 1)
