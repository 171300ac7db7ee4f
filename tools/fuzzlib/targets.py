"""All targets by name."""

from __future__ import annotations

from fuzzlib import files, headers, rest, words
from fuzzlib.target import Target

TARGETS: dict[str, Target] = {
    target.name: target
    for target in (*headers.TARGETS, *files.TARGETS, *rest.TARGETS, *words.TARGETS)
}
