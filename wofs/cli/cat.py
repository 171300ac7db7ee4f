"""`wofs cat`: write the data of files to standard output."""

from __future__ import annotations

from collections.abc import Callable

import click

from wofs.cli.request import Request, reads_image
from wofs.errors import ImageError
from wofs.fs import Path
from wofs.fs.file import CHUNK_BYTES


@click.command(
    "cat",
    epilog="\b\nExamples:\n  wofs cat disk.img /etc/os-release\n"
    "  wofs cat disk.img /var/log/syslog /var/log/syslog.1 | grep error",
)
@reads_image
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
def command(request: Request, paths: tuple[str, ...]) -> None:
    """Write the data of the files at PATH to standard output, one after the other.

    Holes come as zeros; `wofs cp` keeps them. Of a damaged file comes what is sound up to the
    damage, then the next file (exit code 4).
    """
    with request.opened() as filesystem:
        for path in request.paths(filesystem, paths):
            try:
                file = path.open("rb", CHUNK_BYTES)
            except (ImageError, OSError) as error:
                request.tell(path, error)
                continue
            with file:
                _copy(request, path, file.raw.read)


def _copy(request: Request, path: Path, read: Callable[[int], bytes | None]) -> None:
    while True:
        try:
            data = read(CHUNK_BYTES)
        except (ImageError, OSError) as error:
            request.tell(path, error)
            return
        if not data:
            return
        request.out.raw(data)
