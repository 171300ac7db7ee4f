"""Mount an image: verify its structures, put them into write-once memory, seal it.

The only module that creates objects in the slab. What it publishes (superblock, geometry,
AG headers, log state, options) is from then on the only copy; everything that may be evicted
lives in the bounded caches of the services.
"""

from __future__ import annotations

from typing import TypeVar

from wofs.device.base import Device
from wofs.errors import Corrupt, ImageError, Truncated, Unsupported, Where
from wofs.ondisk.ag import Agf, Agfl, Agi
from wofs.ondisk.sb import NULL_FSINO, Superblock
from wofs.record import Record
from wofs.slab import BACKENDS, Arena
from wofs.slab.arena import PAGE
from wofs.xfs import log as xfs_log
from wofs.xfs.agheaders import (
    AGF,
    AGFL,
    AGI,
    AgHeaders,
    H,
    Header,
    ags_present,
    header_rows,
    read_agi,
)
from wofs.xfs.attr import Attributes
from wofs.xfs.bmap import Maps
from wofs.xfs.buffer import Buffers, buffers_by
from wofs.xfs.data import Data
from wofs.xfs.dir import Directories
from wofs.xfs.geometry import Geometry, as_geometry, derive
from wofs.xfs.inobt import first_inode
from wofs.xfs.inode import Inodes
from wofs.xfs.kept import Keeper, Protecting
from wofs.xfs.log import LogState
from wofs.xfs.options import PROTECT, MountOptions, mount_options
from wofs.xfs.super import read_super
from wofs.xfs.symlink import Links
from wofs.xfs.volume import Volume, log

R = TypeVar("R", bound=Record)

_OBJECT_OVERHEAD_BYTES = 96
"""Generous bound on what the slab adds to an object: header, alignment, page tail."""

_LABEL = "mount_struct"
"""What the report of a stray write calls the objects of a mount."""

_HEADER_REPORTS = 64
"""Damaged AG headers logged one by one; of the rest the number."""


class Mount(Volume):
    """A mounted image: the shared state and the services that read files from it."""

    def __init__(self, volume: Volume) -> None:
        self.__dict__.update(volume.__dict__)
        self.inodes = Inodes(self)
        self.maps = Maps(self)
        self.data = Data(self, self.maps)
        self.dirs = Directories(self, self.maps)
        self.attrs = Attributes(self, self.maps)
        self.links = Links(self, self.maps)

    @property
    def protects_all(self) -> bool:
        """Whether nothing that answers a request may be kept in ordinary memory."""
        return self.keeper.store is not None

    def enforce(self) -> None:
        """Compare all write-once memory with what was published; end the process if it differs."""
        self.arena.enforce()
        if self.keeper.store is not None:
            self.keeper.store.enforce()

    def close(self) -> None:
        """Give back the memory and the device; every handle is stale afterwards."""
        self.keeper.close()
        self.arena.close()
        self.device.close()


def mount(
    device: Device,
    options: MountOptions | None = None,
    *,
    slab: str = "auto",
    process_lifetime: bool = False,
    log_device: Device | None = None,
    cache_share: float = 1.0,
    need_root: bool = True,
) -> Mount:
    """Mount the image on `device` and return it, its structures sealed.

    `slab` names the memory backend; `process_lifetime` lets the slab be locked until the
    process ends; `log_device` holds an external log and is read only here. `cache_share` is the
    part of their usual size that the caches of what may be evicted have. Without `need_root` a
    damaged root is no error.
    Raises NotXfs, Unsupported (a dirty log too, without `norecovery`), the other image errors
    for a damaged superblock or root, and `OSError` of the device.
    """
    options = options or mount_options()
    sb = read_super(device, options.sb_agno)
    _warn_of_size(device, sb)
    log_state = _log_state(device, sb, bool(options.norecovery), log_device)
    if sb.rootino in (0, NULL_FSINO):
        sb.rootino = _find_root(device, sb)
    arena = _arena_for(device, sb, slab)
    try:
        keeper = _keeper_for(arena, options, cache_share)
        mounted = Mount(_publish(device, arena, sb, log_state, options, keeper))
        arena.finish(process_lifetime=process_lifetime)
        if need_root:
            _verify_root(mounted)
    except BaseException:
        arena.close()
        raise
    return mounted


def _warn_of_size(device: Device, sb: Superblock) -> None:
    """Say that the image ends before the filesystem does; what is missing fails when read."""
    need = sb.dblocks << sb.blocklog
    if device.size < need:
        log.warning(
            "%s: the image has %d bytes of the filesystem's %d: what lies beyond cannot be read",
            device.name,
            device.size,
            need,
        )


