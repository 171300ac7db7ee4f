"""tools/verify-images: what it passes, what it finds, and how it says so."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from imagelib import manifest, unprivileged
from support import fuse
from support.hostile import INODE_NLINK, Edited
from support.images import FOLDER, IMAGES

TOOL = Path(__file__).resolve().parents[2] / "tools" / "verify-images"

Unpack = Callable[[str], Path]

needs_fuse = pytest.mark.skipif(fuse.lacking() is not None, reason=str(fuse.lacking()))
NO_USER = fuse.lacking() or unprivileged.lacking()


def run(*argv: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the tool."""
    command = [sys.executable, str(TOOL), *map(str, argv)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


class Folder:
    """A folder of images with an index."""

    def __init__(self, path: Path, sound: Path, name: str = "meta-uuid") -> None:
        self.path = path
        self.entries: list[dict[str, object]] = []
        (path / "sound.img").symlink_to(sound)
        self.truth = manifest.read(IMAGES[name].truth())
        manifest.write(self.truth, path / "sound.man")

    def add(self, name: str, expected: str, image: bytes | None = None, **more: object) -> None:
        """Add an image: `image` or the sound one."""
        file = "sound.img"
        if image is not None:
            file = f"{name}.img"
            (self.path / file).write_bytes(image)
            more["base"] = "sound.img"
        self.entries.append(
            {"name": name, "group": "g", "file": file, "expected": expected,
             "kind": "base" if image else "kernel", "manifest": "sound.man", **more}
        )  # fmt: skip
        (self.path / "index.json").write_text(json.dumps(self.entries))

    def verdicts(self, *argv: str) -> tuple[int, dict[str, dict[str, object]]]:
        """Run the tool; return its status and what it says of each image."""
        done = run(self.path, "--json", *argv)
        assert not done.stderr
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        return done.returncode, {str(line["name"]).removeprefix("g/"): line for line in lines}


@pytest.fixture
def folder(image: Unpack, tmp_path: Path) -> Folder:
    return Folder(tmp_path, image("meta-uuid"))


def test_sound_dirty_and_refused_images_pass() -> None:
    done = run(FOLDER, "--match", "^(meta-uuid|dirty|external-log|v4)$", "-j", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {line.split()[0]: line.split() for line in done.stdout.splitlines()}
    assert rows["meta-uuid"][1:4] == ["ok", "39", "0"]
    assert rows["dirty"][1] == rows["external-log"][1] == "ok"
    assert rows["v4"][1] == "refused"
    assert "0 images with violations" in done.stdout


def test_every_difference_is_a_violation(folder: Folder) -> None:
    folder.truth["files"]["m"] = "0123"
    folder.truth["lost"] = folder.truth.pop(next(p for p in folder.truth if "/" in p))
    manifest.write(folder.truth, folder.path / "sound.man")
    folder.add("sound", "mountable")
    folder.add("not-dirty", "dirty")
    folder.add("not-refused", "refuse")
    status, found = folder.verdicts()
    assert status == 4
    said = "\n".join(map(str, found["sound"]["violations"]))  # type: ignore[call-overload]
    assert "files: m is '0755', expected '0123'" in said
    assert "lost: missing, and no error told so" in said
    assert "should not exist" in said
    assert "not refused as dirty: was opened" in str(found["not-dirty"]["violations"])
    assert "was opened, must be refused" in str(found["not-refused"]["violations"])


@needs_fuse
def test_big_files_are_read_through_a_mount(image: Unpack, tmp_path: Path) -> None:
    folder = Folder(tmp_path, image("default"), "default")
    big = {p: e for p, e in folder.truth.items() if int(str(e["z"])) > manifest.BIG_BYTES}
    for entry in big.values():
        entry["h"] = "nz:0"
    manifest.write(folder.truth, folder.path / "sound.man")
    folder.add("sound", "mountable")
    status, found = folder.verdicts("--fuse")
    assert status == 4
    said = found["sound"]["violations"]
    assert isinstance(said, list)
    assert len(big) > 1
    assert sorted(line.split(": ")[0] for line in said) == sorted(big)


def test_a_hole_map_may_be_that_of_another_name(image: Unpack, tmp_path: Path) -> None:
    folder = Folder(tmp_path, image("default"), "default")
    names: dict[object, list[str]] = {}
    for path, entry in folder.truth.items():
        if entry["t"] == "f" and entry["n"] != 1 and entry["s"]:
            names.setdefault(entry["i"], []).append(path)
    one, *others = next(paths for paths in names.values() if len(paths) > 1)
    folder.truth[one]["s"] = [[0, 1]]
    manifest.write(folder.truth, folder.path / "sound.man")
    folder.add("sound", "mountable")
    assert folder.verdicts()[0] == 0
    for other in others:
        folder.truth[other]["s"] = [[0, 1]]
    manifest.write(folder.truth, folder.path / "sound.man")
    status, found = folder.verdicts()
    assert status == 4
    assert f"{one}: s is " in str(found["sound"]["violations"])


@pytest.mark.skipif(NO_USER is not None, reason=str(NO_USER))
def test_a_user_is_denied_what_modes_close_to_him(image: Unpack) -> None:
    with fuse.open_folder() as place:
        subprocess.run(["cp", "--sparse=always", image("default"), place / "i"], check=True)
        folder = Folder(place, place / "i", "default")
        folder.add("sound", "mountable")
        argv = ("--fuse", "--user", str(unprivileged.NOBODY))
        status, found = folder.verdicts(*argv)
        assert (status, found["sound"]["violations"]) == (0, [])
        denied = found["sound"]["denied"]
        assert isinstance(denied, int)
        assert denied > 0
        assert found["sound"]["equal"] == len(folder.truth) - denied
        folder.truth["special/mode0400"]["m"] = "0444"
        folder.truth["special/mode1777"]["m"] = "1700"
        manifest.write(folder.truth, folder.path / "sound.man")
        status, found = folder.verdicts(*argv)
        said = str(found["sound"]["violations"])
        assert status == 4
        assert "special/mode0400: data is denied to user" in said
        assert "special/mode1777: data is open to user" in said
    assert run(FOLDER, "--user", "65534").returncode == 2


def test_the_law_of_damaged_images(folder: Folder) -> None:
    path = next(p for p, e in folder.truth.items() if e["t"] == "f")
    edited = Edited(folder.path / "sound.img")
    edited.inode("/" + path, INODE_NLINK, bytes([0, 0, 0, 9]))
    folder.add("shows", "corrupt", bytes(edited.data))
    folder.add("must-not-show", "corrupt", bytes(edited.data), class_="flip")
    edited.inode("/" + path, 2, b"\xff\xff")
    folder.add("fails", "corrupt", bytes(edited.data))
    edited.close()
    status, found = folder.verdicts()
    assert status == 4
    assert (found["shows"]["shown"], found["shows"]["failed"]) == (1, 0)
    assert (found["fails"]["shown"], found["fails"]["failed"]) == (0, 1)
    assert found["shows"]["violations"] == found["fails"]["violations"] == []
    assert "n is 9, expected 1" in str(found["must-not-show"]["violations"])


def test_an_error_that_names_a_way_is_taken_at_its_word(folder: Folder) -> None:
    lost = bytearray((folder.path / "sound.img").read_bytes())
    lost[:512] = bytes(512)
    folder.add("lost", "corrupt", bytes(lost))
    status, found = folder.verdicts()
    assert status == 0
    assert "try -o sb=1" in str(found["lost"]["refused"])
    assert (found["lost"]["equal"], found["lost"]["failed"]) == (39, 0)


def test_limits_are_kept(folder: Folder) -> None:
    folder.add("slow", "mountable")
    status, found = folder.verdicts("--timeout", "0.01")
    assert status == 4
    assert found["slow"]["violations"] == ["took more than 0.01 s"]
    status, found = folder.verdicts("--memory", "1")
    assert status == 4
    assert "more than 1" in str(found["slow"]["violations"])


def test_what_cannot_be_run_is_said(folder: Folder, tmp_path: Path) -> None:
    folder.add("gone", "mountable")
    (folder.path / "sound.img").unlink()
    done = run(folder.path)
    assert done.returncode == 1
    assert "No such file" in done.stderr
    assert run(folder.path, "--match", "(").returncode == 2
    assert run(folder.path, "--match", "nothing").returncode == 1
    (tmp_path / "index.json").write_text("{")
    assert run(folder.path).returncode == 1
