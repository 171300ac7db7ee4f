"""The race: nothing lands where no page is ever writable; the windows of the others show."""

from __future__ import annotations

import pytest

from wofs.demo.race import in_child

STORES = 200_000


@pytest.mark.parametrize("backend", ["memfd", "alias"])
def test_nothing_lands(backend: str) -> None:
    found = in_child(backend, STORES)
    assert found.tried >= STORES
    assert found.inits >= 10_000
    assert (found.landed, found.spoiled) == (0, 0)


@pytest.mark.parametrize("backend", ["mprotect", "shared", "none"])
def test_a_window_lets_stores_in(backend: str) -> None:
    found = in_child(backend, STORES)
    assert found.landed > 0
    assert found.tried >= found.landed


def test_progress_is_told_and_a_missing_backend_is_one_line() -> None:
    told: list[int] = []
    in_child("memfd", STORES, 0, told.append)
    assert told == sorted(told)
    assert told[-1] >= STORES
    with pytest.raises(RuntimeError, match="no slab backend is called 'paper'"):
        in_child("paper", 1)
