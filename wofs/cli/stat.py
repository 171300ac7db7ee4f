"""`wofs stat`: show all attributes of files."""

from __future__ import annotations

import os
import stat as modes

import click

from wofs.cli import show
from wofs.cli.output import Json, escape, named, quoted
from wofs.cli.request import JSON_HELP, Request, reads_image
from wofs.errors import ImageError
from wofs.fs import Path, Stat
from wofs.fs.stat import BLK, CHR, LNK, TYPE_NAMES
from wofs.ondisk.inode import FORMAT_NAMES


@click.command(
    "stat",
    epilog="\b\nExamples:\n  wofs stat disk.img /etc/passwd\n"
    "  wofs stat --json disk.img /etc/passwd | jq .mtime_ns",
)
@reads_image
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("-L", "--dereference", is_flag=True, help="Follow a symbolic link at the end.")
@click.option("--json", "as_json", is_flag=True, help=f"{JSON_HELP} Values of xattrs are hex.")
def command(request: Request, paths: tuple[str, ...], dereference: bool, as_json: bool) -> None:
    """Show size, owner, times, form on disk and extended attributes of the files at PATH."""
    with request.opened() as filesystem:
        for path in request.paths(filesystem, paths):
            try:
                shown = path.resolve(strict=True) if dereference else path
                stat = shown.lstat()
            except (ImageError, OSError) as error:
                request.tell(path, error)
                continue
            if as_json:
                request.out.json(_json(request, shown, stat))
            else:
                _write(request, shown, stat)


def _xattrs(request: Request, path: Path) -> dict[bytes, bytes]:
    """Return the extended attributes that can be read; the damage is told."""
    out: dict[bytes, bytes] = {}
    try:
        out.update(path.xattrs(follow_symlinks=False).items())  # keeps what comes before damage
    except (ImageError, OSError) as error:
        request.tell(path, error)
    return out


def _json(request: Request, path: Path, stat: Stat) -> Json:
    target = request.target(path) if stat.type == LNK else None
    inode = path.inode(follow_symlinks=False)
    out = show.as_json(path, stat, target)
    out |= {"format": FORMAT_NAMES[inode.format], "extents": inode.nextents}
    out |= {"flags": inode.flags, "flags2": inode.flags2}
    out["xattrs"] = [
        {**named("name", name), "value": value.hex()}
        for name, value in _xattrs(request, path).items()
    ]
    return out


def _write(request: Request, path: Path, stat: Stat) -> None:
    out, inode = request.out, path.inode(follow_symlinks=False)
    name = quoted(bytes(path))
    if stat.type == LNK:
        target = request.target(path)
        name += " -> " + ("[damaged]" if target is None else quoted(target))
    size = f"{stat.st_size}"
    if stat.type in (CHR, BLK):
        size += f"  Device: {os.major(stat.st_rdev)}, {os.minor(stat.st_rdev)}"
    mode = f"{modes.S_IMODE(stat.st_mode):04o}/{modes.filemode(stat.st_mode)}"
    form = FORMAT_NAMES[inode.format]
    if inode.nextents:
        form += f", {inode.nextents} extent{'s' if inode.nextents > 1 else ''}"
    facts = [
        ("File", name),
        ("Type", TYPE_NAMES[stat.type]),
        ("Size", f"{size}  Blocks: {stat.st_blocks}  IO block: {stat.st_blksize}"),
        ("Inode", f"{stat.st_ino}  Links: {stat.st_nlink}  Generation: {stat.st_gen}"),
        ("Mode", f"{mode}  Uid: {stat.st_uid}  Gid: {stat.st_gid}  Project: {stat.st_projid}"),
        ("Access", show.moment(stat.st_atime_ns)),
        ("Modify", show.moment(stat.st_mtime_ns)),
        ("Change", show.moment(stat.st_ctime_ns)),
        ("Birth", show.moment(stat.st_birthtime_ns)),
        ("Form", f"{form}  Flags: {inode.flags:#x}, {inode.flags2:#x}"),
    ]
    for key, value in facts:
        out.line(f"{key:>7}: {value}")
    for xattr, content in _xattrs(request, path).items():
        text = os.fsdecode(content[:64])
        shown = f'"{escape(text)}"' if text.isprintable() else content[:64].hex()
        more = f" ... ({len(content)} bytes)" if len(content) > 64 else ""
        out.line(f"  Xattr: {quoted(xattr)} = {shown}{more}")
