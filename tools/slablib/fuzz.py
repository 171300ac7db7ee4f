"""Random calls of the slab's extension, valid and not, each answer held against a model.

`python -m slablib.fuzz --seed S --steps N [--only 3,17-20] [--log FILE]` runs one process's
worth. Each step has its own random numbers, drawn from seed and step, so that a sequence can
be cut down to the steps that matter. Before a step its number goes to the log: where the process
dies, the last one says where. Ends with 0, or 1 and the step that was answered wrong.
"""

from __future__ import annotations

import argparse
import copy
import faulthandler
import os
import pickle
import signal
import struct
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from slablib import odd, packs, stores
from slablib.fuzzer import ANY, BAD_ARGUMENT, Fuzzer, cache, new_arena, refused, stale, step
from slablib.model import Arena, Life, Wrong
from slablib.odd import Truth
from slablib.storemodel import Store
from wofs.errors import SlabError, SlabFinished, SlabFull, StaleHandle
from wofs.record import NEXT, Record, array_u32, raw, record, u32
from wofs.slab import Arena as PythonArena
from wofs.slab import _slab

Row = tuple[object, ...]
MOST_ALIVE = 400
PATIENCE_S = 100


# ---- objects
@step(30)
def init_once(f: Fuzzer) -> None:
    """Publish one object."""
    arena = f.arena()
    if arena is None or not arena.caches or len(arena.alive) > MOST_ALIVE:
        return
    number = f.rng.randrange(len(arena.caches))
    data, name = f.rng.randbytes(arena.caches[number].size), f.rng.choice(NAMES)
    try:
        place = arena.raw.init_once(number, name, data)
    except SlabFinished:
        if not arena.sealed:
            raise
    except SlabFull:
        if arena.has_room(number):
            raise
    else:
        if arena.sealed:
            raise Wrong("published although sealed")
        f.publish(arena, number, data, name, place)


_LONG = "a longer name of an object "
NAMES = ("", *(f"o{i}" for i in range(30)), *(f"{_LONG}{i}" for i in range(30)))


@step(6)
def odd_init(f: Fuzzer) -> None:
    """Publish with odd arguments: nothing but a whole object may come of it."""
    arena = f.arena()
    if arena is None:
        return
    init: Callable[..., tuple[int, int]] = arena.raw.init_once
    usual = f.rng.randrange(max(1, len(arena.caches)))
    size = arena.caches[usual].size if usual < len(arena.caches) else 8
    number = f.number(usual)
    name = f.rng.choice((*odd.TEXTS, "o1", "o2"))
    data = f.rng.choice((*odd.DATA, bytes(size), bytes(size + 1), bytes(size - 1)))
    try:
        place = init(number, name, data)
    except ANY:
        return
    index = odd.value(number)
    if not arena.open or arena.sealed or index >= len(arena.caches):
        raise Wrong(f"published {name!r} in cache {index} of what does not take it")
    f.publish(arena, index, bytes(data), str(name), place)  # type: ignore[call-overload]


@step(4)
def init_batch(f: Fuzzer) -> None:
    """Publish several; their places can be computed."""
    arena = f.arena()
    if arena is None or not arena.caches or len(arena.alive) > MOST_ALIVE:
        return
    number, count = f.rng.randrange(len(arena.caches)), f.rng.choice((0, 1, 3, 30, 90))
    layout = arena.caches[number]
    rows = [f.rng.randbytes(layout.size) for _ in range(count)]
    arena.runs()
    room = arena.end - arena.top
    try:
        first, serial, per_run, run_bytes, stride = arena.raw.init_batch(
            number, "b", b"".join(rows)
        )
    except SlabFinished:
        if not arena.sealed:
            raise
        return
    except SlabFull:
        if arena.batch_bytes(number, count) <= room:
            raise
        return
    if stride != layout.stride or run_bytes != arena.batch_bytes(number, per_run):
        raise Wrong(f"a batch of {per_run} in {run_bytes} bytes, {stride} apart")
    for index, data in enumerate(rows):
        run, slot = divmod(index, per_run)
        place = (first + run * run_bytes + slot * stride, serial + index)
        f.publish(arena, number, data, f"b[{index}]", place)
    f.last_serial = max(f.last_serial, serial + count - 1)


