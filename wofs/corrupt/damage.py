"""What `wofs corrupt` is asked for, and the doing of it: edits by name, laid over a device."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields

from wofs.corrupt.edit import Editor
from wofs.corrupt.inside import Spot
from wofs.corrupt.parts import KINDS, Part, parts_of
from wofs.corrupt.target import BadTarget, Locator
from wofs.device.base import Device
from wofs.device.overlay import Overlay
from wofs.fs import Filesystem
from wofs.fs import open as open_filesystem

EDIT = re.compile(r"""(?P<name>(?:[^="]|"(?:[^"\\]|\\.)*")+)=(?P<value>.*)""", re.DOTALL)
"""NAME=VALUE; what is quoted in the name may hold an equals sign."""


@dataclass(frozen=True)
class Request:
    """All that is to be done, as the arguments of `wofs corrupt IMAGE OUT` have it."""

    edits: tuple[str, ...] = ()
    crc: str = "stale"
    seed: int = 0
    flip: int | None = None
    within: tuple[str, ...] = ()
    zero: tuple[str, ...] = ()
    swap: tuple[tuple[str, str], ...] = ()
    duplicate: tuple[tuple[str, str], ...] = ()
    shift: tuple[tuple[str, int], ...] = ()
    tear: tuple[tuple[str, int], ...] = ()
    truncate: int | None = None

    @property
    def nothing(self) -> bool:
        """Whether no edit is asked for."""
        given = self.edits, self.flip, self.zero, self.swap, self.duplicate, self.shift, self.tear
        return self.truncate is None and not any(given)

    @classmethod
    def of(cls, arguments: Sequence[str]) -> Request:
        """Return what arguments ask for, given as `wofs corrupt` takes them behind OUT.

        Options have their long names, and their values follow as words of their own. Raises
        BadTarget for an option that is none of them, and for its value.
        """
        found: dict[str, list[object]] = {"edits": []}
        words = list(arguments)
        while words:
            word = words.pop(0)
            if not word.startswith("--"):
                found["edits"].append(word)
                continue
            name = "within" if word == "--in" else word[2:]
            takes = _TAKES.get(name)
            if takes is None or len(words) < len(takes):
                raise BadTarget(f"{word}: no option of an edit, or its value is missing")
            try:
                values = tuple(kind(words.pop(0)) for kind in takes)
            except ValueError as error:
                raise BadTarget(f"{word}: its value is no number") from error
            found.setdefault(name, []).append(values if len(values) > 1 else values[0])
        single = {f.name for f in fields(cls) if f.name in ("crc", "seed", "flip", "truncate")}
        made = {k: v[-1] if k in single else tuple(v) for k, v in found.items()}
        return cls(**made)  # type: ignore[arg-type]


_TAKES: dict[str, tuple[type[str] | type[int], ...]] = {
    "crc": (str,), "seed": (int,), "flip": (int,), "truncate": (int,), "within": (str,),
    "zero": (str,), "swap": (str, str), "duplicate": (str, str), "shift": (str, int),
    "tear": (str, int),
}  # fmt: skip
"""The values that each option takes."""


class Damage:
    """The edits asked for, and where they find what they name; a context manager.

    `filesystem` is the image as it is, if it is open already; its owner closes it.
    """

    def __init__(
        self, device: Device, request: Request, filesystem: Filesystem | None = None
    ) -> None:
        self.editor = Editor(device, request.crc == "fix", request.seed)
        self._request = request
        self._device = device
        self._stack = ExitStack()
        self._filesystem = filesystem
        if filesystem is not None:
            self.editor.log_by(filesystem.mount.sb)

    def __enter__(self) -> Damage:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def filesystem(self) -> Filesystem:
        """Return the image as it was, opened when first needed."""
        if self._filesystem is None:
            opened = open_filesystem(Overlay(self._device), norecovery=True)
            self._filesystem = self._stack.enter_context(opened)
            self.editor.log_by(opened.mount.sb)
        return self._filesystem

    def do(self) -> None:
        """Make all edits that were asked for, in their order: NAME=VALUE, swap, duplicate, shift,
        zero, tear, flip, truncate. Raises BadTarget, and the `ImageError` of what is damaged.
        """
        editor, asked = self.editor, self._request
        for edit in asked.edits:
            self._set(edit)
        for one, other in asked.swap:
            editor.swap(self._part(one), self._part(other))
        for source, over in asked.duplicate:
            editor.duplicate(self._part(source), self._part(over))
        for name, by in asked.shift:
            editor.shift(self._part(name), by)
        for name in asked.zero:
            editor.zero(self._part(name))
        for name, sectors in asked.tear:
            editor.tear(self._part(name), sectors)
        if asked.flip is not None:
            editor.flip(self._parts(asked.within), asked.flip)
        if asked.truncate is not None:
            editor.truncate(asked.truncate)

    def _spot(self, name: str) -> Spot:
        """Return the field or structure of that name."""
        return Locator(self.filesystem()).spot(name)

    def _set(self, edit: str) -> None:
        """Make one edit, NAME=VALUE."""
        match = EDIT.fullmatch(edit)
        if match is None:
            raise BadTarget(f"{edit}: an edit is NAME=VALUE")
        self.editor.set(self._spot(match["name"]), match["value"])

    def _part(self, name: str) -> Part:
        """Return the structure of that name."""
        spot = self._spot(name)
        if spot.size:
            raise BadTarget(f"{name}: is a field; name a whole structure")
        return spot.part

    def _parts(self, names: tuple[str, ...]) -> list[Part]:
        """Return the structures of these names or kinds; of all kinds without any."""
        found = [self._part(name) for name in names if name not in KINDS]
        kinds = {name for name in names if name in KINDS} or (set() if names else set(KINDS))
        if kinds:
            found += [p for p in parts_of(self.filesystem().mount) if p.kind in kinds]
        if not found:
            raise BadTarget(f"the image holds no {', '.join(names)}")
        return found
