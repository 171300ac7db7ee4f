"""The simulated year of `tools/bench slab`: a small one, and what must hold of any."""

from __future__ import annotations

import random

import pytest
from benchlib.slabyear import HEADERS, LEFT, again, fill, live_bytes, row_of, simulate

from wofs.slab import Arena
from wofs.slab.arena import PAGE


@pytest.mark.parametrize("mix", ["even", "small"])
def test_a_year_ends_with_two_images_and_accounts_for_them(mix: str) -> None:
    year = simulate(mix, 6, 3, "memfd")
    assert year.mounts >= 6
    assert len(year.left) == LEFT == year.days[-1][2]
    assert all(1 <= agcount <= 1000 for agcount in year.left)
    for live, resident, alive in year.days:
        assert resident % PAGE == 0
        assert resident >= live > 0
        assert alive >= 1
    assert year.days[-1][1] < max(resident for _, resident, _ in year.days), "memory came back"


def test_the_same_seed_lives_the_same_year() -> None:
    one, two = (simulate("small", 4, 5, "memfd") for _ in range(2))
    assert (one.mounts, one.left) == (two.mounts, two.left)
    assert [live for live, _, _ in one.days] == [live for live, _, _ in two.days]


def test_freeing_and_filling_again_takes_no_further_page() -> None:
    rng, arena, record = random.Random(1), Arena.create(64), HEADERS[0]
    handles = list(arena.cache(record).init_batch("agf", [row_of(record)] * 300))
    before, live = arena.stats().pages, live_bytes(arena)
    again(rng, arena, record, handles[:200])
    assert arena.stats().pages <= before
    assert live_bytes(arena) == live
    assert arena.verify() == []
    arena.close()


def test_a_pool_is_filled_without_frees() -> None:
    arena = fill(random.Random(0), 40, "pool")
    assert arena.stats().sealed
    assert sum(cache.objects for cache in arena.stats().caches) == 4 + 3 * 40
    arena.close()
