"""The fuzzer's steps around stores, their batches, and the shelves over them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from contextlib import suppress

from slablib import odd
from slablib.fuzzer import ANY, BACKENDS, BAD_ARGUMENT, Fuzzer, refused, stale, step
from slablib.model import Wrong
from slablib.storemodel import Batch, Store, room_of
from wofs.errors import SlabError, SlabFull, StaleHandle
from wofs.slab import Store as PythonStore
from wofs.slab import _slab

MOST_STORES, MOST_KEPT = 3, 300
KINDS = (("inode", "block"), ("k" * 31,), tuple(f"kind {n}" for n in range(32)), ("",))
NUMBERS = (0, 1, 7, 2**31, 2**63, 2**64 - 1)

logging.getLogger("wofs.slab").addHandler(logging.NullHandler())


def store_of(f: Fuzzer) -> Store | None:
    """Return a store, made if there is none."""
    if not f.stores:
        new_store(f)
    return f.rng.choice(f.stores) if f.stores else None


def batch_of(f: Fuzzer) -> tuple[Store, Batch, _slab.Batch] | None:
    """Return a batch that can be called."""
    found = [(s, b, b.raw) for s in f.stores for b in s.batches if b.raw is not None]
    return f.rng.choice(found) if found else None


@step(2)
def new_store(f: Fuzzer) -> None:
    """Make a store as it should be made."""
    if len(f.stores) >= MOST_STORES:
        return
    backend = f.rng.choice([name for name in BACKENDS if name != "auto"])
    slots, slot_bytes = f.rng.choice((1, 3, 8, 40)), f.page * f.rng.choice((1, 1, 2, 16))
    kinds = f.rng.choice(KINDS)
    raw = _slab.Store(slots, slot_bytes, backend, f.rng.choice(("", "metadata", "x" * 20)), kinds)
    f.stores.append(Store(raw, backend, slots, slot_bytes, kinds, f.page))


@step(1)
def odd_store(f: Fuzzer) -> None:
    """Make one with odd arguments; those that are right after all are closed again."""
    make: Callable[..., _slab.Store] = _slab.Store
    kinds = f.rng.choice(
        (KINDS[0], (), ("x",) * 33, ["x"], ("x" * 32,), (b"x",), ("\ud800",), None)
    )
    arguments = (
        f.number(2),
        f.number(f.page),
        f.rng.choice(("memfd", "none", "auto", "paper", *odd.TEXTS)),
        f.rng.choice(odd.TEXTS),
        kinds,
    )
    if f.rng.random() < 0.2:
        refused(lambda: make(*arguments[: f.rng.randrange(5)]), TypeError)
        return
    with suppress(*ANY):
        made = make(*arguments)
        if odd.value(arguments[0]) < 1 or odd.value(arguments[1]) % f.page:
            raise Wrong(f"made a store of {arguments}")
        made.close()


@step(6)
def new_batch(f: Fuzzer) -> None:
    """Make a batch; refused only where no row of slots is left."""
    store = store_of(f)
    if store is None:
        return
    near = store.slot_bytes * f.rng.randint(0, 3) + f.rng.choice((-33, -32, -31, 0, 16, 100))
    room = f.number(f.rng.choice((near, near, 0, store.size)))
    ask: Callable[[object], _slab.Batch] = store.raw.batch  # type: ignore[assignment]
    try:
        raw = ask(room)
    except SlabFull:
        wanted = -(-(odd.value(room) + 32) // store.slot_bytes)
        if wanted <= store.free_row():
            raise
    except StaleHandle:
        if store.open:
            raise
    except BAD_ARGUMENT:
        if room == near >= 0:
            raise
    else:
        if not store.open:
            raise Wrong("a closed store gave a batch")
        store.added(raw, odd.value(room))


def some_rows(f: Fuzzer, batch: Batch) -> list[tuple[int, int, bytes]]:
    """Return rows, now and then one that just fits, or just does not."""
    left = batch.size - batch.used
    sizes = [f.rng.choice((0, 1, 15, 16, 17, 100, 700)) for _ in range(f.rng.randint(0, 6))]
    if f.rng.random() < 0.2:
        rest = left - sum(map(room_of, sizes)) - 32
        sizes.append(max(0, rest + f.rng.choice((-1, 0, 1))))
    numbers = f.rng.choices((*NUMBERS, *range(20)), k=2 * len(sizes))
    return [
        (numbers[2 * n], numbers[2 * n + 1], f.rng.randbytes(size)) for n, size in enumerate(sizes)
    ]


@step(14)
def put(f: Fuzzer) -> None:
    """Publish objects: as many as fit, one behind the other."""
    found = batch_of(f)
    if found is None or sum(len(b.kept) for b in found[0].batches) > MOST_KEPT:
        return
    store, batch, raw = found
    rows, kind, index = some_rows(f, batch), f.rng.randrange(store.kinds), dict[Hashable, int]()
    keyed = [(number, *row) for number, row in enumerate(rows)]
    done, size = raw.put(kind, f.rng.choice((list, tuple, iter))(keyed), index)
    places = dict(enumerate(store.put(batch, kind, rows)))
    wanted = (len(places), sum(len(data) for _, _, data in rows[: len(places)]))
    if index != places or (done, size) != wanted:
        raise Wrong(f"put {done} of {size} bytes at {index}, should be {wanted} at {places}")
    f.kept += done


class Key:
    """A key that empties the rows when it is asked for its hash."""

    def __init__(self, rows: list[object]) -> None:
        self.rows = rows

    def __hash__(self) -> int:
        """Return a number, after that."""
        self.rows.clear()
        return id(self)

    def __eq__(self, other: object) -> bool:
        """Whether it is the same."""
        return self is other


@step(5)
def odd_put(f: Fuzzer) -> None:
    """Publish what is none: nothing comes of it, or just what was asked."""
    found = batch_of(f)
    if found is None:
        return
    store, batch, raw = found
    rows: list[object] = [(Key([]), *row) for row in some_rows(f, batch)]
    for _ in range(f.rng.randint(0, 2)):
        data = f.rng.choice(odd.DATA)
        row = (Key(rows), f.number(3), f.number(4), data)
        rows.insert(0, f.rng.choice((row, row, row[:3], (*row, 1), list(row), None)))
    given, index = list(rows), dict[Hashable, int]()
    kind = f.number(f.rng.choice((0, store.kinds - 1, store.kinds)))
    ask: Callable[..., tuple[int, int]] = raw.put
    try:
        done, _ = ask(kind, f.rng.choice((rows, rows, rows, tuple(rows), None)), index)
    except (*BAD_ARGUMENT, SlabError, OSError):
        return
    if odd.value(kind) not in range(store.kinds) or not all(isinstance(r, tuple) for r in given):
        raise Wrong(f"took {given!r:.300} of kind {kind!r}")
    taken = [(int(row[1]), int(row[2]), bytes(row[3])) for row in given]  # type: ignore[index]
    if any(not 0 <= number < 2**64 for row in taken for number in row[:2]):
        raise Wrong(f"took a key of {taken!r:.300}")
    if len(index) != done or (
        batch in store.batches and list(index.values()) != store.put(batch, odd.value(kind), taken)
    ):
        raise Wrong(f"put {given!r:.300} at {index}")


@step(2)
def seal(f: Fuzzer) -> None:
    """Seal a batch, also twice."""
    found = batch_of(f)
    if found is not None and f.rng.random() < 0.5:
        _, batch, raw = found
        raw.seal()
        batch.sealed = True


@step(12)
def read_kept(f: Fuzzer) -> None:
    """Read objects by their own keys, by others', at odd places: what is there, or nothing."""
    store = store_of(f)
    if store is None:
        return
    kept = [kept for batch in store.batches for kept in batch.kept]
    if not store.open:
        stale(lambda: store.raw.read(0, 0, 0, 0))
        stale(lambda: store.raw.read_many([0], 0, [0]))
        return
    places = [one.place for one in kept] + [0, 16, store.size - 32, store.size]
    for _ in range(5):
        if kept and f.rng.random() < 0.7:
            one = f.rng.choice(kept)
            key: list[object] = [one.place, one.kind, one.a, one.b]
        else:
            key = [f.rng.choice(places), f.rng.randrange(store.kinds + 1), 1, 1]
        if f.rng.random() < 0.5:
            which = f.rng.randrange(4)
            key[which] = f.number(f.rng.choice((key[which], f.rng.choice(places), 1)))
        ask: Callable[..., object] = f.rng.choice((store.raw.read, store.raw.view))
        try:
            answer = ask(*key)
        except (*BAD_ARGUMENT, StaleHandle):
            if store.open and all(type(number) is int and 0 <= number < 2**32 for number in key):
                raise
            continue
        place, kind, a, b = map(odd.value, key)
        wanted = store.holds(place, kind, a, b)
        if (None if answer is None else bytes(answer)) != wanted:  # type: ignore[call-overload]
            raise Wrong(f"{key} reads as {answer!r:.60}, should as {wanted!r:.60}")


