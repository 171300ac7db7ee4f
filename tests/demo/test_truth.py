"""Answers are told apart: right, wrong in what, an error, lost, too many."""

from __future__ import annotations

from pathlib import Path

import pytest

from wofs.demo.truth import (
    EXTRA,
    LOST,
    Answer,
    Facts,
    Truth,
    escape,
    manifest_of,
    unescape,
)

RIGHT: dict[bytes, Facts] = {
    b".": {"t": "d"},
    b"d": {"t": "d"},
    b"d/f": {"t": "f", "z": 3, "u": 0, "h": "aa"},
    b"g": {"t": "f", "z": 5, "u": 0, "h": "bb"},
}


def run(**changes: Facts | str | None) -> list[Answer]:
    """Return the answers of a run; a change is other facts, an error's name, or None: none."""
    answers = []
    for path, facts in RIGHT.items():
        change = changes.get(path.decode().replace("/", "_"), {})
        if isinstance(change, str):
            answers.append(Answer("stat", path, {}, change))
        elif change is not None:
            answers.append(Answer("stat", path, {**facts, **change}))
    return answers


TRUTH = Truth(run(), None)


@pytest.mark.parametrize(
    ("changes", "kinds"),
    [
        ({}, {}),
        ({"g": {"z": 6}}, {"size": 1}),
        ({"g": {"u": 7}, "d_f": {"u": 7, "h": "cc"}}, {"owner": 2, "data": 1}),
        ({"g": {"t": "l", "m": "0644"}}, {"type": 1, "mode": 1}),
        ({"g": None}, {LOST: 1}),
        ({"d": None, "d_f": None}, {LOST: 2}),
    ],
)
def test_kinds(changes: dict[str, Facts | None], kinds: dict[str, int]) -> None:
    found = TRUTH.verdict(run(**changes), cut=False)
    assert found.kinds == kinds
    assert found.wrong == sum(change != {} for change in changes.values())
    assert found.errors == 0


def test_a_fact_that_is_left_out_is_wrong() -> None:
    answers = [*run(g=None), Answer("stat", b"g", {"t": "f", "u": 0, "h": "bb"})]
    assert TRUTH.verdict(answers, cut=False).kinds == {"size": 1}


def test_what_is_below_an_error_is_not_lost() -> None:
    found = TRUTH.verdict(run(d="EUCLEAN", d_f=None), cut=False)
    assert (found.errors, found.wrong, found.answers) == (1, 0, 2)
    assert found.examples == ["/d: error EUCLEAN"]


def test_what_does_not_exist_is_wrong() -> None:
    found = TRUTH.verdict([*run(), Answer("stat", b"ghost", {"t": "f"})], cut=False)
    assert found.kinds == {EXTRA: 1}


def test_a_run_that_was_cut_is_judged_by_what_it_answered() -> None:
    found = TRUTH.verdict(run(g="ENOTCONN", d_f={"u": 7}, d=None), cut=True)
    assert (found.errors, found.kinds) == (0, {"owner": 1})


def test_what_fails_undisturbed_is_no_error() -> None:
    truth = Truth(run(g="EACCES"), None)
    found = truth.verdict(run(g="EACCES"), cut=False)
    assert (found.errors, found.wrong) == (0, 0)


@pytest.mark.parametrize("name", [b"plain", b"a b", b"100%", b"\xff\n", bytes(range(1, 256))])
def test_escape(name: bytes) -> None:
    assert unescape(escape(name)) == name
    assert escape(name).isascii()


def test_the_manifest_beside_an_image(tmp_path: Path) -> None:
    image = str(tmp_path / "disk.img.xz")
    assert manifest_of(image) is None
    (tmp_path / "disk.man.xz").touch()
    assert manifest_of(image) == str(tmp_path / "disk.man.xz")
    assert manifest_of(str(tmp_path / "disk.img")) == str(tmp_path / "disk.man.xz")
    (tmp_path / "disk.norecovery.man.xz").touch()
    assert manifest_of(image) == str(tmp_path / "disk.norecovery.man.xz")
    assert manifest_of(str(tmp_path / "disk.man.xz")) is None
    assert manifest_of("/dev/null") is None
