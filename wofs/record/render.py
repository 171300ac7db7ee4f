"""Records as JSON values, from the same table that decodes them."""

from __future__ import annotations

from typing import Any

from wofs.record.record import RecordSpec


def as_json(spec: RecordSpec, values: object) -> dict[str, Any]:
    """Return the fields of a record or slab handle as JSON-ready values, keys in disk order.

    Bytes become what a person reads (a uuid, a label, hexadecimal), arrays lists of ints.
    """
    out: dict[str, Any] = {}
    for field in spec.fields:
        value = getattr(values, field.name)
        if field.code == "s":
            out[field.name] = field.text(value)
        else:
            out[field.name] = list(value) if field.is_array else value
    return out
