"""Targets: languages and texts that come from elsewhere."""

from __future__ import annotations

import copy
import json
import os
import random
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import asdict
from functools import cache
from pathlib import Path

import click

import wofs
from fuzzlib.ground import Mutation, ground
from fuzzlib.target import Target, hold
from wofs.cli import crash as crash_pages
from wofs.cli.criteria import criteria
from wofs.cli.pattern import Pattern
from wofs.cli.request import parse_options
from wofs.corrupt import apply
from wofs.corrupt.damage import Damage, Request
from wofs.device.overlay import Overlay
from wofs.errors import ImageError, PathError, WofsError
from wofs.fs import Filesystem
from wofs.fuse import control as controlling
from wofs.fuse import options as mount_words
from wofs.slab.crashes import reports

IMAGE = "b1k"
_DEVICE = os.makedev(4095, os.getpid() & 0xFFFFF)
"""Stands for the st_dev of a mount that no system has."""


@cache
def _filesystem() -> Filesystem:
    return wofs.open(Overlay(ground(IMAGE).sound.device), slab="none")


def _text(data: bytes) -> str:
    """Return an input as arguments come from the system."""
    return os.fsdecode(data.replace(b"\0", b""))


@cache
def _descriptor() -> int:
    """Return a file in memory, for one content at a time."""
    return os.memfd_create("wofs-fuzz")


def _file(content: bytes) -> Path:
    """Return the path of a file with that content; there is one at a time."""
    os.ftruncate(_descriptor(), 0)
    os.pwrite(_descriptor(), content, 0)
    return Path(f"/proc/self/fd/{_descriptor()}")


# ---- names of structures
_MOST_FLIPS = 100


def name(data: bytes) -> None:
    """Do what the arguments of `wofs corrupt IMAGE OUT` ask for, one a line."""
    base, filesystem = ground(IMAGE), _filesystem()
    base.device.restore()
    request = Request.of([*_text(data).split("\n"), "--crc", "fix"])
    if (request.flip or 0) > _MOST_FLIPS:
        return
    with Damage(base.sound.device, request, filesystem) as damage:
        damage.do()
        hold(damage.editor.image.size <= base.device.size, "a larger image")
        for change in damage.editor.changes:
            hold(len(change.before) == len(change.after), "another length")
            hold(0 <= change.byte < base.device.size, "a change beyond the image")
        apply.flat(damage.editor.changes)


def _names() -> Iterator[bytes]:
    yield from (
        b"agf[2].freeblks=0", b"agi[0].unlinked[5]=7", b"agfl[1].bno[0]=max", b"sb[0].icount=-1",
        b"inobt[0].block[0].numrecs=0x10", b"inobt[1].rec[0].free=0b1", b"log[0].cycle=1",
        b'inode["/files/one"].size=0', b"inode[131].crc=0", b"bytes[0:4]=58465342",
        b'inode["/"].entry["files"].ino=131', b'inode["/files/one"].extent[0].startblock=max',
        b'inode["/"].dirdata[0].owner=1', b'inode["/"].entry["files"].name="abc"',
        b"inode[131].attr[0].entry[0].hashval=1", b"inode[131].bmbt[0].level=2",
        b'sb[0].fname="label"', b"inode[131].target[0].offset=1", b"inode[131].value[0].bytes=1",
        b"--swap\nagf[0]\nagf[1]", b"--duplicate\nagi[0]\nagi[1]", b"--shift\nagf[0]\n-8",
        b"--zero\ninode[131]", b"--tear\ninobt[0].block[0]\n1", b"--flip\n3\n--in\nagf",
        b"--truncate\n4096", b"--seed\n7\n--flip\n1\n--within\nagf[1]",
    )  # fmt: skip


# ---- mount options
def options(data: bytes) -> None:
    """Read mount options, also as commands that read an image do, and say them to the kernel."""
    text, _, source = _text(data).partition("\n")
    sloppy = len(source) % 2 == 1
    with suppress(click.BadParameter):
        parse_options((text,))
    found = mount_words.parse([text], source[:255], bool(len(source) % 3), sloppy=sloppy)
    words = found.for_kernel()
    hold("ro" in words and "default_permissions" in words, "not read-only")
    hold(found.mount.fsname.rstrip(b"\0") == os.fsencode(found.source), "another source")


