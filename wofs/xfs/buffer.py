"""Verified metadata blocks: the only way bytes of the image become a `Block`.

`Buffers.load` reads a block, proves it by magic, CRC32C, uuid, own address and owner, and
keeps it in a bounded cache. Rules of single fields are the business of the parsers, which
take a `Block` and so never see bytes that were not proved. Source: the kernel's
`xfs_buf_ops` verifiers and `xfs_da3_blkinfo_verify`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from wofs.device.base import Device
from wofs.device.crc import crc_of
from wofs.errors import BadChecksum, BadMagic, Misplaced, Truncated, Where
from wofs.ondisk.kind import Kind
from wofs.slab import Shelf
from wofs.units import SECTOR_BYTES
from wofs.xfs.cache import Cache
from wofs.xfs.geometry import Geometry
from wofs.xfs.kept import KIND_OF, Keeper, Protecting

DEFAULT_CACHE_BYTES = 24 << 20

Run = tuple[int, int]
"""(daddr, length in bytes) of one piece of a block that lies in several extents."""


class Block:
    """The verified bytes of one metadata block, and where they came from."""

    __slots__ = ("daddr", "data", "kind", "magic", "obj")

    def __init__(self, data: bytes, daddr: int, kind: Kind, magic: bytes, obj: str) -> None:
        self.data = data
        self.daddr = daddr
        self.kind = kind
        self.magic = magic
        self.obj = obj


def _weight(block: Block) -> int:
    """Return about how many bytes a block holds."""
    return 400 + len(block.data)


class Buffers:
    """Reads and proves blocks of one image; a bounded cache of them, safe for threads."""

    def __init__(
        self, device: Device, geo: Geometry, cache_bytes: int = DEFAULT_CACHE_BYTES
    ) -> None:
        self._device = device
        self._geo = geo
        self._cache: Cache[tuple[int, int, str, int | None], Block] = Cache(cache_bytes, _weight)
        self.watch: Callable[[Block], None] | None = None
        """Told of every block that was proved, for a check of what no reader minds."""

    def where(
        self,
        obj: str,
        daddr: int | None = None,
        length: int | None = None,
        field: str | None = None,
    ) -> Where:
        """Return the place of `obj` on this image, for an error."""
        return Where(self._device.name, obj, daddr, length, field)

    def raw(self, daddr: int, length: int, obj: str) -> bytes:
        """Return `length` unverified bytes from sector `daddr`.

        Raises `Truncated` where the image ends first; a device's `OSError` passes.
        """
        data = self._device.pread(daddr * SECTOR_BYTES, length)
        if len(data) != length:
            raise Truncated(
                self.where(obj, daddr, length),
                "the image ends first",
                expected=f"{length} bytes",
                found=f"{len(data)} bytes",
            )
        return data

    def load(
        self, kind: Kind, daddr: int, obj: str, owner: int | None = None, length: int = 0
    ) -> Block:
        """Return the proved block of `kind` at sector `daddr`.

        `length` is in bytes (0: one filesystem block), `owner` the inode or AG number its
        header must carry (None: not compared). Raises BadMagic, BadChecksum, Misplaced,
        Truncated.
        """
        return self.load_runs(kind, ((daddr, length or self._geo.blocksize),), obj, owner)

    def load_runs(
        self, kind: Kind, runs: Sequence[Run], obj: str, owner: int | None = None
    ) -> Block:
        """Like `load`, for a block whose bytes lie in several runs; `runs` is not empty."""
        length = sum(n for _, n in runs)
        key = (runs[0][0], length, kind.name, owner)
        block = self._cache.get(key)
        if block is None:
            data = b"".join([self.raw(daddr, n, obj) for daddr, n in runs])
            block = self.prove(kind, data, runs[0][0], obj, owner)
            self._cache.put(key, block)
        return block

    def prove(
        self, kind: Kind, data: bytes, daddr: int, obj: str, owner: int | None = None
    ) -> Block:
        """Return `data` as a block of `kind` after comparing all that identifies it."""
        magic_end = kind.magic + len(kind.magics[0])
        magic = data[kind.magic : magic_end]
        if magic not in kind.magics:
            raise BadMagic(
                self.where(obj, daddr, len(data), "magic"),
                expected=" or ".join(f"0x{m.hex()}" for m in kind.magics),
                found=f"0x{magic.hex()}",
            )
        self._prove_crc(kind, data, daddr, obj)
        self._prove_place(kind, data, daddr, obj, owner)
        block = Block(data, daddr, kind, magic, obj)
        if self.watch is not None:
            self.watch(block)
        return block

    def _prove_crc(self, kind: Kind, data: bytes, daddr: int, obj: str) -> None:
        stored = int.from_bytes(data[kind.crc : kind.crc + 4], "little")
        computed = crc_of(data, kind.crc)
        if stored != computed:
            raise BadChecksum(
                self.where(obj, daddr, len(data), "crc"),
                expected=f"{computed:#010x}",
                found=f"{stored:#010x}",
            )

    def _prove_place(
        self, kind: Kind, data: bytes, daddr: int, obj: str, owner: int | None
    ) -> None:
        """Compare uuid, own address and owner with what this place must carry."""
        uuid = data[kind.uuid : kind.uuid + 16]
        meta_uuid = self._geo.meta_uuid
        if uuid != meta_uuid:
            raise Misplaced(
                self.where(obj, daddr, len(data), "uuid"),
                expected=meta_uuid.hex(),
                found=uuid.hex(),
            )
        if kind.blkno is not None:
            blkno = int.from_bytes(data[kind.blkno : kind.blkno + kind.blkno_size], "big")
            if blkno != daddr:
                raise Misplaced(
                    self.where(obj, daddr, len(data), "blkno"),
                    expected=f"{daddr:#x}",
                    found=f"{blkno:#x}",
                )
        if kind.owner is not None and owner is not None:
            found = int.from_bytes(data[kind.owner : kind.owner + kind.owner_size], "big")
            if found != owner:
                raise Misplaced(
                    self.where(obj, daddr, len(data), "owner"), expected=owner, found=found
                )


class _ProtectedBuffers(Buffers):
    """Keeps the proved bytes of blocks in write-once memory; a `Block` lives for one request."""

    def __init__(self, device: Device, geo: Geometry, shelf: Shelf) -> None:
        super().__init__(device, geo, 0)
        self._shelf = shelf

    def load_runs(
        self, kind: Kind, runs: Sequence[Run], obj: str, owner: int | None = None
    ) -> Block:
        """Like `load`, for a block whose bytes lie in several runs; `runs` is not empty."""
        daddr, length = runs[0][0], sum(n for _, n in runs)
        key, number = (daddr, kind.name, owner), KIND_OF[kind.name]
        second = 0 if owner is None else owner + 1
        data = self._shelf.read(key, number, daddr, second)
        if data is not None and len(data) == length:
            magic = data[kind.magic : kind.magic + len(kind.magics[0])]
            return Block(data, daddr, kind, magic, obj)
        data = b"".join([self.raw(daddr, n, obj) for daddr, n in runs])
        block = self.prove(kind, data, daddr, obj, owner)
        self._shelf.put(number, ((key, daddr, second, data),))
        return block


def buffers_by(keeper: Keeper, device: Device, geo: Geometry) -> Buffers:
    """Return what reads the blocks of a mounted image."""
    if isinstance(keeper, Protecting):
        return _ProtectedBuffers(device, geo, keeper.shelf("block", DEFAULT_CACHE_BYTES))
    return Buffers(device, geo, int(DEFAULT_CACHE_BYTES * keeper.share))
