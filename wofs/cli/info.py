"""`wofs info`: what an image is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

import click

from wofs.cli.output import DAMAGED, Json, escape
from wofs.cli.request import Request, reads_image
from wofs.cli.show import size_text
from wofs.fs import AgInfo, Filesystem, Info
from wofs.slab import CacheStats
from wofs.units import SECTOR_BYTES

_AGS_SHOWN = 32


@click.command(
    "info", epilog="\b\nExamples:\n  wofs info disk.img\n  wofs info --json disk.img | head -1 | jq"
)
@reads_image
@click.option("--all", "every", is_flag=True, help=f"All AGs, not only the first {_AGS_SHOWN}.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help='One JSON object for the filesystem ("object": "filesystem"), then one for each AG.',
)
def command(request: Request, every: bool, as_json: bool) -> None:
    """Show geometry, features, label, UUID, log, memory and the counters of each AG.

    An AG whose header is damaged has no counters; then the exit code is 4.
    """
    with request.opened() as filesystem:
        if any(ag.freeblks is None or ag.icount is None for ag in filesystem.ags()):
            request.failures.code = DAMAGED
        if as_json:
            for line in _json(filesystem):
                request.out.json(line)
            return
        about = filesystem.info()
        for key, value in _facts(about):
            request.out.line(f"{key + ':':<12} {value}")
        request.out.line("")
        request.out.table(
            ("slab", "objects", "bytes each", "pages", "used", "wasted"),
            map(_cache_cells, about.slab.caches),
        )
        request.out.line("")
        _write_ags(request, filesystem, about, every)


def _json(filesystem: Filesystem) -> Iterator[Json]:
    about = filesystem.info()
    facts = asdict(about)
    facts["statfs"] = about.statfs._asdict()
    yield {"object": "filesystem", "size": about.size, **facts}
    for ag in filesystem.ags():
        yield {"object": "ag", **asdict(ag)}


def _facts(about: Info) -> Iterator[tuple[str, str]]:
    """Yield (name, value) of the filesystem."""
    fs, log, slab = about.statfs, about.log, about.slab
    yield "image", f"{escape(about.image)}, {size_text(about.image_bytes)}"
    superblock = f", superblock of AG {about.sb_agno}" if about.sb_agno else ""
    yield "format", f"XFS version {about.version}{superblock}"
    yield "label", escape(about.label) or "(none)"
    yield "uuid", about.uuid
    if about.meta_uuid != about.uuid:
        yield "meta uuid", about.meta_uuid
    yield "size", f"{size_text(about.size)}, {about.dblocks} blocks of {about.blocksize} bytes"
    used = fs.f_blocks - fs.f_bfree
    percent = f" ({100 * used / fs.f_blocks:.0f} %)" if fs.f_blocks else ""
    free = size_text(fs.f_bfree * fs.f_bsize)
    yield "used", f"{size_text(used * fs.f_bsize)}{percent}, {free} free"
    yield "inodes", f"{about.icount - about.ifree} in use, {about.ifree} free, {about.icount} made"
    yield "groups", f"{about.agcount} of {about.agblocks} blocks"
    yield (
        "sizes",
        (
            f"block {about.blocksize}, sector {about.sectsize}, inode {about.inodesize}, "
            f"directory block {about.dirblksize}"
        ),
    )
    if about.stripe_unit:
        yield "stripe", f"unit {about.stripe_unit}, width {about.stripe_width} bytes"
    if about.rblocks:
        yield "realtime", f"{about.rblocks} blocks on a device of their own, not read"
    yield "root", f"inode {about.rootino}"
    yield "features", " ".join(about.features)
    where = "external" if log.external else "internal"
    if log.blocks:
        where += f", {size_text(log.blocks * SECTOR_BYTES)}"
    ignored = ", not replayed" if about.norecovery and log.state == "dirty" else ""
    yield "log", f"{where}, {log.state}{ignored}: {log.why}"
    yield "crc32c by", about.crc
    state = "sealed" if slab.sealed else "open"
    locked = ", locked" if slab.locked else ""
    pages = f"{slab.pages} pages of objects, {slab.control_bytes} bytes of control"
    yield "memory", f"protect {about.protect}, {slab.backend}, {state}{locked}, {pages}"


def _cache_cells(cache: CacheStats) -> tuple[str, ...]:
    counts = (cache.objects, cache.object_bytes, cache.pages, cache.bytes_used, cache.bytes_wasted)
    return (cache.name, *map(str, counts))


def _write_ags(request: Request, filesystem: Filesystem, about: Info, every: bool) -> None:
    """Write the table of AGs."""
    rows: list[tuple[str, ...]] = []
    for ag in filesystem.ags():
        if len(rows) == _AGS_SHOWN and not every:
            break
        rows.append(_cells(ag))
    request.out.table(("ag", "blocks", "free", "longest", "reserve", "inodes", "inodes free"), rows)
    if len(rows) < about.agcount:
        request.out.line(f"({about.agcount - len(rows)} more: --all)")


def _cells(ag: AgInfo) -> tuple[str, ...]:
    counts = (ag.agno, ag.length, ag.freeblks, ag.longest, ag.flcount, ag.icount, ag.ifree)
    return tuple("damaged" if count is None else str(count) for count in counts)