@step(4)
def read_many(f: Fuzzer) -> None:
    """Read many at once; the lists may be odd."""
    store = store_of(f)
    if store is None or not store.open:
        return
    kept = [kept for batch in store.batches for kept in batch.kept if kept.b == 0]
    chosen = f.rng.choices(kept, k=5) if kept else []
    kind = chosen[0].kind if chosen else 0
    places: list[object] = [f.rng.choice((one.place, one.place, None)) for one in chosen]
    keys: list[object] = [one.a for one in chosen]
    if f.rng.random() < 0.3:
        places.append(f.number(0))
        keys.append(f.number(1))
    asked = f.number(kind) if f.rng.random() < 0.2 else kind
    ask: Callable[..., list[bytes | None]] = store.raw.read_many
    try:
        answers = ask(places, asked, keys)
    except (*BAD_ARGUMENT, StaleHandle):
        return
    for place, key, answer in zip(places, keys, answers, strict=True):
        wanted = (
            None
            if place is None
            else store.holds(odd.value(place), odd.value(asked), odd.value(key), 0)
        )
        if answer != wanted:
            raise Wrong(f"{place!r}, {key!r} reads as {answer!r:.60}, should as {wanted!r:.60}")


@step(5)
def view_kept(f: Fuzzer) -> None:
    """Take a view of an object or a batch, or let one go."""
    found = batch_of(f)
    if found is None:
        return
    store, batch, raw = found
    if batch.views and f.rng.random() < 0.5:
        batch.views.pop()[0].release()
        return
    if not batch.kept:
        return
    one = f.rng.choice(batch.kept)
    view = store.raw.view(one.place, one.kind, one.a, one.b)
    if view is None or not view.readonly or view != one.data:
        raise Wrong(f"a view of {one} is {view!r}")
    if one.data:
        refused(lambda: view.__setitem__(0, 1), TypeError)
    batch.views.append((view, one.data))
    with memoryview(raw) as whole:  # type: ignore[arg-type]
        at = one.place - batch.first * store.slot_bytes + 32
        if not whole.readonly or whole[at : at + len(one.data)] != one.data:
            raise Wrong(f"{one} does not lie in its batch")


