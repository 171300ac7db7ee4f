"""Workloads over a mounted image: what a user asks, each answer as (question, path, facts).

`find`, `tar` and `fio` are the real programs; `tree` and `random` ask by system calls. The
facts are in the terms of `wofs.demo.truth`; an error is told in their place, by its name.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import stat
import subprocess
import tarfile
import tempfile
from ast import literal_eval
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO

from wofs.demo.truth import (
    NAMES,
    PIECE,
    Answer,
    Facts,
    attribute_value,
    attributes,
    escape,
    unescape,
)
from wofs.fuse.errmap import name_of

BIG_BYTES = 64 << 20
"""Data above this length is not read: a sparse file may be larger than anybody could read."""

_CHUNK_BYTES = 1 << 20
_RANDOM_READS = 400
_RANDOM_BYTES = 4096
_FIO_FILES = 16
_FIO_BYTES = 4 << 20
_MOST_EXCLUDED = 1000
"""Files too large to read that `tar` can be told of on its command line."""

_MOST_OUTPUT_BYTES = 256 << 20
"""More than that of `find` is no end: the names of a directory that goes on for ever."""

_GRACE_S = 5.0


@dataclass
class Plan:
    """What an undisturbed walk found: where workloads that do not walk go.

    `top_names` are the root's names; `files` the regular files of 1 B to BIG_BYTES and their
    sizes, `big` the larger ones.
    """

    top_names: list[bytes] = field(default_factory=list)
    files: list[tuple[bytes, int]] = field(default_factory=list)
    big: list[bytes] = field(default_factory=list)


def plan_of(top: Path) -> Plan:
    """Walk a mount that nobody strikes."""
    root = os.fsencode(top)
    found = Plan(os.listdir(root))
    for folder, _, names in os.walk(root):
        for name in names:
            full = os.path.join(folder, name)
            st = os.lstat(full)
            if stat.S_ISREG(st.st_mode) and st.st_size > BIG_BYTES:
                found.big.append(os.path.relpath(full, root))
            elif stat.S_ISREG(st.st_mode) and st.st_size and os.access(full, os.R_OK):
                found.files.append((os.path.relpath(full, root), st.st_size))
    found.files.sort()
    return found


Workload = Callable[[Path, Plan, int], Iterator[Answer]]
"""Given the mount point, what an undisturbed walk found, and a seed."""


def asked(question: str, path: bytes, ask: Callable[[], Facts]) -> Answer:
    """Return the answer, or the error in its place."""
    try:
        return Answer(question, path, ask())
    except OSError as error:
        return Answer(question, path, {}, name_of(error))


# --- by system calls -----------------------------------------------------------------------
def _status(full: bytes) -> Facts:
    facts = attributes(os.lstat(full))
    if facts["t"] == "l":
        facts["l"] = escape(os.readlink(full))
    return facts


def _names(full: bytes) -> Facts:
    return {NAMES: sorted(map(escape, os.listdir(full)))}


def _xattrs(full: bytes) -> Facts:
    names = os.listxattr(full, follow_symlinks=False)
    found = {
        escape(os.fsencode(name)): attribute_value(os.getxattr(full, name, follow_symlinks=False))
        for name in names
        if name.startswith("user.")
    }
    return {"x": found or None}


def data_of(full: bytes) -> Facts:
    """Read a file; no further than any of those goes that are read at all."""
    digest, left = hashlib.sha256(), BIG_BYTES + 1
    with open(full, "rb", buffering=0) as file:
        while left > 0 and (data := file.read(min(left, _CHUNK_BYTES))):
            digest.update(data)
            left -= len(data)
    return {"h": digest.hexdigest()}


def tree(top: Path, _: Plan, __: int) -> Iterator[Answer]:
    """Ask for everything: attributes, names, data, user attributes."""
    root, todo = os.fsencode(top), [b"."]
    while todo:
        path = todo.pop()
        full = root if path == b"." else root + b"/" + path
        found = asked("stat", path, partial(_status, full))
        yield found
        if found.facts.get("t") == "d":
            listed = asked("list", path, partial(_names, full))
            yield listed
            prefix, names = b"" if path == b"." else path + b"/", listed.facts.get(NAMES, [])
            assert isinstance(names, list)
            todo += [prefix + unescape(name) for name in reversed(names)]
        elif found.facts.get("t") == "f" and int(str(found.facts["z"])) <= BIG_BYTES:
            yield asked("read", path, partial(data_of, full))
        yield asked("xattr", path, partial(_xattrs, full))


def random_reads(top: Path, plan: Plan, seed: int) -> Iterator[Answer]:
    """Read at random places of random files."""
    rng, root = random.Random(seed), os.fsencode(top)
    for _ in range(_RANDOM_READS if plan.files else 0):
        path, size = rng.choice(plan.files)
        offset = rng.randrange(size)

        def ask(full: bytes = root + b"/" + path, offset: int = offset) -> Facts:
            with open(full, "rb", buffering=0) as file:
                data = os.pread(file.fileno(), _RANDOM_BYTES, offset)
            return {PIECE: hashlib.sha256(data).hexdigest()}

        yield asked("stat", path, partial(_status, root + b"/" + path))
        yield asked(f"read {_RANDOM_BYTES} at {offset}", path, ask)


# --- by programs ---------------------------------------------------------------------------
@contextmanager
def _program(top: Path, argv: list[str | bytes], failed: set[bytes]) -> Iterator[IO[bytes]]:
    """Run a program over a mount and yield its output; then `failed` has the paths it named.

    Those are what it complained of, each in quotes, in the words of the C locale. Of a failure
    without any, the root is to blame. Who leaves early ends the program.
    """
    with tempfile.TemporaryFile() as said:
        child = subprocess.Popen(
            argv, cwd=top, env={**os.environ, "LC_ALL": "C"}, stdout=subprocess.PIPE, stderr=said
        )
        assert child.stdout is not None
        try:
            yield child.stdout
        finally:
            child.stdout.close()
            try:
                child.wait(_GRACE_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        said.seek(0)
        failed.update(filter(None, map(_complained_of, said.read().splitlines())))
        if child.returncode > 0 and not failed:
            failed.add(b".")


def _complained_of(line: bytes) -> bytes:
    """Return the path that a message is about; empty if it names none."""
    for quote in (b"'", b'"'):
        start, end = line.find(quote), line.rfind(quote)
        if 0 <= start < end:
            try:
                path = literal_eval("b" + line[start : end + 1].decode("latin-1"))
            except (SyntaxError, ValueError):
                return b"."
            return _relative(path)
    return b""


def _relative(path: bytes) -> bytes:
    return path.removeprefix(b"./").rstrip(b"/") or b"."


def _told(found: dict[bytes, Facts], failed: set[bytes]) -> Iterator[Answer]:
    """Yield what a program said of each path; what it complained of is an error."""
    for path, facts in found.items():
        if path not in failed:
            yield Answer("stat", path, facts)
    for path in failed:
        yield Answer("stat", path, {}, "as the program complains")


_FIND = r"%y\0%m\0%U\0%G\0%s\0%n\0%i\0%b\0%T@\0%C@\0%l\0%p\0"
_FIND_FIELDS = 12


def _found(fields: list[bytes]) -> tuple[bytes, Facts]:
    """Return path and facts of what one file made `find` print."""
    kind, mode, target, name = (fields[i] for i in (0, 1, 10, 11))
    facts: Facts = dict(zip("ugznik", map(int, fields[2:8]), strict=True))
    facts |= {"t": kind.decode(), "m": mode.decode().zfill(4)}
    for key, text in (("mt", fields[8]), ("ct", fields[9])):
        facts[key] = text.decode()[:-1]  # ten digits behind the point, the last always 0
    if kind == b"l":
        facts["l"] = escape(target)
    return _relative(name), facts


def find(top: Path, _: Plan, __: int) -> Iterator[Answer]:
    """Have find(1) print the attributes of everything."""
    found: dict[bytes, Facts] = {}
    failed: set[bytes] = set()
    try:
        with _program(top, ["find", ".", "-printf", _FIND], failed) as output:
            fields = output.read(_MOST_OUTPUT_BYTES).split(b"\0")[:-1]
        for at in range(0, len(fields) - _FIND_FIELDS + 1, _FIND_FIELDS):
            path, facts = _found(fields[at : at + _FIND_FIELDS])
            found[path] = facts
    except OSError as error:
        yield Answer("stat", b".", {}, name_of(error))
        return
    yield from _told(found, failed)


def tar(top: Path, plan: Plan, _: int) -> Iterator[Answer]:
    """Have tar(1) archive everything, and look into the archive."""
    found: dict[bytes, Facts] = {}
    failed: set[bytes] = set()
    if len(plan.big) > _MOST_EXCLUDED:
        line = f"tar: {len(plan.big)} files of the image are over {BIG_BYTES >> 20} MiB: too many"
        raise RuntimeError(line)
    command: list[str | bytes] = ["tar", "--format=gnu", "--quoting-style=c", "--numeric-owner"]
    command += ["--hard-dereference", "--no-wildcards", "--anchored"]
    command += [b"--exclude=./" + path for path in plan.big]
    try:
        with _program(top, [*command, "-cf", "-", "."], failed) as output:
            found.update(_archived(output))
    except OSError as error:
        yield Answer("stat", b".", {}, name_of(error))
        return
    yield from _told(found, failed)


_TAR_TYPES = {
    **{tarfile.REGTYPE: "f", tarfile.AREGTYPE: "f", tarfile.DIRTYPE: "d", tarfile.SYMTYPE: "l"},
    **{tarfile.CHRTYPE: "c", tarfile.BLKTYPE: "b", tarfile.FIFOTYPE: "p"},
}


def _archived(archive: IO[bytes]) -> Iterator[tuple[bytes, Facts]]:
    """Yield path and facts of each member, until the archive ends or one is endless."""
    # The archive ends where tar did: that tar was killed is told otherwise.
    with (
        suppress(tarfile.ReadError),
        tarfile.open(
            fileobj=archive, mode="r|", encoding="utf-8", errors="surrogateescape"
        ) as members,
    ):
        for member in members:
            facts: Facts = {
                **{"t": _TAR_TYPES.get(member.type), "m": f"{member.mode & 0o7777:04o}"},
                **{"u": member.uid, "g": member.gid},
            }
            name = _relative(os.fsencode(member.name))
            if facts["t"] == "l":
                facts["l"] = escape(os.fsencode(member.linkname))
            if facts["t"] == "f":
                facts["z"] = member.size
                if member.size > BIG_BYTES:
                    yield name, facts
                    return
                data = members.extractfile(member)
                assert data is not None
                digest = hashlib.sha256()
                while piece := data.read(_CHUNK_BYTES):
                    digest.update(piece)
                facts["h"] = digest.hexdigest()
            yield name, facts


def fio(top: Path, plan: Plan, seed: int) -> Iterator[Answer]:
    """Have fio(1) read at random; then ask for each of its files, which it cannot judge."""
    if shutil.which("fio") is None:
        raise RuntimeError("fio is not installed here (Debian: apt-get install fio)")
    plain = [(p, z) for p, z in plan.files if p.isascii() and not set(p) & set(b":\\ \"'\n")]
    chosen = [path for path, size in plain if size >= _RANDOM_BYTES]
    chosen = random.Random(seed).sample(chosen, min(_FIO_FILES, len(chosen)))
    if not chosen:
        raise RuntimeError("fio: the image has no file of 4 KiB with a plain name")
    names = ":".join(f"./{os.fsdecode(path)}" for path in chosen)
    command: list[str | bytes] = ["fio", "--name=demo", "--readonly", "--rw=randread", "--bs=4k"]
    command += [f"--io_size={_FIO_BYTES}", f"--randseed={seed}", "--thread", "--direct=1"]
    command += ["--norandommap", "--output-format=json", f"--filename={names}"]
    failed: set[bytes] = set()
    try:
        with _program(top, command, failed) as output:
            said = output.read().decode(errors="replace")
        error = "" if _fio_is_content(said) else "as fio says"
    except OSError as met:
        error = name_of(met)
    yield Answer("fio", b".", {}, error)
    root = os.fsencode(top) + b"/"
    for path in chosen:
        yield asked("stat", path, partial(_status, root + path))
        yield asked("read", path, partial(data_of, root + path))


def _fio_is_content(said: str) -> bool:
    """Whether fio's report is whole and tells no error."""
    try:
        return not json.loads(said[said.find("{") :])["jobs"][0]["error"]
    except ValueError:  # killed halfway, or nothing but complaints
        return False


WORKLOADS: dict[str, Workload] = {
    **{"tree": tree, "tar": tar, "find": find, "random": random_reads, "fio": fio},
}
