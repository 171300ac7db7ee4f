"""Targets: the log, a whole image, compressed streams."""

from __future__ import annotations

import gzip
import io
import lzma
import random
import struct
from collections.abc import Iterator
from functools import cache, partial

import wofs
from fuzzlib.files import use, word
from fuzzlib.ground import PATCH_BYTES, RAW, STALE, Ground, ground
from fuzzlib.target import Target, attempt, boundary, hold
from wofs.check import run as checking
from wofs.corrupt.parts import Part
from wofs.device.codec import codec_of, decode
from wofs.errors import ImageError, NotXfs, PathError
from wofs.fs import Filesystem
from wofs.ondisk.log import BLOCK_BYTES
from wofs.xfs import log as xfs_log
from wofs.xfs.log import area_of
from wofs.xfs.log.area import LogArea
from wofs.xfs.log.entry import LogEntry

LOGS = ("dirty-b1k", "dirty", "b1k-rmap")
IMAGES = ("b1k-rmap", "b1k-n8k", "nrext64")
NORECOVERY, IMAGE_SHIFT, PROTECT_ALL = 0x20, 6, RAW
_OF_INODES = frozenset({
    "inode", "bmbt", "dirdata", "dirindex", "dirfree", "attr", "value", "target",
})  # fmt: skip
_LOG_CRC = 32
_MOST_BYTES = 8 << 20
_MOST_PATHS = 60


# ---- the log
@cache
def _records(name: str) -> tuple[LogArea, list[int]]:
    """Return a log and the blocks of its record headers, the last written first."""
    base = ground(name)
    area = area_of(base.device, base.sound.sb)
    blocks: list[int] = []
    for start in range(0, area.blocks, 64):
        blocks += area.headers(start, min(64, area.blocks - start))
    blocks.sort(key=lambda block: LogEntry(area, block).head.lsn, reverse=True)
    return area, blocks[:200]


