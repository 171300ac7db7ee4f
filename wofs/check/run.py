"""One check: the passes in their order.

Superblocks, headers and btrees by AG, inodes by AG, directories by AG, then what only the
whole tells: links, owners of blocks, counters. A pass relies on nothing a former one refused.
"""

from __future__ import annotations

from typing import TypeVar

from wofs.check.accounts import AccountPass, own_log
from wofs.check.ags import AgPass, check_headers
from wofs.check.atlas import Atlas
from wofs.check.dirs import FolderPass
from wofs.check.findings import Report
from wofs.check.inodes import InodePass, check_next, check_unlinked
from wofs.check.links import check_links, name_findings
from wofs.check.primary import (
    check_features,
    check_mountable,
    check_unused,
    report_attributes,
)
from wofs.check.quota import check_quota
from wofs.check.realtime import check_realtime
from wofs.check.state import State, Tell
from wofs.check.supers import (
    check_copies,
    check_counters,
    check_log,
    check_size,
    choose_super,
    report_log_order,
    watch_log_order,
)
from wofs.check.work import Pass, pieces
from wofs.device.base import Device
from wofs.xfs.mount import mount
from wofs.xfs.options import mount_options

U = TypeVar("U")

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
    jobs: int = 1,
    atlas: Atlas | None = None,
) -> Report:
    """Check the image on `device` and return what was found; the device stays open.

    `sb_agno` names the AG whose superblock is believed, `log_device` holds an external log,
    `tell` is told how many inodes of how many are done. With more than one of `jobs` the work is
    shared out to processes made by fork, which must then be safe: no threads. `atlas` is filled
    with a map of the image. Raises NotXfs and Unsupported where there is nothing to check,
    `ImageError` where no superblock is sound, `OSError`, and MountError where a process died.
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
        check_mountable(state)
        check_unused(state)
        clean = check_log(state, mounted.sb, log_device)
        watch_log_order(state)
        check_copies(state)
        check_headers(state)
        own_log(state)
        _check_all(state, max(1, jobs))
        check_quota(state)
        check_realtime(state, clean and not agno)
        if clean and not agno:
            check_counters(state)
        report_log_order(state)
        name_findings(state)
        if atlas is not None:
            atlas.fill(state)
    finally:
        mounted.arena.close()
    return report


def _check_all(state: State, jobs: int) -> None:
    """Check btrees, inodes, directories, links, and who owns what."""
    _do(AgPass(state), state, jobs)
    units = pieces(state, jobs)
    state.total = 2 * sum(len(i.type) for i in state.inodes if i is not None)
    _do(InodePass(state, units), state, jobs)
    for agno in range(state.agcount):
        check_unlinked(state, agno)
    check_next(state)
    report_attributes(state)
    _do(FolderPass(state, units), state, jobs)
    check_links(state)
    _do(AccountPass(state), state, jobs)


def _do(one_pass: Pass[U], state: State, jobs: int) -> None:
    """Do a pass with up to `jobs` processes; raises MountError where one of them dies."""
    jobs = min(jobs, len(one_pass.units))
    if jobs > 1:
        from wofs.check.workers import share_out  # what it loads is not needed for one job

        share_out(one_pass, state, jobs)
        return
    for unit in one_pass.units:
        one_pass.work(unit)
