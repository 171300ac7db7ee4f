"""`wofs find`: search a tree."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from typing import NamedTuple

import click

from wofs.cli import show
from wofs.cli.request import JSON_HELP, Request, reads_image
from wofs.errors import ImageError
from wofs.fs import Filesystem, Path, Stat
from wofs.fs.stat import LNK
from wofs.fs.walk import descend

Test = Callable[[Path, Stat], bool]

_UNITS = {"": 512, "b": 512, "c": 1, "k": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_NUMBER = re.compile(r"([+-]?)([0-9]+)([bckMGT]?)", re.ASCII)
_DAY_NS = 86400 * 10**9
_WIDTHS = (10, 3, 5, 5, 10, 16)


class Number(NamedTuple):
    """A count to compare with: `sign` + for more, - for less, "" for equal; in units."""

    sign: str
    amount: int
    unit: int

    def holds(self, value: int) -> bool:
        """Compare a value already counted in units."""
        if self.sign == "+":
            return value > self.amount
        return value < self.amount if self.sign == "-" else value == self.amount


def number(text: str, option: str, units: bool) -> Number:
    """Parse [+-]N[unit]; BadParameter for anything else."""
    match = _NUMBER.fullmatch(text)
    if not match or (match[3] and not units):
        form = "[+-]N[bckMGT]" if units else "[+-]N"
        raise click.BadParameter(f"{text!r} is not {form}", param_hint=f"'{option}'")
    return Number(match[1], int(match[2]), _UNITS[match[3]])


@click.command(
    "find",
    epilog="\b\nExamples:\n  wofs find disk.img /etc -name '*.conf' --ls\n"
    "  wofs find disk.img -type f -size +100M\n"
    "  wofs find disk.img /home -mtime -7 -print0 | xargs -0 -n1 echo\n"
    "  wofs find disk.img -type l --json | jq -r .target",
)
@reads_image
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@click.option("-name", "--name", help="The last name matches this pattern (* ? [...]).")
@click.option("-iname", "--iname", help="The same, upper and lower case alike.")
@click.option("-path", "--path", "whole", help="The whole path matches this pattern.")
@click.option("-type", "--type", "types", metavar="TYPES", help="One of f d l c b p s, or a list.")
@click.option(
    "-size",
    "--size",
    metavar="[+-]N[ckMG]",
    help="Size rounded up to blocks of 512 bytes, or to c k M G.",
)
@click.option("-mtime", "--mtime", metavar="[+-]N", help="Changed N days ago (+ more, - less).")
@click.option("-newer", "--newer", metavar="FILE", help="Changed after FILE of the image was.")
@click.option("-inum", "--inum", type=int, help="The inode has this number.")
@click.option("-links", "--links", metavar="[+-]N", help="Number of hard links.")
@click.option("-maxdepth", "--maxdepth", type=click.IntRange(0), help="Go at most this deep.")
@click.option("-mindepth", "--mindepth", type=click.IntRange(0), default=0, help="Skip above.")
@click.option("-print0", "--print0", is_flag=True, help="End names by a NUL byte.")
@click.option("-ls", "--ls", "long", is_flag=True, help="Lines like those of ls -dils.")
@click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
def command(
    request: Request,
    paths: tuple[str, ...],
    maxdepth: int | None,
    mindepth: int,
    print0: bool,
    long: bool,
    as_json: bool,
    **criteria: str | int | None,
) -> None:
    """Print the paths below PATH, by default the root, that meet all criteria.

    In the directories' own order; symbolic links are not followed. Options have the names of
    find(1), with one dash or two. Damage is told on stderr and the search goes on (exit
    code 4); a damaged inode is found by its name only.
    """
    with request.opened() as filesystem:
        by_name, tests = _criteria(filesystem, criteria)
        for top in request.paths(filesystem, paths):
            for path, stat in _walk(request, top, maxdepth, mindepth):
                if not all(matches(path) for matches in by_name):
                    continue
                if tests and (stat is None or not all(test(path, stat) for test in tests)):
                    continue
                _write(request, path, stat, print0, long, as_json)


def _walk(
    request: Request, top: Path, maxdepth: int | None, mindepth: int
) -> Iterator[tuple[Path, Stat | None]]:
    """Yield `top` and all below it within the depths."""
    try:
        stat = top.lstat()
    except (ImageError, OSError) as error:
        request.tell(top, error)
        return
    if mindepth == 0:
        yield top, stat
    if maxdepth == 0 or show.LETTERS[stat.type] != "d":
        return
    for path, below, depth in descend(top, request.tell, maxdepth):
        if depth >= mindepth:
            yield path, below


def _criteria(
    filesystem: Filesystem, given: dict[str, str | int | None]
) -> tuple[list[Callable[[Path], bool]], list[Test]]:
    """Return what to ask of a name, and what of the attributes."""
    wanted = {key: str(value) for key, value in given.items() if value is not None}
    by_name: list[Callable[[Path], bool]] = []
    if "name" in wanted:
        by_name.append(lambda path: fnmatchcase(path.name, wanted["name"]))
    if "iname" in wanted:
        by_name.append(lambda path: fnmatchcase(path.name.lower(), wanted["iname"].lower()))
    if "whole" in wanted:
        by_name.append(lambda path: fnmatchcase(str(path), wanted["whole"]))
    makers: dict[str, Callable[[str], Test]] = {
        "types": _type_test,
        "size": _size_test,
        "mtime": _mtime_test,
        "newer": lambda text: _newer_test(filesystem, text),
        "inum": lambda text: lambda _, stat: stat.st_ino == int(text),
        "links": _links_test,
    }
    return by_name, [make(wanted[key]) for key, make in makers.items() if key in wanted]


def _type_test(text: str) -> Test:
    letters = set(text.split(","))
    if not letters <= set(show.LETTERS.values()):
        raise click.BadParameter(f"{text!r}: one of f d l c b p s", param_hint="'-type'")
    return lambda _, stat: show.LETTERS[stat.type] in letters


def _size_test(text: str) -> Test:
    wanted = number(text, "-size", units=True)
    return lambda _, stat: wanted.holds(-(-stat.st_size // wanted.unit))


def _mtime_test(text: str) -> Test:
    wanted, now = number(text, "-mtime", units=False), time.time_ns()
    return lambda _, stat: wanted.holds((now - stat.st_mtime_ns) // _DAY_NS)


def _newer_test(filesystem: Filesystem, text: str) -> Test:
    than = filesystem.path(text).stat().st_mtime_ns
    return lambda _, stat: stat.st_mtime_ns > than


def _links_test(text: str) -> Test:
    wanted = number(text, "-links", units=False)
    return lambda _, stat: wanted.holds(stat.st_nlink)


def _write(
    request: Request, path: Path, stat: Stat | None, print0: bool, long: bool, as_json: bool
) -> None:
    """Write one path that was found."""
    out, raw = request.out, bytes(path)
    if not (long or as_json):
        if print0:
            out.raw(raw + b"\0")
        else:
            out.line(out.name(raw))
        return
    target = request.target(path) if stat is not None and stat.type == LNK else None
    if as_json:
        out.json(show.as_json(path, stat, target))
        return
    name = out.name(raw) + (" -> " + out.name(target) if target is not None else "")
    number, kib = (stat.st_ino, stat.st_blocks // 2) if stat is not None else ("?", "?")
    out.line(f"{number:>10} {kib:>8} {show.long_line(show.row(stat), _WIDTHS, name)}")
