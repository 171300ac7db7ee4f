"""Targets: superblocks, headers of AGs, and every btree of an AG, read as mount and check do."""

from __future__ import annotations

from collections.abc import Callable

from fuzzlib import ground as grounds
from fuzzlib.ground import Ground, ground
from fuzzlib.target import Target, attempt, hold, named
from wofs.check.ags import AgPass
from wofs.check.findings import Report
from wofs.check.state import State
from wofs.device import BytesDevice
from wofs.errors import ImageError
from wofs.ondisk.ag import Agf, Agi
from wofs.record import Record
from wofs.units import SECTOR_BYTES
from wofs.xfs.agheaders import AGF, AGFL, AGI, Header, header_rows
from wofs.xfs.geometry import as_geometry
from wofs.xfs.log import area_of
from wofs.xfs.mount import Mount
from wofs.xfs.super import read_copy, read_super

IMAGE = "b1k-rmap"
"""Has every btree of an AG."""


# ---- superblock
def superblock(data: bytes) -> None:
    """Read a superblock as AG 0's and as a copy; what is accepted makes a geometry."""
    base = ground(IMAGE)
    part = base.lay(base.parts["sb"][:1], data)
    sector = base.device.pread(part.start, 16 * SECTOR_BYTES)
    device = BytesDevice(sector, "sector.img")
    attempt(lambda: read_copy(base.device, base.sound.geo, 0))
    sb = read_super(device)
    geo = as_geometry(sb)
    hold(geo.agcount * geo.agblocks >= sb.dblocks, "blocks beyond the last AG")
    area_of(device, sb)


# ---- headers of an AG
def _decoded(base: Ground, mounted: Mount, header: Header, agno: int) -> Record | None:
    """Return one AG's header as mount reads it; None where it is damaged, which is told."""
    told: list[ImageError] = []
    rows = list(header_rows(mounted.buffers, base.sound.geo, header, agno + 1, told.append))
    for error in told:
        named(error)
    names = [field.name for field in header.record.spec.fields]
    hold(len(rows) == agno + 1, "a header without a row")
    if told:
        hold(not any(map(_truth, rows[agno])), "a damaged header that is kept")
        return None
    return header.record(**dict(zip(names, rows[agno], strict=True)))


def _truth(value: object) -> bool:
    return any(value) if isinstance(value, bytes | tuple) else bool(value)


def checked(mounted: Mount, agno: int) -> Report:
    """Check one AG: every btree is walked, every finding must name an object."""
    report = Report()
    AgPass(State(mounted, report, lambda _done, _total: None)).work(agno)
    for finding in report.findings:
        hold(finding.object, f"names no object: {finding}")
    return report


def agf(data: bytes) -> None:
    """Read an AGF, then walk the btrees it leads to."""
    base = ground(IMAGE)
    agno = base.lay(base.parts["agf"], data).owner
    found = _decoded(base, base.mounted(), AGF, agno)
    if isinstance(found, Agf):
        checked(base.mounted(agf=found, agno=agno), agno)


def agi(data: bytes) -> None:
    """Read an AGI, then walk the btrees it leads to."""
    base = ground(IMAGE)
    agno = base.lay(base.parts["agi"], data).owner
    found = _decoded(base, base.mounted(), AGI, agno)
    if isinstance(found, Agi):
        mounted = base.mounted(agi=found, agno=agno)
        _ask(mounted, agno)
        checked(mounted, agno)


def agfl(data: bytes) -> None:
    """Read an AGFL, and check its entries."""
    base = ground(IMAGE)
    agno = base.lay(base.parts["agfl"], data).owner
    _decoded(base, base.mounted(), AGFL, agno)
    checked(base.mounted(), agno)


# ---- btrees of an AG
def _ask(mounted: Mount, agno: int) -> None:
    """Ask an AG's inode btree of some inodes: both answers must agree."""
    inobt, geo = mounted.inodes.inobt, mounted.geo
    for agino in (0, 1, 63, 64, 127, 128, 200, geo.agino_mask):
        ino = agno << geo.agino_log | agino
        first, unused = inobt.chunk(ino)
        hold(first <= ino < first + 64, "a chunk without the inode")
        hold(bool(unused >> ino - first & 1) == bool(inobt.problem(ino)), "two answers")


def _tree_target(image: str, kind: str, about: str) -> Target:
    def run(data: bytes) -> None:
        base = ground(image)
        agno = base.lay(base.parts[kind], data).owner
        mounted = base.mounted()
        if kind == "inobt":
            _ask(mounted, agno)
        checked(mounted, agno)

    return Target(
        kind, about, run, lambda: grounds.seeds(image, kind), mutate=grounds.patcher(image, kind)
    )


def _header_target(kind: str, run: Callable[[bytes], None], about: str) -> Target:
    return Target(
        kind, about, run, lambda: grounds.seeds(IMAGE, kind), max_len=1024,
        mutate=grounds.patcher(IMAGE, kind),
    )  # fmt: skip


TARGETS = (
    Target(
        "superblock", "a superblock, AG 0's or a copy", superblock,
        lambda: grounds.seeds(IMAGE, "sb"), max_len=1024, mutate=grounds.patcher(IMAGE, "sb"),
    ),
    _header_target("agf", agf, "AGF, and the btrees it leads to"),
    _header_target("agi", agi, "AGI, and the btrees it leads to"),
    _header_target("agfl", agfl, "AGFL and its entries"),
    _tree_target("sparse-inodes", "inobt", "blocks and records of the inode btree"),
    _tree_target("sparse-inodes", "finobt", "the same of the free inode btree"),
    _tree_target(IMAGE, "bnobt", "free space by start"),
    _tree_target(IMAGE, "cntbt", "free space by size"),
    _tree_target(IMAGE, "rmapbt", "owners of blocks"),
    _tree_target(IMAGE, "refcountbt", "shared blocks"),
)  # fmt: skip
