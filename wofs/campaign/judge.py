"""The judge of one fault: holds what a child met against the laws."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence

from wofs.campaign.child import Death, Met, Struck
from wofs.campaign.fault import Fault
from wofs.campaign.laws import Result

AG_KINDS = frozenset(
    ("sb", "agf", "agi", "agfl", "inobt", "finobt", "bnobt", "cntbt", "rmapbt", "refcountbt")
)
"""Structures of an AG: a finding about that AG is a finding about them."""

MOST_CHANGED = 8
"""Answers that a result tells of."""


def judge(fault: Fault, struck: Sequence[Struck], met: Met | None, death: Death) -> Result:
    """Return what came of a fault; `met` is None for a child that did not live to tell."""
    result = Result(fault, "harmless", millis=death.millis, peak_kib=death.peak_kib)
    result.signal = death.signal
    if met is None or met.trace:
        result.outcome = "broken"
        result.laws = (_end(met, death),)
        result.error = met.trace if met is not None else _last_line(death)
        return result
    result.codes = tuple(sorted({str(code) for code, *_ in met.findings}))
    result.changed = tuple(_changed(met))
    result.error = met.refused or (met.failed[0][4] if met.failed else met.unchecked)
    laws = list(_broken(met, struck))
    changes = bool(met.refused or met.failures or met.attributes)
    told = _reported(met, struck)
    if met.refused:
        result.outcome = "refused"
    elif met.attributes:
        result.outcome = "caught" if told else "silent"
    elif met.failures:
        result.outcome = "contained"
    elif met.findings or met.unchecked:
        result.outcome = "caught"
    if changes and not told and result.outcome in ("refused", "contained"):
        laws.append("check: does not report it" if not _any(met) else "check: at another object")
    result.laws = tuple(laws)
    if laws and result.outcome != "silent":
        result.outcome = "silent" if "stale checksum served" in laws else "broken"
    return result


def _end(met: Met | None, death: Death) -> str:
    """Name the law that a child broke which did not end well."""
    if met is not None:
        if met.trace.startswith("Lost:"):
            return "crash: the mount"
        return "memory" if met.memory else "traceback"
    if death.timed_out:
        return "hang"
    if death.signal:
        return f"crash: {signal.Signals(death.signal).name}"
    return "crash: no answer"


def _last_line(death: Death) -> str:
    lines = death.stderr.strip().splitlines()
    return lines[0] if lines else ""


def _broken(met: Met, struck: Sequence[Struck]) -> list[str]:
    """Return the laws that are broken by what was answered."""
    laws = []
    if met.served or (met.attributes and struck and all(one.stale for one in struck)):
        laws.append("stale checksum served")
    if any(not name for _, _, _, name, _ in met.failed):
        laws.append("error without an object")
    if any("\n" in line for *_, line in met.failed) or "\n" in met.refused:
        laws.append("error of several lines")
    return laws


def _any(met: Met) -> bool:
    return bool(met.findings or met.unchecked)


def _reported(met: Met, struck: Sequence[Struck]) -> bool:
    """Whether the check reports the fault, at what was struck or at what shows it."""
    if met.unchecked:
        return True
    inos = set(met.inos)
    for code, name, offset, ino, agno in met.findings:
        if (ino is not None and ino in inos) or name in met.objects:
            return True
        if any(_speaks_of(one, str(code), str(name), offset, ino, agno) for one in struck):
            return True
    return not struck and bool(met.findings)  # the image was cut


def _speaks_of(
    one: Struck, code: str, name: str, offset: int | None, ino: int | None, agno: int | None
) -> bool:
    """Whether a finding is about a structure."""
    if offset is not None and one.start <= offset < one.start + one.size:
        return True
    if one.kind in AG_KINDS:
        if one.kind == "sb" and code.startswith("WX01"):
            return True
        numbers = re.findall(r"\bag (\d+)\b", name)
        return agno == one.agno or str(one.agno) in numbers
    if one.kind in ("log", "bytes"):
        return code.startswith("WX011") or one.kind == "bytes"
    return ino == one.owner


def _changed(met: Met) -> list[str]:
    """Return the first answers that differ, those that are wrong first."""
    lines = [f"{path or 'image'} {what}: {was} -> {now}" for path, what, was, now in met.wrong]
    lines += [f"{path or 'image'} {what}: {kind}" for path, what, kind, _, _ in met.failed]
    return lines[:MOST_CHANGED]
