"""Damage costs what it hits and nothing else: EUCLEAN or EIO there, one line in the log."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from imagelib import manifest
from support import fuse, getdents
from support.hostile import Edited
from support.images import IMAGES, forget_what_only_root_sees
from support.mounting import remount
from support.places import Places, copy, spoil

pytestmark = pytest.mark.skipif(fuse.lacking() is not None, reason=str(fuse.lacking()))

Unpack = Callable[[str], Path]

NOT_OVER_FUSE = {"bt", "s"}


def errno_of(ask: Callable[[], object]) -> str:
    """Return the name of the errno that a call fails with."""
    try:
        ask()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "none"


def warnings(log: Path) -> list[str]:
    """Return the log's lines beyond INFO, without time and process."""
    lines = log.read_text().splitlines()
    return [line.split(" ", 3)[3] for line in lines if " INFO " not in line]


def sound_part(top: Path, spoilt: set[str]) -> None:
    """Compare everything that is not at or below a spoilt path with the kernel's manifest."""

    def sound(path: str) -> bool:
        return not any(path == s or path.startswith(s + "/") for s in spoilt)

    truth = {p: e for p, e in manifest.read(IMAGES["default"].truth()).items() if sound(p)}
    for entry in truth.values():
        if int(str(entry["z"])) > manifest.BIG_BYTES:
            entry.pop("h")
    found = {p: e for p, e in manifest.of_tree(top).items() if sound(p)}
    if not fuse.is_root():
        forget_what_only_root_sees(truth, found)
    assert not list(manifest.differences(truth, found, NOT_OVER_FUSE))


def test_each_damaged_object_for_itself(image: Unpack, tmp_path: Path) -> None:
    path, places = copy(image("default"), tmp_path / "spoilt.img"), Places(image("default"))
    spoil(path, places.inode("/files/one"))
    spoil(path, places.inode("/dirs/sf"))
    spoil(path, places.extent_tree("/files/btree1"))
    spoil(path, places.blocks("/dirs/leaf")[1])
    spoil(path, places.blocks("/links/s600")[0])
    spoil(path, places.blocks("/attrs/leaf", "attr")[0])
    places.close()
    top, log = tmp_path / "m", tmp_path / "log"
    with fuse.mounted(path, top, ["--log", str(log)]):
        asked: dict[str, Callable[[], object]] = {
            "files/one": lambda: os.stat(top / "files/one"),
            "dirs/sf": lambda: os.listdir(top / "dirs/sf"),
            "files/btree1": lambda: (top / "files/btree1").read_bytes(),
            "dirs/leaf": lambda: os.listdir(top / "dirs/leaf"),
            "links/s600": lambda: os.readlink(top / "links/s600"),
            "attrs/leaf": lambda: os.listxattr(top / "attrs/leaf"),
        }
        for _ in range(3):
            for name, ask in asked.items():
                assert errno_of(ask) == "EUCLEAN", name
        # What does not pass the damage still serves, of the same object too.
        assert (top / "files/btree1").stat().st_size
        assert (top / "links/s600").lstat().st_size == 600
        # Who does not own it needs its access list, which could be among the damaged.
        assert errno_of((top / "attrs/leaf").read_bytes) == (
            "none" if fuse.is_root() else "EUCLEAN"
        )
        assert {"one", "two", "big"} & set(os.listdir(top / "files")) == {"one", "big"}
        types = {e.name: e.is_dir() for e in os.scandir(top / "dirs")}
        assert types["sf"]
        names, ending = names_before_the_end(top / "dirs/leaf")
        assert {b".", b"..", b"0"} < names
        assert ending == "EUCLEAN"
        sound_part(top, set(asked))
    told = warnings(log)
    assert len(told) == len(asked), "\n".join(told)
    for line in told:
        assert re.fullmatch(
            r"WARNING spoilt\.img: (inode|directory) \d+ [^(]*\(daddr 0x[0-9a-f]+, \d+ B\): "
            "crc is 0x[0-9a-f]{8}, expected 0x[0-9a-f]{8}",
            line,
        ), line