@step(5)
def drop_batch(f: Fuzzer) -> None:
    """Let go of a batch: what holds it are its views; then nothing is there any more."""
    found = batch_of(f)
    if found is None or f.depth:
        return
    store, batch, raw = found
    del raw, found
    batch.raw = None
    if f.rng.random() < 0.7:
        while batch.views:
            batch.views.pop()[0].release()
    store.settle()
    for one in batch.kept[:4]:
        answer = store.raw.read(one.place, one.kind, one.a, one.b)
        if answer != store.holds(one.place, one.kind, one.a, one.b):
            raise Wrong(f"{one} of a batch that is gone reads as {answer!r:.60}")


@step(2)
def release_views(f: Fuzzer) -> None:
    """Let go of the views that hold batches."""
    store = store_of(f)
    if store is None or f.depth:
        return
    for batch in store.batches:
        if batch.raw is None:
            while batch.views:
                batch.views.pop()[0].release()
    store.settle()


@step(3)
def locate_kept(f: Fuzzer) -> None:
    """Ask what lies at addresses of a store."""
    store = store_of(f)
    if store is None or not store.base or not store.open:
        return
    ask: Callable[[object], _slab.SiteTuple | None] = store.raw.locate  # type: ignore[assignment]
    for _ in range(4):
        at = f.number(store.base + f.rng.randrange(-store.page_bytes, store.size + f.page))
        try:
            site = ask(at)
        except (*BAD_ARGUMENT, StaleHandle):
            continue
        if (site is not None) != (0 <= odd.value(at) - store.base < store.size) and store.open:
            raise Wrong(f"{at!r} is located at {site}")
    for batch in store.batches[:3]:
        if not batch.kept:
            continue
        one = f.rng.choice(batch.kept)
        byte = f.rng.randrange(-32, len(one.data))
        site = ask(store.base + one.place + 32 + byte)
        wanted = ("kept object" if byte >= 0 else "header", f"{store.names[one.kind]}[{one.a}]")
        if site is None or site[:2] != wanted:
            raise Wrong(f"byte {byte} of {one} is located at {site}")


