"""Shell patterns over names of any bytes, as fnmatch(3) reads them for find(1).

Unlike Python's `fnmatch`: backslash takes the meaning of what follows, `[^...]` negates like
`[!...]`, and `[[:alpha:]]` names a class. A name that is not UTF-8 is matched byte by byte.
"""

from __future__ import annotations

import os
import re

_CLASSES = {
    "alnum": r"[^\W_]",
    "alpha": r"[^\W\d_]",
    "blank": r"[ \t]",
    "cntrl": r"[\x00-\x1f\x7f]",
    "digit": r"[0-9]",
    "graph": r"[^\s\x00-\x1f\x7f]",
    "lower": r"[a-z]",
    "print": r"[^\x00-\x1f\x7f]",
    "punct": r"[!-/:-@\[-`{-~]",
    "space": r"\s",
    "upper": r"[A-Z]",
    "xdigit": r"[0-9A-Fa-f]",
}
_CLASS = re.compile(r"\[:([a-y]*):\]")
_NEVER = "(?!)"


class _Senseless(Exception):
    """The pattern matches nothing at all."""


class Pattern:
    """One pattern; `fold` makes upper and lower case alike."""

    def __init__(self, pattern: str, fold: bool = False) -> None:
        case = re.IGNORECASE if fold else 0
        raw = os.fsencode(pattern).decode("latin-1")
        self._text = re.compile(regex(pattern), case | re.DOTALL)
        self._bytes = re.compile(regex(raw), case | re.DOTALL | re.ASCII)

    def matches(self, name: bytes) -> bool:
        """Whether the whole name matches."""
        try:
            return self._text.fullmatch(name.decode("utf-8")) is not None
        except UnicodeDecodeError:
            return self._bytes.fullmatch(name.decode("latin-1")) is not None


def regex(pattern: str) -> str:
    """Return the regular expression that matches what the shell pattern does.

    Between two stars stands a run of single characters, whose first place is as good as any
    other: an atomic group keeps what follows from trying them all.
    """
    try:
        runs = _runs(pattern)
    except _Senseless:
        return _NEVER
    if len(runs) == 1:
        return runs[0]
    middle = "".join(f"(?>.*?{run})" for run in runs[1:-1] if run)
    return f"{runs[0]}{middle}.*{runs[-1]}"


def _runs(pattern: str) -> list[str]:
    """Return the expressions of what stands between the stars."""
    runs, at = [""], 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "*":
            runs.append("")
        elif char == "?":
            runs[-1] += "."
        elif char == "[":
            piece, at = _bracket(pattern, at)
            runs[-1] += piece
        elif char == "\\":
            runs[-1] += re.escape(pattern[at]) if at < len(pattern) else _NEVER
            at += 1
        else:
            runs[-1] += re.escape(char)
    return runs


def _bracket(pattern: str, start: int) -> tuple[str, int]:
    """Return the expression for the set behind a "[" and where it ends; a "[" if nowhere."""
    at = start
    negated = pattern[at : at + 1] in ("!", "^") and at < len(pattern)
    at += negated
    choices: list[str] = []
    first = at
    while at < len(pattern):
        if pattern[at] == "]" and at > first:
            one = "|".join(choices) or _NEVER
            return (f"(?:(?!{one}).)" if negated else f"(?:{one})"), at + 1
        found = _class(pattern, at)
        if found is not None:
            piece, at = found
            choices.append(piece)
            continue
        low, at = _member(pattern, at)
        if pattern[at : at + 1] == "-" and pattern[at + 1 : at + 2] not in ("", "]"):
            high, at = _member(pattern, at + 1)
            choices.append(f"[{re.escape(low)}-{re.escape(high)}]" if low <= high else _NEVER)
        else:
            choices.append(re.escape(low))
    return r"\[", start


def _class(pattern: str, at: int) -> tuple[str, int] | None:
    """Return the expression of a "[:name:]" and where it ends; None if there is none.

    Raises _Senseless for a class that does not exist.
    """
    match = _CLASS.match(pattern, at)
    if match is None:
        return None
    if match[1] not in _CLASSES:
        raise _Senseless
    return _CLASSES[match[1]], match.end()


def _member(pattern: str, at: int) -> tuple[str, int]:
    """Return one character of a set and where the next begins."""
    if pattern[at] == "\\" and at + 1 < len(pattern):
        at += 1
    return pattern[at], at + 1
