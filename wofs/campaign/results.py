"""The file of results of a campaign: an SQLite database, so that a run can be resumed and asked.

One process writes. Names and messages may hold any bytes (`os.fsdecode`): they are kept as such.
Results are added in whole transactions: after a crash a fault has its result or has none.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import quote

from wofs.campaign.fault import Fault
from wofs.campaign.laws import Result
from wofs.errors import WofsError

APPLICATION, FORMAT = 0x776F6673, 1
"""What the database's header says: its application ("wofs") and the version of its tables."""

_TABLES = """
CREATE TABLE run (
    id INTEGER PRIMARY KEY, started REAL NOT NULL, version TEXT NOT NULL, options TEXT NOT NULL
);
CREATE TABLE image (
    id INTEGER PRIMARY KEY, run INTEGER NOT NULL REFERENCES run, path TEXT NOT NULL UNIQUE,
    sha256 TEXT NOT NULL, size INTEGER NOT NULL
);
CREATE TABLE fault (
    id INTEGER PRIMARY KEY, image INTEGER NOT NULL REFERENCES image, key TEXT NOT NULL,
    klass TEXT NOT NULL, structure TEXT NOT NULL, object TEXT NOT NULL, field TEXT NOT NULL,
    value TEXT NOT NULL, crc TEXT NOT NULL, edits TEXT NOT NULL, seed INTEGER NOT NULL,
    UNIQUE (image, key)
);
CREATE TABLE result (
    fault INTEGER PRIMARY KEY REFERENCES fault, outcome TEXT NOT NULL, laws TEXT NOT NULL,
    error TEXT NOT NULL, codes TEXT NOT NULL, changed TEXT NOT NULL, reason TEXT NOT NULL,
    millis INTEGER NOT NULL, peak_kib INTEGER NOT NULL, signal INTEGER NOT NULL,
    count INTEGER NOT NULL
);
CREATE INDEX result_outcome ON result (outcome);
CREATE TABLE verdict (
    fault INTEGER NOT NULL REFERENCES fault, target TEXT NOT NULL, status TEXT NOT NULL,
    text TEXT NOT NULL, millis INTEGER NOT NULL, PRIMARY KEY (fault, target)
) WITHOUT ROWID;
"""

_FAULT = "klass, structure, object, field, value, crc, edits, seed"
_RESULT = "outcome, laws, error, codes, changed, reason, millis, peak_kib, signal, count"


class BadResults(WofsError):
    """A file holds no results of a campaign, or those of another image or version."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What another reader says of a damaged copy.

    `target` is its name, `status` one of `target.STATUSES`, `text` the first line of what it
    said, `millis` the time it took.
    """

    target: str
    status: str
    text: str
    millis: int

    @property
    def told(self) -> str:
        """The status, and what was said if anything was."""
        return f"{self.status}: {self.text}" if self.text else self.status


@dataclass(frozen=True, slots=True)
class Image:
    """An image of a campaign: its path as given, the SHA-256 and size (bytes) it had."""

    path: str
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Run:
    """One start of a campaign: when (seconds since 1970), by which wofs, with what options."""

    started: float
    version: str
    options: dict[str, object]


@dataclass(slots=True)
class Stored:
    """A result with the verdicts of other readers on the same fault."""

    result: Result
    verdicts: list[Verdict] = field(default_factory=list)


