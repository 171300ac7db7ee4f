"""Compressed streams, decoded in bounded pieces: gzip, xz, zstd.

Each file may hold several members (frames, streams) one after another, and zeros between
or after them. Sources: RFC 1952, the .xz file format, RFC 8878.
"""

from __future__ import annotations

import logging
import lzma
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from wofs.errors import Corrupt, Truncated, Unsupported, Where

log = logging.getLogger("wofs.image")

_READ_BYTES = 256 << 10
_PIECE_BYTES = 1 << 20
"""Most bytes taken from a decoder at once, so that a bomb does not fill the memory."""

_ZSTD_FEED = range(64, 1025)
"""Bytes given to zstandard at once, which has no bound on its output: 1 KiB holds at most
256 blocks of 128 KiB. Fewer where they decode to much: small pieces stay in the cache."""

_MAX_WINDOW_BYTES = 1 << 30
"""Memory a stream may ask a decoder for: beyond any preset, below a machine's."""

_GZIP_MAGIC = b"\x1f\x8b\x08"
_XZ_MAGIC = b"\xfd7zXZ\0"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPABLE = tuple(bytes([0x50 + i]) + b"\x2a\x4d\x18" for i in range(16))
_MAGIC_BYTES = 6


class Decoder(Protocol):
    """Decodes one member; `unused` holds what followed it once `eof` is true."""

    @property
    def eof(self) -> bool:
        """Whether the member's end was reached, its checksum right."""
        ...

    @property
    def unused(self) -> bytes:
        """Bytes fed after the member's end."""
        ...

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what `data` decodes to, in pieces."""
        ...


@dataclass(frozen=True, slots=True)
class Codec:
    """One way of compressing: its name, the magics of its members, its decoder and errors."""

    name: str
    magics: tuple[bytes, ...]
    decoder: Callable[[], Decoder]
    errors: tuple[type[Exception], ...]


class _Gzip:
    """One gzip member."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(16 + zlib.MAX_WBITS)

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def unused(self) -> bytes:
        return self._zlib.unused_data

    def feed(self, data: bytes) -> Iterator[bytes]:
        while True:
            out = self._zlib.decompress(data, _PIECE_BYTES)
            if out:
                yield out
            data = self._zlib.unconsumed_tail
            if self._zlib.eof or (not data and len(out) < _PIECE_BYTES):
                return


class _Xz:
    """One xz stream."""

    def __init__(self) -> None:
        self._lzma = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MAX_WINDOW_BYTES)

    @property
    def eof(self) -> bool:
        return self._lzma.eof

    @property
    def unused(self) -> bytes:
        return self._lzma.unused_data

    def feed(self, data: bytes) -> Iterator[bytes]:
        while True:
            out = self._lzma.decompress(data, _PIECE_BYTES)
            if out:
                yield out
            data = b""
            if self._lzma.eof or self._lzma.needs_input:
                return


class _Zstd:
    """One zstd frame, or a skippable one."""

    def __init__(self) -> None:
        import zstandard  # only who opens a .zst needs it

        context = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES)
        self._zstd = context.decompressobj()
        self._rest = b""
        self._step = _ZSTD_FEED.start

    @property
    def eof(self) -> bool:
        return self._zstd.eof

    @property
    def unused(self) -> bytes:
        return self._zstd.unused_data + self._rest

    def feed(self, data: bytes) -> Iterator[bytes]:
        at = 0
        while at < len(data):
            end = at + self._step
            out = self._zstd.decompress(data[at:end])
            if out:
                yield out
            if self._zstd.eof:
                self._rest = data[end:]
                return
            wanted = self._step * 2 if len(out) < _PIECE_BYTES else self._step // 2
            self._step = min(max(wanted, _ZSTD_FEED.start), _ZSTD_FEED.stop - 1)
            at = end


_GZIP = Codec("gzip", (_GZIP_MAGIC,), _Gzip, (zlib.error,))
_XZ = Codec("xz", (_XZ_MAGIC,), _Xz, (lzma.LZMAError,))


def codec_of(head: bytes, name: str) -> Codec | None:
    """Return how a source that starts with `head` (6 bytes suffice) is compressed, or None.

    Raises Unsupported, naming the package to install, where the decoder is missing; `name`
    is the source's, for that message.
    """
    for codec in (_GZIP, _XZ):
        if head.startswith(codec.magics):
            return codec
    if head.startswith((_ZSTD_MAGIC, *_ZSTD_SKIPPABLE)):
        return _zstd(name)
    return None


def _zstd(name: str) -> Codec:
    try:
        import zstandard
    except ImportError as error:
        raise Unsupported(
            Where(name, "zstd stream"),
            "reading it needs the package zstandard: pip install 'wofs[zstd]'",
        ) from error
    return Codec("zstd", (_ZSTD_MAGIC, *_ZSTD_SKIPPABLE), _Zstd, (zstandard.ZstdError,))


def decode(
    source: BinaryIO, codec: Codec, name: str, progress: Callable[[int], None] | None = None
) -> Iterator[bytes]:
    """Yield the decoded bytes of all members of `source` in order.

    `progress` is told the compressed bytes read so far. Raises Truncated where the file
    ends within a member and Corrupt where one is damaged. What follows the last member and
    is neither zero nor another member is left out, with a warning.
    """
    where = Where(name, f"{codec.name} stream")
    reader = _Reader(source, progress)
    while reader.skip_zeros():
        if not reader.data.startswith(codec.magics):
            log.warning("%s: what follows its end at byte %d is ignored", where, reader.position)
            return
        try:
            yield from _member(reader, codec)
        except codec.errors as error:
            text = f"damaged before byte {reader.read}: {error}"
            raise Corrupt(where, text) from error
        except EOFError as error:
            raise Truncated(where, f"the file ends within it, after {reader.read} bytes") from error


class _Reader:
    """Reads a file in chunks; `data` is what no member has taken yet."""

    def __init__(self, source: BinaryIO, progress: Callable[[int], None] | None) -> None:
        self.data = b""
        self.read = 0
        self._source = source
        self._progress = progress

    @property
    def position(self) -> int:
        """Offset in the file of `data`."""
        return self.read - len(self.data)

    def fill(self) -> bool:
        """Append a chunk of the file to `data`; False at its end."""
        more = self._source.read(_READ_BYTES)
        self.data += more
        self.read += len(more)
        if self._progress and more:
            self._progress(self.read)
        return bool(more)

    def skip_zeros(self) -> bool:
        """Drop zeros and make sure that `data` holds a magic; False at the end of the file."""
        while True:
            self.data = self.data.lstrip(b"\0")
            if len(self.data) >= _MAGIC_BYTES:
                return True
            if not self.fill():
                return bool(self.data)


def _member(reader: _Reader, codec: Codec) -> Iterator[bytes]:
    """Yield one member's bytes and leave what follows it in the reader."""
    decoder = codec.decoder()
    while True:
        data, reader.data = reader.data, b""
        yield from decoder.feed(data)
        if decoder.eof:
            reader.data = decoder.unused
            return
        if not reader.fill():
            raise EOFError
