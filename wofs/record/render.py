"""Records as text and as JSON values, from the same table that decodes them."""

from __future__ import annotations

import uuid
from typing import Any

from wofs.record.field import HEX, TEXT, UUID, Field
from wofs.record.record import RecordSpec


def show(field: Field, value: Any) -> str:  # noqa: ANN401
    """Return a field's value as a person reads it."""
    if field.is_array:
        return "[" + ", ".join(_number(field, item) for item in value) + "]"
    if field.code != "s":
        return _number(field, value)
    if field.show == UUID:
        return str(uuid.UUID(bytes=bytes(value)))
    if field.show == TEXT:
        return bytes(value).rstrip(b"\0").decode("utf-8", "backslashreplace")
    return bytes(value).hex()


def _number(field: Field, value: int) -> str:
    return f"{value:#x}" if field.show == HEX else str(value)


def as_json(spec: RecordSpec, values: object) -> dict[str, Any]:
    """Return the fields of a record or slab handle as JSON-ready values, keys in disk order."""
    out: dict[str, Any] = {}
    for field in spec.fields:
        value = getattr(values, field.name)
        if field.code == "s":
            out[field.name] = show(field, value)
        else:
            out[field.name] = list(value) if field.is_array else value
    return out
