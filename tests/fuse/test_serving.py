"""What a mount serves beyond names and numbers: data in every way of reading, programs, handles."""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
import random
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

import pytest

import wofs
from imagelib import manifest
from imagelib.kernel import make_filesystem, mounted
from support import fuse, getdents, handles, kernel
from support.images import IMAGES
from support.mounting import remount

pytestmark = pytest.mark.skipif(fuse.lacking() is not None, reason=str(fuse.lacking()))

needs_root = pytest.mark.skipif(not fuse.is_root(), reason="needs root")

Unpack = Callable[[str], Path]


@pytest.fixture(scope="module")
def data(image: Unpack) -> dict[str, bytes]:
    """The data of some files, read by the library."""
    with wofs.open(image("default")) as fs:
        names = ("big", "several", "holes4", "btree1", "unwritten", "shifted")
        found = {f"files/{name}": fs.path("/files", name).read_bytes() for name in names}
        return {**found, "many_extents": fs.path("/many_extents").read_bytes()}


# ---- reading
@pytest.mark.parametrize("name", ["files/big", "files/btree1", "files/unwritten", "many_extents"])
def test_any_piece_of_a_file(served: Path, data: dict[str, bytes], name: str) -> None:
    want, rng = data[name], random.Random(name)
    with (served / name).open("rb", buffering=0) as file:
        for _ in range(300):
            offset = rng.randrange(len(want) + 5000)
            length = rng.choice((1, 100, 4096, 65536, 300_000))
            assert os.pread(file.fileno(), length, offset) == want[offset : offset + length]


def test_mapped_files(served: Path, data: dict[str, bytes]) -> None:
    for name, want in data.items():
        with (served / name).open("rb") as file:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as shared:
                assert shared[:] == want
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as private:
                private[0] = want[0] ^ 0xFF
                assert private[1:] == want[1:]
        assert (served / name).read_bytes() == want


