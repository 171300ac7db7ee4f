"""The error tree of wofs: every failure a user can meet, with its facts as attributes.

A message is one line: `IMAGE: OBJECT (daddr 0xN, L B): FIELD is FOUND, expected EXPECTED`.
The classes know nothing of errno: `wofs.fuse.errmap` translates at the edge.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


class WofsError(Exception):
    """Anything that wofs reports on purpose."""


@dataclass(frozen=True, slots=True)
class Where:
    """The place an `ImageError` speaks of.

    `image` is the device's name, `object` the structure in the manner of "agf 3" or
    "inode 131", `daddr` its address in 512-byte sectors, `length` its size in bytes,
    `field` the field within it. What is not known is None (or empty).
    """

    image: str
    object: str
    daddr: int | None = None
    length: int | None = None
    field: str | None = None

    def __str__(self) -> str:
        text = f"{self.image}: {self.object}" if self.image else self.object
        if self.daddr is not None:
            size = f", {self.length} B" if self.length is not None else ""
            text += f" (daddr {self.daddr:#x}{size})"
        return text


class ImageError(WofsError):
    """Something is wrong with the image; the base of all that its bytes can cause.

    `problem` says what in words. With `where.field` set and `found` given, the line reads
    "FIELD is FOUND, expected EXPECTED" and `problem` may be empty.
    """

    def __init__(
        self, where: Where, problem: str = "", expected: object = None, found: object = None
    ) -> None:
        self.where = where
        self.problem = problem
        self.expected = expected
        self.found = found
        super().__init__(str(self))

    def __str__(self) -> str:
        return f"{self.where}: {self.text()}"

    def text(self) -> str:
        """The message without its place: "FIELD is FOUND, expected EXPECTED: PROBLEM"."""
        facts = []
        if self.found is not None:
            facts.append(f"{self.where.field or 'found'} {self._is()}{self.found}")
            if self.expected is not None:
                facts.append(f"expected {self.expected}")
        elif self.where.field and self.problem:
            return f"{self.where.field}: {self.problem}{self._wanted()}"
        line = ", ".join(facts)
        if self.problem:
            line = f"{line}: {self.problem}" if line else f"{self.problem}{self._wanted()}"
        return line or "is damaged"

    def _is(self) -> str:
        return "is " if self.where.field else ""

    def _wanted(self) -> str:
        return "" if self.expected is None else f", expected {self.expected}"

    def at(self, **known: object) -> ImageError:
        """The same error with more of its place known (`image`, `object`, `daddr`, ...)."""
        place = replace(self.where, **known)  # type: ignore[arg-type]
        again = self.__class__(place, self.problem, self.expected, self.found)
        again.__cause__ = self.__cause__
        return again


class NotXfs(ImageError):
    """The source holds no XFS at all."""


class Unsupported(ImageError):
    """Valid, but it needs a feature that wofs lacks."""


class Truncated(ImageError):
    """The image ends before the structure does."""


class Corrupt(ImageError):
    """A structure breaks a rule of the format."""


class BadMagic(Corrupt):
    """A block does not start as its kind must."""


class BadChecksum(Corrupt):
    """The CRC32C stored in a structure is not that of its bytes."""


class Misplaced(Corrupt):
    """A sound block of another place: its uuid, own address or owner is not ours."""


class BadField(Corrupt):
    """A field's value breaks a rule; `rule` is the rule's name."""

    rule: str = ""


class PathError(WofsError, OSError):
    """A request for a path cannot be met; `path` is the path or name as bytes."""

    def __init__(self, message: str, path: bytes = b"") -> None:
        super().__init__(message)
        self.path = path

    def __str__(self) -> str:
        return str(self.args[0])


class NotFound(PathError, FileNotFoundError):
    """No such name."""


class NotDir(PathError, NotADirectoryError):
    """A component in the middle of a path is no directory."""


class IsDir(PathError, IsADirectoryError):
    """A directory where a file's data was asked for."""


class NotLink(PathError):
    """The target of something that is no symbolic link was asked for."""


class Loop(PathError):
    """Too many symbolic links on the way."""


class NoXattr(PathError):
    """The inode has no such extended attribute."""


class SlabError(WofsError):
    """The write-once memory refuses a request."""


class SlabFull(SlabError):
    """The arena has no room for another object."""


class SlabFinished(SlabError):
    """The arena is sealed: nothing is created or freed any more."""


class StaleHandle(SlabError, ReferenceError):
    """What a handle or a path speaks of is gone: freed, or its image is closed."""


class NoBackend(SlabError):
    """The machine grants none of the memory backends that were asked for."""


class MountError(WofsError):
    """Mounting or serving failed for a reason outside the image."""