def names_before_the_end(folder: Path) -> tuple[set[bytes], str]:
    """Return the names that a directory gives, and with which errno that ends."""
    names: set[bytes] = set()
    fd = os.open(folder, os.O_RDONLY)
    try:
        while part := getdents.once(fd, 1000):
            names |= {name for *_, name in part}
    except OSError as error:
        return names, errno.errorcode[error.errno or 0]
    finally:
        os.close(fd)
    return names, "none"


@pytest.mark.skipif(not fuse.is_root(), reason="needs root to make the kernel forget")
def test_damage_while_everybody_reads(image: Unpack, tmp_path: Path) -> None:
    """Bytes of the image change under a server that works: who meets them is told, no other."""
    path, places = copy(image("default"), tmp_path / "spoilt.img"), Places(image("default"))
    top = tmp_path / "m"
    ending = threading.Event()
    wrong: list[str] = []

    def read() -> None:
        want = (top / "files/big").read_bytes()
        while not ending.is_set():
            remount(top)
            for name in os.listdir(top / "files"):
                (top / "files" / name).lstat()
            if (top / "files/big").read_bytes() != want:
                wrong.append("files/big")

    with fuse.mounted(path, top, ["--log", str(tmp_path / "log")]):
        readers = [threading.Thread(target=read) for _ in range(3)]
        for reader in readers:
            reader.start()
        for name in ("/reflink", "/inodes/i00000", "/many_extents"):
            place = places.inode(name)
            spoil(path, place)
        for _ in range(20):
            assert errno_of(lambda: os.stat(top / "inodes/i00000")) == "EUCLEAN"
            assert errno_of(lambda: os.listdir(top / "reflink")) == "EUCLEAN"
            assert errno_of(lambda: (top / "many_extents").read_bytes()) == "EUCLEAN"
            assert (top / "inodes/i00001").exists()
        ending.set()
        for reader in readers:
            reader.join()
    places.close()
    assert not wrong
    assert len(warnings(tmp_path / "log")) == 3


def test_a_truncated_image_serves_what_it_holds(image: Unpack, tmp_path: Path) -> None:
    path = copy(image("default"), tmp_path / "short.img")
    places = Places(image("default"))
    names = ("dirs_btree", "attrs", "names", "inodes", "times", "links", "special")
    where = {name: places.inode(f"/{name}")[0] for name in names}
    places.close()
    cut = sorted(where.values())[3]
    os.truncate(path, cut)
    top, log = tmp_path / "m", tmp_path / "log"
    with fuse.mounted(path, top, ["--log", str(log)]):
        entries = {e.name: e for e in os.scandir(top)}
        assert len(entries) == 18
        for name, byte in where.items():
            assert entries[name].is_dir()
            assert errno_of((top / name).stat) == ("EUCLEAN" if byte >= cut else "none")
    told = warnings(log)
    assert any("the image has" in line and "bytes of the filesystem's" in line for line in told)
    assert any("the image ends first" in line for line in told)


def test_an_image_cut_while_it_is_served(image: Unpack, tmp_path: Path) -> None:
    """Errors, not the end of the server: nothing of the image is mapped."""
    path, top = copy(image("default"), tmp_path / "cut.img"), tmp_path / "m"
    with fuse.mounted(path, top, ["--log", str(tmp_path / "log")]) as child:
        os.truncate(path, 4096)
        entries = list(os.scandir(top))  # its inode is in memory since the mount
        assert len(entries) == 18
        for entry in entries:
            assert errno_of(entry.stat) == "EUCLEAN"
        assert os.statvfs(top).f_blocks
        assert child.poll() is None
    told = warnings(tmp_path / "log")
    assert any("the image ends first" in line for line in told)


# ---- a device that fails
SERVER = """
import json, logging, sys
from wofs.device import FileDevice
from wofs.device.faulty import Fault, FaultyDevice
from wofs.fuse.options import parse
from wofs.fuse.session import serve

image, place, log, faults = sys.argv[1:]
form = "t p %(process)d %(levelname)s %(message)s"
logging.basicConfig(filename=log, level=logging.INFO, format=form)
bad = OSError(5, "Input/output error")
faults = [Fault(at, length, bad, times=times) for at, length, times in json.loads(faults)]
device = FaultyDevice(FileDevice(image), faults)
options = parse([], "failing", True)
words = options.for_kernel()
serve(device, place, options.take(), words, lambda: print("up", flush=True))
"""


