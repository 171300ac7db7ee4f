"""The slab against a model: random lives of objects, checked after every step."""

from __future__ import annotations

import mmap
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from support.slab import Other, Sample
from wofs.errors import SlabError, SlabFinished, SlabFull, StaleHandle
from wofs.slab import Arena, Cache, address_of, spec_of

PAGES = 6
VALUES = st.fixed_dictionaries(
    {
        "first": st.integers(0, 2**32 - 1),
        "flag": st.integers(0, 255),
        "short": st.integers(0, 2**16 - 1),
        "wide": st.integers(0, 2**64 - 1),
        "signed": st.integers(-(2**63), 2**63 - 1),
        "items": st.tuples(*[st.integers(0, 2**32 - 1)] * 3),
        "uuid": st.binary(min_size=16, max_size=16),
    }
)
BACKENDS = st.sampled_from(["memfd", "shared", "mprotect", "alias"])


class Lives(RuleBasedStateMachine):
    """What the arena should hold, and every handle that ever was."""

    caches: dict[str, Cache[Any]]

    @initialize(backend=BACKENDS)
    def start(self, backend: str) -> None:
        self.arena = Arena.create(PAGES, backend)
        self.caches = {"sample": self.arena.cache(Sample), "other": self.arena.cache(Other)}
        self.alive: list[tuple[Sample | Other, dict[str, object]]] = []
        self.dead: list[Sample | Other] = []
        self.views: list[tuple[memoryview, bytes, object]] = []
        self.sealed = False

    def made(self, handle: Sample | Other, values: dict[str, object]) -> None:
        self.alive.append((handle, values))

    @rule(values=VALUES)
    def init_once(self, values: dict[str, object]) -> None:
        name = f"o{len(self.alive) % 9}"
        try:
            self.made(self.arena.cache(Sample).init_once(name, **values), values)
        except SlabFinished:
            assert self.sealed
        except SlabFull:
            held = sum(run.bytes for run in self.arena.pages())
            assert held > PAGES * mmap.PAGESIZE // 2 or not self.caches["sample"].stats().objects

    @rule(rows=st.lists(st.integers(0, 2**32 - 1), max_size=120))
    def init_batch(self, rows: list[int]) -> None:
        try:
            handles = self.arena.cache(Other).init_batch("b", [[n] for n in rows])
        except SlabFinished:
            assert self.sealed
        except SlabFull:
            return
        else:
            for handle, number in zip(handles, rows, strict=True):
                self.made(handle, {"number": number})

    @rule(values=VALUES, field=st.sampled_from(["first", "flag", "wide"]))
    def a_bad_value(self, values: dict[str, object], field: str) -> None:
        before = len(list(self.arena.objects()))
        with pytest.raises(SlabError):
            self.arena.cache(Sample).init_once("bad", **{**values, field: -1})
        assert len(list(self.arena.objects())) == before

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def free(self, data: st.DataObject) -> None:
        at = data.draw(st.integers(0, len(self.alive) - 1))
        handle, _ = self.alive[at]
        cache = self.caches[spec_of(handle).name]
        try:
            cache.free(handle)
        except SlabFinished:
            assert self.sealed
        except BufferError:
            assert any(kept is handle for _, _, kept in self.views)
        else:
            assert not self.sealed
            self.dead.append(self.alive.pop(at)[0])

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def look_at(self, data: st.DataObject) -> None:
        handle, _ = data.draw(st.sampled_from(self.alive))
        view = memoryview(handle)  # type: ignore[arg-type]
        assert view.readonly
        self.views.append((view, bytes(view), handle))

    @precondition(lambda self: self.views)
    @rule()
    def look_away(self) -> None:
        view, _, _ = self.views.pop()
        view.release()

    @rule()
    def finish(self) -> None:
        self.arena.finish()
        self.sealed = True

    @invariant()
    def the_living_are_as_they_were_made(self) -> None:
        for handle, values in self.alive:
            assert {name: getattr(handle, name) for name in values} == values
        for view, content, _ in self.views:
            assert bytes(view) == content

    @invariant()
    def the_dead_stay_dead(self) -> None:
        for handle in self.dead[-20:]:
            with pytest.raises(StaleHandle):
                address_of(handle, "first")
            with pytest.raises(StaleHandle):
                memoryview(handle)  # type: ignore[arg-type]

    @invariant()
    def books_and_memory_agree(self) -> None:
        assert self.arena.verify() == []
        stats = self.arena.stats()
        assert sum(cache.objects for cache in stats.caches) == len(self.alive)
        assert max(cache.pages for cache in stats.caches) <= stats.pages <= PAGES + 1
        pages = self.arena.pages()
        assert sum(page.slots.count(True) for page in pages) == len(self.alive)
        ends = [page.address + page.bytes for page in pages]
        assert all(end <= page.address for end, page in zip(ends, pages[1:], strict=False))
        for page in pages:
            assert page.slot_bytes * len(page.slots) <= page.bytes <= mmap.PAGESIZE
            assert any(page.slots)

    def teardown(self) -> None:
        if not hasattr(self, "arena"):
            return
        for view, _, _ in self.views:
            view.release()
        handles = [handle for handle, _ in self.alive]
        self.arena.close()
        for handle in handles:
            with pytest.raises(StaleHandle):
                memoryview(handle)  # type: ignore[arg-type]


TestLives = Lives.TestCase
TestLives.settings = settings(
    max_examples=40,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
