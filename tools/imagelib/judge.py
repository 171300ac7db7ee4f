"""Hold what a reader told of an image against the truth about it.

The law for a damaged image: each path equals the sound image's, or shows the changed bytes
themselves where nothing could tell (their checksum is right), or fails with an error that names
the object. Anything else is a violation. For a sound image every path must be equal.
"""

from __future__ import annotations

import json
import lzma
import mmap
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from imagelib.manifest import BIG_BYTES, segments_to_read
from imagelib.rights import barred, doubtful, forget_trusted
from imagelib.touched import Touch

MOST_TOLD = 50
"""Violations and errors kept for an image."""

NOT_OVER_FUSE = frozenset({"bt", "s"})
"""FUSE as pyfuse3 speaks it has no birth times and no map of holes."""

_UNSUPPORTED = {"Unsupported", "EOPNOTSUPP", "ENOTSUP"}
_ERRNO_OF_DAMAGE = {"EUCLEAN", "EBADMSG"}

Line = dict[str, object]


class Truth:
    """A manifest whose entries stay in the file: only the place of each path is kept."""

    def __init__(self, path: Path) -> None:
        if path.suffix == ".xz":
            self._text: bytes | mmap.mmap = lzma.decompress(path.read_bytes())
        else:
            with path.open("rb") as f:
                self._text = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)
        self._at: dict[str, int] = {}
        self.keys: set[str] = set()
        at = 0
        while at < len(self._text):
            end = self._text.find(b"\n", at) + 1 or len(self._text)
            entry = json.loads(self._text[at:end])
            self._at[entry["p"]] = at
            self.keys |= entry.keys()
            at = end

    def __len__(self) -> int:
        return len(self._at)

    def __iter__(self) -> Iterator[str]:
        return iter(self._at)

    def get(self, path: str) -> Line | None:
        """Return the entry of a path, without the path itself."""
        at = self._at.get(path)
        if at is None:
            return None
        end = self._text.find(b"\n", at) + 1 or len(self._text)
        entry: Line = json.loads(self._text[at:end])
        del entry["p"]
        return entry

    def of_inode(self, ino: object) -> Iterator[Line]:
        """Yield the entries of all paths of an inode."""
        for found in re.finditer(rb'.*"i": ?%d\b.*' % int(str(ino)), self._text):
            yield json.loads(found[0])


@dataclass
class Verdict:
    """What came of one image; `violations` is empty when all is as it must be."""

    name: str
    equal: int = 0
    shown: int = 0
    failed: int = 0
    unsupported: int = 0
    denied: int = 0
    refused: str = ""
    seconds: float = 0.0
    kib: int = 0
    violations: list[str] = field(default_factory=list)
    errors: dict[str, int] = field(default_factory=dict)
    differing: list[str] = field(default_factory=list)

    def violate(self, text: str) -> None:
        """Note a violation, on one line."""
        if len(self.violations) < MOST_TOLD:
            self.violations.append(text.replace("\n", " | "))

    def err(self, text: str) -> None:
        """Count an error's text."""
        if text in self.errors or len(self.errors) < MOST_TOLD:
            self.errors[text] = self.errors.get(text, 0) + 1


def parent(path: str) -> str:
    """Return the path of the directory above, "" above the root."""
    if path == ".":
        return ""
    return path.rpartition("/")[0] or "."


