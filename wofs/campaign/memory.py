"""Stray writes as a class of faults: the memory of a mount is struck, not the disk.

A fault is a place in the objects that steer every read, in one kind of memory, and how often it
is struck. Fields are struck to the death: the slab's handler must end the process with a report
that names the field. Objects and the room around them are struck in volleys, whose stores fault
and are survived, so that there can be a million; where one landed, no byte may differ unseen.
"""

from __future__ import annotations

import random
import shlex
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from wofs.campaign.child import Met, run
from wofs.campaign.fault import Fault
from wofs.campaign.laws import Result
from wofs.campaign.subject import IMAGE, Answers, Failure, answers_of
from wofs.campaign.unit import Limits, Unit
from wofs.demo.fields import places
from wofs.demo.strikes import KINDS, LANDED, Stretch, expected, stretches, to_the_death, volley
from wofs.device import open_device
from wofs.errors import ImageError, WofsError
from wofs.fs import Filesystem
from wofs.fs import open as open_filesystem
from wofs.slab import _slab

CLASS = "memory"
ROOM = "arena and tables"
"""The structure that stands for all of the slab's memory, most of which is room."""

ROOM_SHARE = 4
"""Of the strikes in volleys one of so many goes anywhere in the slab's memory."""

DEATH_SHARE = 50
"""One of so many strikes is to the death, but at least one a field."""

_SETTLED = (IMAGE, "memory")
"""The one answer that is about the memory itself."""


@dataclass(frozen=True, slots=True)
class Aim:
    """What a fault strikes: a field or an object by its name, or ROOM."""

    structure: str
    object: str
    field: str
    stretch: Stretch

    @property
    def name(self) -> str:
        """What `wofs demo straywrite --at` calls it; empty for ROOM."""
        return f"{self.object}.{self.field}" if self.field else self.object