def _log_state(
    device: Device, sb: Superblock, norecovery: bool, log_device: Device | None
) -> LogState:
    """Return the state of the log; refuse a dirty or damaged one unless told to go on."""
    where = Where(device.name, "log")
    try:
        state = xfs_log.state(device, sb, log_device)
    except (Corrupt, Truncated) as error:
        if not norecovery:
            error.problem += " (mount with -o norecovery to read the filesystem without its log)"
            raise
        log.warning("%s; mounted without its log: recent changes may be missing", error)
        return LogState(external=int(not sb.logstart))
    if log_device is not None and not state.external:
        log.warning("%s: lies inside the image: %s is not looked at", where, log_device.name)
    if not state.known:
        log.warning("%s: is external and was not given: whether it is clean is unknown", where)
    elif not state.clean:
        missing = "recent changes may be missing, half done or shown under old names"
        if not norecovery:
            raise Unsupported(
                where,
                f"is dirty (not replayed from block {state.tail_block} to {state.head_block}): "
                f"{missing}; mount with -o norecovery to read what is on disk all the same",
            )
        log.warning("%s: is dirty and was not replayed: %s", where, missing)
    return state


def _find_root(device: Device, sb: Superblock) -> int:
    """Return the root's inode number where a secondary superblock lacks it: AG 0's first."""
    geo = as_geometry(sb)
    buffers = Buffers(device, geo)
    return first_inode(buffers, geo, read_agi(buffers, geo, 0))


def _arena_for(device: Device, sb: Superblock, slab: str) -> Arena:
    """Create an arena large enough for all mount structures of `sb`."""
    present = ags_present(as_geometry(sb), device.size)
    each = sum(h.record.spec.size + _OBJECT_OVERHEAD_BYTES for h in (AGF, AGI, AGFL))
    pages = (present * each // PAGE) * 5 // 4 + 16
    arena = Arena.create(pages, slab, _LABEL)
    backend = arena.stats().backend
    if slab == "auto" and backend != BACKENDS[0]:
        log.warning(
            "%s: its mount structures lie in %s memory: this machine refuses %s, the strongest",
            device.name,
            backend,
            BACKENDS[0],
        )
    return arena


def _keeper_for(arena: Arena, options: MountOptions, share: float) -> Keeper:
    """Return what makes the caches, in memory as the arena's where all is to be protected."""
    if PROTECT[options.protect] == "all":
        return Protecting(arena.stats().backend, share)
    return Keeper(share)


def _publish(
    device: Device,
    arena: Arena,
    sb: Superblock,
    log_state: LogState,
    options: MountOptions,
    keeper: Keeper,
) -> Volume:
    """Put every mount structure into the arena and return the volume that reads them there."""
    geo = arena.cache(Geometry).init_once("geometry", **derive(sb))
    buffers = buffers_by(keeper, device, geo)
    present = ags_present(geo, device.size)
    reporter = _HeaderReporter()

    def headers(header: Header, record: type[H]) -> AgHeaders[H]:
        rows = header_rows(buffers, geo, header, present, reporter)
        handles = arena.cache(record).init_batch(header.kind.name, rows)
        return AgHeaders(handles, geo.agcount)

    agf, agi, agfl = headers(AGF, Agf), headers(AGI, Agi), headers(AGFL, Agfl)
    reporter.finish(device.name)
    return Volume(
        device,
        buffers,
        arena,
        _single(arena, "superblock", sb),
        geo,
        _single(arena, "log", log_state),
        _single(arena, "options", options),
        agf,
        agi,
        agfl,
        keeper,
    )


def _single(arena: Arena, name: str, values: R) -> R:
    """Publish a record there is one of."""
    return arena.cache(type(values)).init_once(name, **values.asdict())


class _HeaderReporter:
    """Logs damaged AG headers, but not a hundred thousand lines of them."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, error: ImageError) -> None:
        self.count += 1
        if self.count <= _HEADER_REPORTS:
            log.warning("%s", error)

    def finish(self, image: str) -> None:
        """Log how many lines were left out."""
        if self.count > _HEADER_REPORTS:
            log.warning("%s: %d AG headers are damaged in all", image, self.count)


def _verify_root(mounted: Mount) -> None:
    """Raise unless the root inode is a sound directory: nothing can be served without."""
    ino = mounted.geo.rootino
    root = mounted.inodes.get(ino)
    if root.mode >> 12 != 4:
        raise Corrupt(
            mounted.where(f"inode {ino}", field="mode"),
            "the root must be a directory",
            found=f"0o{root.mode:o}",
        )
