"""`wofs slab`: what of an image's mount lies in write-once memory, and where."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from wofs.cli import slabmap
from wofs.cli.request import Request, reads_image
from wofs.errors import NotFound
from wofs.fs import Filesystem
from wofs.record import Record
from wofs.slab import address_of, spec_of

_PAGES_SHOWN = 64


@click.command(
    "slab",
    epilog="\b\nExamples:\n  wofs slab disk.img\n  wofs slab disk.img --object 'agf[3]'\n"
    "  wofs slab disk.img --svg pages.svg",
)
@reads_image
@click.option("--object", "name", help="Show one object: fields, values, addresses.")
@click.option("--svg", type=click.Path(dir_okay=False), help="Draw the pages into this file.")
@click.option("--all", "every", is_flag=True, help=f"All pages, not only the first {_PAGES_SHOWN}.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help='One JSON object for the arena ("object": "arena"), then one for each page; with '
    "--object one for each field.",
)
def command(
    request: Request, name: str | None, svg: str | None, every: bool, as_json: bool
) -> None:
    """Mount IMAGE in this process and show its write-once memory.

    Each page belongs to one cache, objects of one type; a mark stands for a slot. Addresses are
    those of this process.
    """
    with request.opened() as filesystem:
        if svg:
            title = f"{filesystem.name}: {filesystem.mount.arena.stats().backend}"
            picture = slabmap.svg(filesystem.mount.arena.pages(), title)
            Path(svg).write_text(picture, encoding="utf-8")
        if name is not None:
            _write_object(request, _object(filesystem, name), as_json)
        elif as_json:
            _write_json(request, filesystem)
        elif not svg:
            _write_map(request, filesystem, every)


def _object(filesystem: Filesystem, name: str) -> Record:
    for known, handle in filesystem.mount.structures():
        if known == name:
            return handle
    raise NotFound(f"{filesystem.name}: no mount structure is called {name!r}", name.encode())


def _write_object(request: Request, handle: Record, as_json: bool) -> None:
    """Write the fields of one object."""
    for field in spec_of(handle).fields:
        value, address = getattr(handle, field.name), address_of(handle, field.name)
        shown = field.text(value)
        if as_json:
            about = {"field": field.name, "value": shown, "address": address, "bytes": field.size}
            request.out.json({**about, "unit": field.unit, "help": field.help})
        else:
            value_of = f"{shown} {field.unit}".rstrip()
            request.out.line(f"{address:#x}  {field.name:<18} {value_of:<28} {field.help}")


def _write_json(request: Request, filesystem: Filesystem) -> None:
    arena = filesystem.mount.arena
    request.out.json({"object": "arena", **asdict(arena.stats())})
    for page in arena.pages():
        request.out.json({"object": "page", **asdict(page)})


def _write_map(request: Request, filesystem: Filesystem, every: bool) -> None:
    """Write the caches and the map of pages."""
    arena, out = filesystem.mount.arena, request.out
    stats, pages = arena.stats(), arena.pages()
    state = "sealed" if stats.sealed else "open"
    out.line(
        f"{filesystem.name}: backend {stats.backend}, {state}, {stats.pages} pages of objects, "
        f"{stats.control_pages} of control"
    )
    out.line("")
    out.table(
        ("cache", "objects", "bytes each", "slot", "pages", "used", "wasted"),
        (tuple(map(str, asdict(cache).values())) for cache in stats.caches),
    )
    out.line("")
    marks = ("■", "·") if out.drawable("■·") else ("#", ".")
    for line in slabmap.lines(pages if every else pages[:_PAGES_SHOWN], marks):
        out.line(line)
    if len(pages) > _PAGES_SHOWN and not every:
        out.line(f"({len(pages) - _PAGES_SHOWN} more: --all)")
