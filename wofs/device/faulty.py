"""A device that fails where it is told to: errors, short reads, delays. For tests."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass

from wofs.device.base import Device


@dataclass(slots=True)
class Fault:
    """What happens to reads that touch `length` bytes from `offset`.

    First `delay` seconds pass; then `error` is raised, if given, as a fresh copy; else, if
    `short`, the read ends where the fault begins. With `times`, only the first so many
    reads that touch the range are struck.
    """

    offset: int
    length: int
    error: OSError | None = None
    short: bool = False
    delay: float = 0.0
    times: int | None = None

    def touches(self, offset: int, length: int) -> bool:
        """Whether a read of `length` bytes from `offset` meets the range."""
        return offset < self.offset + self.length and self.offset < offset + length


class FaultyDevice:
    """A device with faults over another one; the same reads always give the same results.

    Faults act in the order given; the first error ends a read, of several short ones the
    shortest counts. `struck` is the number of reads that met a fault.
    """

    def __init__(self, device: Device, faults: Iterable[Fault]) -> None:
        self.name = device.name
        self.size = device.size
        self.struck = 0
        self._device = device
        self._faults = list(faults)
        self._left = [fault.times for fault in self._faults]
        self._lock = threading.Lock()

    def pread(self, offset: int, length: int) -> bytes:
        """Return up to `length` bytes from byte `offset`, unless a fault is in the way."""
        end = offset + length
        for fault in self._strike(offset, length):
            if fault.delay:
                time.sleep(fault.delay)
            if fault.error is not None:
                raise type(fault.error)(*fault.error.args)
            if fault.short:
                end = min(end, max(offset, fault.offset))
        return self._device.pread(offset, end - offset)

    def expect(self, offset: int, length: int) -> None:
        """Pass the hint on: it meets no fault."""
        self._device.expect(offset, length)

    def _strike(self, offset: int, length: int) -> list[Fault]:
        """Return the faults that a read meets, and count them off."""
        met = []
        with self._lock:
            for index, fault in enumerate(self._faults):
                left = self._left[index]
                if not fault.touches(offset, length) or left == 0:
                    continue
                if left is not None:
                    self._left[index] = left - 1
                met.append(fault)
            self.struck += bool(met)
        return met

    def close(self) -> None:
        """Close the device below."""
        self._device.close()
