"""What is right of an image: the answers of an undisturbed run, held against the kernel's manifest.

A manifest is a file of JSON lines, one a path, as `tools/mkimages` writes them (keys: p path,
t type, m mode, u uid, g gid, z size, n links, i inode, k blocks, mt ct times, r device, l link
target, x attributes, h SHA-256 of the data). Answers are told in its terms.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, cast

from wofs.fs.stat import Stat

Facts = dict[str, object]

NAMES = "names"
"""The key of a directory's names; manifests tell it by their paths."""

PIECE = "piece"
"""The key of a digest of some of a file's data; manifests have none."""

LOST, EXTRA = "file lost", "file that is not there"

KINDS = {
    **{"z": "size", "k": "space used", "u": "owner", "g": "owner", "t": "type", "m": "mode"},
    **{"mt": "time", "ct": "time", "h": "data", PIECE: "data", "l": "link target"},
    **{"i": "inode number", "n": "link count", "r": "device", "x": "attributes", NAMES: "names"},
}
"""What is wrong where a key's value is."""

_TYPES = {
    **{stat.S_IFREG: "f", stat.S_IFDIR: "d", stat.S_IFLNK: "l", stat.S_IFCHR: "c"},
    **{stat.S_IFBLK: "b", stat.S_IFIFO: "p", stat.S_IFSOCK: "s"},
}
_DIGEST_ABOVE_BYTES = 64
_MOST_EXAMPLES = 5
_LONGEST = 80


class Answer(NamedTuple):
    """What was said about a path: facts, or the name of an error."""

    question: str
    path: bytes
    facts: Facts
    error: str = ""


def escape(name: bytes) -> str:
    """Return `name` in printable ASCII, other bytes and "%" as %xx."""
    return "".join(chr(c) if 0x21 <= c <= 0x7E and c != 0x25 else f"%{c:02x}" for c in name)


def unescape(text: str) -> bytes:
    """Return the bytes that `escape` was given."""
    plain = re.sub("%([0-9a-f]{2})", lambda found: chr(int(found[1], 16)), text)
    return plain.encode("latin-1")


def timestamp(ns: int) -> str:
    """Return nanoseconds since 1970 as "sec.nanosec", sec rounded down."""
    sec, rest = divmod(ns, 10**9)
    return f"{sec}.{rest:09d}"


def attributes(st: os.stat_result | Stat) -> Facts:
    """Return what lstat(2) tells."""
    facts: Facts = {
        **{"t": _TYPES.get(stat.S_IFMT(st.st_mode), "?"), "m": f"{stat.S_IMODE(st.st_mode):04o}"},
        **{"u": st.st_uid, "g": st.st_gid, "z": st.st_size, "n": st.st_nlink, "i": st.st_ino},
        **{"k": st.st_blocks, "mt": timestamp(st.st_mtime_ns), "ct": timestamp(st.st_ctime_ns)},
    }
    if facts["t"] in ("c", "b"):
        facts["r"] = f"{os.major(st.st_rdev)}:{os.minor(st.st_rdev)}"
    return facts


def attribute_value(value: bytes) -> str:
    """Return an extended attribute in hexadecimal, or the digest of a long one."""
    if len(value) <= _DIGEST_ABOVE_BYTES:
        return value.hex()
    return f"sha256:{len(value)}:{hashlib.sha256(value).hexdigest()}"


# --- the manifest --------------------------------------------------------------------------
def manifest_of(image: str) -> str | None:
    """Return the kernel's manifest that lies beside an image of `images/`, None if none does.

    A dirty image has one for a mount without log recovery, as ours is.
    """
    stem = re.sub(r"\.img(\.\w+)?$", "", image)
    beside = (f"{stem}.norecovery.man.xz", f"{stem}.man.xz")
    return next((path for path in beside if stem != image and os.path.exists(path)), None)


def whole_manifest(path: str) -> dict[bytes, Facts]:
    """Return all that a manifest says by path, and the names in each directory.

    Raises RuntimeError for a file that is none.
    """
    raw = Path(path).read_bytes()
    try:
        text = lzma.decompress(raw) if path.endswith(".xz") else raw
        entries = [json.loads(line) for line in text.splitlines()]
        found = {unescape(entry.pop("p")): entry for entry in entries}
    except (ValueError, KeyError, TypeError, AttributeError, lzma.LZMAError) as error:
        raise RuntimeError(f"{path}: is no manifest: {error}") from error
    below: dict[bytes, list[str]] = {}
    for name in found:
        if name != b".":
            folder, _, last = name.rpartition(b"/")
            below.setdefault(folder or b".", []).append(escape(last))
    for name, entry in found.items():
        entry[NAMES] = sorted(below.get(name, []))
    return found


