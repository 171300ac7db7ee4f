"""The fuzzer's state, and its steps around arenas, layouts and caches."""

from __future__ import annotations

import gc
import mmap
import random
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress

from slablib import odd
from slablib.model import Arena, Layout, Life, Wrong
from slablib.odd import Mischief, Truth
from slablib.storemodel import Store
from wofs.errors import SlabError, SlabFinished, SlabFull, StaleHandle
from wofs.slab import _slab

BACKENDS = ("memfd", "memfd", "auto", "shared", "mprotect", "alias", "pool", "none")
MOST_ARENAS, MOST_LAYOUTS, MOST_DEPTH = 6, 40, 2
BAD_ARGUMENT = (TypeError, ValueError, OverflowError, BufferError, Mischief, SystemError)
ANY = (*BAD_ARGUMENT, SlabError, OSError, MemoryError, AttributeError)
CODES = {"B": 1, "H": 2, "I": 4, "Q": 8, "b": 1, "h": 2, "i": 4, "q": 8, "s": 1}

Step = Callable[["Fuzzer"], object]
STEPS: list[tuple[int, Step]] = []


def step(weight: int) -> Callable[[Step], Step]:
    """Register a kind of step; `weight` says how often it is taken."""

    def register(function: Step) -> Step:
        STEPS.append((weight, function))
        return function

    return register