# ---- the faults of an image
def faults_of(path: str, backends: Sequence[str], strikes: int, seed: int) -> list[Fault]:
    """Return the faults that strike an image's mount so often in each kind of memory.

    Raises NoBackend for a kind that this machine does not grant, and as `wofs.open` does.
    """
    found: list[Fault] = []
    for backend in backends:
        with _opened(path, backend) as filesystem:
            aims = list(_aims(filesystem))
        fields = [aim for aim in aims if aim.field]
        objects = [aim for aim in aims if aim.object and not aim.field]
        deaths = max(1, strikes // DEATH_SHARE // len(fields))
        left = max(0, strikes - deaths * len(fields))
        anywhere = left // ROOM_SHARE
        found += [_fault(path, aim, backend, deaths, seed) for aim in fields]
        shares = _shares(left - anywhere, [aim.stretch.size for aim in objects])
        for aim, share in zip(objects, shares, strict=True):
            found.append(_fault(path, aim, backend, share, seed))
        room = next(aim for aim in aims if not aim.object)  # all of it is one fault
        found.append(_fault(path, room, backend, anywhere, seed))
    return [fault for fault in found if times(fault)]


def of_key(path: str, key: str) -> Fault:
    """Return the fault that a key of this class names; ValueError where it names none."""
    klass, *edits = shlex.split(key)
    words = dict(zip(edits[1::2], edits[2::2], strict=False))
    name, backend, seed = (
        words.get("--at", ""),
        words.get("--backends", ""),
        words.get("--seed", ""),
    )
    count = words.get("--writes", "")
    if klass != CLASS or not (backend and count.isdecimal() and seed.isdecimal()):
        raise ValueError(f"{key}: is no key of a fault")
    owner, _, field = name.partition(".")
    structure = _cache(owner) if owner else ROOM
    return Fault(
        path, CLASS, structure, owner, field, f"{count} stores", backend, tuple(edits), int(seed)
    )


def times(fault: Fault) -> int:
    """Return how often a fault strikes."""
    return int(fault.edits[fault.edits.index("--writes") + 1])


def _fault(path: str, aim: Aim, backend: str, count: int, seed: int) -> Fault:
    how = "to the death" if aim.field else "in volleys"
    edits = ["straywrite", "--backends", backend, "--writes", str(count), "--seed", str(seed)]
    if aim.name:
        edits += ["--at", aim.name]
    value = f"{count} stores {how}"
    return Fault(
        path, CLASS, aim.structure, aim.object, aim.field, value, backend, tuple(edits), seed
    )


def _shares(count: int, sizes: Sequence[int]) -> list[int]:
    """Return how many of `count` go to each of so many bytes; all places are as likely."""
    shares = [count * size // sum(sizes) for size in sizes]
    shares[0] += count - sum(shares)
    return shares


def _opened(path: str, backend: str) -> Filesystem:
    return open_filesystem(open_device(path), norecovery=True, slab=backend)


def _aims(filesystem: Filesystem) -> Iterator[Aim]:
    """Yield every field, every object (with its header and paddings), and all the memory."""
    mount = filesystem.mount
    for place in places(mount, mount.geo.agcount):
        name, _, field = place.name.rpartition(".")
        yield Aim(_cache(name), name, field, Stretch(place.address, place.size))
    arena = mount.arena
    sites = {(site.page, site.slot, site.cache): site for site in arena.objects()}
    runs = arena.pages()
    for site in sites.values():
        start, size = next(
            (run.address + site.slot * run.slot_bytes, run.slot_bytes)
            for run in runs
            if run.address <= site.address < run.address + len(run.slots) * run.slot_bytes
        )
        yield Aim(_cache(site.name), site.name, "", Stretch(start, size))
    for stretch in stretches(arena):
        yield Aim(ROOM, "", "", stretch)


def _cache(name: str) -> str:
    return name.partition("[")[0]


# ---- striking
class Struck:
    """A mount whose memory is struck, and the answers it gives undisturbed."""

    def __init__(self, path: str, backend: str) -> None:
        """Mount `path` with one kind of memory; raises NoBackend, and as `wofs.open` does."""
        with _opened(path, backend) as filesystem:
            self.answers = answers_of(filesystem)
        self.filesystem = _opened(path, backend)  # it has answered nothing yet
        aims = list(_aims(self.filesystem))
        self._by_name = {aim.name: aim for aim in aims if aim.name}
        self._room = [aim for aim in aims if not aim.name]

    def close(self) -> None:
        """Unmount."""
        self.filesystem.close()

    def strike(self, fault: Fault, limits: Limits) -> list[Result]:
        """Strike as a fault has it; a result for each sort of end, the first the fault's own."""
        if fault.field:
            return self._to_the_death(fault, limits)
        return self._in_volleys(fault)

    def _to_the_death(self, fault: Fault, limits: Limits) -> list[Result]:
        """Strike a field, each time in a child that nothing saves."""
        stretch, rng = self._aim(fault.name).stretch, _random(fault)
        ends: dict[tuple[str, tuple[str, ...]], Result] = {}
        for _ in range(times(fault)):
            kind, address = rng.choice(KINDS), stretch.start + rng.randrange(stretch.size)
            site = self.filesystem.mount.arena.locate(address)
            assert site is not None
            status, said = to_the_death(kind, address)
            if status == LANDED:
                one = Result(fault, "missed", error="nothing was said")
                if ("missed", ()) not in ends:
                    one.reason, one.changed = self._consequence(kind, address, limits)
            elif status == -signal.SIGSEGV and said == expected(site):
                one = Result(fault, "crashed", error=f"hit {said}", signal=-status)
            else:
                law = "crash: names another place"
                one = Result(fault, "broken", (law,), f"status {status}: {said}")
                one.signal = max(0, -status)
            known = ends.setdefault((one.outcome, one.laws), one)
            known.count += known is not one
        return _apart(list(ends.values()))

    def _in_volleys(self, fault: Fault) -> list[Result]:
        """Strike an object, or anywhere, so that the process lives on."""
        aims = self._aims(fault)
        shares = _shares(times(fault), [aim.stretch.size for aim in aims])
        targets = [(aim.stretch, share) for aim, share in zip(aims, shares, strict=True)]
        in_each, changed = volley(
            self.filesystem.mount.arena, targets, _random(fault).getrandbits(32)
        )
        landed = sum(in_each)
        ends = []
        if landed < times(fault):
            ends.append(Result(fault, "stopped", count=times(fault) - landed))
            if changed and not landed:
                ends[0].outcome, ends[0].laws = "broken", ("write: stopped, and bytes differ",)
        if landed:
            ends.append(Result(fault, "missed", count=landed, reason="in a volley"))
        return _apart(ends)

    def _aim(self, name: str) -> Aim:
        """Return what is called so; raises WofsError for a fault of another image."""
        if name not in self._by_name:
            raise WofsError(f"{name}: the mount has no such object or field")
        return self._by_name[name]

    def _aims(self, fault: Fault) -> list[Aim]:
        return [self._aim(fault.object)] if fault.object else self._room

    def _consequence(self, kind: str, address: int, limits: Limits) -> tuple[str, tuple[str, ...]]:
        """Strike once more and ask for everything: what does it come to, and what differs?"""

        def struck() -> Met:
            _slab.stray_write(kind, address)
            met = Met()
            try:
                _compare(self.answers, answers_of(self.filesystem), met)
            except ImageError as error:
                met.refused = str(error)
            return met

        met, death = run((struck,), limits)[0]
        if met is None:
            return ("it hung" if death.timed_out else "the process ended"), ()
        if met.trace:
            return "an internal error", (met.trace,)
        changed = tuple(f"{path} {what}: {was} -> {now}" for path, what, was, now in met.wrong)
        if changed:
            return "wrong answers, served as if right", changed
        if met.failures or met.refused:
            return "errors where there were answers", ()
        return "no answer depended on it", ()


def _compare(truth: Answers, answers: Answers, met: Met) -> None:
    """Note which answers differ, the first of those that are wrong in words."""
    for (path, what), now in answers.items():
        was = truth.get((path, what))
        if was == now or (path, what) == _SETTLED:
            continue
        if isinstance(now, Failure):
            met.failures += 1
        elif len(met.wrong) < 4:
            shown = path.decode("utf-8", "surrogateescape") or "image"
            met.wrong.append([shown, what, repr(was)[:80], repr(now)[:80]])


def _random(fault: Fault) -> random.Random:
    return random.Random(" ".join((*fault.edits, str(fault.seed))))


def _apart(results: list[Result]) -> list[Result]:
    """Give all results but the first a fault of their own: a fault has one result."""
    for number, result in enumerate(results[1:], 1):
        fault = result.fault
        result.fault = replace(fault, edits=(*fault.edits, "--seed", str(fault.seed + number)))
    return results


_struck: dict[tuple[str, str], Struck] = {}
"""The mount that this process strikes; one at most."""


def work(unit: Unit) -> list[Result]:
    """Strike as the faults of a unit have it; raises as `wofs.open` does."""
    found = []
    for fault in unit.faults:
        key = unit.path, fault.crc
        if key not in _struck:
            while _struck:
                _struck.popitem()[1].close()
            _struck[key] = Struck(*key)
        found += _struck[key].strike(fault, unit.limits)
    return found
