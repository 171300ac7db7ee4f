"""Stray writes under a workload: named at once in write-once memory, never in ordinary memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from support import fuse
from wofs.demo.straywrite import Trial, Truth, _judge, campaign, truth_of

pytestmark = pytest.mark.skipif(fuse.lacking() is not None, reason=str(fuse.lacking()))

Unpack = Callable[[str], Path]


def test_every_write_ends_the_server_and_is_named(image: Unpack) -> None:
    told: list[tuple[int, int]] = []
    found = campaign(
        str(image("noreflink")), "find", "memfd", 4, 7, lambda *now: told.append(now)
    )
    assert found.outcomes == {"named": 4}, [trial.examples for trial in found.trials]
    assert found.wrong == 0
    assert found.median_seconds is not None
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_ordinary_memory_ends_nothing(image: Unpack) -> None:
    found = campaign(str(image("noreflink")), "find", "none", 3, 7, lambda *_: None)
    assert found.strikes == sum(found.outcomes.values()) == 3
    assert not {"named", "misnamed"} & set(found.outcomes)


@pytest.mark.parametrize("workload", ["tree", "random"])
def test_the_truth_is_the_same_twice(image: Unpack, workload: str) -> None:
    path = str(image("noreflink"))
    truth = truth_of(path, workload, 3)
    assert truth == truth_of(path, workload, 3)
    assert any(asked.startswith(("data ", "read ")) for asked in truth)
    assert not [said for said in truth.values() if said.startswith("error")]


def test_answers_are_told_apart() -> None:
    truth: Truth = {"stat /a": "1", "stat /b": "2"}
    found = Trial("none", 1, "agf[0].freeblks")
    for asked, said in (("stat /a", "1"), ("stat /b", "3"), ("stat /a", "error EUCLEAN")):
        _judge(found, asked, said, truth)
    assert (found.answers, found.wrong, found.errors) == (3, 1, 1)
    assert found.examples == [
        "stat /b: 3, right is 2",
        "stat /a: error EUCLEAN, right is 1",
    ]
