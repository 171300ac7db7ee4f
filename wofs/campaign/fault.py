"""One fault of a campaign: where it is, what is put there, and the arguments that make it."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

CLASSES = ("field", "flip", "torn", "stale", "pair", "block", "memory")
"""What faults there are: a field's value; random bits; a block written in part; a block that is
another's or an older one; two fields changed together; a block lost or moved; stray writes."""


OVER_FUSE = "fuse-"
"""Stands before the class of a fault that a FUSE mount meets."""

_OBJECT = re.compile(
    r"(?P<object>bytes\[[\d:]+\]|inode\[[^]]*\]"
    r"(?:\.(?:bmbt|dirdata|dirindex|dirfree|attr|value|target)\[\d+\])?"
    r"|[a-z]+\[\d+\](?:\.block\[\d+\])?)"
)
_TAKES_NAME = ("--in", "--zero", "--swap", "--duplicate", "--shift", "--tear")


def _targets(edits: Sequence[str]) -> Iterator[str]:
    """Yield the names that arguments speak of, that of what is overwritten first."""
    for at, word in enumerate(edits):
        if word in _TAKES_NAME:
            yield edits[at + 2] if word == "--duplicate" else edits[at + 1]
        elif "=" in word and not word.startswith("--"):
            yield word


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault, which is a value: equal ones make equal bytes.

    `image` is the image's path as given; `klass` one of CLASSES; `structure` a kind of
    structure (`corrupt.parts`) or a cache of the slab; `object` and `field` the names of what is
    struck, `value` what is put there in words; `crc` is "fix" or "stale", of a stray write the
    kind of memory. `edits` are the arguments of `wofs corrupt IMAGE OUT` that make it, all of
    them, of a stray write those of `wofs demo`.
    """

    image: str
    klass: str
    structure: str
    object: str
    field: str
    value: str
    crc: str
    edits: tuple[str, ...]
    seed: int = 0

    @property
    def key(self) -> str:
        """What names the fault among all of its image; it holds all that `wofs corrupt` needs."""
        return f"{self.klass} {shlex.join(self.edits)}"

    @classmethod
    def of_key(cls, image: str, key: str) -> Fault:
        """Return the fault that a key names; ValueError where it names none."""
        try:
            klass, *edits = shlex.split(key)
            words = dict(itertools.pairwise(edits))
            seed = int(words.get("--seed", 0))
        except ValueError as error:
            raise ValueError(f"{key}: is no key of a fault") from error
        target = next((w for w in _targets(edits)), "")
        match = _OBJECT.match(target)
        if klass.removeprefix(OVER_FUSE) not in CLASSES or not (match or edits):
            raise ValueError(f"{key}: is no key of a fault")
        obj = match["object"] if match else "image"
        structure = re.findall(r"[a-z]+", re.sub(r"\[.*?\]|\.block", "", obj))[-1]
        name, _, value = target[len(obj) :].lstrip(".").partition("=")
        return cls(
            image, klass, "data" if structure == "bytes" else structure, obj,
            re.sub(r"\[\d+\]", "[N]", name), value, words.get("--crc", "stale"), tuple(edits),
            seed,
        )  # fmt: skip

    @property
    def name(self) -> str:
        """The object and field it strikes."""
        return f"{self.object}.{self.field}" if self.field else self.object

    @property
    def as_json(self) -> dict[str, Any]:
        """Return it as what JSON can hold, `from_json` reads it back."""
        return asdict(self)

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> Fault:
        """Return the fault that `as_json` told of."""
        return cls(**{**told, "edits": tuple(told["edits"])})