def _options() -> Iterator[bytes]:
    yield from (
        b"ro,allow_other,sb=1", b"norecovery,uid=0,gid=5\n/dev/sda", b"slab=memfd,protect=all",
        b"protect=none,slab=none", b"fsname=a\\,b\\\\c", b"require=mprotect", b"suid,dev,exec",
        b"report=/x,logdev=/dev/y,scrub=5", b"x-systemd.automount,comment=a,rw", b"recovery,bogus",
    )  # fmt: skip


# ---- reports of crashes
def crash(data: bytes) -> None:
    """Read a file of crash reports, and show them in all ways."""
    for number, found in enumerate(reports(_file(data)), 1):
        json.dumps({"hit": found.hit, "pid": found.pid, "when": found.when, **asdict(found)})
        crash_pages.page(number, found)
        hold(found.text.endswith("\n"), "a report without an end")


def _crashes() -> Iterator[bytes]:
    text = (
        "wofs: stray access to write-once memory\n"
        "  hit          mount_struct/geometry.blocklog\n"
        "  thread       12 (python) of process 11\n"
        "  time         1700000000\n"
        "  memory\n  > 0x7f00aa [00] 01\n    0x7f00bb  02 03\n"
        '  C stack\n    #0 a+0x1\n  Python stack\n  File "a.py", line 1 in f\n'
    )
    yield text.encode()
    yield text.replace("stray access to write-once", "write-once").encode()
    yield b"wofs: write-once memory is not what was published\n  changed   a.b, was 1\n"
    yield json.dumps({"hit": "a", "time": 1, "text": text}).encode()
    yield json.dumps({"hit": "a", "text": text}).encode()[:-9]
    yield b'{"text": 5}\n{"text": []}\n[1, 2]\n'


# ---- undoing damage
_UNDO_BYTES = 4096


def undo(data: bytes) -> None:
    """Undo a record on a small image: it is refused, or leaves what was there before."""
    path = _file(bytes(_UNDO_BYTES))
    try:
        changes = apply.undo(data, str(path))
    except WofsError:
        hold(path.read_bytes() == bytes(_UNDO_BYTES), "refused, and written all the same")
        raise
    hold(path.stat().st_size == _UNDO_BYTES, "another size")
    apply.flat(changes)


def _records() -> Iterator[bytes]:
    change = {
        "op": "set", "object": "agf[0]", "field": "x", "byte": 8, "before": "01", "after": "00",
        "found": 1, "value": 0,
    }  # fmt: skip
    record = {"image": "a", "out": "b", "seed": 1, "crc": "fix", "size": [4096, 4096]}
    for changes in ([], [change], [change, {**change, "byte": 9, "after": "00"}]):
        yield json.dumps({**record, "changes": changes}).encode()
    for odd in ({"byte": -1}, {"byte": 1 << 70}, {"before": "0"}, {"after": ""}, {"byte": True}):
        yield json.dumps({**record, "changes": [{**change, **odd}]}).encode()
    yield json.dumps({**record, "size": [1, 2], "changes": [change]}).encode()


_ODD: tuple[object, ...] = (
    -1, 0, 8, 4095, 4096, 1 << 63, 1 << 70, True, None, 1.5, "", "0", "00", "0000", "zz", [], {},
    [1], "\ud800",
)  # fmt: skip


def _another_record(data: bytes, chance: random.Random) -> bytes:
    """Put an odd value somewhere into JSON, or repeat an item; cut what is no JSON otherwise."""
    try:
        record = json.loads(data)
    except (ValueError, RecursionError):
        return _another_word(_records)(data, chance)
    places: list[tuple[dict[str, object] | list[object], object]] = []
    todo = [record] if isinstance(record, dict | list) else []
    while todo:
        found = todo.pop()
        keys = list(found) if isinstance(found, dict) else range(len(found))
        places += [(found, key) for key in keys]
        todo += [found[key] for key in keys if isinstance(found[key], dict | list)]
    if not places:
        return next(_records())
    inside, key = chance.choice(places)
    if isinstance(inside, list) and chance.random() < 0.3:
        inside.append(copy.deepcopy(chance.choice(inside)))
    else:
        inside[key] = chance.choice(_ODD)  # type: ignore[index, call-overload]
    return json.dumps(record).encode()


