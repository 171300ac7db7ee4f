"""What `wofs find` may ask of a file, with the meaning each word has for find(1)."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import datetime
from fractions import Fraction
from typing import NamedTuple

import click

from wofs.cli import show
from wofs.cli.pattern import Pattern
from wofs.fs import Filesystem, Path, Stat
from wofs.fs.stat import DIR, REG

NameTest = Callable[[Path], bool]
Test = Callable[[Path, Stat], bool]
Given = dict[str, object]
"""Option -> its value, None where it was not given."""

_UNITS = {"b": 512, "c": 1, "w": 2, "k": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_NUMBER = re.compile(r"([+-]?)([0-9]{1,40})([a-zA-Z]?)", re.ASCII)
_TIME = re.compile(r"([+-]?)([0-9]{1,40}(?:\.[0-9]{1,40})?)", re.ASCII)
_EPOCH = re.compile(r"@(-?[0-9]{1,40}(?:\.[0-9]{1,40})?)", re.ASCII)
_PERMISSIONS = re.compile(r"([-/]?)([0-7]{1,5})", re.ASCII)
_SECOND_NS = 10**9
_MINUTE_NS = 60 * _SECOND_NS
_DAY_NS = 86400 * _SECOND_NS

SIZE_HELP = "Size, rounded up to units of 512 bytes, or of c 1 byte, w 2 bytes, k M G T."
OPTIONS = (
    ("name", "PATTERN", "The last name matches (* ? [a-z] [!a] [[:digit:]] \\*)."),
    ("iname", "PATTERN", "The same, upper and lower case alike."),
    ("path", "PATTERN", "The whole path matches; * and ? take slashes too."),
    ("ipath", "PATTERN", "The same, upper and lower case alike."),
    ("type", "TYPES", "One of f d l c b p s, or several with commas."),
    ("size", "[+-]N[cwbkMGT]", SIZE_HELP),
    ("mtime", "[+-]N", "Data changed N days ago: N to N+1 (+ longer ago, - less)."),
    ("mmin", "[+-]N", "The same in minutes: N-1 to N."),
    ("atime", "[+-]N", "Like -mtime, of the last access."),
    ("amin", "[+-]N", "Like -mmin, of the last access."),
    ("ctime", "[+-]N", "Like -mtime, of the last change of the inode."),
    ("cmin", "[+-]N", "Like -mmin, of the last change of the inode."),
    ("newer", "FILE", "Data changed after that of FILE, a path of the image."),
    ("newermt", "TIME", "Data changed after TIME: 2024-12-31, 2024-12-31T23:59, @SECONDS."),
    ("inum", "[+-]N", "Inode number."),
    ("samefile", "FILE", "The same inode as FILE: another of its hard links."),
    ("links", "[+-]N", "Number of hard links."),
    ("uid", "[+-]N", "Owner."),
    ("gid", "[+-]N", "Group."),
    ("perm", "[-/]MODE", "Octal permissions: exactly, -all of these bits, /any of them."),
)
"""(name, form, help) of the options with a value."""


class Number(NamedTuple):
    """A count to compare with: `sign` + for more, - for less, "" for equal."""

    sign: str
    amount: Fraction

    def holds(self, value: int) -> bool:
        """Compare a value in the same units."""
        if self.sign == "+":
            return value > self.amount
        return value < self.amount if self.sign == "-" else value == self.amount


def bad(option: str, text: str, form: str) -> click.BadParameter:
    """Return the error for an option whose value makes no sense."""
    return click.BadParameter(f"{text!r} is not {form}", param_hint=f"'-{option}'")


def criteria(filesystem: Filesystem, given: Given) -> tuple[list[NameTest], list[Test]]:
    """Return what to ask of a name, and what of the attributes.

    Raises BadParameter, and the errors of a FILE that is looked up.
    """
    wanted = {key: str(value) for key, value in given.items() if value is not None}
    names = [_name_test(key, wanted[key]) for key in _OF_NAMES if key in wanted]
    return names, [_MAKERS[key](filesystem, key, wanted[key]) for key in _MAKERS if key in wanted]


_OF_NAMES = ("name", "iname", "path", "ipath")


def _name_test(option: str, text: str) -> NameTest:
    pattern = Pattern(text, fold=option.startswith("i"))
    if option.endswith("path"):
        return lambda path: pattern.matches(bytes(path))
    return lambda path: pattern.matches(path.name_bytes or b"/")


def _type_test(_: Filesystem, option: str, text: str) -> Test:
    letters = set(text.split(","))
    if not letters <= set(show.LETTERS.values()):
        raise bad(option, text, "one of f d l c b p s, or several with commas")
    return lambda _, stat: show.LETTERS[stat.type] in letters


def _size_test(_: Filesystem, option: str, text: str) -> Test:
    match = _NUMBER.fullmatch(text)
    if not match or match[3] not in ("", *_UNITS):
        raise bad(option, text, "[+-]N[cwbkMGT]")
    wanted, unit = Number(match[1], Fraction(match[2])), _UNITS[match[3] or "b"]
    return lambda _, stat: wanted.holds(-(-stat.st_size // unit))


def _count_test(field: str) -> Callable[[Filesystem, str, str], Test]:
    """Return the maker of tests of an integer attribute."""

    def make(_: Filesystem, option: str, text: str) -> Test:
        match = _NUMBER.fullmatch(text)
        if not match or match[3]:
            raise bad(option, text, "[+-]N")
        wanted = Number(match[1], Fraction(match[2]))
        return lambda _, stat: wanted.holds(getattr(stat, field))

    return make


def _age_test(field: str, unit_ns: int) -> Callable[[Filesystem, str, str], Test]:
    """Return the maker of tests of a time.

    Days are counted in full, minutes begun: `parser.c: parse_time` and `parse_min` of
    findutils differ so.
    """
    days = unit_ns == _DAY_NS

    def make(_: Filesystem, option: str, text: str) -> Test:
        match = _TIME.fullmatch(text)
        if not match:
            raise bad(option, text, "[+-]N")
        now, n_ns = time.time_ns(), Fraction(match[2]) * unit_ns
        first = n_ns if days else n_ns - unit_ns
        end = first + unit_ns
        if match[1] == "+":
            return lambda _, stat: now - getattr(stat, field) > end
        if match[1] == "-":
            return lambda _, stat: now - getattr(stat, field) < n_ns
        return lambda _, stat: first <= now - getattr(stat, field) < end

    return make


def _newer_test(filesystem: Filesystem, _: str, text: str) -> Test:
    than = filesystem.path(text).lstat().st_mtime_ns
    return lambda _, stat: stat.st_mtime_ns > than


def _newermt_test(_: Filesystem, option: str, text: str) -> Test:
    try:
        if match := _EPOCH.fullmatch(text):
            than = int(Fraction(match[1]) * _SECOND_NS)
        else:
            than = int(datetime.fromisoformat(text).timestamp()) * _SECOND_NS
    except (ValueError, OverflowError, OSError) as error:
        raise bad(option, text, "a time (2024-12-31T23:59 or @SECONDS)") from error
    return lambda _, stat: stat.st_mtime_ns > than


def _samefile_test(filesystem: Filesystem, _: str, text: str) -> Test:
    ino = filesystem.path(text).lstat().st_ino
    return lambda _, stat: stat.st_ino == ino


def _perm_test(_: Filesystem, option: str, text: str) -> Test:
    match = _PERMISSIONS.fullmatch(text)
    bits = int(match[2], 8) if match else 1 << 12
    if not match or bits > 0o7777:
        raise bad(option, text, "[-/]MODE in octal")
    if match[1] == "-":
        return lambda _, stat: stat.st_mode & bits == bits
    if match[1] == "/":
        return lambda _, stat: not bits or bool(stat.st_mode & bits)
    return lambda _, stat: stat.st_mode & 0o7777 == bits


_MAKERS: dict[str, Callable[[Filesystem, str, str], Test]] = {
    "type": _type_test,
    "size": _size_test,
    "inum": _count_test("st_ino"),
    "samefile": _samefile_test,
    "links": _count_test("st_nlink"),
    "uid": _count_test("st_uid"),
    "gid": _count_test("st_gid"),
    "perm": _perm_test,
    "mtime": _age_test("st_mtime_ns", _DAY_NS),
    "mmin": _age_test("st_mtime_ns", _MINUTE_NS),
    "atime": _age_test("st_atime_ns", _DAY_NS),
    "amin": _age_test("st_atime_ns", _MINUTE_NS),
    "ctime": _age_test("st_ctime_ns", _DAY_NS),
    "cmin": _age_test("st_ctime_ns", _MINUTE_NS),
    "newer": _newer_test,
    "newermt": _newermt_test,
}


def is_empty(path: Path, stat: Stat) -> bool:
    """Whether a file has no data, or a directory no entries; False for anything else.

    Raises the `ImageError` of a damaged directory.
    """
    if stat.type == DIR:
        return next(path.iterdir(), None) is None
    return stat.type == REG and stat.st_size == 0
