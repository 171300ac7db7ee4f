"""The first run: mount an image, look around, read a file, survive a stray write elsewhere.

Everything is done by the commands a user has; only the stray write is the demo's own
(`wofs.demo.struck`). All that is made lies in one temporary folder and is gone afterwards.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

import wofs
from wofs.fuse.mountpoint import check_fuse, mounts

WOFS = [sys.executable, "-c", "from wofs.cli.main import main; main(prog_name='wofs')"]
TREE_LINES = 14
PATIENCE_S = 20.0
WIDEST_NAME = 40

out = Console(highlight=False, soft_wrap=True)


class DemoError(Exception):
    """A step failed; the message says which and why."""


def step(title: str) -> None:
    """Print the heading of the next step."""
    out.print(f"\n[bold]{escape(title)}[/bold]")


def command(*arguments: str | Path) -> None:
    """Run a wofs command and show it; raises DemoError with what it said."""
    out.print(f"[dim]$ {escape(' '.join(map(str, ('wofs', *arguments))))}[/dim]")
    done = subprocess.run(
        [*WOFS, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["it said nothing"]
        raise DemoError(f"exit status {done.returncode}: {said[-1].removeprefix('wofs: ')}")


# --- the steps -----------------------------------------------------------------------------
def mount(image: Path, directory: Path, stack: ExitStack, log: Path) -> None:
    """Mount with the real command and say how long it took."""
    step("Mount")
    started = time.monotonic()
    command("mount", "--log", log, image, directory)
    stack.callback(clean_up, directory)
    took = time.monotonic() - started
    out.print(f"{took * 1000:.0f} ms for Python to start, to unpack and to mount; the server says:")
    out.print(escape(log.read_text().strip()))


def show_geometry(image: Path) -> int:
    """Print what the image is and what a mount keeps in write-once memory; return the AG count."""
    with wofs.open(image) as filesystem:
        info = filesystem.info()
    step("Geometry")
    out.print(
        f"XFS version {info.version}, {info.dblocks} blocks of {info.blocksize} B, "
        f"{info.agcount} allocation groups of {info.agblocks} blocks, inodes of "
        f"{info.inodesize} B, directory blocks of {info.dirblksize} B\n"
        f"uuid {info.uuid}, log {info.log.state}, {info.icount - info.ifree} inodes in use\n"
        f"features: {' '.join(info.features)}"
    )
    step("The slab: mount structures in write-once memory")
    slab = info.slab
    table = Table("cache", box=None, header_style="bold")
    for heading in ("objects", "bytes each", "pages", "used", "wasted"):
        table.add_column(heading, justify="right")
    for cache in slab.caches:
        sizes = (cache.objects, cache.object_bytes, cache.pages)
        table.add_row(cache.name, *map(str, (*sizes, cache.bytes_used, cache.bytes_wasted)))
    out.print(table)
    out.print(
        f"backend {slab.backend}, {slab.pages} pages, sealed: {'yes' if slab.sealed else 'no'}"
    )
    return info.agcount


def tree(top: Path, depth: int = 0) -> Iterator[str]:
    """Yield lines for a directory and what is below, three levels deep."""
    for path in sorted(top.iterdir()):
        st = path.lstat()
        name = ascii(path.name)[1:-1]
        name = name if len(name) <= WIDEST_NAME else name[:WIDEST_NAME] + "…"
        if stat.S_ISDIR(st.st_mode):
            yield f"{'  ' * depth}{name}/"
            if depth < 2:
                yield from itertools.islice(tree(path, depth + 1), 4)
        else:
            yield f"{'  ' * depth}{name}  {st.st_size} B"


def show_tree(top: Path) -> None:
    """Print a stretch of the tree."""
    step("The tree")
    for line in itertools.islice(tree(top), TREE_LINES):
        out.print(escape(line))
    out.print("…")


def a_file(top: Path) -> Path | None:
    """Return the largest regular file of at most 64 MiB among the first thousand, None if none."""
    best, most = None, -1
    paths = (Path(folder, name) for folder, _, names in os.walk(top) for name in names)
    for path in itertools.islice(paths, 1000):
        st = path.lstat()
        if stat.S_ISREG(st.st_mode) and most < st.st_size <= 64 << 20 and st.st_blocks:
            best, most = path, st.st_size
    return best


def checksum(path: Path) -> str:
    """Return the SHA-256 of a file's data, read anew by the server where the kernel lets us.

    Of a directory that of its names.
    """
    if path.is_dir():
        return hashlib.sha256(repr(sorted(os.listdir(path))).encode()).hexdigest()
    with path.open("rb") as f:
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return hashlib.file_digest(f, "sha256").hexdigest()


def read_file(image: Path, top: Path) -> tuple[Path, str]:
    """Read a file through the mount and hold it against the library's reading.

    Where there is no file that is the root directory, and nothing to hold it against.
    """
    step("A file, read through the mount")
    path = a_file(top)
    if path is None:
        out.print("the image has none")
        return top, checksum(top)
    found = checksum(path)
    inside = "/" / path.relative_to(top)
    with wofs.open(image) as filesystem:
        direct = hashlib.sha256(filesystem.path(inside).read_bytes()).hexdigest()
    out.print(f"{escape(str(inside))}, {path.stat().st_size} B\nsha256 {found}")
    if found != direct:
        raise DemoError(f"straight from the image the sum is {direct}")
    out.print("the same straight from the image")
    return path, found


def stray_write(image: Path, directory: Path, stack: ExitStack, name: str) -> None:
    """Serve the image a second time and aim a stray write at the AG header called `name`."""
    field, value = "freeblks", "0"
    step(f"A stray write at {name}.{field} in a second mount of the same image")
    directory.mkdir()
    stack.callback(clean_up, directory)
    arguments = [str(image), str(directory), name, field, value]
    child = subprocess.run(
        [sys.executable, "-m", "wofs.demo.struck", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    out.print(escape(child.stdout.strip()))
    out.print(escape(child.stderr.strip()), style="yellow")
    if child.returncode >= 0:
        raise DemoError(f"the second server ended with {child.returncode}, not by a signal")
    ended = signal.Signals(-child.returncode)
    out.print(
        f"exit status {128 - child.returncode}: ended by {ended.name}, before anything changed"
    )


def still_serving(path: Path, before: str) -> None:
    """Show that the first mount did not notice."""
    step("The first mount")
    if checksum(path) != before:
        raise DemoError(f"{path} reads differently now")
    out.print(f"still serves: {escape(path.name)} reads the same")


def clean_up(directory: Path) -> None:
    """Unmount if anything is (still) mounted there, also what a dead server left."""
    if not mounted_in(directory):
        return
    try:
        command("umount", directory)
    except DemoError:
        command("umount", "--lazy", directory)


def mounted_in(directory: Path) -> list[str]:
    """Return the mount points at a directory and below it."""
    paths = [Path(mounted.mountpoint) for mounted in mounts()]
    return [str(path) for path in paths if directory in (path, *path.parents)]


def remove(folder: Path) -> None:
    """Remove the demo's folder, but never by walking through a mount that could not be undone."""
    if left := mounted_in(folder):
        out.print(f"[red]left behind: {escape(', '.join(left))}[/red]")
    else:
        shutil.rmtree(folder)


def run(image: Path) -> None:
    """Go through all steps; whatever happens, nothing stays mounted."""
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="wofs-demo-")).resolve()
        stack.callback(remove, folder)
        # What the commands keep for their user: here it goes with the rest.
        os.environ |= {"XDG_CACHE_HOME": str(folder), "XDG_STATE_HOME": str(folder)}
        image = image.absolute()
        top = folder / "mnt"
        top.mkdir()
        mount(image, top, stack, folder / "log")
        agcount = show_geometry(image)
        show_tree(top)
        path, before = read_file(image, top)
        stray_write(image, folder / "struck", stack, f"agf[{min(1, agcount - 1)}]")
        still_serving(path, before)
        step("Unmount")
    out.print("nothing is left behind")


def main() -> int:
    """Run the demo on the image named on the command line; return the exit status."""
    if len(sys.argv) != 2:
        print("usage: python -m wofs.demo.firstrun IMAGE", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        check_fuse()
        run(Path(sys.argv[1]))
    except (DemoError, wofs.WofsError, OSError, subprocess.TimeoutExpired) as error:
        out.print(f"[red]demo: {escape(str(error))}[/red]")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
