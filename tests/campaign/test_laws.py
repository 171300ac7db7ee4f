"""The laws, on readers that really break them: each is run, and must be found out."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from wofs.campaign.child import Truth
from wofs.campaign.fault import Fault
from wofs.campaign.invisible import reason_for
from wofs.campaign.laws import Result
from wofs.campaign.runner import one
from wofs.campaign.subject import Answers, Failure, answers_of, ask
from wofs.campaign.unit import Limits
from wofs.device.base import Device
from wofs.errors import Corrupt, Where
from wofs.fs import open as open_filesystem
from wofs.xfs.buffer import Buffers

Unpack = Callable[[str], Path]
Broken = Callable[[Answers], None]

FAULT = "field 'agf[0].longest=0' --crc fix"
"""Nothing that is read depends on it; the check reports it."""


@contextmanager
def truth(path: Path, broken: Broken) -> Iterator[Truth]:
    """Know an image by a reader that is sound at first, and broken when it meets a fault."""
    times = 0

    def reader(device: Device, norecovery: bool) -> Answers:
        nonlocal times
        answers = ask(device, norecovery)
        times += 1
        if times > 1:
            broken(answers)
        return answers

    known = Truth(str(path), reader=reader)
    try:
        yield known
    finally:
        known.close()


def met(path: Path, broken: Broken, limits: Limits | None = None, key: str = FAULT) -> Result:
    """Return what came of a fault in front of a broken reader."""
    with truth(path, broken) as known:
        return one(known, Fault.of_key(str(path), key), limits or Limits())


def segfault(_: Answers) -> None:
    """Read what is not there."""
    ctypes.string_at(0)


def hang(_: Answers) -> None:
    """Never answer."""
    time.sleep(600)


def swell(answers: Answers) -> None:
    """Take memory without end."""
    kept: list[bytearray] = []
    while answers:
        kept.append(bytearray(16 << 20))


def fail(answers: Answers) -> None:
    """Raise what no reader may."""
    answers["no such path", "nothing"]  # type: ignore[index]


def lie(answers: Answers) -> None:
    """Tell other data of a file."""
    answers[b"/files/one", "data"] = "something else"


def lose(answers: Answers) -> None:
    """Leave out a name, and tell no error."""
    for key in [key for key in answers if key[0] == b"/files/one"]:
        del answers[key]


def sound(_: Answers) -> None:
    """Do as a sound reader does."""


@pytest.mark.parametrize(
    ("broken", "outcome", "laws"),
    [
        (segfault, "broken", ("crash: SIGSEGV",)),
        (swell, "broken", ("memory",)),
        (fail, "broken", ("traceback",)),
        (sound, "caught", ()),
    ],
    ids=lambda v: getattr(v, "__name__", ""),
)
def test_a_broken_reader_is_found(
    image: Unpack, broken: Broken, outcome: str, laws: tuple[str, ...]
) -> None:
    result = met(image("new-defaults"), broken, Limits(memory_bytes=128 << 20))
    assert (result.outcome, result.laws) == (outcome, laws), result


def test_a_reader_that_hangs_is_killed(image: Unpack) -> None:
    result = met(image("new-defaults"), hang, Limits(seconds=3))
    assert (result.outcome, result.laws, result.signal) == ("broken", ("hang",), 9)


@pytest.mark.parametrize("broken", [lie, lose], ids=lambda v: v.__name__)
def test_a_wrong_answer_is_silent_where_the_check_says_nothing(
    image: Unpack, broken: Broken
) -> None:
    key = "field 'inode[\"/files/one\"].mtime=0' --crc fix"
    result = met(image("new-defaults"), broken, key=key)
    assert result.outcome == "silent"
    assert any("/files/one" in line for line in result.changed)
    assert met(image("new-defaults"), sound, key=key).outcome == "invisible"


class Trusting(Buffers):
    """Blocks are believed whatever their checksum."""

    def _prove_crc(self, *_: object) -> None:
        return


def trusting(device: Device, norecovery: bool) -> Answers:
    """Ask a reader that holds no block to its checksum."""
    with open_filesystem(device, norecovery=norecovery) as filesystem:
        filesystem.mount.buffers.__class__ = Trusting
        return answers_of(filesystem)


def test_a_stale_checksum_that_is_served_breaks_a_law(image: Unpack) -> None:
    path = image("new-defaults")
    target = 'inode["/attrs"].dirdata[0].bestfree[0].offset'
    fault = Fault.of_key(str(path), f"field '{target}=1' --crc stale")
    for reader, outcome in ((ask, "contained"), (trusting, "silent")):
        known = Truth(str(path), reader=reader)
        result = one(known, fault, Limits())
        known.close()
        assert result.outcome == outcome
        assert result.laws == (("stale checksum served",) if reader is trusting else ())


def test_an_error_must_name_an_object(image: Unpack) -> None:
    def nameless(device: Device, norecovery: bool) -> Answers:
        return {
            key: replace(answer, object="") if isinstance(answer, Failure) else answer
            for key, answer in ask(device, norecovery).items()
        }

    path = image("new-defaults")
    fault = Fault.of_key(str(path), "field 'inode[\"/files/one\"].di_size=max' --crc fix")
    known = Truth(str(path), reader=nameless)
    assert one(known, fault, Limits()).laws == ("error without an object",)
    known.close()


def test_what_the_check_does_not_report_breaks_a_law(image: Unpack) -> None:
    def refuses(device: Device, norecovery: bool) -> Answers:
        if device.pread(0, 4096) != first:
            raise Corrupt(Where("image", "superblock"), "I do not like it")
        return ask(device, norecovery)

    path = image("new-defaults")
    first = path.read_bytes()[:4096]
    known = Truth(str(path), reader=refuses)
    fault = Fault.of_key(str(path), "field 'sb[0].lsn=1' --crc fix")
    result = one(known, fault, Limits())
    known.close()
    assert (result.outcome, result.laws) == ("broken", ("check: does not report it",))


@pytest.mark.parametrize("more", [0, 1])
def test_a_name_that_is_sought_only_now(image: Unpack, more: int) -> None:
    """Of a large directory only some names are sought: others where some cannot be listed."""
    seen: list[Answers] = []

    def reader(device: Device, norecovery: bool) -> Answers:
        answers = ask(device, norecovery)
        key = next(key for key in sorted(answers) if key[1] == "lookup")
        if seen:
            ino = answers[key]
            assert isinstance(ino, int)
            answers[key] = ino + more
        else:
            del answers[key]
        seen.append(answers)
        return answers

    path = image("default")
    known = Truth(str(path), reader=reader)
    try:
        fault = Fault.of_key(str(path), "field 'sb[1].flags=1' --crc fix")
        result = one(known, fault, Limits())
    finally:
        known.close()
    assert len(result.changed) == more


@pytest.mark.parametrize(
    ("field", "answer", "code"),
    [(("sb", "ifree"), "image ifree", "WX0111"), (("inode", "nlink"), "st_nlink", "WX0309")],
)
def test_some_is_invisible_only_where_the_image_was_not_sound(
    field: tuple[str, str], answer: str, code: str
) -> None:
    assert not reason_for({field}, {answer})
    assert not reason_for({field}, {answer}, {"WX0301"})
    assert reason_for({field}, {answer}, {"WX0301", code})
    assert not reason_for({field}, {answer, "data"}, {code})


def test_an_error_that_was_there_before_tells_of_no_fault(image: Unpack) -> None:
    """Under another name it is another answer, as any."""
    path = image("dirty-b1k")
    known = Truth(str(path), norecovery=True)
    listed = cast("tuple[tuple[bytes, int, int], ...]", known.answers[b"/", "readdir"])
    number = [name for name, *_ in listed if name not in (b".", b"..")].index(b"files")
    root = known.filesystem.root.ino
    key = f"field 'inode[{root}].sf[{number}].name={b'filez'.hex()}' --crc fix"
    assert isinstance(known.answers[b"/files", "readdir"], Failure)
    result = one(known, Fault.of_key(str(path), key), Limits())
    known.close()
    assert any("/filez readdir" in line for line in result.changed)
    assert (result.outcome, result.laws) == ("invisible", ())
