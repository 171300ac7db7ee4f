"""How full write-once memory is, by cache and by run: computed from what the arena tells.

`used` are the bytes of objects, `free` those of slots that hold none, `wasted` the rest of the
runs: headers, alignment, and what is left over at the end of a run. Together they are the
runs' bytes.
"""

from __future__ import annotations

from collections.abc import Sequence

from wofs.cli.output import Output
from wofs.fs.memory import Json

_COUNTED = ("objects", "used", "free", "wasted")


def page_rows(arena: Json, pages: Sequence[Json]) -> list[Json]:
    """Return a row a run, in the order of addresses."""
    sizes = {cache["name"]: cache["object_bytes"] for cache in arena["caches"]}
    rows = []
    for page in pages:
        objects = sum(page["slots"])
        used = objects * sizes[page["cache"]]
        free = (len(page["slots"]) - objects) * page["slot_bytes"]
        place = {"page": page["page"], "address": page["address"], "cache": page["cache"]}
        bytes_ = {"used": used, "free": free, "wasted": page["bytes"] - used - free}
        rows.append({"object": "page", **place, "objects": objects, **bytes_})
    return rows


def cache_rows(arena: Json, pages: Sequence[Json]) -> list[Json]:
    """Return a row a cache, from `page_rows`; a cache without objects is all zero."""
    rows = {
        cache["name"]: {"object": "cache", "cache": cache["name"], "pages": cache["pages"]}
        | dict.fromkeys(_COUNTED, 0)
        for cache in arena["caches"]
    }
    for page in pages:
        row = rows[page["cache"]]
        for name in _COUNTED:
            row[name] += page[name]
    return list(rows.values())


def total_row(arena: Json, caches: Sequence[Json]) -> Json:
    """Return the sums, the pages that hold it all, and how many bytes say where objects are."""
    sums = {name: sum(row[name] for row in caches) for name in _COUNTED}
    control = {"control_bytes": arena["control_bytes"]}
    return {"object": "total", "pages": arena["pages"], **sums, **control}


def write(out: Output, arena: Json, found: Sequence[Json], shown: int | None) -> None:
    """Write the tables: caches and their total, then the first `shown` runs (None: all)."""
    pages = page_rows(arena, found)
    caches = cache_rows(arena, pages)
    total = total_row(arena, caches)
    heads = ("objects", "pages", "used", "free", "wasted", "empty %")
    rows = [*caches, {**total, "cache": "total"}]
    out.table(("cache", *heads), [(row["cache"], *_cells(row, row["pages"])) for row in rows])
    out.line("")
    listed = pages if shown is None else pages[:shown]
    out.table(
        ("page", "cache", "objects", "used", "free", "wasted", "empty %"),
        [(str(r["page"]), r["cache"], str(r["objects"]), *_cells(r, 1)[2:]) for r in listed],
    )
    if len(listed) < len(pages):
        out.line(f"({len(pages) - len(listed)} more: --all)")


def write_json(out: Output, arena: Json, found: Sequence[Json]) -> None:
    """Write a line a cache, a line a run, and the total."""
    pages = page_rows(arena, found)
    caches = cache_rows(arena, pages)
    for row in (*caches, *pages, total_row(arena, caches)):
        out.json(row)


def _cells(row: Json, pages: int) -> tuple[str, ...]:
    """Return objects, pages, the bytes, and the share of them that holds no object."""
    held = row["used"] + row["free"] + row["wasted"]
    share = 100 * (1 - row["used"] / held) if held else 0.0
    counts = (row["objects"], pages, row["used"], row["free"], row["wasted"])
    return (*map(str, counts), f"{share:.1f}")
