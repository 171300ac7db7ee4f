"""A parser under test, and the law: a result or the documented error, nothing else."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from wofs.errors import ImageError

T = TypeVar("T")
BOUNDARIES = (0, 1, 2, -1, -2)
"""What a word is set to by preference; beside these its sign bit alone, or all but that."""


class Broken(AssertionError):
    """An answer that may not be: a rule of the target's own is broken."""


@dataclass(frozen=True, slots=True)
class Target:
    """One parser.

    `run` takes an input and raises nothing but `allowed`; `seeds` makes inputs that are sound or
    nearly so; `max_len` is the longest input in bytes; `mutate` makes an input of another in
    a way of its own.
    """

    name: str
    about: str
    run: Callable[[bytes], object]
    seeds: Callable[[], Iterable[bytes]]
    mutate: Callable[[bytes, random.Random], bytes]
    allowed: tuple[type[Exception], ...] = (ImageError,)
    max_len: int = 4096


def judge(target: Target, data: bytes) -> bool:
    """Feed an input; return whether it was accepted, False for an error that is documented.

    What breaks the law is raised: any other exception, or an error that names nothing.
    """
    try:
        target.run(data)
    except target.allowed as error:
        named(error)
        return False
    return True


def named(error: Exception) -> None:
    """Hold an error to say something, and one of the image's to name an object in one line.

    Others repeat what was asked for, which the command line escapes.
    """
    if not str(error):
        raise Broken(f"says nothing: {error!r}") from error
    if isinstance(error, ImageError) and (not error.where.object or "\n" in str(error)):
        raise Broken(f"names no object in one line: {error!r}") from error


def attempt(act: Callable[[], T]) -> T | None:
    """Return what `act` does, None for damage, which must be named."""
    try:
        return act()
    except ImageError as error:
        named(error)
        return None


def hold(truth: object, text: str) -> None:
    """Raise Broken unless `truth` is true."""
    if not truth:
        raise Broken(text)


def boundary(chance: random.Random, size: int) -> bytes:
    """Return a word of `size` bytes with a value at which parsers go wrong."""
    sign = 1 << 8 * size - 1
    value = chance.choice((*BOUNDARIES, sign, sign - 1, chance.randrange(64)))
    return (value % (2 * sign)).to_bytes(size, "big")