class Results:
    """The results of a campaign in the file `path`; BadResults where it holds others.

    With `create` the file is made if it is not there, and may be written to. It is a context
    manager; leaving it closes the file.
    """

    def __init__(self, path: str, create: bool = False) -> None:
        self.path = path
        mode = "rwc" if create else "rw"
        name = quote(os.fsencode(path))
        try:
            self._db = sqlite3.connect(f"file:{name}?mode={mode}", uri=True, isolation_level=None)
        except sqlite3.OperationalError as error:
            raise BadResults(f"{path}: {error}") from error
        self._db.text_factory = _text
        self._images: dict[str, int] = {}
        self._run = 0
        try:
            self._admit(create)
        except BaseException:
            self._db.close()
            raise

    def _admit(self, create: bool) -> None:
        """See that the file is ours; make the tables in an empty one."""
        try:
            (application,) = self._db.execute("PRAGMA application_id").fetchone()
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            (tables,) = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if create and not (tables or application or version):
                self._db.executescript(
                    f"BEGIN; PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {FORMAT};"
                    + _TABLES
                    + "COMMIT;"
                )
            elif application != APPLICATION:
                raise BadResults(f"{self.path}: no results of `wofs campaign`")
            elif version != FORMAT:
                raise BadResults(f"{self.path}: results of format {version}, expected {FORMAT}")
            self._images = dict(self._db.execute("SELECT path, id FROM image"))
        except sqlite3.DatabaseError as error:
            raise BadResults(f"{self.path}: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    # ---- writing
    def begin(self, version: str, options: dict[str, object]) -> None:
        """Note a start of the campaign, by this version of wofs and with these options."""
        with self._transaction():
            row = time.time(), version, json.dumps(options)
            added = self._db.execute("INSERT INTO run VALUES (NULL, ?, ?, ?)", row)
        self._run = added.lastrowid or 0

    def add_image(self, image: Image) -> None:
        """Note an image whose faults follow; BadResults if the file has another of that path."""
        if image.path in self._images:
            known = next(one for one in self.images() if one.path == image.path)
            if known != image:
                raise BadResults(
                    f"{self.path}: {image.path} is not the image that these results are of"
                )
            return
        with self._transaction():
            row = self._run, _bytes(image.path), image.sha256, image.size
            sql = "INSERT INTO image VALUES (NULL, ?, CAST(? AS TEXT), ?, ?)"
            self._images[image.path] = self._db.execute(sql, row).lastrowid or 0

    def add(self, results: Iterable[Result]) -> None:
        """Keep results, all or none; one that is there already gives way to the new."""
        with self._transaction():
            for one in results:
                laws, codes, changed = map(json.dumps, (one.laws, one.codes, one.changed))
                row = one.outcome, laws, _bytes(one.error), codes, changed, _bytes(one.reason)
                self._db.execute(
                    "INSERT OR REPLACE INTO result VALUES "
                    "(?, ?, ?, CAST(? AS TEXT), ?, ?, CAST(? AS TEXT), ?, ?, ?, ?)",
                    (self._fault(one.fault), *row, one.millis, one.peak_kib, one.signal, one.count),
                )

    def add_verdicts(self, verdicts: Iterable[tuple[Fault, Verdict]]) -> None:
        """Keep what another reader says of faults, all or none."""
        with self._transaction():
            for fault, verdict in verdicts:
                text = _bytes(verdict.text)
                self._db.execute(
                    "INSERT OR REPLACE INTO verdict VALUES (?, CAST(? AS TEXT), ?, "
                    "CAST(? AS TEXT), ?)",
                    (
                        *(self._fault(fault), _bytes(verdict.target)),
                        *(verdict.status, text, verdict.millis),
                    ),
                )

    def _fault(self, fault: Fault) -> int:
        """Return the number of a fault, which is kept if it is new."""
        image, key = self._images[fault.image], _bytes(fault.key)
        found = self._db.execute(
            "SELECT id FROM fault WHERE image = ? AND key = CAST(? AS TEXT)", (image, key)
        ).fetchone()
        if found is not None:
            return int(found[0])
        names = fault.klass, fault.structure, fault.object, fault.field, fault.value, fault.crc
        row = image, key, *map(_bytes, names), json.dumps(fault.edits), fault.seed
        cast = ", ".join(["CAST(? AS TEXT)"] * 7)
        added = self._db.execute(f"INSERT INTO fault VALUES (NULL, ?, {cast}, ?, ?)", row)
        return added.lastrowid or 0

    def _transaction(self) -> AbstractContextManager[None]:
        return _transaction(self._db, self.path)

    # ---- reading
    def done(self, path: str) -> set[str]:
        """Return the keys of the faults of an image that have a result."""
        rows = self._ask(
            "SELECT key FROM fault JOIN result ON fault.id = result.fault WHERE image = ?",
            self._images.get(path, 0),
        )
        return {str(key) for (key,) in rows}

    def judged(self, path: str, target: str) -> set[str]:
        """Return the keys of the faults of an image on which another reader has a verdict."""
        rows = self._ask(
            "SELECT key FROM fault JOIN verdict ON fault.id = verdict.fault "
            "WHERE image = ? AND target = CAST(? AS TEXT)",
            self._images.get(path, 0),
            _bytes(target),
        )
        return {str(key) for (key,) in rows}

    def runs(self) -> list[Run]:
        """Return the starts of the campaign, the first first."""
        rows = self._ask("SELECT started, version, options FROM run ORDER BY id")
        return [Run(started, version, _object(options)) for started, version, options in rows]

    def seed(self) -> int | None:
        """Return the seed of the last start; None where there was none."""
        seeds = [run.options.get("seed") for run in self.runs()]
        return next((seed for seed in reversed(seeds) if isinstance(seed, int)), None)

    def images(self) -> list[Image]:
        """Return the images in the order in which they came."""
        rows = self._ask("SELECT path, sha256, size FROM image ORDER BY id")
        return [Image(*row) for row in rows]

    def counts(self) -> dict[tuple[str, str, str, str, str], int]:
        """Return how many faults had each (class, structure, crc, field, outcome)."""
        rows = self._ask(
            "SELECT klass, structure, crc, field, outcome, sum(count) FROM fault "
            "JOIN result ON fault.id = result.fault GROUP BY 1, 2, 3, 4, 5"
        )
        return {(*names, outcome): count for *names, outcome, count in rows}

    def verdicts(self) -> Iterator[tuple[str, str, str, int]]:
        """Yield how often another reader had a verdict: (target, outcome, status, faults)."""
        yield from self._ask(
            "SELECT target, outcome, status, count(*) FROM verdict "
            "JOIN result ON verdict.fault = result.fault GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
        )

    def outcomes(self) -> Iterator[tuple[str, str, str]]:
        """Yield (image, key, outcome) of every result, in the order of image and key."""
        yield from self._ask(
            "SELECT path, key, outcome FROM result JOIN fault ON fault.id = result.fault "
            "JOIN image ON image.id = fault.image ORDER BY path, key"
        )

    def results(self, *outcomes: str) -> Iterator[Stored]:
        """Yield the results with these outcomes (none: all), in the order of their faults."""
        marks = ", ".join("?" * len(outcomes))
        return self._stored(f"WHERE outcome IN ({marks})" if outcomes else "", outcomes)

    def said(self, *statuses: str) -> Iterator[Stored]:
        """Yield the results of faults of which some other reader says one of these."""
        marks = ", ".join("?" * len(statuses))
        where = f"WHERE fault.id IN (SELECT fault FROM verdict WHERE status IN ({marks}))"
        return self._stored(where, statuses)

    def _stored(self, where: str, values: Sequence[str]) -> Iterator[Stored]:
        verdicts = self._verdicts()
        for number, path, *row in self._ask(
            f"SELECT fault.id, path, {_FAULT}, {_RESULT} FROM result "
            "JOIN fault ON fault.id = result.fault JOIN image ON image.id = fault.image "
            f"{where} ORDER BY fault.id",
            *values,
        ):
            yield Stored(_result(path, row), verdicts.get(number, []))

    def one(self, path: str, key: str) -> Result:
        """Return the result of one fault of an image; KeyError for none."""
        for row in self._ask(
            f"SELECT {_FAULT}, {_RESULT} FROM result JOIN fault ON fault.id = result.fault "
            "WHERE image = ? AND key = CAST(? AS TEXT)",
            self._images.get(path, 0),
            _bytes(key),
        ):
            return _result(path, row)
        raise KeyError(key)

    def _verdicts(self) -> dict[int, list[Verdict]]:
        found: dict[int, list[Verdict]] = {}
        for number, *row in self._ask(
            "SELECT fault, target, status, text, millis FROM verdict ORDER BY fault, target"
        ):
            found.setdefault(number, []).append(Verdict(*row))
        return found

    def _ask(self, sql: str, *values: object) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a query; BadResults where the file is damaged."""
        try:
            with closing(self._db.cursor()) as cursor:
                yield from cursor.execute(sql, values)
        except sqlite3.DatabaseError as error:
            raise BadResults(f"{self.path}: {error}") from error


@contextmanager
def _transaction(db: sqlite3.Connection, path: str) -> Iterator[None]:
    """Keep all of a block, or nothing of it; BadResults where the file cannot be written to."""
    try:
        db.execute("BEGIN IMMEDIATE")
        try:
            yield
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:  # a full disk ends one by itself
                db.execute("ROLLBACK")
            raise
    except sqlite3.DatabaseError as error:
        raise BadResults(f"{path}: {error}") from error


def _bytes(text: str) -> bytes:
    """Return a text for the database, which takes no bytes that are not UTF-8 in a str."""
    return text.encode("utf-8", "surrogateescape")


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _result(path: str, row: list[object] | tuple[object, ...]) -> Result:
    """Make a result of the columns of _FAULT and _RESULT."""
    klass, structure, name, field_name, value, crc, edits, seed, *rest = row
    fault = Fault(
        image=path,
        klass=str(klass),
        structure=str(structure),
        object=str(name),
        field=str(field_name),
        value=str(value),
        crc=str(crc),
        edits=_words(edits),
        seed=_number(seed),
    )
    outcome, laws, error, codes, changed, reason, *numbers = rest
    millis, peak_kib, signal, count = map(_number, numbers)
    return Result(
        fault=fault,
        outcome=str(outcome),
        laws=_words(laws),
        error=str(error),
        codes=_words(codes),
        changed=_words(changed),
        reason=str(reason),
        millis=millis,
        peak_kib=peak_kib,
        signal=signal,
        count=count,
    )


def _object(text: str) -> dict[str, object]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise BadResults(f"the results hold {text!r} where options belong")
    return found


def _words(value: object) -> tuple[str, ...]:
    try:
        words = json.loads(str(value))
    except ValueError:
        words = None
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise BadResults(f"the results hold {value!r} where a list of words belongs")
    return tuple(words)


def _number(value: object) -> int:
    if not isinstance(value, int):
        raise BadResults(f"the results hold {value!r} where a number belongs")
    return value