@step(20)
def free(f: Fuzzer) -> None:
    """Free an object where it belongs."""
    found = f.life()
    if found is None:
        return
    arena, life = found
    try:
        arena.raw.free(life.cache, life.handle)
    except BufferError:
        if not life.views:
            raise
    except SlabFinished:
        if not arena.sealed:
            raise
    except SlabError:
        if arena.backend != "pool":  # has no single free
            raise
    else:
        if arena.sealed or life.views or arena.backend == "pool":
            raise Wrong(f"{life.name} was freed although it is sealed or in view")
        arena.freed(life)
        f.dead.append(life.handle)
        stale(lambda: life.check(life.handle))
        stale(lambda: arena.raw.free(life.cache, life.handle))


@step(4)
def odd_free(f: Fuzzer) -> None:
    """Free what is none, or not there."""
    arena, thing = f.arena(), f.thing()
    if arena is None:
        return
    number = f.number(f.rng.randrange(5))
    give: Callable[[object, object], None] = arena.raw.free  # type: ignore[assignment]
    try:
        give(number, thing)
    except (*BAD_ARGUMENT, SlabError):
        return
    (life,) = [life for life in arena.alive if life.handle is thing]
    if life.views or arena.sealed or not arena.open:
        raise Wrong(f"{life.name} was freed although it is sealed or in view")
    arena.freed(life)
    f.dead.append(life.handle)


@step(6)
def handle(f: Fuzzer) -> None:
    """Make another handle of an object, or one of nothing."""
    found = f.life()
    if found is None:
        return
    arena, life = found
    life.check(arena.raw.handle(life.layout.type, life.layout.id, life.offset, life.serial))
    make: Callable[..., object] = arena.raw.handle
    other = f.layout()
    kind = f.rng.choice((life.layout.type, other.type, *odd.THINGS))
    number = f.number(f.rng.choice((life.layout.id, other.id)))
    offset = f.number(
        f.rng.choice((life.offset, life.offset + 16, life.offset + 8, life.offset % f.page, -16))
    )
    serial = f.number(f.rng.choice((life.serial, life.serial + 1, 0)))
    try:
        made = make(kind, number, offset, serial)
    except (*BAD_ARGUMENT, StaleHandle):
        return
    if type(made) is not kind:
        raise Wrong(f"a handle of {kind} is a {type(made)}")
    same = [life for life in arena.alive if life.layout.type is kind]
    values = [getattr(made, name) for name, *_ in same[0].layout.fields]
    if values not in [[getattr(x.handle, name) for name, *_ in x.layout.fields] for x in same]:
        raise Wrong("a handle reads as no object does")


# ---- looking
@step(5)
def look(f: Fuzzer) -> None:
    """Take a view of an object, or let one go."""
    found = f.life()
    if found is None:
        return
    _, life = found
    if life.views and f.rng.random() < 0.6:
        life.views.pop().release()
        return
    view = memoryview(life.handle)  # type: ignore[arg-type]
    if not view.readonly or bytes(view) != life.data:
        raise Wrong(f"a view of {life.name} differs")
    refused(lambda: view.__setitem__(0, 1), TypeError)
    life.views.append(view)


@step(3)
def address(f: Fuzzer) -> None:
    """Ask where a field is, and what is there."""
    ask: Callable[..., int] = _slab.address
    found = f.life()
    if found is None or f.rng.random() < 0.3:
        thing, text = f.thing(), f.rng.choice(odd.TEXTS)
        if not f.has_field(thing, text):
            refused(lambda: ask(thing, text), *ANY)
        return
    arena, life = found
    for name, _, offset, _ in life.layout.fields:
        at = ask(life.handle, name)
        site = arena.raw.locate(at)
        if site is None or site[1] != life.name or site[7] != offset or site[3] is None:
            raise Wrong(f"{life.name}.{name} is located at {site}")


@step(2)
def locate(f: Fuzzer) -> None:
    """Ask what lies at odd addresses."""
    arena = f.arena()
    if arena is None or not arena.open:
        return
    ask: Callable[[object], object] = arena.raw.locate  # type: ignore[assignment]
    start = arena.raw.page_map()[0]
    for _ in range(5):
        at = f.number(start + f.rng.randrange(-f.page, arena.end + f.page))
        try:
            site = ask(at)
        except (*BAD_ARGUMENT, StaleHandle):
            continue
        inside = arena.open and start <= odd.value(at) < start + arena.view_bytes
        if inside != (site is not None):
            raise Wrong(f"{at!r} is located at {site}")


