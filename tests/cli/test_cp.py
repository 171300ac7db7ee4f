"""`wofs cp`: what is copied is what was there, whole or not at all, and nothing else changes."""

from __future__ import annotations

import os
import re
import resource
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import wofs as library
from imagelib import manifest
from imagelib.kernel import make_filesystem, mounted
from support import kernel
from support.cli import NOBODY, Run, as_nobody, child, terminal
from support.fuse import WOFS
from support.hostile import INODE_MODE, Edited
from support.images import IMAGES, names
from wofs.cli.target import Folder
from wofs.xfs.geometry import fsb_to_byte

Unpack = Callable[[str], Path]

NOT_KEPT = {"i", "ct", "bt", "k"}
"""What no copy can keep: inode numbers, the times of inode and birth; blocks are looked at."""

OWNERS_NOT_KEPT = re.compile(r"wofs: \d+ owners? not kept: operation not permitted$")

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def skip_without_devices(folder: Path, *devices: int) -> None:
    """Skip where this process may not make character devices of these numbers.

    An overlay takes no whiteouts (0); a container's root may lack CAP_MKNOD.
    """
    probe = folder / "probe"
    for device in devices:
        try:
            os.mknod(probe, stat.S_IFCHR | 0o600, device)
        except PermissionError:
            numbers = f"{os.major(device)}:{os.minor(device)}"
            pytest.skip(f"device {numbers} cannot be made in {folder}")
        probe.unlink()


def give_to_nobody(folder: Path) -> None:
    """Let `as_nobody` write there; who is not root is nobody already."""
    if os.geteuid() == 0:
        os.chown(folder, NOBODY, NOBODY)


def complaints(err: str) -> list[str]:
    """Return the lines said, without the one that tells all but root of owners not kept."""
    lines = err.replace("\r", "").splitlines()
    if os.geteuid() != 0:
        lines = [line for line in lines if not OWNERS_NOT_KEPT.search(line)]
    return lines


def left_over(folder: Path) -> list[Path]:
    """Return what unfinished copies left behind."""
    return [path for path in folder.rglob(".wofs-partial*")]


