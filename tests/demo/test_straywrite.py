"""Stray writes under a workload: named at once in write-once memory, served on in ordinary one."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from support import fuse
from support.images import IMAGES
from wofs.demo.page import page
from wofs.demo.straywrite import (
    CALM_MOUNTS,
    OUTCOMES,
    Series,
    Task,
    blow_at,
    campaign,
    prepare,
    same_place,
)
from wofs.demo.workload import WORKLOADS

pytestmark = pytest.mark.skipif(fuse.lacking() is not None, reason=str(fuse.lacking()))

Unpack = Callable[[str], Path]
NAME = "noreflink"
MANIFEST = str(IMAGES[NAME].truth())
OWNER = 4242
LONG_S = 60.0


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Have all mounts of a test in one folder; in the end there is none, and no server."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield tmp_path
    assert not mounted_below(tmp_path)
    assert not servers(tmp_path)


def mounted_below(folder: Path) -> bool:
    """Whether anything is mounted there."""
    return str(folder) in Path("/proc/self/mounts").read_text()


def servers(folder: Path) -> list[str]:
    """Return the struck servers whose mount points lie there."""
    found = []
    for process in filter(str.isdigit, os.listdir("/proc")):
        try:
            argv = Path("/proc", process, "cmdline").read_text(errors="replace")
        except OSError:  # it has ended
            continue
        if "wofs.demo.injector" in argv and str(folder) in argv:
            found.append(process)
    return found


def test_every_write_ends_the_server_and_is_named(image: Unpack) -> None:
    told: list[tuple[int, int]] = []
    task = prepare(str(image(NAME)), "find", 7, MANIFEST)
    (found,) = campaign(task, ["memfd"], 4, lambda *now: told.append(now))
    assert found.outcomes == {"named": 4}, [trial.report for trial in found.trials]
    assert (found.landed, found.wrong, found.errors) == (0, 0, 0)
    assert found.noticed == {"at once": 4}
    assert found.mounts == CALM_MOUNTS + 3
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_in_ordinary_memory_all_land_and_are_accounted_for(image: Unpack) -> None:
    task = prepare(str(image(NAME)), "find", 7, MANIFEST)
    (found,) = campaign(task, ["none"], 12)
    assert found.strikes == sum(found.outcomes.values()) == found.landed == 12
    assert not {"named", "misnamed"} & set(found.outcomes)
    assert sum(found.noticed.values()) == 12
    assert "at once" not in found.noticed


def test_a_chosen_strike_gives_the_wrong_answer_it_must(image: Unpack) -> None:
    path = str(image(NAME))
    blow = blow_at(path, f"options.uid={OWNER}")
    task = prepare(path, "tree", 3, MANIFEST, blow)
    bare, memfd = campaign(task, ["none", "memfd"], 1)
    (trial,) = bare.trials
    assert (trial.outcome, trial.place, trial.noticed) == ("wrong", "options.uid", "at unmount")
    assert bare.kinds == {"owner": bare.wrong}
    assert all(f"owner {OWNER}, right is" in line for line in trial.examples)
    (trial,) = memfd.trials
    assert (trial.outcome, trial.place) == ("named", "options.uid")
    assert "mount_struct options.uid" in trial.report
    assert memfd.wrong == 0


def test_a_chosen_object_alone_is_struck(image: Unpack) -> None:
    path = str(image(NAME))
    task = prepare(path, "find", 3, MANIFEST, blow_at(path, "agi[0]"))
    (found,) = campaign(task, ["memfd"], 4)
    assert found.outcomes == {"named": 4}
    assert len({trial.place for trial in found.trials}) > 1
    assert all("agi[0]" in trial.place for trial in found.trials)


def test_the_same_seed_strikes_the_same(image: Unpack) -> None:
    task = prepare(str(image(NAME)), "find", 11, MANIFEST)
    one, two = campaign(task, ["memfd", "none"], 3)
    assert [t.place for t in one.trials] == [t.place for t in two.trials]
    assert [t.word for t in one.trials] == [t.word for t in two.trials]
    assert len({t.place for t in one.trials}) > 1


@pytest.mark.parametrize("workload", WORKLOADS)
def test_undisturbed_each_workload_tells_what_the_kernel_told(image: Unpack, workload: str) -> None:
    if workload == "fio" and shutil.which("fio") is None:
        pytest.skip("fio is not installed")
    task = prepare(str(image(NAME)), workload, 3, MANIFEST)
    assert "kernel" in task.truth.judge
    assert len(task.truth.right) > 10
    series = Series(task, "memfd")
    series.open()  # raises if its answers are others
    series.close()


def test_without_a_manifest_a_first_run_is_the_truth(image: Unpack) -> None:
    task = prepare(str(image(NAME)), "find", 3)
    assert task.truth.judge == "a first run without strikes"


def test_a_manifest_that_says_otherwise_is_no_truth(image: Unpack, tmp_path: Path) -> None:
    other = tmp_path / "other.man"
    other.write_text('{"p": ".", "t": "d", "m": "0700"}\n')
    with pytest.raises(RuntimeError, match="without strikes the mount should be as"):
        prepare(str(image(NAME)), "find", 3, str(other))
    other.write_text("not a manifest\n")
    with pytest.raises(RuntimeError, match="is no manifest"):
        prepare(str(image(NAME)), "find", 3, str(other))


def test_a_server_that_hangs_is_an_outcome_and_ends(image: Unpack) -> None:
    task = dataclasses.replace(prepare(str(image(NAME)), "find", 3, MANIFEST), patience_s=0.5)
    series = Series(task, "none")
    server = series.open()
    server.child.send_signal(signal.SIGSTOP)
    series.strike(0)
    assert series.trials[0].outcome == "hung"
    series.strike(1)  # by a new one
    assert series.trials[1].outcome in ("unseen", "wrong", "errors")
    series.close()


def test_what_is_not_there_is_a_line(image: Unpack) -> None:
    path = str(image(NAME))
    for wrong in ("options.paper", "paper", "options=1"):
        with pytest.raises(RuntimeError, match="no such object or field"):
            blow_at(path, wrong)
    with pytest.raises(RuntimeError, match="that fits 1 bytes"):
        blow_at(path, "geometry.blocklog=256")
    with pytest.raises(RuntimeError, match="no slab backend is called 'paper'"):
        Series(prepare(path, "find", 1, MANIFEST), "paper").open()


@pytest.mark.parametrize(
    ("reported", "aimed", "same"),
    [
        ("agf[1].flcount", "agf[1].flcount", True),
        ("agf[1].flcount", "agf[2].flcount", False),
        ("agf[1] (its header)", "header (agf[1])", True),
        ("agf[1] (padding beside its fields)", "padding (agf[1])", True),
        ("agf[1] (its header)", "header (agf[10])", False),
        ("", "padding", False),
    ],
)
def test_places(reported: str, aimed: str, same: bool) -> None:
    assert same_place(reported, aimed) == same


# ---- the page
class Tags(HTMLParser):
    """All that a page contains."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.attributes += attrs