@step(2)
def manners(f: Fuzzer) -> None:
    """A handle has no copy, no attribute, no other class."""
    found = f.life()
    if found is None:
        return
    handle = found[1].handle
    for call in (copy.copy, copy.deepcopy, pickle.dumps):
        refused(lambda call=call: call(handle), TypeError, pickle.PicklingError)  # type: ignore[misc]
    refused(lambda: setattr(handle, "f0", 1), AttributeError)
    refused(lambda: setattr(handle, "other", 1), AttributeError)
    refused(lambda: setattr(handle, "__class__", f.layout().type), TypeError)
    hash(handle), repr(handle), dir(handle), handle == f.thing()


@step(1)
def report_to(f: Fuzzer) -> None:
    """Name odd files for the report."""
    set_report: Callable[..., int] = _slab.report_to
    good = Path(f.folder, "report")
    others = (f.folder, "/nonexistent/x", *odd.TEXTS, *odd.NUMBERS)
    path = f.rng.choice((good, good, str(good), *others))
    if isinstance(path, (str, bytes)) and path[:1] not in ("/", b"/"):
        return  # would be made in the current folder
    try:
        number = set_report(path)
    except (*BAD_ARGUMENT, OSError):
        if path in (good, str(good)):
            raise
    else:
        os.fstat(number)


@step(1)
def report_json(f: Fuzzer) -> None:
    """The same for reports as JSON."""
    set_report: Callable[..., None] = _slab.report_json
    good = (Path(f.folder, "json"), False), (Path(f.folder), True)
    others = ((f.folder, False), (Path(f.folder, "report"), True), ("/" + "x" * 4000, True))
    odds = ((f.rng.choice(odd.NUMBERS), True), ("/a\0b", False), (f.folder, Truth(True, f.nested)))
    arguments = f.rng.choice((*good, *others, *odds))
    try:
        set_report(*arguments)
    except (*BAD_ARGUMENT, OSError):
        if arguments in good:
            raise


# ---- the Python face
@record("fuzzed", derived=True, source="the fuzzer")
class Fuzzed(Record):
    """One field of each kind."""

    number = u32(NEXT, "number")
    items = array_u32(NEXT, 2, "items")
    text = raw(NEXT, 8, "text")


def noted(rows: Iterator[Row], to: list[Row]) -> Iterator[Row]:
    """Yield rows and keep them."""
    for row in rows:
        to.append(row)
        yield row


@step(2)
def face(f: Fuzzer) -> None:
    """Rows that raise, or change the arena while they are asked for."""
    arena = PythonArena.create(f.rng.randint(1, 4), f.rng.choice(("memfd", "mprotect")))
    cache = arena.cache(Fuzzed)
    kept = [cache.init_once("kept", number=1, items=(2, 3), text=b"12345678")]

    def free_one() -> None:
        cache.free(kept[-1])
        kept.pop()

    def disturb() -> None:
        f.rng.choice((f.nested, arena.finish, arena.close, free_one))()

    def rows() -> Iterator[Row]:
        for number in range(f.rng.randint(1, 9)):
            if f.rng.random() < 0.2:
                disturb()
            odd_number = f.number(number) if f.rng.random() < 0.2 else number
            yield (odd_number, (number, 0), f.rng.choice((bytes(8), bytes(8), b"x", None)))

    taken = list[Row]()
    try:
        handles = cache.init_batch("row", noted(rows(), taken))
    except (*ANY, IndexError, struct.error):
        handles = None
    if handles is not None:
        for handle, (number, items, text) in zip(handles, taken, strict=True):
            found = (handle.number, handle.items, handle.text.rstrip(b"\0"))
            if not isinstance(text, bytes):
                raise Wrong(f"took {text!r} for bytes")
            if found != (odd.value(number), items, text.rstrip(b"\0")):
                raise Wrong(f"a row reads as {found}")
    with suppress(StaleHandle):
        if arena.verify() or any(handle.number != 1 for handle in kept):
            raise Wrong("an object changed")
        expected = len(kept) + len(handles or ())
        if len(list(arena.objects())) != expected:
            raise Wrong(f"{len(list(arena.objects()))} objects, not {expected}")
    arena.close()


