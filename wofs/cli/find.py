"""`wofs find`: search a tree."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import click

from wofs.cli import show
from wofs.cli.criteria import OPTIONS, criteria, is_empty
from wofs.cli.output import quoted
from wofs.cli.request import JSON_HELP, Request, reads_image
from wofs.errors import ImageError
from wofs.fs import Path, Stat
from wofs.fs.stat import DIR, LNK
from wofs.fs.walk import descend

F = TypeVar("F", bound=Callable[..., Any])

_WIDTHS = (10, 3, 5, 5, 10, 16)


def _options(command: F) -> F:
    """Give a command the options with a value."""
    for name, form, text in reversed(OPTIONS):
        option = click.option(f"-{name}", f"--{name}", f"by_{name}", metavar=form, help=text)
        command = option(command)
    return command


@click.command(
    "find",
    epilog="\b\nExamples:\n  wofs find disk.img /etc -name '*.conf' --ls\n"
    "  wofs find disk.img -type f -size +100M\n"
    "  wofs find disk.img /home -mtime -7 -print0 | xargs -0 -n1 echo\n"
    "  wofs find disk.img -perm /6000 -type f --ls     set-uid and set-gid programs\n"
    "  wofs find disk.img -type l --json | jq -r .target",
)
@reads_image
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@_options
@click.option("-empty", "--empty", is_flag=True, help="Files without data, empty directories.")
@click.option(
    "-maxdepth", "--maxdepth", type=click.IntRange(0), metavar="N", help="Go at most this deep."
)
@click.option(
    "-mindepth", "--mindepth", type=click.IntRange(0), metavar="N", default=0, help="Skip above."
)
@click.option("-print", "--print", "plain", is_flag=True, help="Print the path: the default.")
@click.option("-print0", "--print0", is_flag=True, help="End paths by a NUL byte.")
@click.option("-ls", "--ls", "long", is_flag=True, help="Lines like those of ls -dils.")
@click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
def command(
    request: Request,
    paths: tuple[str, ...],
    maxdepth: int | None,
    mindepth: int,
    empty: bool,
    plain: bool,
    print0: bool,
    long: bool,
    as_json: bool,
    **given: str | None,
) -> None:
    """Print the paths below PATH, by default the root, that meet all criteria.

    In the directories' own order; symbolic links are not followed. Options have the names and
    the meaning of find(1), with one dash or two, in any order. Damage is told on stderr and
    the search goes on (exit code 4); a damaged inode is found by its name only.
    """
    with request.opened() as filesystem:
        by_name, tests = criteria(filesystem, {key[3:]: given[key] for key in given})
        for top in request.paths(filesystem, paths):
            for path, stat in _walk(request, top, maxdepth, mindepth):
                if not all(matches(path) for matches in by_name):
                    continue
                if (tests or empty) and stat is None:
                    continue
                if stat is not None and not all(test(path, stat) for test in tests):
                    continue
                if empty and stat is not None and not _empty(request, path, stat):
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
    if maxdepth == 0 or stat.type != DIR:
        return
    for path, below, depth in descend(top, request.tell, maxdepth):
        if depth >= mindepth:
            yield path, below


def _empty(request: Request, path: Path, stat: Stat) -> bool:
    try:
        return is_empty(path, stat)
    except (ImageError, OSError) as error:
        request.tell(path, error)
        return False


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
    name = quoted(raw) + (f" -> {quoted(target)}" if target is not None else "")
    number, kib = (stat.st_ino, -(-stat.st_blocks // 2)) if stat is not None else ("?", "?")
    out.line(f"{number:>10} {kib:>8} {show.long_line(show.row(stat), _WIDTHS, name)}")
