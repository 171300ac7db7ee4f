"""`wofs slab`: what of a mount lies in write-once memory, and where."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Protocol

import click

from wofs.cli import slabmap, slabstats
from wofs.cli.request import Request, reads_image
from wofs.errors import NotFound
from wofs.fs import memory
from wofs.fuse import control
from wofs.fuse.mountpoint import Mounted, wofs_mount_at
from wofs.xfs.mount import Mount

_PAGES_SHOWN = 64


class Source(Protocol):
    """Something whose write-once memory can be looked at."""

    def arena(self) -> memory.Json:
        """Return the arena's state."""
        ...

    def pages(self) -> list[memory.Json]:
        """Return its runs."""
        ...

    def fields(self, name: str) -> list[memory.Json]:
        """Return an object's fields."""
        ...

    def shelves(self) -> list[memory.Json]:
        """Return what is kept of other metadata."""
        ...


class Opened:
    """An image, mounted in this process."""

    def __init__(self, mount: Mount) -> None:
        self._mount = mount

    def arena(self) -> memory.Json:
        """Return the arena's state."""
        return memory.arena(self._mount)

    def pages(self) -> list[memory.Json]:
        """Return its runs."""
        return memory.pages(self._mount)

    def fields(self, name: str) -> list[memory.Json]:
        """Return an object's fields."""
        return memory.fields(self._mount, name)

    def shelves(self) -> list[memory.Json]:
        """Return what is kept of other metadata."""
        return memory.shelves(self._mount)


class Live:
    """A mount that another process serves."""

    def __init__(self, mounted: Mounted) -> None:
        self._mounted = mounted

    def _ask(self, question: str) -> list[memory.Json]:
        return control.ask(self._mounted, question)

    def arena(self) -> memory.Json:
        """Return the arena's state."""
        return self._ask("arena")[0]

    def pages(self) -> list[memory.Json]:
        """Return its runs."""
        return self._ask("pages")

    def fields(self, name: str) -> list[memory.Json]:
        """Return an object's fields."""
        return self._ask(f"fields {name}")

    def shelves(self) -> list[memory.Json]:
        """Return what is kept of other metadata."""
        return self._ask("shelves")


@contextmanager
def _source(request: Request) -> Iterator[Source]:
    """Return the mount at the path given, or the image there."""
    mounted = wofs_mount_at(request.image)
    if mounted is not None:
        yield Live(mounted)
        request.out.flush()
        return
    with request.opened() as filesystem:
        yield Opened(filesystem.mount)


@click.command(
    "slab",
    epilog="\b\nExamples:\n  wofs slab /mnt\n  wofs slab disk.img --object 'agf[3]'\n"
    "  wofs slab disk.img --svg pages.svg",
)
@reads_image
@click.option("--object", "name", help="Show one object: fields, values, addresses.")
@click.option("--svg", type=click.Path(dir_okay=False), help="Draw the runs into this file.")
@click.option("--stats", is_flag=True, help="Bytes used, free and wasted, by cache and run.")
@click.option("--all", "every", is_flag=True, help=f"All runs, not only the first {_PAGES_SHOWN}.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help='One JSON object for the arena ("object": "arena"), then one for each run (page); with '
    "--object one for each field, with --stats one for each cache and run, then the total.",
)
def command(
    request: Request, name: str | None, svg: str | None, stats: bool, every: bool, as_json: bool
) -> None:
    """Show the write-once memory of IMAGE, a live mount point or an image.

    An image is mounted in this process for the time. Of a mount point the serving process is
    asked, which answers root and its own user; values and addresses are those of now and there.
    Each line is a run: a stretch of memory that belongs to one cache, objects of one type; a mark
    stands for a slot. Several runs may share a page.

    With --stats, `used` are bytes of objects, `free` those of slots that hold none, `wasted` the
    rest of the runs (headers, alignment, their ends), `empty` the share that is not used.
    """
    with _source(request) as source:
        if svg:
            arena = source.arena()
            title = f"{arena['image']}: {arena['backend']}"
            Path(svg).write_text(slabmap.svg(source.pages(), title), encoding="utf-8")
        if name is not None:
            _write_object(request, source, name, as_json)
        elif stats and as_json:
            slabstats.write_json(request.out, source.arena(), source.pages())
        elif stats:
            shown = None if every else _PAGES_SHOWN
            slabstats.write(request.out, source.arena(), source.pages(), shown)
        elif as_json:
            for row in (source.arena(), *source.pages(), *source.shelves()):
                request.out.json(row)
        elif not svg:
            _write_map(request, source, every)


def _write_object(request: Request, source: Source, name: str, as_json: bool) -> None:
    """Write the fields of one object."""
    found = source.fields(name)
    if not found:
        raise NotFound(f"{request.image}: no mount structure is called {name!r}", name.encode())
    for row in found:
        if as_json:
            request.out.json(row)
            continue
        value = f"{row['value']} {row['unit']}".rstrip()
        request.out.line(f"{row['address']:#x}  {row['field']:<18} {value:<28} {row['help']}")


def _write_map(request: Request, source: Source, every: bool) -> None:
    """Write the caches and the map of runs."""
    out, arena, pages = request.out, source.arena(), source.pages()
    state = "sealed" if arena["sealed"] else "open"
    locked = ", locked" if arena["locked"] else ""
    out.line(
        f"{arena['image']}: protect {arena['protect']}, backend {arena['backend']}, "
        f"{state}{locked}, "
        f"{arena['pages']} pages of objects, {arena['control_bytes']} bytes of control"
    )
    if arena["published"] is not None:
        since = datetime.fromtimestamp(arena["published"]).astimezone()
        out.line(f"published since {since.isoformat(' ', 'seconds')}")
    out.line("")
    out.table(
        ("cache", "objects", "bytes each", "slot", "pages", "used", "wasted"),
        (tuple(map(str, cache.values())) for cache in arena["caches"]),
    )
    out.line("")
    marks = ("■", "·") if out.drawable("■·") else ("#", ".")
    for line in slabmap.lines(pages if every else pages[:_PAGES_SHOWN], marks):
        out.line(line)
    if len(pages) > _PAGES_SHOWN and not every:
        out.line(f"({len(pages) - _PAGES_SHOWN} more: --all)")
    shelves = source.shelves()
    if shelves:
        out.line("")
        out.table(
            ("kept", "objects", "batches", "sealed", "given back", "used", "bytes"),
            (tuple(map(str, list(shelf.values())[1:])) for shelf in shelves),
        )
