"""The part of a path that needs no image: its names, in the manner of `pathlib`.

Names are bytes inside and `os.fsdecode`d at the edge, so that every name survives. All paths
are absolute; a path is a chain of parents, so that a deep tree costs a name per level.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import TypeVar

P = TypeVar("P", bound="Names")

Segment = str | bytes | os.PathLike[str] | os.PathLike[bytes]


def components(path: bytes) -> list[bytes]:
    """Split a path at its slashes; empty names and '.' go, '..' stays (as `pathlib` does)."""
    return [name for name in path.split(b"/") if name not in (b"", b".")]


def as_bytes(segment: Segment | Names) -> bytes:
    """Return the bytes of anything that names a path."""
    return bytes(segment) if isinstance(segment, Names) else os.fsencode(segment)


class Names:
    """An absolute path within an image, without the image."""

    __slots__ = ("_name", "_parent")
    _name: bytes
    _parent: Names | None

    def _below(self: P, name: bytes) -> P:
        """Return the path of `name` in this directory."""
        raise NotImplementedError

    def _same_tree(self, other: Names) -> bool:
        """Whether the other path is one of the same image."""
        raise NotImplementedError

    # ---- its pieces
    @property
    def name(self) -> str:
        """The last name; "" for the root."""
        return os.fsdecode(self._name)

    @property
    def name_bytes(self) -> bytes:
        """The last name as it is stored; b"" for the root."""
        return self._name

    @property
    def anchor(self) -> str:
        """The "/" that every path starts with."""
        return "/"

    @property
    def root(self) -> str:
        """The "/" that every path starts with."""
        return "/"

    def is_absolute(self) -> bool:
        """Say yes: an image has no current directory."""
        return True

    @property
    def suffix(self) -> str:
        """The last extension with its dot; "" if there is none."""
        name = self.name
        at = name.rfind(".")
        return name[at:] if 0 < at < len(name) - 1 else ""

    @property
    def suffixes(self) -> list[str]:
        """All extensions with their dots."""
        name = self.name.lstrip(".")
        return [] if name.endswith(".") else ["." + part for part in name.split(".")[1:]]

    @property
    def stem(self) -> str:
        """The last name without its extension."""
        suffix = self.suffix
        return self.name[: -len(suffix)] if suffix else self.name

    @property
    def parent(self: P) -> P:
        """The path without its last name; the root's parent is the root."""
        above = self._parent
        return self if above is None else above  # type: ignore[return-value]

    @property
    def parents(self: P) -> Sequence[P]:
        """All paths above, the nearest first, the root last."""
        out: list[P] = []
        path = self
        while path._parent is not None:
            path = path.parent
            out.append(path)
        return tuple(out)

    @property
    def parts(self) -> tuple[str, ...]:
        """The root's "/" and all names."""
        return ("/", *map(os.fsdecode, self._names()))

    def _names(self) -> list[bytes]:
        out: list[bytes] = []
        path: Names | None = self
        while path is not None and path._parent is not None:
            out.append(path._name)
            path = path._parent
        out.reverse()
        return out

    def joinpath(self: P, *segments: Segment | Names) -> P:
        """Return the path with `segments` added; an absolute one starts over at the root."""
        path = self
        for segment in segments:
            raw = as_bytes(segment)
            if raw.startswith(b"/"):
                while path._parent is not None:
                    path = path.parent
            for name in components(raw):
                path = path._below(name)
        return path

    def with_name(self: P, name: str | bytes) -> P:
        """Return the path with another last name; ValueError if that is no name."""
        raw = os.fsencode(name)
        if self._parent is None or b"/" in raw or raw in (b"", b"."):
            raise ValueError(f"invalid name {name!r}")
        return self.parent._below(raw)

    def with_stem(self: P, stem: str) -> P:
        """Return the path with another last name, its extension kept."""
        return self.with_name(stem + self.suffix)

    def with_suffix(self: P, suffix: str) -> P:
        """Return the path with another extension ("" takes it away); ValueError if it is none."""
        if suffix and (not suffix.startswith(".") or suffix == "." or "/" in suffix):
            raise ValueError(f"invalid suffix {suffix!r}")
        return self.with_name(self.stem + suffix)

    def match(self, pattern: str | bytes) -> bool:
        """Whether the names match `pattern`: from the right, or all if it starts with a slash."""
        raw = os.fsencode(pattern)
        patterns, names = components(raw), self._names()
        if not patterns:
            raise ValueError("an empty pattern")
        if len(names) < len(patterns) or (raw.startswith(b"/") and len(names) > len(patterns)):
            return False
        tail = names[len(names) - len(patterns) :]
        return all(map(fnmatchcase, tail, patterns))

    def is_relative_to(self, other: Segment | Names) -> bool:
        """Whether this path is `other` or lies below it, by its names alone."""
        above = components(as_bytes(other))
        return self._names()[: len(above)] == above

    def relative_to(self, other: Segment | Names) -> str:
        """Return what leads from `other` to here ("." for itself); ValueError if nothing does."""
        if not self.is_relative_to(other):
            raise ValueError(f"{self} is not below {os.fsdecode(as_bytes(other))}")
        rest = self._names()[len(components(as_bytes(other))) :]
        return os.fsdecode(b"/".join(rest)) or "."

    # ---- as a value
    def __truediv__(self: P, segment: Segment) -> P:
        return self.joinpath(segment)

    def __bytes__(self) -> bytes:
        return b"/" + b"/".join(self._names())

    def __str__(self) -> str:
        return os.fsdecode(bytes(self))

    def as_posix(self) -> str:
        """Return the path as text, as `str` does."""
        return str(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __hash__(self) -> int:
        return hash(bytes(self))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Names):
            return NotImplemented
        return self is other or (self._same_tree(other) and self._names() == other._names())

    def __lt__(self, other: Names) -> bool:
        if not isinstance(other, Names) or not self._same_tree(other):
            return NotImplemented
        return self._names() < other._names()

    def __le__(self, other: Names) -> bool:
        if not isinstance(other, Names) or not self._same_tree(other):
            return NotImplemented
        return self._names() <= other._names()

    def __gt__(self, other: Names) -> bool:
        if not isinstance(other, Names) or not self._same_tree(other):
            return NotImplemented
        return self._names() > other._names()

    def __ge__(self, other: Names) -> bool:
        if not isinstance(other, Names) or not self._same_tree(other):
            return NotImplemented
        return self._names() >= other._names()