def struck(image: Unpack) -> Task:
    """Return a task whose outcome is known."""
    path = str(image(NAME))
    return prepare(path, "find", 3, MANIFEST, blow_at(path, f"options.uid={OWNER}"))


def test_the_page_is_one_file_with_its_pictures(image: Unpack) -> None:
    task = struck(image)
    tallies = campaign(task, ["none", "memfd"], 1)
    text = page("<script>disk & co</script>.img", task, tallies)
    tags = Tags(text)
    assert tags.seen.count("svg") == 2
    assert not {"script", "link", "img"} & set(tags.seen)
    assert not [value for name, value in tags.attributes if name in ("src", "href")]
    for piece in text.split("<svg")[1:]:
        ElementTree.fromstring("<svg" + piece.partition("</svg>")[0] + "</svg>")
    for needed in (OUTCOMES["named"], OUTCOMES["wrong"], "options.uid", str(OWNER), "seed 3"):
        assert needed in text, needed


# ---- the command
def demo(*arguments: str) -> list[str]:
    return [*fuse.WOFS, "demo", "straywrite", *arguments]


def test_json_and_page_and_exit_code(image: Unpack, tmp_path: Path) -> None:
    drawn = tmp_path / "page.html"
    argv = demo("--image", str(image(NAME)), "--manifest", MANIFEST, "--workload", "find")
    argv += ["--writes", "2", "--at", "options.uid=7", "-b", "none,memfd", "--json"]
    done = subprocess.run(
        [*argv, "--html", str(drawn)], capture_output=True, text=True, check=False, timeout=LONG_S
    )
    assert (done.returncode, done.stderr) == (0, "")
    bare, memfd = map(json.loads, done.stdout.splitlines())
    assert (bare["backend"], bare["outcomes"]) == ("none", {"wrong": 2})
    assert (memfd["backend"], memfd["outcomes"]) == ("memfd", {"named": 2})
    assert drawn.read_text().startswith("<!doctype html>")


def test_the_manifest_beside_an_image_is_taken() -> None:
    argv = demo("--image", str(IMAGES[NAME].packed), "--workload", "find", "--writes", "1")
    done = subprocess.run(
        [*argv, "-b", "memfd"], capture_output=True, text=True, check=False, timeout=LONG_S
    )
    assert done.returncode == 0, done.stderr
    assert "the kernel's manifest" in done.stdout


def test_wrong_requests_are_told_in_a_line(image: Unpack) -> None:
    path = str(image(NAME))
    for code, *wrong in (
        (2, "--image", path, "-b", "paper"),
        (2, "--image", path, "-b", ","),
        (1, "--image", path, "--at", "options.paper"),
        (2, "--image", path + ".not"),
        (1, "--image", __file__),
    ):
        done = subprocess.run(
            demo(*map(str, wrong)), capture_output=True, text=True, check=False, timeout=LONG_S
        )
        assert (done.returncode, done.stdout) == (code, "")
        assert len(done.stderr.splitlines()) == 1, done.stderr


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_interrupted_it_leaves_nothing(image: Unpack, how: signal.Signals, folder: Path) -> None:
    argv = demo("--image", str(image(NAME)), "--workload", "tar", "--writes", "1000")
    running = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    until(lambda: len(servers(folder)) == 2)
    running.send_signal(how)
    _, said = running.communicate(timeout=LONG_S)
    assert b"Traceback" not in said, said.decode()
    assert running.returncode == (-how if how == signal.SIGKILL else 128 + how)
    until(lambda: not servers(folder))
    until(lambda: not mounted_below(folder))
    if how != signal.SIGKILL:
        assert list(folder.iterdir()) == []


def until(true: Callable[[], bool]) -> None:
    """Wait until something is so; fail after a long time."""
    deadline = time.monotonic() + LONG_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)
