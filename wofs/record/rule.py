"""Rules that a field's value must keep, each able to name itself and to break itself.

A rule is asked three things: does the value hold (`holds`), what was expected in words
(`expected`), and which values would break it (`breaking`, for tests and damage campaigns).
Operands are plain ints, the name of another field of the same record, or a value of the
context that the reader supplies (`ctx.agno`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

READ = "read"
"""Level of a rule that the kernel's verifier enforces too: reading raises."""

CHECK = "check"
"""Level of a rule that only a full check looks at."""


@dataclass(frozen=True, slots=True)
class Ref:
    """A value that the context of a check supplies by name."""

    name: str


class _Context:
    """`ctx.agno` declares an operand that is known when the record is checked."""

    def __getattr__(self, name: str) -> Ref:
        return Ref(name)


ctx = _Context()

Operand = int | bytes | str | Ref
Values = Mapping[str, object]


def resolve(operand: Operand, record: object, values: Values) -> object:
    """Return what an operand stands for: itself, a field of `record`, or a context value."""
    if isinstance(operand, Ref):
        return values[operand.name]
    if isinstance(operand, str):
        return getattr(record, operand)
    return operand


@dataclass(frozen=True, slots=True)
class Rule:
    """A named test of one field's value against operands."""

    name: str
    words: str
    operands: tuple[Operand, ...]
    test: Callable[..., bool]
    breakers: Callable[..., Iterator[object]]
    level: str = READ

    def holds(self, value: object, record: object, values: Values) -> bool:
        """Whether `value` keeps the rule."""
        return self.test(value, *(resolve(o, record, values) for o in self.operands))

    def expected(self, record: object, values: Values) -> str:
        """What the rule wants, in words, with its operands' present values."""
        return self.words.format(*(_shown(resolve(o, record, values)) for o in self.operands))

    def breaking(self, record: object, values: Values) -> Iterator[object]:
        """Yield values that break the rule."""
        return self.breakers(*(resolve(o, record, values) for o in self.operands))


def _shown(value: object) -> object:
    return value.hex() if isinstance(value, bytes) else value


def _near(value: object, *offsets: int) -> Iterator[object]:
    """Yield `value` moved by each offset; a changed first byte for bytes."""
    if isinstance(value, bytes):
        yield bytes([value[0] ^ 0xFF]) + value[1:]
        return
    assert isinstance(value, int)
    yield from (value + offset for offset in offsets)


def Eq(other: Operand, level: str = READ) -> Rule:
    """The value equals the operand."""
    return Rule("eq", "{}", (other,), lambda v, o: v == o, lambda o: _near(o, 1, -1), level)


def Ne(other: Operand, level: str = READ) -> Rule:
    """The value differs from the operand."""
    return Rule("ne", "anything but {}", (other,), lambda v, o: v != o, lambda o: iter([o]), level)


def Le(other: Operand, level: str = READ) -> Rule:
    """The value is at most the operand."""
    return Rule("le", "at most {}", (other,), lambda v, o: v <= o, lambda o: _near(o, 1), level)


def Ge(other: Operand, level: str = READ) -> Rule:
    """The value is at least the operand."""
    return Rule("ge", "at least {}", (other,), lambda v, o: v >= o, lambda o: _near(o, -1), level)


def Lt(other: Operand, level: str = READ) -> Rule:
    """The value is below the operand."""
    return Rule("lt", "less than {}", (other,), lambda v, o: v < o, lambda o: _near(o, 0, 1), level)


def Between(low: Operand, high: Operand, level: str = READ) -> Rule:
    """The value lies from `low` to `high`, both included."""

    def breakers(lo: int, hi: int) -> Iterator[object]:
        yield lo - 1
        yield hi + 1

    return Rule(
        "between", "{} to {}", (low, high), lambda v, lo, hi: lo <= v <= hi, breakers, level
    )


def OneOf(*allowed: int | bytes, level: str = READ) -> Rule:
    """The value is one of those given."""
    words = " or ".join(str(_shown(a)) for a in allowed)
    return Rule(
        "one-of",
        words.replace("{", "{{").replace("}", "}}"),
        (),
        lambda v: v in allowed,
        lambda: iter([max(a for a in allowed if isinstance(a, int)) + 1]),
        level,
    )


def Mask(mask: int, level: str = READ) -> Rule:
    """The value has no bit outside `mask`."""

    def breakers() -> Iterator[object]:
        bit = 1
        while bit & mask:
            bit <<= 1
        yield bit

    return Rule("mask", f"bits of {mask:#x} only", (), lambda v: not v & ~mask, breakers, level)


def PowerOfTwo(level: str = READ) -> Rule:
    """The value is a power of two."""
    return Rule(
        "power-of-two",
        "a power of two",
        (),
        lambda v: v > 0 and not v & (v - 1),
        lambda: iter([0, 3]),
        level,
    )


def Log2Of(field: str, level: str = READ) -> Rule:
    """The value is the base-2 logarithm of another field."""
    return Rule(
        "log2-of",
        f"log2 of {field} ({{}})",
        (field,),
        lambda v, o: v < 64 and 1 << v == o,
        lambda o: iter([o.bit_length(), 63]),
        level,
    )
