"""How a record lies in an object of the slab: native integers, naturally aligned."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from wofs.record import RecordSpec
from wofs.slab import _slab

Row = Sequence[Any]
"""Field values of one object, in the order of the record's fields."""


class Layout:
    """A record type's native layout and its counterparts in C; one per record, for ever."""

    def __init__(self, spec: RecordSpec) -> None:
        self.spec = spec
        fields, at = [], 0
        for name, code, count in spec.slab_fields:
            size = struct.calcsize("=" + code)
            start = -(-at // size) * size
            fields.append((name, code, start, count))
            at = start + size * count
        self.size = -(-at // 8) * 8
        type_name = f"wofs.slab.{spec.name.replace(' ', '_')}"
        self.id, self.type = _slab.layout(spec.name, self.size, tuple(fields), type_name)

    def encode(self, row: Row) -> bytes:
        """Pack one object's values; OverflowError or TypeError for one that does not fit."""
        return _slab.pack(self.id, (row,))


_LAYOUTS: dict[int, Layout] = {}


def layout_of(spec: RecordSpec) -> Layout:
    """Return the layout of a record type, published when first asked for."""
    found = _LAYOUTS.get(id(spec))
    if found is None:
        found = _LAYOUTS[id(spec)] = Layout(spec)
    return found


def spec_of(handle: object) -> RecordSpec:
    """Return the declaration behind a handle; TypeError for anything else."""
    for layout in _LAYOUTS.values():
        if layout.type is type(handle):
            return layout.spec
    raise TypeError(f"{type(handle).__name__} is no handle of the slab")


def address_of(handle: object, field: str) -> int:
    """Return the address of a field's bytes; AttributeError, TypeError for what is none."""
    return _slab.address(handle, field)
