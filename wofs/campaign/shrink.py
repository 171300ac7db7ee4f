"""The smallest fault that still does what a larger one did."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from wofs.campaign.fault import Fault
from wofs.campaign.laws import Result

MOST_TRIES = 200

_SIMPLE = ("0", "1", "max")
"""Values that say more than a number does, the simplest first."""


def shrink(result: Result, run: Callable[[Fault], Result]) -> Result:
    """Return the result of the smallest fault found that has the same outcome and laws.

    `run` runs a fault. The result itself is returned where nothing smaller does the same.
    """
    best, tries = result, 0
    while tries < MOST_TRIES:
        for fault in smaller(best.fault):
            tries += 1
            found = run(fault)
            if (found.outcome, found.laws) == (result.outcome, result.laws):
                best = found
                break
            if tries >= MOST_TRIES:
                return best
        else:
            return best
    return best


def smaller(fault: Fault) -> Iterator[Fault]:
    """Yield faults that are less than this one, the least first."""
    edits = list(fault.edits)
    words = [at for at, word in enumerate(edits) if _is_edit(edits, at)]
    if len(words) > 1:
        for at in words:
            yield _with(fault, [edits[at], *_options(edits)], edits[at])
        for at in words:
            yield _with(fault, edits[:at] + edits[at + 1 :], fault.value)
    for at in words:
        name, _, value = edits[at].partition("=")
        rank = _SIMPLE.index(value) if value in _SIMPLE else len(_SIMPLE)
        for simple in _SIMPLE[:rank]:
            if not value.startswith('"') and (value.lstrip("-").isdecimal() or rank < 3):
                edit = f"{name}={simple}"
                yield _with(fault, [*edits[:at], edit, *edits[at + 1 :]], simple)
    if "--flip" in edits:
        at = edits.index("--flip") + 1
        bits = int(edits[at])
        for fewer in dict.fromkeys((1, bits // 2, bits - 1)):
            if 0 < fewer < bits:
                yield _with(fault, [*edits[:at], str(fewer), *edits[at + 1 :]], f"{fewer} bits")


def _is_edit(edits: list[str], at: int) -> bool:
    """Whether a word is NAME=VALUE and no option or its value."""
    return "=" in edits[at] and not edits[at].startswith("--") and not _before(edits, at)


def _before(edits: list[str], at: int) -> bool:
    return at > 0 and edits[at - 1] in ("--in", "--zero", "--swap", "--duplicate")


def _options(edits: list[str]) -> list[str]:
    """Return the arguments from the first option on."""
    first = next(at for at, word in enumerate(edits) if word.startswith("--"))
    return edits[first:]


def _with(fault: Fault, edits: list[str], value: str) -> Fault:
    return replace(fault, edits=tuple(edits), value=value)
