"""What may come of a fault, and what a campaign holds a reader to."""

from __future__ import annotations

from dataclasses import dataclass

from wofs.campaign.fault import Fault

OUTCOMES = {
    "refused": "the image was refused when it was opened",
    "contained": "what the fault reaches fails with an error that names it; all else is equal",
    "caught": "the reader cannot know, but the check reports it",
    "harmless": "every answer was equal, and there is nothing to report",
    "invisible": "an answer changed that nothing on disk can tell, by its nature",
    "silent": "a wrong answer that neither reader nor check told of",
    "broken": "a law was broken",
    "crashed": "a stray write was stopped, and the report names the object",
    "stopped": "a stray write was stopped before any byte changed, and survived to be counted",
    "missed": "a stray write was not stopped",
}
"""The outcomes, the good ones first."""


@dataclass(slots=True)
class Result:
    """What came of one fault.

    `outcome` is one of OUTCOMES, `laws` names those that were broken; `error` is the one line
    that a user sees, `codes` are the check's, `changed` the first few answers that differ;
    `reason` says why a fault cannot be seen, or what came of a stray write that was missed;
    `millis` is wall-clock time, `peak_kib` the child's largest memory, `signal` what it died of
    (0: nothing); `count` is how many strikes it stands for: equal stray writes are one result.
    """

    fault: Fault
    outcome: str
    laws: tuple[str, ...] = ()
    error: str = ""
    codes: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    reason: str = ""
    millis: int = 0
    peak_kib: int = 0
    signal: int = 0
    count: int = 1
