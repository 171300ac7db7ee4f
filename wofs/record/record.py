"""The `record` decorator: one declaration of an on-disk structure, many users.

From one class of declared fields it makes the decoder, the encoder, fast partial readers
(`pick`, `iter`), the layout of the slab's objects, and the table that rules, rendering and
documentation read. At import it refuses fields that overlap or leave the record.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeVar, cast

from wofs.errors import BadField, Where
from wofs.record.field import NEXT, Declaration, Field
from wofs.record.rule import READ, Rule

R = TypeVar("R", bound="Record")
Picker = Callable[[bytes, int], tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class RecordSpec:
    """All that is known about a record: its name, size in bytes, fields and source."""

    name: str
    size: int
    fields: tuple[Field, ...]
    magic: bytes | None
    source: str
    derived: bool

    @property
    def crc_offset(self) -> int | None:
        """Offset of the checksum field, or None."""
        return next((f.offset for f in self.fields if f.crc), None)

    @property
    def slab_fields(self) -> tuple[tuple[str, str, int], ...]:
        """(name, code, count) of each field: the layout of the record's slab objects."""
        return tuple((f.name, f.code, f.count) for f in self.fields)

    def field(self, name: str) -> Field:
        """Return the field called `name`; KeyError if there is none."""
        for field in self.fields:
            if field.name == name:
                return field
        raise KeyError(name)


class Record:
    """Base of all records; the decorator fills in everything."""

    __slots__ = ()
    spec: ClassVar[RecordSpec]
    _struct: ClassVar[struct.Struct]
    _fixups: ClassVar[tuple[tuple[int, Field], ...]]

    def __init__(self, **values: int | bytes | tuple[int, ...]) -> None:
        raise TypeError("declare the class with @record")

    @classmethod
    def decode(cls: type[R], buf: bytes, offset: int = 0) -> R:
        """Decode the record at `offset` of `buf`; struct.error if `buf` ends before it does."""
        if cls.spec.fields[0].bits:
            whole = int.from_bytes(buf[offset : offset + cls.spec.size], "big")
            return cls(**{f.name: _bits_of(whole, f) for f in cls.spec.fields})
        values = cls._struct.unpack_from(buf, offset)
        if cls._fixups:
            values = _fix(cls.spec.fields, values)
        return cls(*values)

    def encode(self) -> bytes:
        """Encode to the bytes `decode` reads; gaps between fields become zeros."""
        spec = self.spec
        if spec.fields[0].bits:
            whole = 0
            for field in spec.fields:
                assert field.bits is not None
                whole |= getattr(self, field.name) << field.bits[1]
            return whole.to_bytes(spec.size, "big")
        out = bytearray(spec.size)
        for field in spec.fields:
            _encode_field(out, field, getattr(self, field.name))
        return bytes(out)

    @classmethod
    def pick(cls, *names: str) -> Picker:
        """Return a compiled reader `f(buf, offset) -> tuple` of the named fields.

        The fields must be declared in that order on disk, and be neither arrays nor
        little-endian: then the reader is one call of C.
        """
        fields = [cls.spec.field(name) for name in names]
        if any(f.is_array or f.little or f.bits for f in fields):
            raise TypeError(f"{cls.spec.name}: pick takes plain big-endian fields")
        return struct.Struct(_format(fields, 0, None)).unpack_from

    @classmethod
    def iter(cls, buf: bytes, offset: int, count: int) -> Iterator[tuple[Any, ...]]:
        """Iterate over `count` records packed at `offset`, as tuples of all fields."""
        view = memoryview(buf)[offset : offset + count * cls.spec.size]
        return cls._struct.iter_unpack(view)

    def asdict(self) -> dict[str, Any]:
        """Return the fields' values by name."""
        return {f.name: getattr(self, f.name) for f in self.spec.fields}

    def __repr__(self) -> str:
        inner = ", ".join(f"{k}={v!r}" for k, v in self.asdict().items())
        return f"{type(self).__name__}({inner})"

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.asdict() == other.asdict()

    __hash__ = None  # type: ignore[assignment]


def record(
    name: str,
    *,
    size: int = 0,
    magic: bytes | None = None,
    source: str,
    derived: bool = False,
) -> Callable[[type[R]], type[R]]:
    """Make a record of a class of declared fields.

    `size` is in bytes (0: up to the end of the last field), `source` names the structure's
    definition, `derived` marks one that is computed and never on disk (its fields may use
    the offset NEXT). Raises TypeError for fields that overlap or leave the record.
    """

    def make(cls: type[R]) -> type[R]:
        fields = _fields(cls)
        end = max(f.offset + f.size for f in fields)
        spec = RecordSpec(name, size or end, fields, magic, source, derived)
        if not fields[0].bits:
            _refuse_overlaps(spec)
        return _build(cls, spec)

    return make