class Fuzzer:
    """One process's arenas, layouts and handles, and the numbers of the step being taken."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        # A child of a process that had threads may find ASan's own locks held: one or the other.
        self.threaded = bool(seed % 2)
        self.rng = random.Random(seed)
        self.arenas: list[Arena] = []
        self.stores: list[Store] = []
        self.layouts: list[Layout] = []
        self.dead: list[object] = []
        self.last_serial = 0
        self.kept = self.packed = 0
        self.depth = 0
        self.folder = tempfile.mkdtemp(prefix="wofs-fuzz-")
        self.page = mmap.PAGESIZE

    def take(self, number: int) -> str:
        """Take one step; return what it was."""
        self.rng = random.Random(f"{self.seed}:{number}")
        return self.one()

    def one(self) -> str:
        """Take a random kind of step."""
        (_, chosen), *_ = self.rng.choices(STEPS, [weight for weight, _ in STEPS])
        chosen(self)
        return chosen.__name__

    def nested(self) -> None:
        """What an argument does in the middle of a call: raise, collect, or take a step."""
        dice = self.rng.random()
        if dice < 0.2:
            raise Mischief
        if dice < 0.3:
            gc.collect()
        elif self.depth < MOST_DEPTH:
            self.depth += 1
            try:
                self.one()
            finally:
                self.depth -= 1

    def number(self, usual: object) -> object:
        """Return a number for a call."""
        return odd.pick(self.rng, self.nested, usual)

    def arena(self) -> Arena | None:
        """Return an arena, open or not, made if there is none."""
        if not self.arenas:
            new_arena(self)
        return self.rng.choice(self.arenas) if self.arenas else None

    def layout(self) -> Layout:
        """Return a layout."""
        if not self.layouts:
            new_layout(self)
        return self.rng.choice(self.layouts)

    def layout_called(self, number: int) -> Layout | None:
        """Return the layout whose id a number is, also one that was only guessed."""
        return next((known for known in self.layouts if known.id == number), None)

    def life(self) -> tuple[Arena, Life] | None:
        """Return a living object."""
        found = [(arena, life) for arena in self.arenas for life in arena.alive]
        return self.rng.choice(found) if found else None

    def thing(self) -> object:
        """Return a handle, living or dead, or something else."""
        found = self.life()
        if found and self.rng.random() < 0.5:
            return found[1].handle
        return self.rng.choice([*self.dead[-20:], *odd.THINGS])

    def has_field(self, thing: object, name: object) -> bool:
        """Whether a thing is a living object with a field of that name."""
        lives = [life for arena in self.arenas for life in arena.alive if life.handle is thing]
        return any(field == name for life in lives for field, *_ in life.layout.fields)

    def publish(
        self,
        arena: Arena,
        cache: int,
        data: bytes,
        name: str,
        place: tuple[int, int],
        handle: object = None,
    ) -> Life:
        """Take a new object into the model; its serial is new, its place free, its bytes right."""
        offset, serial = place
        if serial <= self.last_serial:
            raise Wrong(f"serial {serial} after {self.last_serial}")
        self.last_serial = serial
        layout = arena.caches[cache]
        handle = handle or arena.raw.handle(layout.type, layout.id, offset, serial)
        life = Life(cache, layout, data, offset, serial, handle, name)
        life.check(handle)
        arena.added(life)
        return life

    def audit(self) -> None:
        """Hold everything against the model."""
        for arena in self.arenas:
            if arena.open:
                arena.audit()
        for store in self.stores:
            store.audit()
        for handle in self.dead[-50:]:
            stale(lambda handle=handle: memoryview(handle))  # type: ignore[misc]


def refused(call: Callable[[], object], *expected: type[BaseException]) -> BaseException:
    """Call what must be refused."""
    try:
        answer = call()
    except expected as error:
        return error
    raise Wrong(f"answered {answer!r}, should have raised {[e.__name__ for e in expected]}")


def stale(call: Callable[[], object]) -> None:
    """Call what must say that its object is gone."""
    refused(call, StaleHandle)


def closed(fuzzer: Fuzzer, arena: Arena) -> None:
    """Note that an arena is closed."""
    arena.open = False
    fuzzer.dead += [life.handle for life in arena.alive]
    arena.alive.clear()
    fuzzer.arenas.remove(arena)


# ---- arenas
@step(3)
def new_arena(f: Fuzzer) -> None:
    """Make an arena as it should be made."""
    if len(f.arenas) >= MOST_ARENAS:
        return
    backend, label = f.rng.choice(BACKENDS), f.rng.choice(("object", "", "x" * 15))
    f.arenas.append(Arena(_slab.Arena(f.rng.randint(1, 12), backend, label), backend, f.page))


@step(2)
def odd_arena(f: Fuzzer) -> None:
    """Make one with odd arguments; those that are right after all are closed again."""
    make: Callable[..., _slab.Arena] = _slab.Arena
    texts = [*odd.TEXTS, "memfd", "paper", "pkey"]
    arguments = [f.number(1), f.rng.choice(texts), f.rng.choice(odd.TEXTS)]
    if isinstance(arguments[0], int) and 2**16 <= arguments[0] <= 2**30:
        return  # valid, and memory by the gigabyte
    if f.rng.random() < 0.2:
        refused(lambda: make(*arguments[: f.rng.randrange(3)]), TypeError)
        return
    if f.rng.random() < 0.1:
        refused(lambda: make(1, "none", "x", pages=2), TypeError)
        return
    with suppress(*ANY):
        make(*arguments).close()


@step(1)
def subclass(f: Fuzzer) -> None:
    """No subclass, no other kind, no handle out of nothing, no attribute."""
    refused(lambda: type("Mine", (_slab.Arena,), {}), TypeError)
    refused(lambda: setattr(_slab.Arena, "close", None), TypeError)
    kind: Callable[[], object] = f.layout().type
    refused(kind, TypeError)
    refused(lambda: type("Mine", (kind,), {}), TypeError)  # type: ignore[arg-type]
    refused(lambda: setattr(kind, "x", 1), TypeError)
    refused(lambda: object.__new__(kind), TypeError)  # type: ignore[arg-type]


@step(1)
def close(f: Fuzzer) -> None:
    """Close an arena; a closed one again."""
    arena = f.arena()
    if arena is None:
        return
    if arena.viewed():
        refused(arena.raw.close, BufferError)
        return
    arena.raw.close()
    closed(f, arena)
    arena.raw.close()
    for call in (arena.raw.verify, arena.raw.enforce, arena.raw.state, arena.raw.page_map):
        stale(call)
    stale(lambda: arena.raw.finish(False))
    stale(lambda: arena.raw.locate(0))


@step(1)
def drop(f: Fuzzer) -> None:
    """Forget an arena without closing it; its views keep it alive."""
    arena = f.arena()
    if arena is None or f.depth:
        return
    views = [view for life in arena.alive for view in life.views]
    lives = list(arena.alive)
    closed(f, arena)
    del arena.raw
    for life in lives:
        if life.views:
            life.check(life.handle)
    for view in views:
        view.release()
    for life in lives[:3]:
        stale(lambda life=life: life.check(life.handle))  # type: ignore[misc]


@step(2)
def finish(f: Fuzzer) -> None:
    """Seal an arena."""
    arena = f.arena()
    if arena is None or f.rng.random() < 0.6:
        return
    truth = f.rng.choice((False, 0, "", None, Truth(False, f.nested)))
    raw: Callable[[object], None] = arena.raw.finish  # type: ignore[assignment]
    try:
        raw(truth)
    except Mischief:
        return
    except StaleHandle:
        if arena.open:
            raise
        return
    arena.sealed = True


# ---- layouts and caches
def fields_of(f: Fuzzer, size: int) -> tuple[tuple[str, str, int, int], ...]:
    """Return fields within `size` bytes; they may overlap."""
    found = [("f", "B", f.rng.randrange(size), 1)]
    for number in range(f.rng.randint(0, 8)):
        code = f.rng.choice(list(CODES))
        offset = f.rng.randint(0, size)
        most = (size - offset) // CODES[code]
        if most:
            found.append((f"f{number}", code, offset, min(most, f.rng.choice((1, 1, 2, 5, 4000)))))
    return tuple(found)


@step(1)
def new_layout(f: Fuzzer) -> None:
    """Publish a record type."""
    if len(f.layouts) >= MOST_LAYOUTS:
        return
    size = f.rng.choice((1, 2, 8, 24, 100, 400, 1500, f.page - 24, f.page - 23, 65_535))
    fields, name = fields_of(f, size), f"t{len(f.layouts)}"
    number, kind = _slab.layout(name, size, fields, f"fuzz.{name}")
    f.layouts.append(Layout(number, kind, name, size, fields))


def as_fields(whole: object) -> Iterable[tuple[object, object, object, object]]:
    """Return what was taken for fields, as fields."""
    if not isinstance(whole, tuple):
        raise Wrong(f"took {whole!r} for fields")
    return whole


@step(2)
def odd_layout(f: Fuzzer) -> None:
    """Publish a type that is declared wrong: what the slab accepts must be within its size."""
    publish: Callable[..., tuple[int, type]] = _slab.layout
    if len(f.layouts) >= MOST_LAYOUTS:
        return
    fields: list[object] = list(fields_of(f, 64))
    for _ in range(f.rng.randint(0, 2)):
        code = f.rng.choice([*CODES, "x", "", "BB", "\0", 1])
        offset = f.number(f.rng.randint(0, 70))
        item = (f.rng.choice(odd.TEXTS), code, offset, f.number(f.rng.randint(0, 9)))
        fields.insert(0, f.rng.choice((item, item, item, item[:3], None, list(item), (*item, 1))))
    whole: object = f.rng.choice((tuple(fields), tuple(fields), fields, None, tuple(fields) * 400))
    size = f.number(64)
    name, type_name = f.rng.choice(odd.TEXTS), f.rng.choice(("fuzz.odd", *odd.TEXTS))
    if isinstance(type_name, str) and "." not in type_name:
        type_name = "fuzz.odd"  # else Python warns of a type without a module
    try:
        number, kind = publish(name, size, whole, type_name)
    except ANY:
        return
    made = [
        (str(name), str(code), odd.value(offset), odd.value(count))
        for name, code, offset, count in as_fields(whole)
    ]
    total = odd.value(size)
    ends = [offset + count * CODES[code] for _, code, offset, count in made]
    lowest = min(min(offset, count - 1) for _, _, offset, count in made)
    if not 0 < total < 65_536 or lowest < 0 or max(ends) > total:
        raise Wrong(f"took a layout of {total} bytes with {made}")
    names = [name for name, *_ in made]
    if len(set(names)) == len(names):
        f.layouts.append(Layout(number, kind, str(name), total, tuple(made)))


@step(3)
def cache(f: Fuzzer) -> None:
    """Make a cache of a layout, or of what is none."""
    arena = f.arena()
    if arena is None:
        return
    layout = f.layout()
    make: Callable[[object], int] = arena.raw.cache  # type: ignore[assignment]
    near = (layout.id + f.rng.choice((-16, 16, 8, 1)), -16, -32, 2**20 - 16, 2**20, 16, 104_000)
    asked = f.rng.choice((layout.id, f.number(layout.id), f.rng.choice(near)))
    try:
        number = make(asked)
    except (ValueError, OverflowError, TypeError, Mischief):
        if asked == layout.id:
            raise
        return
    except StaleHandle:
        if arena.open:
            raise
        return
    except SlabFinished:
        if not arena.sealed:
            raise
        return
    except SlabFull:
        if len(arena.caches) < 64:
            raise
        return
    except SlabError:
        meant = f.layout_called(odd.value(asked))
        if meant is None or meant.stride <= f.page:
            raise
        return
    meant = f.layout_called(odd.value(asked))
    if meant is None or number != len(arena.caches):
        raise Wrong(f"cache {number} of {asked!r}")
    arena.caches.append(meant)
