"""A piece of work for a process here or elsewhere: faults of one image, and their limits."""

from __future__ import annotations

from dataclasses import dataclass, replace

from wofs.campaign.fault import Fault


@dataclass(frozen=True, slots=True)
class Limits:
    """What one child may take: wall-clock `seconds`, and address space beyond its parent's."""

    seconds: float = 30.0
    memory_bytes: int = 512 << 20


@dataclass(frozen=True, slots=True)
class Unit:
    """Faults of the image at `path`; nothing of it is open, so that it can travel.

    `norecovery` opens an image whose log is dirty; `mounted` asks a FUSE
    mount instead of the library; `again` says that it was tried before.
    """

    path: str
    faults: tuple[Fault, ...]
    limits: Limits = Limits()
    norecovery: bool = False
    mounted: bool = False
    again: bool = False

    def single(self) -> list[Unit]:
        """Return a unit for each fault, to be done again."""
        return [replace(self, faults=(fault,), again=True) for fault in self.faults]