# ---- questions to a live mount
@cache
def _server() -> list[str]:
    """Start a server on questions; return what goes wrong in its thread."""
    wrong: list[str] = []
    threading.excepthook = lambda args: wrong.append(f"{args.exc_type.__name__}: {args.exc_value}")
    controlling.Control(_filesystem().mount, _DEVICE)
    return wrong


def control(data: bytes) -> None:
    """Ask a live mount's server anything; it answers in lines of JSON."""
    wrong = _server()
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as line:
        line.connect(controlling.address(_DEVICE))
        line.sendall(data[:200] + b"\n")
        line.shutdown(socket.SHUT_WR)
        with line.makefile("rb") as answer:
            found = answer.read()
    hold(not wrong, "; ".join(wrong))
    hold(found.endswith(b"\n"), "no answer")
    for row in found.splitlines():
        if row:
            json.loads(row)


def _questions() -> Iterator[bytes]:
    yield from (b"arena", b"pages", b"shelves", b"fields geometry", b"fields agf[0]", b"x", b"")


# ---- what `find` is asked for
def pattern(data: bytes) -> None:
    """Match a shell pattern against a name."""
    text, _, candidate = data.partition(b"\n")
    Pattern(_text(text)).matches(candidate)
    Pattern(_text(text), fold=True).matches(candidate)


def _patterns() -> Iterator[bytes]:
    yield from (
        b"*\nabc", b"a?c\nabc", b"[a-z]*[!0-9]\nabc", b"[[:digit:]]*\n1a", b"\\*\n*", b"[]a]\n]",
        b"*a*b*c*d\n" + b"a" * 60, b"[a\n[a", b"*.t[x-a]t\nx.txt", b"\xff*\n\xffa",
        b"[[:nope:]]\na",
    )  # fmt: skip


_CRITERIA = (
    "name", "path", "type", "size", "mtime", "mmin", "newer", "newermt", "inum", "samefile",
    "links", "uid", "perm",
)  # fmt: skip


def find(data: bytes) -> None:
    """Make a test of what `wofs find` may be asked for, and put a file to it."""
    filesystem = _filesystem()
    option = _CRITERIA[data[0] % len(_CRITERIA) if data else 0]
    names, tests = criteria(filesystem, {option: _text(data[1:])})
    for test in names:
        test(filesystem.root)
    for asked in tests:
        asked(filesystem.root, filesystem.root.lstat())


def _finds() -> Iterator[bytes]:
    samples = (
        "*.txt", "/a/*", "f,d", "+4k", "-1.5", "10", "/files/one", "2024-12-31T23:59", "+131",
        "/", "2", "0", "-022",
    )  # fmt: skip
    for number, sample in enumerate(samples):
        yield bytes([number]) + sample.encode()
    yield bytes([7]) + b"@1700000000.5"


def _another_word(words: Callable[[], Iterator[bytes]]) -> Mutation:
    """Return a mutation that puts a piece of a seed into an input."""

    def mutate(data: bytes, chance: random.Random) -> bytes:
        other = chance.choice(list(words()))
        start = chance.randrange(len(other) + 1)
        piece = other[start : start + chance.randrange(1, 16)]
        at = chance.randrange(len(data) + 1)
        return data[:at] + piece + data[at + chance.choice((0, len(piece))) :]

    return mutate


def _target(
    name: str, about: str, run: Callable[[bytes], None], seeds: Callable[[], Iterator[bytes]],
    *allowed: type[Exception], max_len: int = 256, mutate: Mutation | None = None,
) -> Target:  # fmt: skip
    return Target(name, about, run, seeds, mutate or _another_word(seeds), allowed, max_len)


TARGETS = (
    _target("name", "`wofs corrupt`: edits and names of structures", name, _names, WofsError),
    _target("options", "mount options", options, _options, mount_words.BadOption),
    _target("crash", "`wofs crash`: files of reports", crash, _crashes, max_len=2048),
    _target("undo", "`wofs corrupt --undo`: records", undo, _records, WofsError, max_len=1024,
            mutate=_another_record),
    _target("control", "questions to a live mount", control, _questions),
    _target("pattern", "`wofs find`: shell patterns", pattern, _patterns),
    _target("find", "`wofs find`: sizes, times, modes", find, _finds, click.BadParameter,
            PathError, ImageError),
)  # fmt: skip
