"""`wofs ls`: list directories."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import click

from wofs.cli import show
from wofs.cli.request import JSON_HELP, Request, reads_image
from wofs.errors import ImageError
from wofs.fs import Path, Stat
from wofs.fs.stat import DIR, LNK
from wofs.fs.walk import children

Item = tuple[bytes, Path, Stat | None]
"""The name shown, the path, its attributes (None: damaged, or not asked for)."""

_ACLS = (b"system.posix_acl_access", b"system.posix_acl_default")
_GAP = 2


@click.command(
    "ls",
    epilog="\b\nExamples:\n  wofs ls disk.img\n  wofs ls -la disk.img /etc\n"
    "  wofs ls -lhS disk.img /var/log         the largest first\n"
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
@click.option("-i", "--inode", is_flag=True, help="Inode numbers too.")
@click.option("-h", "--human-readable", "human", is_flag=True, help="With -l: sizes like 1.5K.")
@click.option("--full-time", is_flag=True, help="Like -l, times to the nanosecond with the zone.")
@click.option("-t", "order", flag_value="time", help="The newest first.")
@click.option("-S", "order", flag_value="size", help="The largest first.")
@click.option("-U", "--unsorted", "order", flag_value="none", help="As they come, at once.")
@click.option("-r", "--reverse", is_flag=True, help="The other way round.")
@click.option("-1", "single", is_flag=True, help="One name a line, as into a pipe.")
@click.option("-n", "numeric", is_flag=True, help="Owners as numbers, as always.")
@click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
def command(
    request: Request, paths: tuple[str, ...], order: str | None, numeric: bool, **flags: bool
) -> None:
    """List the directories (or files) at PATH, by default the root.

    Names are sorted by their bytes. Owners are numbers: the image's users are not yours. A
    plus behind the mode tells of an access control list. An entry whose inode is damaged is
    shown with question marks, the damage told on stderr, and the exit code is 4.
    """
    with request.opened() as filesystem:
        look = Look(order=order or "name", **flags)
        listing = _Listing(request, look)
        folders: list[Item] = []
        files: list[Item] = []
        for path in request.paths(filesystem, paths):
            try:
                follow = not (look.rows or look.itself)
                stat = path.stat(follow_symlinks=False)
                kind = path.stat().type if follow and stat.type == LNK else stat.type
            except (ImageError, OSError) as error:
                request.tell(path, error)
                continue
            listed = kind == DIR and not look.itself
            (folders if listed else files).append((bytes(path), path, stat))
        listing.write(look.sorted(files))
        listing.blank = bool(files)
        headed = bool(files) or len(paths) > 1
        listing.folders([path for _, path, _ in look.sorted(folders)], headed)


@dataclass(frozen=True)
class Look:
    """What is listed and how; `order` is "name", "time", "size" or "none"."""

    order: str
    long: bool
    recursive: bool
    hidden: bool
    itself: bool
    inode: bool
    human: bool
    full_time: bool
    reverse: bool
    single: bool
    as_json: bool

    @property
    def rows(self) -> bool:
        """Whether lines of many columns are wanted."""
        return self.long or self.full_time

    @property
    def stats(self) -> bool:
        """Whether the inodes are wanted, and not the names alone."""
        by_stat = self.order in ("time", "size")
        return self.rows or self.recursive or self.inode or self.as_json or by_stat

    def sorted(self, items: Iterable[Item]) -> Iterable[Item]:
        """Return items in the order asked for; damaged ones last by time and size."""
        if self.order == "none":
            return items
        out = sorted(items, key=lambda item: item[0])
        if self.order == "time":
            out.sort(key=lambda item: 1 << 64 if item[2] is None else -item[2].st_mtime_ns)
        elif self.order == "size":
            out.sort(key=lambda item: 1 if item[2] is None else -item[2].st_size)
        return out[::-1] if self.reverse else out


@dataclass
class _Listing:
    """One run of `ls`."""

    request: Request
    look: Look
    blank: bool = field(default=False)
    """Whether what comes next is to be set off by an empty line."""

    def folders(self, folders: list[Path], headed: bool) -> None:
        """List directories, one after the other; with -R all below them, depth first."""
        out, look = self.request.out, self.look
        stack = folders[::-1]
        while stack:
            folder = stack.pop()
            if (headed or look.recursive) and not look.as_json:
                out.line(("\n" if self.blank else "") + out.name(bytes(folder)) + ":")
            self.blank = True
            below: list[Path] = []
            self.write(self._noting(look.sorted(self._items(folder)), below))
            stack.extend(reversed(below))

    def _items(self, folder: Path) -> Iterator[Item]:
        """Yield what is to be shown of a directory."""
        if self.look.hidden and not self.look.as_json:
            yield from self._dots(folder)
        found = children(folder, self.request.tell) if self.look.stats else self._names(folder)
        for path, stat in found:
            name = path.name_bytes
            if self.look.hidden or not name.startswith(b"."):
                yield name, path, stat

    def _noting(self, items: Iterable[Item], below: list[Path]) -> Iterator[Item]:
        """Pass items on, with -R the subdirectories to `below` too."""
        for name, path, stat in items:
            folder = stat is not None and stat.type == DIR and name not in (b".", b"..")
            if folder and self.look.recursive:
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
        out, look = self.request.out, self.look
        if look.as_json:
            for _, path, stat in items:
                out.json(show.as_json(path, stat, self._target(path, stat)))
        elif look.rows:
            self._write_rows(items)
        elif out.terminal and not (look.single or look.inode):
            self._write_columns([out.name(name) for name, _, _ in items])
        else:
            for name, _, stat in items:
                out.line(self._number(stat) + out.name(name))

    def _number(self, stat: Stat | None) -> str:
        """Return the column of the inode number, if it is asked for."""
        if not self.look.inode:
            return ""
        return f"{stat.st_ino if stat is not None else '?':>10} "

    def _write_rows(self, items: Iterable[Item]) -> None:
        lines: list[tuple[show.Row, str, str]] = []
        for name, path, stat in items:
            shown = self.request.out.name(name)
            target = self._target(path, stat)
            if target is not None:
                shown += " -> " + self.request.out.name(target)
            cells = show.row(stat, human=self.look.human, full_time=self.look.full_time)
            if stat is not None and self._has_acl(path, stat):
                cells = (cells[0] + "+", *cells[1:])
            lines.append((cells, self._number(stat), shown))
        width = show.widths([cells for cells, _, _ in lines])
        for cells, number, shown in lines:
            self.request.out.line(number + show.long_line(cells, width, shown))

    def _has_acl(self, path: Path, stat: Stat) -> bool:
        if stat.type == LNK:
            return False
        try:
            xattrs = path.xattrs(follow_symlinks=False)
            return any(name in xattrs for name in _ACLS)
        except (ImageError, OSError) as error:
            self.request.tell(path, error)
            return False

    def _target(self, path: Path, stat: Stat | None) -> bytes | None:
        if stat is None or stat.type != LNK:
            return None
        return self.request.target(path)

    def _write_columns(self, names: list[str]) -> None:
        """Write names in as many columns as the terminal's width takes, downwards."""
        from rich.cells import cell_len

        widths = [cell_len(name) for name in names]
        room = shutil.get_terminal_size().columns
        lines, columns = len(names), [0]
        for count in range(min(len(names), room // (1 + _GAP)), 1, -1):
            height = -(-len(names) // count)
            wide = [max(widths[at : at + height]) for at in range(0, len(names), height)]
            if sum(wide) + _GAP * (len(wide) - 1) <= room:
                lines, columns = height, wide
                break
        for line in range(lines):
            cells = range(line, len(names), lines)
            text = "".join(
                names[at] + " " * (width - widths[at] + _GAP)
                for at, width in zip(cells[:-1], columns, strict=False)
            )
            self.request.out.line(text + names[cells[-1]])