class Judge:
    """Takes the lines of one reader and keeps the verdict."""

    def __init__(
        self,
        verdict: Verdict,
        truth: Truth,
        touched: Iterable[Touch] = (),
        *,
        damaged: bool,
        mounted: bool = False,
        whole: bool = True,
        uid: int | None = None,
    ) -> None:
        """`damaged`: failing is lawful; `mounted`: the lines are of a mount; not `whole`: the
        truth tells of each path only some keys; `uid`: the reader was a user without rights.
        """
        self.verdict = verdict
        self._truth = truth
        self._damaged = damaged
        self._mounted = mounted
        self._whole = whole
        self._uid = uid
        self._closed: set[str] = set()
        self._keys = truth.keys - {"p", "at", "e"} - (NOT_OVER_FUSE if mounted else set())
        self._touched = list(touched)
        self._moving = {touch.ino for touch in self._touched if touch.of_entries}
        self._seen: set[str] = set()
        self._broken: set[str] = set()
        self._moved: set[str] = set()
        self._odd: list[tuple[str, str]] = []

    def path(self, path: str, entry: Line, faults: list[Line]) -> None:
        """Judge one path."""
        if path in self._seen:
            self.verdict.violate(f"{path}: told twice")
        self._seen.add(path)
        truth = self._truth.get(path)
        closed = self._denied(path, faults, truth)
        failed = self._faults(path, faults, truth) | closed
        if truth is None:
            self._odd.append((path, "should not exist"))
            return
        known = truth.pop("e", None)
        wrong = [] if known and failed else self._differing(truth, entry, failed)
        if not wrong:
            self.verdict.equal += not failed
        elif self._shows(truth, wrong):
            self._show(path, truth, entry, wrong)
        else:
            if "i" in wrong:
                self._moved.add(path)
            texts = [f"{k} is {entry.get(k)!r}, expected {truth.get(k)!r}" for k in wrong]
            self._odd.append((path, "; ".join(texts)))

    def _denied(self, path: str, faults: list[Line], truth: Line | None) -> set[str]:
        """Take out and return what a user without rights was denied; nothing else may be open."""
        if self._uid is None or truth is None:
            return set()
        forget_trusted(truth)
        above = self._truth.get(parent(path)) if path != "." else None
        parts = {str(f["part"]) for f in faults if f["class"] == "EACCES"}
        wanted = barred(self._uid, truth, above)
        if doubtful(truth, above):
            wanted = parts
        for part in sorted(parts ^ wanted):
            how = "denied" if part in parts else "open"
            self.verdict.violate(f"{path}: {part} is {how} to user {self._uid}")
        faults[:] = [f for f in faults if f["class"] != "EACCES"]
        if parts:
            self._closed.add(path)
            self.verdict.denied += 1
        return parts

    def _faults(self, path: str, faults: list[Line], truth: Line | None) -> set[str]:
        """Count a path's errors, refuse the unlawful ones; return the parts that failed."""
        parts = set()
        unsupported = 0
        for fault in faults:
            part, name = str(fault["part"]), str(fault["class"])
            text = str(fault.get("text") or name)
            parts.add(part)
            self.verdict.err(f"{part.split(' ')[0]}: {text}")
            if name in _UNSUPPORTED:
                unsupported += 1
            elif not self._damaged:
                self.verdict.violate(f"{path}: {part}: {text}")
            elif self._mounted:
                if name not in _ERRNO_OF_DAMAGE:
                    self.verdict.violate(f"{path}: {part}: {name}, not an errno of damage")
            elif part.startswith("lookup ") and name == "NotFound":
                self._not_found(path, part.removeprefix("lookup "), truth)
            elif not fault["object"] or "\n" in text:
                self.verdict.violate(f"{path}: {part}: {text!r} names no object")
        if parts & {"lstat", "readdir"}:
            self._broken.add(path)
        if parts:
            self.verdict.unsupported += unsupported == len(faults)
            self.verdict.failed += unsupported != len(faults)
        return parts

    def _not_found(self, path: str, name: str, truth: Line | None) -> None:
        """A listed name that its hash does not find: lawful where that hash was changed."""
        text = f"{path}/{name}: is listed but not found by its name"
        ino = (truth or {}).get("i")
        if any(touch.ino == ino and touch.of_hashes for touch in self._touched):
            self._differ(text)
        else:
            self._odd.append((f"{path}/{name}", "is listed but not found by its name"))

    def _differing(self, truth: Line, entry: Line, failed: set[str]) -> list[str]:
        """Return the keys whose values differ though nothing told so."""
        if "lstat" in failed:
            return []
        lost = {"readlink": "l", "xattr": "x"}
        excused = {lost[part] for part in failed if part in lost}
        if "data" in failed:
            excused |= {"h", "s"}
        if any(part.startswith("xattr ") for part in failed):
            excused.add("x")
            there, here = truth.get("x") or {}, entry.get("x") or {}
            assert isinstance(there, dict)
            assert isinstance(here, dict)
            if any(there.get(name) != value for name, value in here.items()):
                excused.discard("x")
        if self._mounted and "h" not in entry and self._too_big(truth, entry):
            excused.add("h")
        keys = sorted((self._keys if self._whole else self._keys & truth.keys()) - excused)
        wrong = [key for key in keys if truth.get(key) != entry.get(key)]
        if "s" in wrong and self._seen_warm(truth, entry):
            wrong.remove("s")
        return wrong

    @staticmethod
    def _too_big(truth: Line, entry: Line) -> bool:
        """Whether the data is left unread, as a mount does not tell where the holes are."""
        size = int(str(entry.get("z", 0)))
        return size > BIG_BYTES and segments_to_read(truth, size) is None

    def _seen_warm(self, truth: Line, entry: Line) -> bool:
        """Whether the hole map is the truth's for another name of the inode.

        The kernel calls unwritten space data where its page cache holds it: once a file was
        read by one name, its other names show more data.
        """
        if int(str(truth.get("n", 1))) < 2:
            return False
        return any(other.get("s") == entry.get("s") for other in self._truth.of_inode(truth["i"]))

    def _shows(self, truth: Line, wrong: list[str]) -> bool:
        """Whether the changed bytes of the inode explain every key that differs."""
        allowed: set[str] = set()
        for touch in self._touched:
            if touch.ino == truth.get("i"):
                allowed |= touch.keys
        return allowed.issuperset(wrong)

    def _show(self, path: str, truth: Line, entry: Line, wrong: list[str]) -> None:
        self.verdict.shown += 1
        texts = [f"{k} is {entry.get(k)!r}, was {truth.get(k)!r}" for k in wrong]
        self._differ(f"{path}: {'; '.join(texts)}")

    def _differ(self, text: str) -> None:
        if len(self.verdict.differing) < MOST_TOLD:
            self.verdict.differing.append(text)

    def finish(self) -> None:
        """Judge what needs the whole: paths missing, moved or too many."""
        self._odd += [(path, "") for path in self._truth if path not in self._seen]
        for path, text in self._odd:
            lost = "" if text else self._lost(path)
            if lost in self._closed:
                self.verdict.denied += 1
            elif lost:
                self.verdict.failed += 1
            elif self._misled(path):
                self.verdict.shown += 1
                self._differ(f"{path}: {text or 'missing'}")
            else:
                self.verdict.violate(f"{path}: {text or 'missing, and no error told so'}")

    def _lost(self, path: str) -> str:
        """Return the directory above a missing path that failed or is closed, or ""."""
        while path := parent(path):
            if path in self._broken or path in self._closed:
                return path
            if path in self._seen:
                return ""
        return ""

    def _misled(self, path: str) -> bool:
        """Whether the entries of a directory above were changed, so that names lead elsewhere."""
        while path := parent(path):
            entry = self._truth.get(path)
            if path in self._moved or (entry and entry.get("i") in self._moving):
                return True
        return False
