"""Field makers of the record DSL: what one field of an on-disk structure is.

A maker such as `u32` returns a `Declaration`, but is *typed* as the type of the decoded
value: the `record` decorator takes the declarations out of the class again, so that a type
checker (and a reader) sees `agf.freeblks` as the int it is on an instance.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from wofs.record.rule import Rule

DEC = "dec"
HEX = "hex"
UUID = "uuid"
TEXT = "text"

NEXT = -1
"""Offset of a field that simply follows the one before, at its natural alignment."""

_SIZES = {"B": 1, "H": 2, "I": 4, "Q": 8, "b": 1, "h": 2, "i": 4, "q": 8, "s": 1}


@dataclass(frozen=True, slots=True)
class Declaration:
    """What a field maker was told; becomes a `Field` when the record is made."""

    offset: int
    code: str
    help: str
    count: int = 1
    unit: str = ""
    show: str = DEC
    rules: tuple[Rule, ...] = ()
    little: bool = False
    crc: bool = False
    bits: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a record.

    `offset` in bytes; `code` is `struct`'s letter ("s" = bytes); `count` the number of
    array items, or of bytes for "s"; `little` marks the little-endian ones (checksums);
    `bits` is (high, low) bit numbers, from 0 at the end, in a bit-packed record.
    """

    name: str
    offset: int
    code: str
    count: int
    help: str
    unit: str
    show: str
    rules: tuple[Rule, ...]
    little: bool
    crc: bool
    bits: tuple[int, int] | None

    @property
    def item_size(self) -> int:
        """Bytes of one item."""
        return _SIZES[self.code]

    @property
    def size(self) -> int:
        """Bytes of the whole field."""
        return self.item_size * self.count

    @property
    def is_array(self) -> bool:
        """Whether the value is a tuple of ints."""
        return self.code != "s" and self.count > 1

    def text(self, value: Any) -> str:  # noqa: ANN401
        """Return a value of this field as a person reads it."""
        if self.is_array:
            return "[" + ", ".join(self._number(item) for item in value) + "]"
        if self.code != "s":
            return self._number(value)
        if self.show == UUID:
            return str(uuid.UUID(bytes=bytes(value)))
        if self.show == TEXT:
            return bytes(value).rstrip(b"\0").decode("utf-8", "backslashreplace")
        return bytes(value).hex()

    def _number(self, value: int) -> str:
        return f"{value:#x}" if self.show == HEX else str(value)


def _int(code: str, offset: int, text: str, unit: str, show: str, rules: Sequence[Rule]) -> int:
    return cast(int, Declaration(offset, code, text, 1, unit, show, tuple(rules)))


def u8(offset: int, text: str, unit: str = "", show: str = DEC, rules: Sequence[Rule] = ()) -> int:
    """Declare an unsigned 8-bit field."""
    return _int("B", offset, text, unit, show, rules)


def u16(offset: int, text: str, unit: str = "", show: str = DEC, rules: Sequence[Rule] = ()) -> int:
    """Declare an unsigned 16-bit field."""
    return _int("H", offset, text, unit, show, rules)


def u32(offset: int, text: str, unit: str = "", show: str = DEC, rules: Sequence[Rule] = ()) -> int:
    """Declare an unsigned 32-bit field."""
    return _int("I", offset, text, unit, show, rules)


def u64(offset: int, text: str, unit: str = "", show: str = DEC, rules: Sequence[Rule] = ()) -> int:
    """Declare an unsigned 64-bit field."""
    return _int("Q", offset, text, unit, show, rules)


def i32(offset: int, text: str, unit: str = "", show: str = DEC, rules: Sequence[Rule] = ()) -> int:
    """Declare a signed 32-bit field."""
    return _int("i", offset, text, unit, show, rules)


def i64(offset: int, text: str, unit: str = "", show: str = DEC, rules: Sequence[Rule] = ()) -> int:
    """Declare a signed 64-bit field."""
    return _int("q", offset, text, unit, show, rules)


def raw(offset: int, count: int, text: str, show: str = HEX, rules: Sequence[Rule] = ()) -> bytes:
    """Declare a field of `count` plain bytes."""
    return cast(bytes, Declaration(offset, "s", text, count, "", show, tuple(rules)))


def array_u32(
    offset: int, count: int, text: str, show: str = DEC, rules: Sequence[Rule] = ()
) -> tuple[int, ...]:
    """Declare an array of `count` unsigned 32-bit items."""
    return cast(tuple[int, ...], Declaration(offset, "I", text, count, "", show, tuple(rules)))


def crc32c(offset: int, text: str = "CRC32C of the structure, this field taken as zero") -> int:
    """Declare the checksum: the one kind of field that is little-endian on disk."""
    return cast(int, Declaration(offset, "I", text, 1, "", HEX, (), little=True, crc=True))


def bits(high: int, low: int, text: str, unit: str = "", rules: Sequence[Rule] = ()) -> int:
    """Declare bits `high`..`low` (0 is the last bit) of a bit-packed big-endian record."""
    return cast(int, Declaration(0, "Q", text, 1, unit, DEC, tuple(rules), bits=(high, low)))
