"""Read crash reports back: what a dying process wrote by signal-safe calls, as records.

It wrote text, and the same as JSON: one object a line, the facts as members, the text as the
last one. Everything made of it (lists, pages) is made here, afterwards. What follows a report
in a file of text (faulthandler's traceback) is kept with it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

STRAY = "wofs: stray access to write-once memory"
CHANGED = "wofs: write-once memory is not what was published"

_FACT = re.compile(r"^  ([a-z]+) {2,}(.*)$")
_FRAME = re.compile(r"^    #\d+ (.*)$")
_PYTHON = re.compile(r'^  File "(.*)", line (\d+) in (.*)$')
_THREAD = re.compile(r"([0-9]+) \((.*)\) of process ([0-9]+)$")
_ESCAPE_CHARS = 6
"""Of the longest escape in a JSON string: a report cut off in one has up to five of them."""
_NUMBER = re.compile(r"[0-9]{1,12}")
"""A process or a time; the report's text may be anybody's."""


@dataclass
class Crash:
    """One report.

    `kind` is "stray access" or "changed memory"; `facts` its lines by name (hit, offset, cache,
    page, arena, address, fault, thread, time; `changed` holds several, one a line); `memory` the
    rows around the hit; `c_stack` and `python_stack` frames, innermost first; `text` all of it;
    `members` those of the JSON object but the text, where the report was one.
    """

    kind: str
    facts: dict[str, str] = field(default_factory=dict)
    memory: list[str] = field(default_factory=list)
    c_stack: list[str] = field(default_factory=list)
    python_stack: list[str] = field(default_factory=list)
    text: str = ""
    members: dict[str, object] = field(default_factory=dict)

    @property
    def hit(self) -> str:
        """What was hit or changed, without the word for its kind."""
        return self.facts.get("hit") or self.facts.get("changed", "").partition(",")[0]

    @property
    def pid(self) -> int | None:
        """The process that died, None where the report does not say."""
        found = _THREAD.search(self.facts.get("thread", ""))
        number = found[3] if found else self.facts.get("process", "")
        return int(number) if _NUMBER.fullmatch(number) else None

    @property
    def when(self) -> int | None:
        """Seconds since 1970, None where the report does not say."""
        text = self.facts.get("time", "")
        return int(text) if _NUMBER.fullmatch(text) else None


def crashes(text: str) -> Iterator[Crash]:
    """Yield the reports in a file's text, oldest first; what is no report is passed over."""
    found: Crash | None = None
    for line in text.splitlines():
        if line.startswith((STRAY, CHANGED)):
            if found is not None:
                yield _complete(found)
            found = Crash("stray access" if line.startswith(STRAY) else "changed memory")
        if found is not None:
            _add(found, line)
    if found is not None:
        yield _complete(found)


def reports(path: Path) -> list[Crash]:
    """Return the reports in a file of text or JSON, or in the files of a folder by their names."""
    if path.is_dir():
        return [crash for file in files_in(path) for crash in reports(file)]
    text = path.read_text(encoding="utf-8", errors="backslashreplace")
    if not text.lstrip().startswith("{"):
        return list(crashes(text))
    return [crash for line in text.splitlines() for crash in _of_json(line)]


def files_in(folder: Path) -> list[Path]:
    """Return the files of reports in a folder, oldest first: their names begin with the time."""

    def when(path: Path) -> tuple[int, ...]:
        return tuple(map(int, path.stem.split("-")))

    names = re.compile(r"[0-9]{1,12}-[0-9]{1,12}\.json")
    return sorted((p for p in folder.iterdir() if names.fullmatch(p.name)), key=when)


def _of_json(line: str) -> Iterator[Crash]:
    """Yield the report in a line of JSON, also if the process was killed before its end."""
    for kept in (line, *(line[: len(line) - n] + '"}' for n in range(_ESCAPE_CHARS))):
        try:
            members = json.loads(kept)
        except (ValueError, RecursionError):
            continue
        text = members.pop("text", "") if isinstance(members, dict) else ""
        for crash in crashes(text if isinstance(text, str) else ""):
            crash.members = members
            yield crash
        return


def _complete(found: Crash) -> Crash:
    found.text = found.text.strip("\n") + "\n"
    return found


def _add(found: Crash, line: str) -> None:
    """Take one line of a report."""
    found.text += line + "\n"
    frame, python, fact = _FRAME.match(line), _PYTHON.match(line), _FACT.match(line)
    if frame:
        found.c_stack.append(frame[1])
    elif python:
        found.python_stack.append(f"{python[3]} ({python[1]}:{python[2]})")
    elif re.match(r"^  [> ] 0x[0-9a-f]+[ \[]", line):
        found.memory.append(line[2:])
    elif fact and fact[1] == "changed" and "changed" in found.facts:
        found.facts["changed"] += "\n" + fact[2]
    elif fact:
        found.facts.setdefault(fact[1], fact[2])
