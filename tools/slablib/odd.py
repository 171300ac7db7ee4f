"""Odd arguments for the fuzzer: of the wrong type, size or manners."""

from __future__ import annotations

import array
import random
from collections.abc import Callable


class Mischief(Exception):
    """Raised by an argument in the middle of a call."""


class Index:
    """A number that does something else first, when it is asked for its value."""

    def __init__(self, value: int, first: Callable[[], object]) -> None:
        self.value = value
        self.first = first

    def __index__(self) -> int:
        """Return the value, after whatever comes first."""
        self.first()
        return self.value

    def __repr__(self) -> str:
        return f"Index({self.value})"


class Truth:
    """A truth value that does something else first."""

    def __init__(self, value: bool, first: Callable[[], object]) -> None:
        self.value = value
        self.first = first

    def __bool__(self) -> bool:
        """Return the value, after whatever comes first."""
        self.first()
        return self.value


class Bytes(bytes):
    """A subclass, which y# takes."""


class Text(str):
    """A subclass, which s takes."""

    __slots__ = ()


def mischief() -> None:
    """Raise."""
    raise Mischief


NUMBERS: tuple[object, ...] = (
    *(0, 1, -1, 2, 63, 64, 65, 2**16, 2**31, -(2**31), 2**32 - 1, 2**32, 2**32 + 1, 2**62),
    *(2**63 - 1, 2**63, -(2**63), 2**64 - 1, 2**64, -(2**64), 10**40, True, False),
    *(1.0, float("nan"), "1", b"1", None, (), [], Index(-1, mischief)),
)
TEXTS: tuple[object, ...] = (
    *("", "x", "a" * 31, "a" * 32, "a" * 10_000, "é" * 15, "é" * 16, "a\0b", "\ud800"),
    "\U0001f600",
    *("[", "o[1]", "%s%n", "\n", Text("text"), b"bytes", bytearray(b"x"), None, 1, ("x",)),
)
DATA: tuple[object, ...] = (
    *(b"", b"x", bytes(7), bytes(65_536), Bytes(8), bytearray(8), memoryview(bytes(8))),
    *(memoryview(bytearray(8)), memoryview(bytes(16))[::2], array.array("Q", [1]), "text", None, 8),
)
THINGS: tuple[object, ...] = (None, object(), object, int, type, (), "x", 1, NotImplemented, len)


def value(number: object) -> int:
    """Return what a number is, without what it does when asked."""
    return number.value if isinstance(number, Index) else int(number)  # type: ignore[call-overload]


def pick(rng: random.Random, first: Callable[[], object], usual: object) -> object:
    """Return a number: often the usual one, else odd, now and then one that acts when asked."""
    dice = rng.random()
    if dice < 0.5:
        return usual
    if dice < 0.6 and isinstance(usual, int):
        return Index(int(usual), first)
    return rng.choice(NUMBERS)