@contextmanager
def failing(
    image: Path, top: Path, faults: list[tuple[int, int, int | None]]
) -> Iterator[subprocess.Popen[str]]:
    """Serve an image from a device that fails at (byte, length), so many times or always."""
    top.mkdir()
    log = top.with_suffix(".log")
    words = [str(image), str(top), str(log), json.dumps(faults)]
    child = subprocess.Popen(
        [sys.executable, "-c", SERVER, *words], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    try:
        assert child.stdout.readline() == "up\n"
        yield child
    finally:
        fuse.unmount(top)
        child.communicate(timeout=30)
    assert child.returncode == 0


def piece(path: Path, offset: int) -> bytes:
    """Read 4 KiB, and no more for the kernel's read-ahead."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
        return os.pread(fd, 4096, offset)
    finally:
        os.close(fd)


def test_a_failing_device(image: Unpack, tmp_path: Path) -> None:
    path, places, top = image("default"), Places(image("default")), tmp_path / "m"
    several = places.blocks("/files/several")
    faults: list[tuple[int, int, int | None]] = [
        (*several[2], None),
        (*places.inode("/files/empty"), None),
        (*places.blocks("/dirs/leaf")[1], None),
        (*places.blocks("/links/s600")[0], None),
        (*places.blocks("/names")[0], 1),
    ]
    places.close()
    with failing(path, top, faults):
        for _ in range(2):
            assert len(piece(top / "files/several", 0)) == 4096
            assert errno_of(lambda: piece(top / "files/several", 2 * 4096)) == "EIO"
            assert errno_of(lambda: os.stat(top / "files/empty")) == "EIO"
            # One inode cannot be read: it has its name and type all the same, others all they have.
            entries = {e.name: e for e in os.scandir(top / "files")}
            assert entries["empty"].is_file()
            assert entries["one"].stat().st_size == 1
            assert errno_of(lambda: os.listdir(top / "dirs/leaf")) == "EIO"
            assert errno_of(lambda: os.readlink(top / "links/s600")) == "EIO"
        assert errno_of(lambda: os.listdir(top / "names")) == "EIO"
        assert len(os.listdir(top / "names")) == 25  # it worked the second time: nothing is kept
        assert (top / "files/big").read_bytes()
    told = warnings(top.with_suffix(".log"))
    assert len(told) == len(set(told))
    for line in told:
        assert re.fullmatch(r"WARNING default\.img: inode \d+: \w+: Input/output error", line)


def test_an_entry_that_lies_costs_its_own_name_alone(image: Unpack, tmp_path: Path) -> None:
    """Two entries lead to inodes that are sound elsewhere; listing them spoils neither."""
    edited = Edited(image("default"))
    edited.entry("/dirs/deep/00", "01", ino=edited.ino("/dirs/leaf"), ftype=1)
    edited.entry("/dirs", "empty", ino=edited.ino("/files/one"), ftype=2)
    path = tmp_path / "lying.img"
    path.write_bytes(edited.data)
    edited.close()
    top = tmp_path / "m"
    with fuse.mounted(path, top):
        held = os.open(top / "dirs/leaf", os.O_RDONLY)
        data = (top / "files/one").read_bytes()
        names = os.listdir(held)
        for folder, name in (("dirs/deep/00", "01"), ("dirs", "empty")):
            found = {entry.name: entry for entry in os.scandir(top / folder)}
            assert errno_of(lambda: os.lstat(found[name].path)) == "EUCLEAN"  # noqa: B023
        assert os.listdir(held) == names == os.listdir(top / "dirs/leaf")
        assert (top / "files/one").read_bytes() == data
        os.close(held)


def test_a_copy_of_the_superblock_hides_no_attribute(image: Unpack, tmp_path: Path) -> None:
    with fuse.mounted(image("default"), tmp_path / "m", ["-o", "sb=1"]):
        assert os.getxattr(tmp_path / "m/attrs/sf", "user.a") == b"1"
        assert "system.posix_acl_access" in os.listxattr(tmp_path / "m/attrs/acl")