def _digest(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def test_readers_in_threads_and_processes(
    image: Unpack, tmp_path: Path, data: dict[str, bytes]
) -> None:
    """A mount of its own, so that nothing is cached by the kernel before."""
    with fuse.mounted(image("default"), tmp_path / "m"):
        wanted = {str(tmp_path / "m" / n): hashlib.sha256(d).hexdigest() for n, d in data.items()}
        names = list(wanted) * 6
        with (
            ThreadPoolExecutor(8) as threads,
            ProcessPoolExecutor(3, mp_context=get_context("spawn")) as processes,
        ):
            found = [pool.map(_digest, names) for pool in (threads, processes)]
            listing = threads.submit(manifest.of_tree, tmp_path / "m" / "dirs")
            for results in found:
                assert list(results) == [wanted[name] for name in names]
            truth = manifest.read(IMAGES["default"].truth())
            assert len(listing.result()) == sum(p.startswith("dirs/") for p in truth) + 1


def test_listing_while_others_list(served: Path) -> None:
    """Several readers of one directory, each with small buffers and at its own place."""
    whole = getdents.whole(served / "dirs/node")
    fds = [os.open(served / "dirs/node", os.O_RDONLY) for _ in range(6)]
    found: list[list[getdents.Dirent]] = [[] for _ in fds]
    going = set(range(len(fds)))
    while going:
        for number in sorted(going):
            part = getdents.once(fds[number], 400 + 150 * number)
            found[number] += part
            if not part:
                going.discard(number)
    for number, fd in enumerate(fds):
        os.close(fd)
        assert found[number] == whole


# ---- what the kernel may keep
@contextmanager
def stopped(child: subprocess.Popen[str]) -> Iterator[None]:
    """Stop a server for the time of the block: what is answered now, the kernel answers."""
    child.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        child.send_signal(signal.SIGCONT)


ASK = """
import errno, os, sys
os.chdir(sys.argv[1])
for name in ("none", "files/none", "dirs/leaf/none"):
    try:
        os.stat(name)
    except FileNotFoundError:
        continue
    raise SystemExit(1)
os.stat("files/several"), os.stat("dirs/leaf")
with open("files/several", "rb") as file:
    pass
"""


@pytest.mark.skipif(
    not fuse.is_root(), reason="of who does not own it the kernel asks the root's access list anew"
)
def test_names_absent_ones_too_and_attributes_are_kept_by_the_kernel(
    image: Unpack, tmp_path: Path
) -> None:
    """Looking up again needs no server; data that was read needs it for open(2) only."""
    with fuse.mounted(image("default"), tmp_path / "m") as child:
        ask = [sys.executable, "-c", ASK, str(tmp_path / "m")]
        subprocess.run(ask, check=True, timeout=30)
        mapped = (tmp_path / "m/files/several").open("rb")
        before = mapped.read()
        with stopped(child):
            without_open = "\n".join(ask[2].splitlines()[:-2])
            subprocess.run([*ask[:2], without_open, ask[3]], check=True, timeout=30)
            assert os.pread(mapped.fileno(), 1 << 20, 0) == before
        mapped.close()


# ---- programs
@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image with programs, one of them set-user-id, and a file with very many xattrs."""
    if reason := kernel.lacking():
        pytest.skip(reason)
    path = tmp_path_factory.mktemp("programs") / "programs.img"
    make_filesystem(path, 64, [])
    with mounted(path) as top:
        for name, mode in {"id": 0o755, "set_id": 0o4755, "closed": 0o644}.items():
            (top / name).write_bytes(Path("/usr/bin/id").read_bytes())
            (top / name).chmod(mode)
        (top / "script").write_text("#!/bin/sh\necho from a script\n")
        (top / "script").chmod(0o755)
        for number in range(320):
            os.setxattr(top / "script", f"user.{number:0206}", b"v")
        os.setxattr(top / "id", b"user.largest", b"v" * 65536)
    return path


def said(*command: str | Path, uid: int = 65534) -> str:
    """Run a program as a user and return what it says, or why it does not run."""
    done = subprocess.run(
        ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", *map(str, command)],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or done.stderr.strip().rpartition(": ")[2]


@needs_root
def test_programs_run_and_set_id_is_without_effect(programs: Path) -> None:
    with fuse.open_folder() as folder, fuse.mounted(programs, folder / "m", ["-o", "allow_other"]):
        assert said(folder / "m/id", "-u") == "65534"
        assert said(folder / "m/set_id", "-u") == "65534"
        assert said(folder / "m/script") == "from a script"
        assert said(folder / "m/closed") == "Permission denied"
    allowed = ["-o", "allow_other,suid"]
    with fuse.open_folder() as folder, fuse.mounted(programs, folder / "m", allowed):
        assert said(folder / "m/set_id", "-u") == "0"
    refused = ["-o", "allow_other,noexec"]
    with fuse.open_folder() as folder, fuse.mounted(programs, folder / "m", refused):
        assert said(folder / "m/id", "-u") == "Permission denied"
        assert said("sh", folder / "m/script") == "from a script"


@needs_root
def test_without_allow_other_a_mount_is_closed_to_others(image: Unpack) -> None:
    with fuse.open_folder() as folder, fuse.mounted(image("default"), folder / "m"):
        assert said("cat", folder / "m/files/one") == "Permission denied"
        assert said("ls", folder / "m") == "Permission denied"


@needs_root
def test_lists_of_names_beyond_64_kib(programs: Path, tmp_path: Path) -> None:
    with (
        kernel.seen_by_kernel(programs, tmp_path / "k") as beside,
        fuse.mounted(programs, tmp_path / "m"),
    ):
        for top in (beside, tmp_path / "m"):
            with pytest.raises(OSError, match="too long") as caught:
                os.listxattr(top / "script")
            assert caught.value.errno == errno.E2BIG
            assert os.getxattr(top / "script", f"user.{7:0206}") == b"v"
            assert os.getxattr(top / "id", "user.largest") == b"v" * 65536


# ---- handles
@needs_root
def test_handles_open_what_they_were_made_of(image: Unpack, tmp_path: Path) -> None:
    top = tmp_path / "m"
    names = ("", "dirs/deep/00/01/02/03", "files/several", "links/hard/h3", "dirs/leaf")
    with fuse.mounted(image("default"), top, ["--log", str(tmp_path / "log")]):
        made = {name: handles.of(top / name) for name in names}
        stats = {name: os.stat(top / name) for name in names}
        inside = os.listdir(top / "dirs/leaf")
        remount(top)  # the kernel forgets every name
        for name, handle in made.items():
            fd = handles.opened(top, handle)
            assert os.path.samestat(os.fstat(fd), stats[name])
            if stat.S_ISDIR(stats[name].st_mode):
                assert os.stat("..", dir_fd=fd).st_ino
            if name == "dirs/leaf":
                assert os.listdir(fd) == inside
            os.close(fd)
        deep = handles.opened(top, made["dirs/deep/00/01/02/03"])
        up = os.stat("../../../../..", dir_fd=deep)
        os.close(deep)
        assert os.path.samestat(up, os.stat(top / "dirs"))
    with fuse.mounted(image("default"), top):  # as if the server had been started anew
        for name, handle in made.items():
            fd = handles.opened(top, handle)
            assert os.fstat(fd).st_ino == stats[name].st_ino
            os.close(fd)


@needs_root
def test_handles_of_nothing_are_stale_and_no_damage(image: Unpack, tmp_path: Path) -> None:
    top = tmp_path / "m"
    log = tmp_path / "log"
    with fuse.mounted(image("default"), top, ["--log", str(log)]):
        ino = (top / "files/one").stat().st_ino
        free = max(e.inode() for e in os.scandir(top / "inodes")) + 3
        for node, generation in ((ino, 1), (7, 0), (free, 0), (1 << 40, 0), ((1 << 64) - 1, 0)):
            with pytest.raises(OSError, match="Stale file handle"):
                handles.opened(top, handles.of_fuse(node, generation))
        assert (top / "files/one").read_bytes()
    assert " WARNING " not in log.read_text()


# ---- should root make it writable
@needs_root
def test_remounted_writable_it_still_refuses(image: Unpack, tmp_path: Path) -> None:
    top = tmp_path / "m"
    attempts: list[Callable[[], object]] = [
        lambda: os.mkdir(top / "new"),
        lambda: os.mknod(top / "new", stat.S_IFREG | 0o600),
        lambda: os.symlink("a", top / "new"),
        lambda: os.link(top / "files/one", top / "new"),
        lambda: os.rename(top / "files/one", top / "new"),
        lambda: os.unlink(top / "files/one"),
        lambda: os.rmdir(top / "dirs/empty"),
        lambda: os.chmod(top / "files/one", 0o600),
        lambda: os.utime(top / "files/one"),
        lambda: os.truncate(top / "files/one", 0),
        lambda: os.setxattr(top / "files/one", b"user.a", b"1"),
        lambda: os.removexattr(top / "attrs/sf", b"user.a"),
        lambda: (top / "new").write_bytes(b"1"),
        lambda: (top / "files/one").write_bytes(b"1"),
        lambda: os.open(top / "files/one", os.O_RDWR),
    ]
    with fuse.mounted(image("default"), top):
        remount(top, writable=True)
        assert "rw," in fuse.table(top)[0]
        for attempt in attempts:
            with pytest.raises(OSError, match="Read-only") as caught:
                attempt()
            assert caught.value.errno == errno.EROFS
        assert (top / "files/one").read_bytes()
        assert not (top / "new").exists()


# ---- the slab, seen from outside
def writable(maps: str) -> list[str]:
    return [line for line in maps.splitlines() if "wofs-slab" in line and "w" in line.split()[1]]


def test_no_writable_mapping_of_the_slab_while_serving(image: Unpack, tmp_path: Path) -> None:
    """Looked at from its start on: once it serves, while it works, and under many requests."""
    top = tmp_path / "m"
    with fuse.mounted(image("ag64"), top) as child:
        maps = Path(f"/proc/{child.pid}/maps")
        seen = [maps.read_text()]
        worker = threading.Thread(target=manifest.of_tree, args=(top,))
        worker.start()
        while worker.is_alive():
            seen.append(maps.read_text())
        worker.join()
        seen.append(maps.read_text())
        for text in seen:
            assert "wofs-slab" in text
            assert not writable(text)
