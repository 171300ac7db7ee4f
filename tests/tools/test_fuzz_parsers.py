"""The corpus of tools/fuzz-parsers, replayed through every parser; and the tool itself."""

from __future__ import annotations

import importlib.util
import logging
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuzzlib import corpus
from fuzzlib.ground import ALIEN, RAW, STALE, ground, patch, patches
from fuzzlib.target import Broken, Target, judge
from fuzzlib.targets import TARGETS
from wofs.errors import BadField, Where

TOOL = Path(__file__).resolve().parent.parent.parent / "tools" / "fuzz-parsers"
SEEDS = 40
"""Of those made of the images, per parser; atheris gets all."""

needs_atheris = pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="atheris is not installed (extra: fuzz)"
)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Keep the damage that is logged out of the output."""
    logger = logging.getLogger("wofs.image")
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(logging.NOTSET)


def run(*options: str | Path) -> subprocess.CompletedProcess[str]:
    """Run tools/fuzz-parsers to its end."""
    argv = [sys.executable, TOOL, *options]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)


# ---- the corpus
@pytest.mark.parametrize("name", TARGETS)
def test_corpus_keeps_the_law(name: str) -> None:
    for path in corpus.files(corpus.CORPUS / name):
        try:
            judge(TARGETS[name], path.read_bytes())
        except Exception as error:
            error.add_note(f"tools/fuzz-parsers {name} --replay {path}")
            raise


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_are_parsed(name: str) -> None:
    """Most of what is made of sound images is accepted: the targets reach what they are for."""
    made = [data for data, _ in zip(TARGETS[name].seeds(), range(SEEDS), strict=False)]
    accepted = sum(judge(TARGETS[name], data) for data in made)
    assert accepted > len(made) // 3


def test_corpus_is_small_and_all_of_it_is_replayed() -> None:
    folders = {path.name: corpus.files(path) for path in corpus.CORPUS.iterdir()}
    assert set(folders) <= set(TARGETS)
    sizes = [path.stat().st_size for paths in folders.values() for path in paths]
    assert sum(sizes) < 1 << 20
    assert max(map(len, folders.values())) <= 60


# ---- the judge can say no
def _target(run: object) -> Target:
    return Target("any", "any", run, lambda: (b"",), lambda data, _: data)  # type: ignore[arg-type]


def test_another_exception_breaks_the_law() -> None:
    def fails(data: bytes) -> int:
        return data[0]

    with pytest.raises(IndexError):
        judge(_target(fails), b"")
    assert corpus.failure(_target(fails), b"").startswith("IndexError")
    assert corpus.failure(_target(fails), b"a") == ""


@pytest.mark.parametrize("where", [Where("an.img", ""), Where("an.img", "inode 1\n2")])
def test_an_error_must_name_an_object_in_one_line(where: Where) -> None:
    def refuses(_: bytes) -> None:
        raise BadField(where, "is odd")

    with pytest.raises(Broken):
        judge(_target(refuses), b"")


def test_a_documented_error_is_no_finding() -> None:
    def refuses(_: bytes) -> None:
        raise BadField(Where("an.img", "inode 1"), "is odd")

    assert not judge(_target(refuses), b"")


def test_what_c_accepts_wrongly_would_be_found() -> None:
    """The inodes of an image with other features, decoded as if they were right."""
    base = ground("b1k")
    data = bytes([0, 0]) + patch(100, b"\0")
    assert judge(TARGETS["inode"], data)
    base.device.restore()
    stale = bytes([STALE, 0]) + patch(8, b"\xff\xff")
    assert not judge(TARGETS["inode"], stale)


# ---- laying bytes over an image
def test_a_structure_is_made_right_again_by_the_options() -> None:
    base = ground("b1k")
    choice = base.parts["dirdata"]
    change = patch(40, b"\xff\xff") + patch(200, b"\x55")
    part = base.lay(choice, bytes([0, 0]) + change)
    mended = base.device.pread(part.start, part.size)
    assert mended[200] == 0x55
    base.lay(choice, bytes([ALIEN, 0]) + change)
    alien = base.device.pread(part.start, part.size)
    assert alien[40:42] == b"\xff\xff" != mended[40:42]
    base.lay(choice, bytes([STALE, 0]) + change)
    stale = base.device.pread(part.start, part.size)
    assert stale[4:8] != mended[4:8]
    base.lay(choice, bytes([RAW | ALIEN | STALE, 0]) + b"abc")
    assert base.device.pread(part.start, 3) == b"abc"
    base.device.restore()


def test_patches_are_read_as_they_are_written() -> None:
    made = [(0, b"a"), (65535, b"12345678"), (7, b"xyz")]
    assert list(patches(b"".join(patch(*one) for one in made))) == made


# ---- cutting down
def test_an_input_is_cut_down_to_what_matters() -> None:
    data = bytes(range(1, 200)) + b"NEEDLE" + bytes(range(1, 100))
    assert corpus.shrunk(data, lambda tried: b"NEEDLE" in tried) == b"NEEDLE"


# ---- the tool
def test_list_names_every_parser() -> None:
    done = run("--list")
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(TARGETS)


def test_replay_says_what_came_of_an_input(tmp_path: Path) -> None:
    path = tmp_path / "input"
    path.write_bytes(b"norecovery")
    done = run("options", "--replay", path)
    assert (done.returncode, done.stdout.split(": ")[-1]) == (0, "accepted\n")
    path.write_bytes(b"bogus")
    done = run("options", "--replay", path)
    assert (done.returncode, done.stdout.split(": ")[-1]) == (0, "refused, by name\n")


def test_an_unknown_parser_is_told_with_those_there_are() -> None:
    done = run("nothing")
    assert done.returncode == 2
    assert "superblock" in done.stderr


def test_what_cannot_be_run_is_no_finding_and_no_clean_run(tmp_path: Path) -> None:
    """Exit status 1 says that something was found, 0 that nothing was."""
    assert run("agf", "--replay", tmp_path / "none").returncode == 2
    assert run("agf", "--replay", tmp_path).returncode == 2
    assert run("agf", "--blind", "--seconds", "0").returncode == 2


def test_blind_it_needs_no_atheris(tmp_path: Path) -> None:
    done = run("dir-shortform", "pattern", "--blind", "--seconds", "1", "--corpus", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [int(line.split("inputs")[0].split()[-1]) > 100 for line in _lines(done)] == [True] * 2


def _lines(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in done.stdout.splitlines() if "inputs" in line]


WAYS = [pytest.param([], marks=needs_atheris), ["--blind"]]


@pytest.mark.parametrize("way", WAYS)
def test_a_planted_fault_is_found_and_cut_down(tmp_path: Path, way: list[str]) -> None:
    """The tool over a copy of wofs in which a bound of shortform attributes is not checked."""
    root = TOOL.parent.parent
    for name in ("tools", "tests/support", "wofs"):
        shutil.copytree(root / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "images").symlink_to(root / "images")
    parser = tmp_path / "wofs" / "xfs" / "attr.py"
    sound = parser.read_text()
    assert sound.count("if at + 3 > totsize:") == 1
    parser.write_text(sound.replace("if at + 3 > totsize:", "if at > totsize:"))
    tool, found = str(tmp_path / "tools" / "fuzz-parsers"), str(tmp_path / "found")
    argv = [sys.executable, tool, "attr-shortform", "--seconds", "60", "--corpus", found, *way]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=180)
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"IndexError ({parser}:" in done.stdout
    findings = tmp_path / "found" / "attr-shortform" / "findings"
    small, *_ = findings.glob("*" if way else "small-*")
    assert len(small.read_bytes()) <= 600
    assert f"--replay {small}" in done.stdout


@needs_atheris
def test_it_fuzzes(tmp_path: Path) -> None:
    done = run("extents", "--seconds", "3", "--corpus", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("1 parsers: nothing found\n")
    assert int(done.stdout.split("inputs")[0].split()[-1]) > 100
    assert corpus.files(tmp_path / "extents" / "corpus")