# ---- company
@step(1)
def threads(f: Fuzzer) -> None:
    """Others read while this one publishes and frees."""
    if not f.threaded:
        return
    lives = [life for arena in f.arenas for life in arena.alive]
    kept = [(s, s.raw, one) for s in f.stores for batch in s.batches for one in batch.kept]
    gone, closed = set[Life](), set[Store]()
    stop, wrong = threading.Event(), list[BaseException]()

    def read() -> None:
        try:
            while not stop.is_set():
                for life in lives:
                    try:
                        life.check(life.handle)
                    except StaleHandle:
                        gone.add(life)  # the model learns of it a moment later
                for store, raw, one in kept:
                    try:
                        found = raw.read(one.place, one.kind, one.a, one.b)
                    except StaleHandle:
                        closed.add(store)
                        continue
                    if found not in (one.data, None):
                        raise Wrong(f"{one} reads otherwise")
        except BaseException as error:
            wrong.append(error)

    others = [threading.Thread(target=read) for _ in range(3)]
    for thread in others:
        thread.start()
    try:
        for _ in range(30):
            f.rng.choice((init_once, free, init_batch, handle, stores.put, stores.drop_batch))(f)
    finally:
        stop.set()
        for thread in others:
            thread.join()
    if wrong:
        raise Wrong(f"a thread that reads: {wrong[0]!r}")
    if gone.intersection(life for arena in f.arenas for life in arena.alive):
        raise Wrong("a thread was told of a living object that it is stale")
    if closed.intersection(f.stores):
        raise Wrong("a thread was told of an open store that it is closed")


def refuses_writes(arena: Arena) -> None:
    """See that an arena of the parent takes nothing."""
    refused(lambda: arena.raw.finish(False), SlabError)
    for number, layout in enumerate(arena.caches):
        data = bytes(layout.size)
        refused(lambda n=number, d=data: arena.raw.init_once(n, "x", d), SlabError)  # type: ignore[misc]


def takes_nothing(store: Store) -> None:
    """The same for a store and its batches."""
    refused(lambda: store.raw.batch(0), SlabError)
    for batch in store.batches:
        if batch.raw is not None:
            refused(lambda raw=batch.raw: raw.put(0, [(1, 1, 1, b"x")], {}), SlabError)  # type: ignore[misc]
            refused(batch.raw.seal, SlabError)


@step(1)
def fork(f: Fuzzer) -> None:
    """A child reads everything, writes nothing, and makes arenas and stores of its own."""
    if f.threaded:
        return
    child = os.fork()
    if child:
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status:
            raise Wrong(f"a forked child ended with {status}")
        return
    signal.alarm(PATIENCE_S)
    try:
        f.audit()
        for arena in f.arenas:
            if arena.open and not arena.sealed:
                refuses_writes(arena)
        for store in f.stores:
            takes_nothing(store)
        f.arenas.clear()
        f.stores.clear()
        new_arena(f)
        stores.new_store(f)
        mine = (cache, init_once, free, init_batch, look)
        for _ in range(30):
            f.rng.choice((*mine, stores.new_batch, stores.put, stores.drop_batch, packs.pack))(f)
        f.audit()
    except BaseException as error:
        print(f"fuzz: in a child: {error!r}", file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)


def numbers_in(text: str) -> list[int]:
    """Return the numbers of "1,4-6"."""
    spans = [part.partition("-") for part in text.split(",")]
    return [n for first, _, last in spans for n in range(int(first), int(last or first) + 1)]


def as_text(numbers: Sequence[int]) -> str:
    """Return numbers, in order, as "1,4-6"."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ",".join(f"{a}-{b}" if a < b else f"{a}" for a, b in spans)


def run(seed: int, numbers: Sequence[int], log: int) -> int:
    """Take the steps; return the exit status."""
    fuzzer, name = Fuzzer(seed), ""
    for count, number in enumerate(numbers):
        os.pwrite(log, b"%-12d" % number, 0)
        try:
            name = fuzzer.take(number)
            if count % 50 == 49:
                name = "audit"
                fuzzer.audit()
        except BaseException as error:
            print(f"fuzz: seed {seed} step {number}: {error!r}", file=sys.stderr)
            traceback.print_exc()
            return 1
    fuzzer.audit()
    print(
        f"{name}: {fuzzer.last_serial} objects, {fuzzer.kept} kept in stores, "
        f"{fuzzer.packed} rows packed, {len(fuzzer.layouts)} layouts"
    )
    return 0


def main() -> int:
    """Run one process's worth."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--only", help="numbers of the steps to take, by commas")
    parser.add_argument("--log", default=os.devnull, help="file for the number of the step")
    asked = parser.parse_args()
    numbers = numbers_in(asked.only) if asked.only else range(asked.steps)
    faulthandler.register(signal.SIGALRM, chain=True)  # a thread that watches would be in the way
    signal.alarm(PATIENCE_S)
    log = os.open(asked.log, os.O_WRONLY | os.O_CREAT, 0o600)
    return run(asked.seed, numbers, log)


if __name__ == "__main__":
    sys.exit(main())
