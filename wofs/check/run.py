"""One check: the passes in their order.

Superblocks, headers and btrees by AG, inodes by AG, directories by AG, then what only the
whole tells: links, owners of blocks, counters. A pass relies on nothing a former one refused.
"""

from __future__ import annotations

from wofs.check.accounts import check_accounts, own_log
from wofs.check.ags import check_ag, check_headers
from wofs.check.dirs import check_directories
from wofs.check.findings import Report
from wofs.check.inodes import check_inodes, check_unlinked
from wofs.check.links import check_links, name_findings
from wofs.check.state import State, Tell
from wofs.check.supers import (
    check_copies,
    check_counters,
    check_features,
    check_log,
    check_size,
    choose_super,
)
from wofs.device.base import Device
from wofs.xfs.mount import mount
from wofs.xfs.options import mount_options

_CACHE_SHARE = 0.25
"""Each object is met two or three times, close together: large caches only hold memory."""


def _quiet(done: int, total: int) -> None:
    """Tell nobody."""


def check(
    device: Device,
    *,
    sb_agno: int = 0,
    log_device: Device | None = None,
    slab: str = "auto",
    tell: Tell = _quiet,
) -> Report:
    """Check the image on `device` and return what was found; the device stays open.

    `sb_agno` names the AG whose superblock is believed, `log_device` holds an external log,
    `tell` is told how many inodes of how many are done. Raises NotXfs and Unsupported where
    there is nothing to check, `ImageError` where no superblock is sound, and `OSError`.
    """
    report = Report()
    agno = sb_agno or choose_super(device, report)
    options = mount_options(norecovery=True, sb_agno=agno)
    mounted = mount(
        device,
        options,
        slab=slab,
        log_device=log_device,
        cache_share=_CACHE_SHARE,
        need_root=False,
    )
    try:
        state = State(mounted, report, tell)
        check_size(state)
        check_features(state)
        clean = check_log(state, mounted.sb, log_device)
        check_copies(state)
        check_headers(state)
        own_log(state)
        for number in range(state.agcount):
            check_ag(state, number)
        _check_files(state)
        check_accounts(state)
        if clean and not agno:
            check_counters(state)
        name_findings(state)
    finally:
        mounted.arena.close()
    return report


def _check_files(state: State) -> None:
    """Check inodes, then directories, then links."""
    total = 2 * sum(len(i.type) for i in state.inodes if i is not None)
    done = 0
    for agno in range(state.agcount):
        done = check_inodes(state, agno, done, total)
    for agno in range(state.agcount):
        check_unlinked(state, agno)
    for agno in range(state.agcount):
        done = check_directories(state, agno, done, total)
    check_links(state)
