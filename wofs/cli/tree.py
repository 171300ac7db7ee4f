"""`wofs tree`: draw a directory and all below it."""

from __future__ import annotations

import click

from wofs.cli import show
from wofs.cli.output import quoted
from wofs.cli.request import JSON_HELP, Request, reads_image
from wofs.errors import ImageError
from wofs.fs import Path, Stat
from wofs.fs.stat import DIR, LNK
from wofs.fs.walk import children, descend

Level = list[tuple[Path, Stat | None]]


@click.command(
    "tree",
    epilog="\b\nExamples:\n  wofs tree disk.img /etc\n  wofs tree -L 2 -d disk.img",
)
@reads_image
@click.argument("path", default="/")
@click.option("-L", "--level", type=click.IntRange(1), help="Go at most this deep.")
@click.option("-d", "directories", is_flag=True, help="Directories only.")
@click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
def command(
    request: Request, path: str, level: int | None, directories: bool, as_json: bool
) -> None:
    """Draw the tree below PATH, by default the whole image; all names, sorted by their bytes.

    Damaged objects are marked, told on stderr, and the rest goes on (exit code 4). A directory
    that lies inside itself is refused.
    """
    with request.opened() as filesystem:
        top = filesystem.path(path)
        if as_json:
            _write_json(request, top, level, directories)
        else:
            _draw(request, top, level, directories)


def _write_json(request: Request, top: Path, level: int | None, directories: bool) -> None:
    request.out.json(show.as_json(top, top.stat()))
    for path, stat, _ in descend(top, request.tell, level):
        if directories and (stat is None or stat.type != DIR):
            continue
        target = request.target(path) if stat is not None and stat.type == LNK else None
        request.out.json(show.as_json(path, stat, target))


def _draw(request: Request, top: Path, level: int | None, directories: bool) -> None:
    """Draw depth first with a stack of the names still to come at each level."""
    out = request.out
    bar, fork, last = ("│   ", "├── ", "└── ") if out.drawable("│├└─") else ("|   ", "|-- ", "`-- ")
    out.line(quoted(bytes(top)))
    counts = [0, 0]

    def load(path: Path) -> Level:
        found = [
            child
            for child in children(path, request.tell)
            if not directories or (child[1] is not None and child[1].type == DIR)
        ]
        return sorted(found, key=lambda child: child[0].name_bytes, reverse=True)

    stack = [load(top)]
    while stack:
        if not stack[-1]:
            stack.pop()
            continue
        path, stat = stack[-1].pop()
        bars = "".join(bar if above else "    " for above in stack[:-1])
        out.line(bars + (fork if stack[-1] else last) + _label(request, path, stat))
        is_directory = stat is not None and stat.type == DIR
        counts[not is_directory] += 1
        if is_directory and (level is None or len(stack) < level):
            stack.append(load(path))
    files = "" if directories else f", {counts[1]} other{'s' if counts[1] != 1 else ''}"
    out.line(f"\n{counts[0]} director{'ies' if counts[0] != 1 else 'y'}{files}")


def _label(request: Request, path: Path, stat: Stat | None) -> str:
    name = quoted(path.name_bytes)
    if stat is None:
        return f"{name} [damaged]"
    if stat.type != LNK:
        return name
    try:
        return f"{name} -> {quoted(path.readlink_bytes())}"
    except (ImageError, OSError) as error:
        request.tell(path, error)
        return f"{name} -> [damaged]"