@step(1)
def close_store(f: Fuzzer) -> None:
    """Close a store: refused while it has batches; a closed one again."""
    store = store_of(f)
    if store is None:
        return
    if store.batches:
        refused(store.raw.close, BufferError)
        return
    store.raw.close()
    store.open = False
    f.stores.remove(store)
    store.raw.close()
    for call in (lambda: store.raw.batch(0), lambda: store.raw.locate(0)):
        stale(call)
    stale(lambda: store.raw.read(0, 0, 0, 0))
    if store.raw.verify():
        raise Wrong("a closed store has changed objects")


@step(1)
def drop_store(f: Fuzzer) -> None:
    """Forget a store without closing it; its batches keep it alive."""
    store = store_of(f)
    if store is None or f.depth or f.rng.random() < 0.5:
        return
    f.stores.remove(store)
    store.open = False
    del store.raw
    for batch in store.batches:
        for view, data in batch.views:
            if view != data:
                raise Wrong("a view outlived its bytes")


@step(2)
def no_other_way(f: Fuzzer) -> None:
    """No batch out of nothing, no subclass, no attribute."""
    refused(lambda: type("Mine", (_slab.Store,), {}), TypeError)
    found = batch_of(f)
    if found is None:
        return
    kind: Callable[..., object] = type(found[2])
    refused(kind, TypeError)
    refused(lambda: object.__new__(kind), TypeError)  # type: ignore[arg-type]
    refused(lambda: setattr(found[2], "x", 1), AttributeError)


# ---- the Python face
class Worth:
    """What a shelf should hold: for each key what was put last."""

    def __init__(self, f: Fuzzer, store: PythonStore, number: int) -> None:
        self.limit = f.rng.choice((1 << 12, 1 << 16, 1 << 20))
        self.shelf = store.shelf(f"shelf {number}", self.limit)
        self.number = number
        self.last: dict[int, bytes] = {}

    def put(self, f: Fuzzer) -> None:
        """Put some objects; what was put is there, unless the system gave no memory for it."""
        most = 400_000 if f.rng.random() < 0.05 else 3000
        rows = [
            (key, key, 0, f.rng.randbytes(f.rng.randrange(most)))
            for key in f.rng.sample(range(60), f.rng.randint(1, 5))
        ]
        self.shelf.put(self.number, rows)
        self.last.update((key, data) for key, _, _, data in rows)
        key, _, _, data = rows[-1]
        found = self.shelf.read(key, self.number, key, 0)
        if found != data and not self.shelf._refused:
            raise Wrong(f"{key} was put and is not there")

    def look(self, f: Fuzzer) -> None:
        """Read: nothing but what was put last, if anything."""
        keys = f.rng.choices(range(70), k=6)
        views = [self.shelf.view(key, self.number, key, 0) for key in keys[:2]]
        found = [None if view is None else bytes(view) for view in views]
        found += [self.shelf.read(key, self.number, key, 0) for key in keys[:2]]
        found += self.shelf.read_many(keys, self.number)
        for key, data in zip(keys[:2] * 2 + keys, found, strict=True):
            if data is not None and data != self.last.get(key):
                raise Wrong(f"{key} reads as {data!r:.60}")
        if self.shelf.read(keys[0], self.number, keys[0], 1) is not None:
            raise Wrong("another key found an object")


@step(3)
def shelves(f: Fuzzer) -> None:
    """Fill shelves far beyond their limits, read, verify, close."""
    backend = f.rng.choice(("memfd", "memfd", "mprotect", "none"))
    store = PythonStore.create(f.rng.choice((1 << 16, 4 << 20)), backend, "fuzz", ("a", "b", "c"))
    all_of = [Worth(f, store, number) for number in range(3)]
    for _ in range(f.rng.randint(1, 40)):
        f.rng.choice((Worth.put, Worth.look))(f.rng.choice(all_of), f)
    if store.verify():
        raise Wrong(f"verify says {store.verify()}")
    store.enforce()
    held = sum(one.shelf.stats().bytes_used for one in all_of)
    if sum(one.bytes_used for one in store.ranges()) != held:
        raise Wrong("shelves and ranges differ")
    kept = next(
        (v for one in all_of if (v := one.shelf.view(0, one.number, 0, 0)) is not None), None
    )
    if kept is not None:
        refused(store.close, BufferError)
        kept.release()
    store.close()
    if any(one.shelf.read(1, one.number, 1, 0) is not None for one in all_of if len(one.shelf)):
        raise Wrong("a closed store has objects")