def read_manifest(path: str) -> dict[bytes, Facts]:
    """Return the facts of a manifest by path, less what only root sees, as in the answers.

    Raises RuntimeError for a file that is none.
    """
    found = whole_manifest(path)
    for entry in found.values():
        shown = cast("dict[str, str]", entry.get("x") or {})
        entry["x"] = {k: v for k, v in shown.items() if k.startswith("user.")} or None
    return found


def disagreement(answer: Answer, told: dict[bytes, Facts]) -> str | None:
    """Return a line if an answer is not what a manifest says."""
    entry = told.get(answer.path)
    if entry is None:
        return f"/{escape(answer.path)}: is not in the manifest"
    for key, value in answer.facts.items():
        if key != PIECE and value != entry.get(key):
            return f"/{escape(answer.path)}: {KINDS[key]} is {value}, the kernel's {entry.get(key)}"
    return None


# --- judging -------------------------------------------------------------------------------
@dataclass
class Verdict:
    """How the answers of a run are: right, errors, wrong ones by kind, with some as examples."""

    answers: int = 0
    errors: int = 0
    wrong: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)

    def _wrong(self, kinds: Iterable[str], line: str) -> None:
        self.wrong += 1
        for kind in kinds:
            self.kinds[kind] = self.kinds.get(kind, 0) + 1
        self.example(line)

    def example(self, line: str) -> None:
        """Keep a line, if there are few."""
        if len(self.examples) < _MOST_EXAMPLES:
            self.examples.append(line)

    def add(self, other: Verdict) -> None:
        """Add what another run found."""
        self.answers += other.answers
        self.errors += other.errors
        self.wrong += other.wrong
        for kind, count in other.kinds.items():
            self.kinds[kind] = self.kinds.get(kind, 0) + count
        for line in other.examples:
            self.example(line)

    def judge(self, answer: Answer, right: Facts) -> None:
        """Hold the facts of an answer against those that are right."""
        different = [k for k in answer.facts.keys() | right.keys() if _differs(k, answer, right)]
        if different:
            key = min(different, key=list(KINDS).index)
            said, wanted = (str(facts.get(key))[:_LONGEST] for facts in (answer.facts, right))
            line = f"/{escape(answer.path)}: {KINDS[key]} {said}, right is {wanted}"
            self._wrong({KINDS[k] for k in different}, line)

    def lost(self, path: bytes) -> None:
        """Count a file that is not shown any more, while nobody complains."""
        self._wrong((LOST,), f"/{escape(path)}: lost, and no error told")

    def extra(self, path: bytes) -> None:
        """Count a file that is shown and does not exist."""
        self._wrong((EXTRA,), f"/{escape(path)}: does not exist")


def _differs(key: str, answer: Answer, right: Facts) -> bool:
    return answer.facts.get(key) != right.get(key)


def above(path: bytes) -> Iterator[bytes]:
    """Yield a path and all directories above it."""
    yield path
    while b"/" in path:
        path = path.rpartition(b"/")[0]
        yield path
    yield b"."


class Truth:
    """The right answers of a workload on an image.

    `judge` says whose they are. `failing` are the questions that fail all the same: what this
    user may not see, what a program cannot take.
    """

    def __init__(self, answers: list[Answer], manifest: str | None) -> None:
        """Take the answers of an undisturbed run; RuntimeError if the manifest says otherwise."""
        self.right = {(a.question, a.path): a.facts for a in answers if not a.error}
        self.failing = {(a.question, a.path) for a in answers if a.error}
        self.judge = "a first run without strikes"
        if manifest is not None:
            self.judge = f"the kernel's manifest ({os.path.basename(manifest)})"
            told = read_manifest(manifest)
            for answer in answers:
                if not answer.error and (line := disagreement(answer, told)):
                    raise RuntimeError(f"{line}: without strikes the mount should be as {manifest}")

    def verdict(self, answers: Iterable[Answer], cut: bool) -> Verdict:
        """Judge a run; of one that was `cut` by the server's end only what it did answer.

        Counted are wrong answers and errors; a file that is missing below an error is not.
        """
        found, seen, failed = Verdict(), set(), set()
        for answer in answers:
            about = answer.question, answer.path
            seen.add(about)
            if answer.error:
                failed.add(answer.path)
                if about not in self.failing and not cut:
                    found.errors += 1
                    found.example(f"/{escape(answer.path)}: error {answer.error}")
                continue
            found.answers += 1
            if about in self.right:
                found.judge(answer, self.right[about])
            elif about not in self.failing:
                found.extra(answer.path)
        if not cut:
            for question, path in self.right.keys() - seen:
                if question == "stat" and failed.isdisjoint(above(path)):
                    found.lost(path)
        return found