def _groups(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield (structure, offset, value): a byte or two more than a patch has."""
    at = 0
    while at + 5 < len(data):
        length = 1 + data[at + 4] % PATCH_BYTES
        which, offset = struct.unpack_from(">HH", data, at)
        yield which, offset, data[at + 5 : at + 5 + length]
        at += 5 + length


def _another_group(data: bytes, chance: random.Random) -> bytes:
    size, which = chance.choice((1, 2, 4, 8)), chance.choice((4, 40, 65536))
    head = struct.pack(">HHB", chance.randrange(which), chance.randrange(84) * 4, size - 1)
    return data + head + boundary(chance, size)


def log(data: bytes) -> None:
    """Find the ends of a log with changed records; what is found lies in it."""
    option = data[0] if data else 0
    base = ground(LOGS[(option >> 5) % len(LOGS)])
    base.device.restore()
    area, blocks = _records(base.device.name.removesuffix(".img"))
    touched = set()
    for which, offset, value in _groups(data[1:]):
        block = blocks[which % len(blocks)] if which < 1 << 15 else which % area.blocks
        touched.add(block)
        start = (area.daddr + block) * BLOCK_BYTES + offset % BLOCK_BYTES
        base.device.put(start, value[: BLOCK_BYTES - offset % BLOCK_BYTES])
    for block in touched:
        if option & STALE != STALE and area.is_header(block):
            _mend(base, area, block)
    state = xfs_log.state(base.device, base.sound.sb)
    hold(state.known and state.blocks == area.blocks, "another log")
    hold(max(state.head_block, state.tail_block) < state.blocks, "an end beyond the log")
    xfs_log.reason(state)


def _mend(base: Ground, area: LogArea, block: int) -> None:
    """Make a record's checksum right, where its header allows to compute one."""
    entry = LogEntry(area, block)
    if 0 < entry.blocks <= area.blocks:
        crc = attempt(entry.checksum)
        start = (area.daddr + block) * BLOCK_BYTES + _LOG_CRC
        base.device.put(start, struct.pack("<I", crc or 0))


def _log_seeds() -> Iterator[bytes]:
    chance = random.Random(3)
    for number in range(len(LOGS)):
        seed = bytes([number << 5])
        yield seed
        for _ in range(40):
            yield _another_group(seed, chance)
    yield _another_group(bytes([STALE]), chance)


# ---- a whole image
def image(data: bytes) -> None:
    """Open an image with changed structures, walk it, read what they belong to, check it."""
    option = data[0] if data else 0
    base = ground(IMAGES[(option >> IMAGE_SHIFT) % len(IMAGES)])
    base.device.restore()
    edits: dict[Part, bytearray] = {}
    for which, offset, value in _groups(data[1:]):
        part = base.all[which % len(base.all)]
        raw = edits.setdefault(part, bytearray(base.device.pread(part.start, part.size)))
        at = offset % part.size
        raw[at : at + len(value)] = value[: part.size - at]
    for part, raw in edits.items():
        base.put(part, bytes(raw), option)
    protect = {"protect": "all"} if option & PROTECT_ALL else {"slab": "none"}
    try:
        filesystem = wofs.open(base.device, norecovery=bool(option & NORECOVERY), **protect)  # type: ignore[arg-type]
    except ImageError:
        _check(base)
        raise
    with filesystem:
        _walk(filesystem)
        for part in edits:
            if part.kind in _OF_INODES:
                use(filesystem.mount, part.owner)
    _check(base)


def _walk(filesystem: Filesystem) -> None:
    """Go through the tree as far as some paths."""
    left = _MOST_PATHS
    filesystem.info()
    list(filesystem.ags())
    filesystem.statfs()
    for top, dirs, files in filesystem.root.walk(on_error=lambda _: None):
        for name in (*dirs, *files)[:left]:
            path = top / name
            attempt(partial(_look, path))
        left -= len(dirs) + len(files)
        if left <= 0:
            return


def _look(path: wofs.Path) -> None:
    try:
        stat = path.lstat()
        if path.is_symlink():
            path.readlink_bytes()
            path.exists()
        elif path.is_file() and stat.st_size < _MOST_BYTES:
            hold(len(path.read_bytes()) == stat.st_size, "a short read")
        path.xattrs(follow_symlinks=False).items()
    except PathError:
        return


def _check(base: Ground) -> None:
    """Check the image as it is now."""
    report = attempt(lambda: checking.check(base.device, slab="none"))
    for finding in report.findings if report else ():
        hold(finding.object, f"names no object: {finding}")


def _another_change(data: bytes, chance: random.Random) -> bytes:
    """Append the change of a field, of a kind of structures first, then of one of them."""
    data = data or b"\0"
    base = ground(IMAGES[(data[0] >> IMAGE_SHIFT) % len(IMAGES)])
    kind = chance.choice(sorted(base.parts))
    part = chance.choice(base.parts[kind])
    offset, value = base.change(part, chance)
    value = value[: PATCH_BYTES]
    return data + struct.pack(">HHB", base.all.index(part), offset, len(value) - 1) + value


def _image_seeds() -> Iterator[bytes]:
    chance = random.Random(4)
    for which, name in enumerate(IMAGES):
        option = which << IMAGE_SHIFT
        yield bytes([option])
        yield bytes([option | PROTECT_ALL])
        kinds = {part.kind for part in ground(name).all}
        for _ in kinds:
            yield _another_change(bytes([option]), chance)
            yield _another_change(bytes([option | PROTECT_ALL]), chance)


# ---- compressed streams
def stream(data: bytes) -> None:
    """Decode a compressed stream, some mebibytes of it."""
    codec = codec_of(data[:6], "stream")
    if codec is None:
        raise NotXfs(wofs.errors.Where("stream", "stream"), "is not compressed")
    length = 0
    for piece in decode(io.BytesIO(data), codec, "stream"):
        hold(0 < len(piece) <= 64 << 20, "a piece that fills the memory")
        length += len(piece)
        if length > _MOST_BYTES:
            return


def _stream_seeds() -> Iterator[bytes]:
    plain = [b"", b"XFSB" * 64, bytes(4096), random.Random(5).randbytes(300)]
    for text in plain:
        yield gzip.compress(text, mtime=0)
        yield lzma.compress(text)
        yield gzip.compress(text, mtime=0) + bytes(8) + gzip.compress(text, mtime=0)
        for preset, check in ((0, lzma.CHECK_NONE), (1, lzma.CHECK_CRC32)):
            yield lzma.compress(text, preset=preset, check=check)
    try:
        import zstandard
    except ImportError:
        return
    for text in plain:
        for level in (1, 19):
            packed = zstandard.ZstdCompressor(level=level).compress(text)
            yield packed
            yield b"\x50\x2a\x4d\x18\x04\0\0\0skip" + packed


TARGETS = (
    Target("log", "records of the log, and its ends", log, _log_seeds, max_len=1024,
           mutate=_another_group),
    Target("image", "a whole image: open, walk, read, check", image, _image_seeds,
           allowed=(ImageError, PathError), max_len=512, mutate=_another_change),
    Target("stream", "gzip, xz and zstd", stream, _stream_seeds, word),
)  # fmt: skip
