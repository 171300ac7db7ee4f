"""One fault of a campaign: where it is, what is put there, and the arguments that make it."""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass
from typing import Any

CLASSES = ("field", "flip", "torn", "stale", "pair", "block", "memory")
"""What faults there are: a field's value; random bits; a block written in part; a block that is
another's or an older one; two fields changed together; a block lost or moved; stray writes."""


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