# ---- everything
@pytest.fixture(scope="module")
def large_xfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty XFS of 1 KiB blocks, to which every image can be copied as it is."""
    why = kernel.lacking()
    if why is not None:
        pytest.skip(why)
    image = tmp_path_factory.mktemp("large") / "disk"
    make_filesystem(image, 2048, ["-b", "size=1024", "-m", "bigtime=1", "-l", "size=16m"])
    with mounted(image) as top:
        yield top


@pytest.mark.parametrize("name", names("mountable") + names("dirty"))
def test_a_copy_of_everything_is_what_the_kernel_shows(
    name: str, wofs: Run, image: Unpack, large_xfs: Path
) -> None:
    top, dirty = large_xfs / name, name in names("dirty")
    options = ["-o", "norecovery"] if dirty else []
    done = wofs("cp", "-q", "-r", *options, image(name), "/", top)
    found, truth = manifest.of_tree(top), manifest.read(IMAGES[name].truth(norecovery=dirty))
    damaged = {path for path, entry in truth.items() if "e" in entry}
    assert (done.code, done.out) == (4 if damaged else 0, b"")
    assert done.err.count("\n") == len(damaged)
    for path in damaged:
        del truth[path]
        found.pop(path, None)
    for path, entry in truth.items():
        if entry["t"] == "d":  # the size of a directory is its filesystem's business
            del entry["z"], found[path]["z"]
        elif entry["t"] == "f" and "x" not in entry:
            assert int(str(found[path]["k"])) <= int(str(entry["k"])), path
    lines = list(manifest.differences(truth, found, NOT_KEPT))
    assert not lines, "\n".join(lines[:20])
    assert left_over(top) == []


# ---- holes
def test_holes_stay_holes(wofs: Run, image: Unpack, out: Path) -> None:
    out.mkdir()
    names_of_files = ("/attrs/both_forks", "/files/holes4", "/files/all_unwritten")
    assert wofs("cp", image("default"), *names_of_files, out).code == 0
    with library.open(image("default")) as fs:
        for name in names_of_files:
            path, copy = fs.path(name), out / os.path.basename(name)
            with copy.open("rb") as f:
                size = copy.stat().st_size
                assert manifest.segments(f.fileno(), size) == list(path.segments())
            assert copy.read_bytes() == path.read_bytes()
            data = sum(end - start for start, end in path.segments())
            assert copy.stat().st_blocks * 512 <= data + 4096


def test_a_terabyte_of_nothing_is_quick(wofs: Run, image: Unpack, out: Path) -> None:
    assert wofs("cp", image("default"), "/huge_sparse", out).code == 0
    info = out.stat()
    assert info.st_size > 1 << 40
    assert info.st_blocks * 512 < 1 << 20
    with out.open("rb") as f:
        f.seek((1 << 40) + 12345)
        assert f.read(17) == b"mark%d" % ((1 << 40) + 12345)


# ---- names in the destination
def test_destinations(wofs: Run, image: Unpack, out: Path) -> None:
    path = image("default")
    assert wofs("cp", path, "/files/one", out).code == 0
    assert out.read_bytes() == b"o"
    out.unlink()
    out.mkdir()
    assert wofs("cp", path, "/files/one", "/links/ok", f"{out}/").code == 0
    assert {p.name: p.is_symlink() for p in out.iterdir()} == {"one": False, "ok": False}
    assert wofs("cp", "-r", path, "/links/ok", out / "link").code == 0
    assert os.readlink(out / "link") == "../files/one"
    assert wofs("cp", "-r", path, "/dirs/sf", out / "new").code == 0
    assert wofs("cp", "-a", path, "/dirs/sf/", out).code == 0
    assert sorted(p.name for p in (out / "new").iterdir()) == sorted(
        p.name for p in (out / "sf").iterdir()
    )
    assert wofs("cp", "-r", path, "/dirs/sf/../deep/00/..", out).code == 0
    assert (out / "deep" / "00" / "01").is_dir()
    assert wofs("cp", "-r", path, "/dirs/sf/.", out).code == 0
    assert (out / "f00001__").exists()
    done = wofs("cp", "-r", path, "/files/one/.", out)
    assert (done.code, done.err) == (1, "wofs: /files/one: not a directory\n")


def test_wrong_destinations(wofs: Run, image: Unpack, out: Path) -> None:
    path = image("default")
    (out.parent / "file").touch()
    for destination, code, line in (
        ("", 2, "'' is no directory and no name for a new file."),
        (f"{out}/new/", 1, f"{out}/new/: no such directory"),
        (f"{out}/x/y", 1, f"{out}/x: no such file or directory"),
        (f"{out.parent}/file/x", 1, f"{out.parent}/file: not a directory"),
        (f"{out.parent}/new/", 1, f"{out.parent}/new/: no such directory"),
    ):
        done = wofs("cp", path, "/files/one", destination)
        assert (done.code, done.err.count("\n")) == (code, 1), destination
        assert line in done.err
    assert sorted(p.name for p in out.parent.iterdir()) == ["file"]


def test_nothing_is_replaced_unless_told_to(wofs: Run, image: Unpack, out: Path) -> None:
    path, elsewhere = image("default"), out.parent / "elsewhere"
    out.mkdir()
    elsewhere.write_text("precious")
    (out / "one").write_text("mine")
    (out / "empty").symlink_to(elsewhere)
    (out / "block").symlink_to("nowhere")
    (out / "several").mkdir()
    sources = [f"/files/{name}" for name in ("one", "empty", "block", "several")]
    done = wofs("cp", path, *sources, out)
    assert done.code == 1
    assert done.err.splitlines() == [
        f"wofs: /files/{name}: {out}/{name}: is there already (--force replaces it)"
        for name in ("one", "empty", "block", "several")
    ]
    assert (out / "one").read_text() == elsewhere.read_text().replace("precious", "mine")
    done = wofs("cp", "-f", path, *sources, out)
    assert done.code == 1
    assert complaints(done.err) == [
        f"wofs: /files/several: cannot write {out}/several: is a directory"
    ]
    assert elsewhere.read_text() == "precious"
    assert (out / "one").read_bytes() == b"o"
    assert not (out / "empty").is_symlink()
    assert not (out / "block").is_symlink()
    assert not (out / "nowhere").exists()
    assert left_over(out) == []


def test_links_in_the_destination_are_not_followed(wofs: Run, image: Unpack, out: Path) -> None:
    path, elsewhere = image("default"), out.parent / "elsewhere"
    elsewhere.mkdir()
    (out / "dirs").mkdir(parents=True)
    (out / "dirs" / "sf").symlink_to(elsewhere)
    (out / "dirs" / "empty").write_text("a file")
    for force in ((), ("-f",)):
        done = wofs("cp", "-r", *force, path, "/dirs/sf", "/dirs/empty", out / "dirs")
        assert done.code == 1
        assert done.err.splitlines() == [
            f"wofs: /dirs/{name}: {out}/dirs/{name}: is no directory" for name in ("sf", "empty")
        ]
    assert list(elsewhere.iterdir()) == []
    # The directory that the user names may be a link.
    (out / "link").symlink_to(elsewhere)
    assert wofs("cp", "-r", path, "/dirs/sf", out / "link").code == 0
    assert (elsewhere / "sf").is_dir()


def test_a_directory_that_exists_is_filled(wofs: Run, image: Unpack, out: Path) -> None:
    path = image("default")
    (out / "sf").mkdir(parents=True)
    (out / "sf" / "mine").write_text("mine")
    (out / "sf").chmod(0o711)
    assert wofs("cp", "-r", path, "/dirs/sf", out).code == 0
    assert stat.S_IMODE((out / "sf").stat().st_mode) == 0o711
    assert len(list((out / "sf").iterdir())) == 4
    again = wofs("cp", "-r", path, "/dirs/sf", out)
    assert (again.code, again.err.count("is there already")) == (1, 3)
    assert wofs("cp", "-r", "-f", path, "/dirs/sf", out).code == 0
    assert stat.S_IMODE((out / "sf").stat().st_mode) == 0o755
    assert (out / "sf" / "mine").read_text() == "mine"
    # What is named as the destination itself keeps its mode even then.
    out.chmod(0o700)
    assert wofs("cp", "-r", "-f", path, "/", out).code in (0, 1)
    assert stat.S_IMODE(out.stat().st_mode) == 0o700


def test_hard_links_are_kept(wofs: Run, image: Unpack, out: Path) -> None:
    path = image("default")
    assert wofs("cp", "-r", path, "/links/hard", out).code == 0
    copies = [p.stat() for p in out.iterdir()]
    assert len(copies) == 31
    assert {(st.st_nlink, st.st_ino) for st in copies} == {(31, copies[0].st_ino)}
    assert wofs("cp", "-r", "-f", path, "/links/hard/.", out).code == 0
    again = [p.stat() for p in out.iterdir()]
    assert {(st.st_nlink, st.st_ino) for st in again} == {(31, again[0].st_ino)}
    assert again[0].st_ino != copies[0].st_ino
    assert left_over(out) == []


def test_deep_trees_need_few_descriptors(image: Unpack, out: Path) -> None:
    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (36, 36))

    done = subprocess.run(
        [*WOFS, "cp", "-r", image("default"), "/dirs/deep", out],
        preexec_fn=few, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, complaints(done.stderr)) == (0, [])
    bottom = next(out.rglob("23"))
    assert bottom.read_text() == "bottom\n"
    with library.open(image("default")) as fs:
        for path in (bottom.parent, *bottom.parent.parents):
            if path == out:
                break
            inside = fs.path("/dirs/deep") / os.fspath(path.relative_to(out))
            assert path.stat().st_mtime_ns == inside.stat().st_mtime_ns


def test_a_folder_that_was_moved_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    above = Folder.at(os.fsencode(tmp_path / "a"))
    below = above.folder(b"b")
    above.close()
    (tmp_path / "a" / "b").rename(tmp_path / "elsewhere" / "b")
    with pytest.raises(OSError, match="a/b: was moved while it was being filled"):
        above.reopen_above(below)
    below.close()


# ---- what is damaged
def damaged_data(path: Path) -> bytearray:
    """Return an image in which one extent of /files/several leads beyond the device."""
    edited = Edited(path)
    with library.open(path) as fs:
        inode = fs.path("/files/several").inode()
        (start, _, count, _), *_ = fs.mount.maps.extents(inode)
        assert inode.nextents == 1
        fsblock = fs.mount.geo.agblocks - count + 1  # runs over the end of AG 0
    packed = start << 73 | fsblock << 21 | count
    edited.inode("/files/several", 176, packed.to_bytes(16, "big"))
    edited.close()
    return edited.data


def test_a_damaged_file_is_not_copied_in_part(wofs: Run, image: Unpack, out: Path) -> None:
    path = out.parent / "disk.img"
    path.write_bytes(damaged_data(image("default")))
    done = wofs("cp", path, "/files/several", out)
    assert (done.code, out.exists()) == (4, False)
    assert done.err.startswith("wofs: /files/several: disk.img: inode ")
    assert done.err.count("\n") == 1
    done = wofs("cp", "-r", path, "/files", out)
    with library.open(path) as fs:
        expected = {p.name for p in fs.path("/files").iterdir()} - {"several"}
    assert (done.code, len(complaints(done.err))) == (4, 1)
    assert {p.name for p in out.iterdir()} == expected


def test_damage_in_the_middle_leaves_nothing(wofs: Run, image: Unpack, out: Path) -> None:
    with library.open(image("default")) as fs:
        extents = fs.mount.maps.extents(fs.path("/many_extents").inode())
        ends = max(fsb_to_byte(fs.mount.geo, block) for block in extents.fsblock)
    path = out.parent / "disk.img"
    path.write_bytes(image("default").read_bytes()[:ends])
    done = wofs("cp", path, "/many_extents", out)
    assert done.code == 4
    assert "the image ends first" in done.err.splitlines()[-1]
    assert not out.exists()
    assert left_over(out.parent) == []
    (out.parent / "many_extents").write_text("old")
    assert wofs("cp", "-f", path, "/many_extents", out.parent).code == 4
    assert (out.parent / "many_extents").read_text() == "old"


def test_a_damaged_inode_costs_itself(wofs: Run, image: Unpack, out: Path) -> None:
    edited = Edited(image("default"))
    edited.inode("/dirs/sf/f00001__", INODE_MODE, b"\xff\xff", fix=False)
    edited.close()
    path = out.parent / "disk.img"
    path.write_bytes(edited.data)
    done = wofs("cp", "-r", path, "/dirs/sf", out)
    assert (done.code, len(complaints(done.err))) == (4, 1)
    assert sorted(p.name for p in out.iterdir()) == ["f00000__", "f00002__"]


def test_a_name_cannot_lead_out(wofs: Run, image: Unpack, out: Path) -> None:
    edited = Edited(image("default"))
    one = edited.ino("/files/one")
    edited.shortform("/dirs/empty", [(b"good", one), (b"../../evil", one)])
    edited.close()
    path = out.parent / "disk.img"
    path.write_bytes(edited.data)
    inner = out / "inner"
    inner.mkdir(parents=True)
    done = wofs("cp", "-r", path, "/dirs/empty", inner)
    assert done.code in (1, 4)
    assert "evil" in done.err or "name" in done.err
    assert {p.name for p in out.parent.rglob("*")} <= {
        "disk.img", "out", "inner", "empty", "good",
    }  # fmt: skip


def test_a_full_disk_leaves_nothing_half_written(image: Unpack, tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    wofs = f"'{WOFS[0]}' {WOFS[1]} '{WOFS[2]}'"
    script = (
        "mount -t tmpfs -o size=128k none small || exit 77\n"
        f'{wofs} cp "$1" /files/one /files/big /files/empty small; echo "code $?"\n'
        "cd small; find . -type f -printf '%f %s\\n' | sort"
    )
    command = ["unshare", "-rm", "sh", "-c", script, "sh", str(image("default"))]
    try:
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("unshare(1) is not installed")
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip(f"cannot mount a small disk in a namespace: {done.stderr.strip()}")
    line = "wofs: /files/big: cannot write small/big: no space left on device\n"
    assert done.stderr.startswith(line)
    assert done.stdout == "code 1\nempty 0\none 1\n"


# ---- what may not be kept
def test_a_user_is_told_what_is_not_kept(image: Unpack, out: Path) -> None:
    out.mkdir()
    skip_without_devices(out, 0)
    give_to_nobody(out)
    done = as_nobody(image("default"), out, "cp", "-r", "IMAGE", "/special", "/attrs", "copy")
    assert (done.code, done.err.count("\n")) == (2, 1)  # there is no directory `copy`
    (out / "copy").mkdir()
    give_to_nobody(out / "copy")
    done = as_nobody(image("default"), out, "cp", "-r", "IMAGE", "/special", "/attrs", "copy")
    lines = done.err.splitlines()
    assert done.code == 1
    refused = [line for line in lines if "operation not permitted" in line and "cannot" in line]
    assert [line.split(": ")[1] for line in refused] == [
        "/special/null", "/special/sdb1", "/special/chr_max",
    ]  # fmt: skip
    assert any(line.endswith("owners not kept: operation not permitted") for line in lines)
    assert "wofs: 4 set-id bits not kept: its owner or group was not kept" in lines
    assert any("extended attributes not kept: operation not permitted" in ln for ln in lines)
    copies = {p.name: p.lstat() for p in (out / "copy" / "special").iterdir()}
    assert {st.st_uid for st in copies.values()} == {os.geteuid() or NOBODY}
    assert stat.S_IMODE(copies["mode7777"].st_mode) == 0o1777
    assert stat.S_IMODE(copies["mode4755"].st_mode) == 0o755
    assert stat.S_IMODE(copies["mode0000"].st_mode) == 0
    assert stat.S_ISFIFO(copies["fifo"].st_mode)
    assert stat.S_ISSOCK(copies["socket"].st_mode)
    assert left_over(out) == []


def test_a_user_loses_nothing_of_what_he_may_keep(image: Unpack, out: Path) -> None:
    out.mkdir()
    give_to_nobody(out)
    done = as_nobody(image("default"), out, "cp", "-r", "IMAGE", "/times", "/dirs/sf", ".")
    assert done.code == 0
    assert done.err.count("\n") <= 2  # owners; times that this disk's format cannot hold
    with library.open(image("default")) as fs:
        for path in fs.path("/dirs/sf").iterdir():
            copy, inside = (out / "sf" / path.name).stat(), path.stat()
            assert copy.st_mtime_ns == inside.st_mtime_ns
            assert copy.st_mode == inside.st_mode


@needs_root
def test_root_keeps_owners_and_devices(wofs: Run, image: Unpack, out: Path) -> None:
    skip_without_devices(out.parent, 0, os.makedev(1, 3))
    done = wofs("cp", "-r", image("default"), "/special", out)
    assert (done.code, done.err) == (0, "")
    with library.open(image("default")) as fs:
        for path in fs.path("/special").iterdir():
            copy, inside = (out / path.name).lstat(), path.lstat()
            assert (copy.st_mode, copy.st_uid, copy.st_gid, copy.st_rdev) == (
                inside.st_mode, inside.st_uid, inside.st_gid, inside.st_rdev,
            ), path  # fmt: skip


# ---- progress
def test_a_bar_is_for_terminals(image: Unpack, out: Path) -> None:
    done, shown = terminal("cp", "-r", image("default"), "/files", out)
    assert done.code == 0
    assert b"MiB" in shown or b"KiB" in shown
    gone = (shown if os.geteuid() == 0 else shown[: shown.rfind(b"wofs: ")]).rstrip()
    assert gone.endswith((b"\x1b[2K", b"\x1b[?25h"))  # the bar, at the end
    quiet, silence = terminal("cp", "-q", "-r", image("default"), "/files", out / "quiet")
    assert (quiet.code, complaints(silence.decode())) == (0, [])
    piped = child("cp", "-r", image("default"), "/files", out / "piped")
    assert (piped.code, piped.out, complaints(piped.err)) == (0, b"", [])


def test_verbose_names_each_copy(wofs: Run, image: Unpack, out: Path) -> None:
    done = wofs("cp", "-v", "-r", image("default"), "/dirs/sf", out)
    assert f"wofs: /dirs/sf/f00001__ -> {out}/f00001__" in done.err.splitlines()


def test_the_image_is_only_read(image: Unpack, out: Path) -> None:
    """The copy may lie beside the image, on which nobody may write."""
    path = out.parent / "disk.img"
    path.write_bytes(image("empty").read_bytes())
    path.chmod(0o400)
    before = path.stat()
    done = subprocess.run(
        [sys.executable, "-c", "import os, sys; from wofs.cli.main import main; main()",
         "cp", "-r", path, "/", out],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, complaints(done.stderr)) == (0, [])
    after = path.stat()
    assert (before.st_mtime_ns, before.st_ctime_ns) == (after.st_mtime_ns, after.st_ctime_ns)
    assert path.read_bytes() == image("empty").read_bytes()
