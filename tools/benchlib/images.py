"""The images that are measured, made once."""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def run(*argv: str | Path) -> str:
    """Run a command and return what it prints; end with its message where it fails."""
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"bench: {' '.join(map(str, argv))}: {done.stderr.strip()}")
    return done.stdout


@contextmanager
def mountpoint() -> Iterator[Path]:
    """Yield a fresh empty folder."""
    folder = Path(tempfile.mkdtemp(prefix="wofs-bench-"))
    try:
        yield folder
    finally:
        folder.rmdir()


@contextmanager
def kernel_mount(image: Path, options: str) -> Iterator[Path]:
    """Mount by the kernel through a loop device."""
    with mountpoint() as top:
        run("mount", "-o", options, image, top)
        try:
            yield top
        finally:
            run("umount", top)


def make_usr(image: Path) -> None:
    """Make a 4 GiB image with as much of /usr as fits 3 GiB."""
    blank(image, 4 << 30)
    room = 3 << 30
    with kernel_mount(image, "loop") as top:
        for name in ("bin", "sbin", "include", "share", "lib", "libexec", "src", "local"):
            source = Path("/usr") / name
            if not source.is_dir() or source.is_symlink():
                continue
            for part in [source, *sorted(source.iterdir())]:
                need = int(run("du", "-sxB1", part).split()[0])
                if need >= room or (part != source and (top / name / part.name).exists()):
                    continue
                target = top if part == source else top / name
                target.mkdir(exist_ok=True)
                run("cp", "-ax", part, target)
                room -= need
                if part == source:
                    break


def make_dir200k(image: Path) -> None:
    """Make a 1 GiB image with 200,000 empty files in one directory."""
    blank(image, 1 << 30)
    with kernel_mount(image, "loop") as top:
        (top / "d").mkdir()
        for i in range(200_000):
            (top / "d" / f"entry-{i:07d}").touch()


def make_small(image: Path) -> None:
    """Make a 1 GiB image with 2,000 files in 100 directories and one of 64 MiB."""
    blank(image, 1 << 30)
    with kernel_mount(image, "loop") as top:
        for d in range(100):
            (top / f"d{d}").mkdir()
            for i in range(20):
                (top / f"d{d}" / f"file-{i}").write_bytes(b"%d %d\n" % (d, i) * 1000)
        (top / "large").write_bytes(random.Random(1).randbytes(64 << 20))


def many_ags(image: Path) -> None:
    """Make an empty image with as many allocation groups as its name says, of 70 MiB each.

    That is little more than the 64 MiB that mkfs.xfs wants for the log of any but a tiny one.
    """
    agcount = int(image.stem.removeprefix("ags"))
    blank(image, agcount * (70 << 20), "-b", "size=1024", "-d", f"agcount={agcount}")


def blank(image: Path, size: int, *options: str) -> None:
    """Make a fresh filesystem in a sparse file."""
    with image.open("wb") as file:
        file.truncate(size)
    run("mkfs.xfs", "-q", "-f", *options, image)


MAKERS = {
    "usr": make_usr,
    "dir200k": make_dir200k,
    "small": make_small,
    **{f"ags{count}": many_ags for count in (1_000, 10_000, 100_000)},
}


def image_of(name: str, folder: Path) -> Path:
    """Return the path of an image, making it first if it is not there."""
    image = folder / f"{name}.img"
    if not image.exists():
        print(f"bench: making {image} (once)", file=sys.stderr)
        partial = image.with_suffix(".partial")
        MAKERS[name](partial)
        partial.rename(image)
    return image
