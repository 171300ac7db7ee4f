"""`wofs ls`: list directories."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import click

from wofs.cli import show
from wofs.cli.request import JSON_HELP, Request, reads_image
from wofs.errors import ImageError
from wofs.fs import Path, Stat
from wofs.fs.stat import DIR, LNK
from wofs.fs.walk import children

Item = tuple[bytes, Path, Stat | None]
"""The name shown, the path, its attributes (None: damaged, or not asked for)."""


@click.command(
    "ls",
    epilog="\b\nExamples:\n  wofs ls disk.img\n  wofs ls -la disk.img /etc\n"
    "  wofs ls -R --json disk.img /home | jq .size",
)
@reads_image
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@click.option("-l", "long", is_flag=True, help="Mode, links, owner, group, size, time too.")
@click.option("-R", "--recursive", is_flag=True, help="List subdirectories too.")
@click.option(
    "-a",
    "--all",
    "hidden",
    is_flag=True,
    help="Names that start with a dot too; . and .. not with --json.",
)
@click.option("-d", "--directory", "itself", is_flag=True, help="Directories themselves.")
@click.option("-U", "--unsorted", is_flag=True, help="In the directory's order, at once.")
@click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
def command(request: Request, paths: tuple[str, ...], **flags: bool) -> None:
    """List the directories (or files) at PATH, by default the root.

    Names are sorted by their bytes. Owners are numbers: the image's users are not yours. An
    entry whose inode is damaged is shown with question marks, the damage told on stderr, and
    the exit code is 4.
    """
    with request.opened() as filesystem:
        listing = _Listing(request, **flags)
        folders, files = [], []
        for path in request.paths(filesystem, paths):
            try:
                follow = not (flags["long"] or flags["itself"])
                stat = path.stat(follow_symlinks=False)
                kind = path.stat().type if follow and stat.type == LNK else stat.type
            except (ImageError, OSError) as error:
                request.tell(path, error)
                continue
            if kind == DIR and not flags["itself"]:
                folders.append(path)
            else:
                files.append((bytes(path), path, stat))
        listing.write(files)
        listing.folders(folders, headed=bool(files) or len(paths) > 1)


class _Listing:
    """One run of `ls`."""

    def __init__(
        self,
        request: Request,
        *,
        long: bool,
        recursive: bool,
        hidden: bool,
        itself: bool,
        unsorted: bool,
        as_json: bool,
    ) -> None:
        self.request = request
        self.out = request.out
        self.long = long
        self.recursive = recursive
        self.hidden = hidden
        self.unsorted = unsorted
        self.as_json = as_json
        self.stats = long or recursive or as_json
        self._blank = False

    def folders(self, folders: list[Path], headed: bool) -> None:
        """List directories, one after the other; with -R all below them, depth first."""
        stack = folders[::-1]
        while stack:
            folder = stack.pop()
            if (headed or self.recursive) and not self.as_json:
                self.out.line(("\n" if self._blank else "") + self.out.name(bytes(folder)) + ":")
            self._blank = True
            below: list[Path] = []
            items = self._items(folder, below)
            self.write(items if self.unsorted else sorted(items, key=lambda item: item[0]))
            if not self.unsorted:
                below.sort(key=lambda path: path.name_bytes)
            stack.extend(reversed(below))

    def _items(self, folder: Path, below: list[Path]) -> Iterator[Item]:
        """Yield what a directory holds; the subdirectories go to `below` with -R."""
        if self.hidden and not self.as_json:
            yield from self._dots(folder)
        found = children(folder, self.request.tell) if self.stats else self._names(folder)
        for path, stat in found:
            name = path.name_bytes
            if not self.hidden and name.startswith(b"."):
                continue
            if self.recursive and stat is not None and stat.type == DIR:
                below.append(path)
            yield name, path, stat

    def _dots(self, folder: Path) -> Iterator[Item]:
        """Yield '.' and '..' as a listing shows them."""
        for name, path in ((b".", folder), (b"..", folder / "..")):
            try:
                yield name, path, path.stat()
            except (ImageError, OSError) as error:
                self.request.tell(path, error)

    def _names(self, folder: Path) -> Iterator[tuple[Path, None]]:
        """Yield the names of a directory without looking at the inodes."""
        try:
            for batch in folder.batches(lambda error: self.request.tell(folder, error)):
                for index in range(len(batch.entries)):
                    yield folder.at(batch, index), None
        except (ImageError, OSError) as error:
            self.request.tell(folder, error)

    def write(self, items: Iterable[Item]) -> None:
        """Write items in the form asked for."""
        if self.as_json:
            for _, path, stat in items:
                self.out.json(show.as_json(path, stat, self._target(path, stat)))
        elif not self.long:
            for name, _, _ in items:
                self.out.line(self.out.name(name))
        else:
            self._write_long(items)

    def _write_long(self, items: Iterable[Item]) -> None:
        lines: list[tuple[show.Row, str]] = []
        for name, path, stat in items:
            shown = self.out.name(name)
            target = self._target(path, stat)
            if target is not None:
                shown += " -> " + self.out.name(target)
            lines.append((show.row(stat), shown))
        width = show.widths([cells for cells, _ in lines])
        for cells, shown in lines:
            self.out.line(show.long_line(cells, width, shown))

    def _target(self, path: Path, stat: Stat | None) -> bytes | None:
        if stat is None or stat.type != LNK:
            return None
        return self.request.target(path)
