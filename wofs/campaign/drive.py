"""A whole campaign: faults of several images, what is done already, what is still to do."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from wofs.campaign import memory
from wofs.campaign.fault import OVER_FUSE, Fault
from wofs.campaign.generate import faults_of
from wofs.campaign.laws import Result
from wofs.campaign.results import Image, Results
from wofs.campaign.runner import one, truth_of
from wofs.campaign.shrink import shrink
from wofs.campaign.unit import Limits, Unit
from wofs.device import FileDevice, open_device
from wofs.device.overlay import Overlay
from wofs.fs import open as open_filesystem

FAULTS_AT_A_TIME = 20
"""Faults of one unit: as many are lost at most when a run is interrupted."""

_PIECE = 1 << 20

Tell = Callable[[int, int], None]
"""Told how many faults of how many are done."""

RunUnits = Callable[[Iterable[Unit]], Iterator[list[Result]]]
"""Does units of work and yields the results of each as they come."""


@dataclass(slots=True)
class Plan:
    """What is asked for: `faults` in all over all images, `mounted` of them met by FUSE too.

    `strays` is how many stray writes hit each kind of memory in `memories`.
    """

    faults: int
    seed: int
    limits: Limits = field(default_factory=Limits)
    norecovery: bool = False
    mounted: int = 0
    strays: int = 0
    memories: tuple[str, ...] = ()


def fingerprint(path: str) -> Image:
    """Return what an image file is: its SHA-256 and its size in bytes."""
    digest, size = hashlib.sha256(), 0
    with closing(FileDevice(path)) as device:
        while piece := device.pread(size, _PIECE):
            digest.update(piece)
            size += len(piece)
    return Image(path, digest.hexdigest(), size)


def generated(path: str, count: int, plan: Plan) -> list[Fault]:
    """Return the faults of one image; raises as `wofs.open` does for one that is not sound."""
    with (
        closing(open_device(path)) as device,
        open_filesystem(Overlay(device), norecovery=plan.norecovery) as filesystem,
    ):
        return faults_of(filesystem, path, count, plan.seed)


def shares(paths: Sequence[str], count: int) -> Iterator[tuple[str, int]]:
    """Yield for each image how many of the faults are its."""
    for at, path in enumerate(paths):
        yield path, count * (at + 1) // len(paths) - count * at // len(paths)


def units_of(faults: Sequence[Fault], plan: Plan, mounted: bool) -> Iterator[Unit]:
    """Yield the faults of one image in units."""
    step = 1 if mounted else FAULTS_AT_A_TIME
    for at in range(0, len(faults), step):
        some = tuple(faults[at : at + step])
        yield Unit(some[0].image, some, plan.limits, plan.norecovery, mounted)


def prepare(paths: Sequence[str], plan: Plan, results: Results) -> list[Unit]:
    """Note the images, and return what is still to be done of their faults."""
    units: list[Unit] = []
    fuse, strays = dict(shares(paths, plan.mounted)), dict(shares(paths, plan.strays))
    for path, count in shares(paths, plan.faults):
        results.add_image(fingerprint(path))
        faults = generated(path, count, plan)
        done = results.done(path)
        units += units_of([f for f in faults if f.key not in done], plan, False)
        served = [_mounted(fault) for fault in spread(faults, fuse[path])]
        units += units_of([f for f in served if f.key not in done], plan, True)
        if strays[path]:
            hit = memory.faults_of(path, plan.memories, strays[path], plan.seed)
            units += units_of([f for f in hit if f.key not in done], plan, False)
    return units


def spread(faults: Sequence[Fault], count: int) -> list[Fault]:
    """Return some faults from all over the list."""
    count = min(count, len(faults))
    return [faults[at * len(faults) // count] for at in range(count)]


def _mounted(fault: Fault) -> Fault:
    """Return a fault as one that a mount meets: its key is another."""
    told = fault.as_json | {"klass": OVER_FUSE + fault.klass}
    return Fault.from_json(told)


def drive(units: Sequence[Unit], run: RunUnits, results: Results, tell: Tell) -> Iterator[Result]:
    """Have the units done, keep what came of them, and yield each result."""
    total, done = sum(len(unit.faults) for unit in units), 0
    tell(0, total)
    for found in run(units):
        results.add(found)
        done += len(found)
        tell(done, total)
        yield from found


def changed(images: Iterable[Image]) -> list[str]:
    """Return the paths of images that are not any more what they were: a write outside."""
    return [image.path for image in images if fingerprint(image.path) != image]


def reduced(result: Result, plan: Plan) -> Result:
    """Return the result of the smallest fault found that does the same; a stray write is small."""
    if result.fault.klass == memory.CLASS:
        return result
    truth = truth_of(result.fault.image, plan.norecovery)
    return shrink(result, lambda fault: one(truth, fault, plan.limits))