def _fields(cls: type) -> tuple[Field, ...]:
    """Collect a class's declarations in order, giving NEXT ones their offset."""
    fields: list[Field] = []
    for name, d in list(vars(cls).items()):
        if not isinstance(d, Declaration):
            continue
        field = Field(
            name,
            d.offset,
            d.code,
            d.count,
            d.help,
            d.unit,
            d.show,
            d.rules,
            d.little,
            d.crc,
            d.bits,
        )
        if d.offset == NEXT:
            end = fields[-1].offset + fields[-1].size if fields else 0
            align = field.item_size
            field = replace(field, offset=-(-end // align) * align)
        fields.append(field)
    return tuple(fields)


def _refuse_overlaps(spec: RecordSpec) -> None:
    end = 0
    for field in spec.fields:
        if field.offset < end:
            raise TypeError(f"{spec.name}.{field.name} overlaps the field before it")
        end = field.offset + field.size
    if end > spec.size:
        raise TypeError(f"{spec.name}: fields end at {end}, the record at {spec.size}")


def _format(fields: list[Field], start: int, size: int | None) -> str:
    """Return a `struct` format for big-endian fields from byte `start`, gaps padded."""
    out, at = [">"], start
    for field in fields:
        if field.offset > at:
            out.append(f"{field.offset - at}x")
        if field.code == "s" or field.is_array:
            out.append(f"{field.size}s")
        else:
            out.append(field.code)
        at = field.offset + field.size
    if size is not None and size > at:
        out.append(f"{size - at}x")
    return "".join(out)


def _build(cls: type[R], spec: RecordSpec) -> type[R]:
    """Make the final class: slots, a generated `__init__`, the compiled struct."""
    names = [f.name for f in spec.fields]
    space: dict[str, Any] = {
        k: v
        for k, v in vars(cls).items()
        if not isinstance(v, Declaration) and k not in {"__dict__", "__weakref__"}
    }
    space["__slots__"] = tuple(names)
    space["spec"] = spec
    space["_fixups"] = tuple((i, f) for i, f in enumerate(spec.fields) if f.is_array or f.little)
    space["__init__"] = _make_init(spec)
    if not spec.fields[0].bits:
        space["_struct"] = struct.Struct(_format(list(spec.fields), 0, spec.size))
    made = cast(type[R], type(cls.__name__, cls.__bases__, space))
    made.__qualname__ = cls.__qualname__
    return made


def _make_init(spec: RecordSpec) -> Callable[..., None]:
    """Generate `__init__` taking every field, in order or by name, zero by default."""
    params = ", ".join(f"{f.name}={_zero(f)!r}" for f in spec.fields)
    body = "\n".join(f"    self.{f.name} = {f.name}" for f in spec.fields)
    space: dict[str, Any] = {}
    exec(f"def __init__(self, {params}):\n{body}\n", space)
    made: Callable[..., None] = space["__init__"]
    return made


def _zero(field: Field) -> int | bytes | tuple[int, ...]:
    if field.code == "s":
        return bytes(field.count)
    return (0,) * field.count if field.is_array else 0


def _bits_of(whole: int, field: Field) -> int:
    assert field.bits is not None
    high, low = field.bits
    return whole >> low & (1 << high - low + 1) - 1


def _fix(fields: tuple[Field, ...], values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Turn arrays into tuples and little-endian fields into their value."""
    out = list(values)
    for i, field in enumerate(fields):
        if field.is_array:
            out[i] = struct.unpack(f">{field.count}{field.code}", out[i])
        elif field.little:
            out[i] = int.from_bytes(out[i].to_bytes(field.size, "big"), "little")
    return tuple(out)


def _encode_field(out: bytearray, field: Field, value: Any) -> None:  # noqa: ANN401
    order = "<" if field.little else ">"
    if field.code == "s":
        struct.pack_into(f"{field.count}s", out, field.offset, value)
    elif field.is_array:
        struct.pack_into(f"{order}{field.count}{field.code}", out, field.offset, *value)
    else:
        struct.pack_into(order + field.code, out, field.offset, value)


def broken(
    spec: RecordSpec, values: object, context: Mapping[str, object], level: str | None = None
) -> Iterator[tuple[Field, Rule]]:
    """Yield each (field, rule) that `values` (a record or a slab handle) breaks."""
    for field in spec.fields:
        for rule in field.rules:
            if level is not None and rule.level != level:
                continue
            if not rule.holds(getattr(values, field.name), values, context):
                yield field, rule


def check(rec: Record, where: Where, **context: object) -> None:
    """Raise `BadField` for the first read-level rule that `rec` breaks.

    `where` is the record's place, `context` the values that rules name as `ctx.NAME`.
    """
    for field, rule in broken(rec.spec, rec, context, READ):
        place = Where(where.image, where.object, where.daddr, where.length, field.name)
        found = field.text(getattr(rec, field.name))
        error = BadField(place, "", rule.expected(rec, context), found)
        error.rule = f"{rec.spec.name}.{field.name}.{rule.name}"
        raise error
