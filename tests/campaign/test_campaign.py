"""`wofs campaign`: what it says and returns, resuming, interrupting, workers that die."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from support.cli import Run, runner
from support.fuse import WOFS
from wofs.campaign.drive import Plan, generated, units_of
from wofs.campaign.fault import Fault
from wofs.campaign.laws import OUTCOMES, Result
from wofs.campaign.pool import Pool, WorkerFailed
from wofs.campaign.shrink import shrink, smaller
from wofs.campaign.unit import Unit

Unpack = Callable[[str], Path]


@pytest.fixture
def wofs(capfdbinary: pytest.CaptureFixture[bytes]) -> Run:
    """The command, run in this process."""
    return runner(capfdbinary)


SLICE = ("new-defaults", "b1k-rmap", "empty", "grown", "external-log")
"""Images with all structures between them, and few files."""


def test_a_slice_of_a_campaign_breaks_no_law(wofs: Run, image: Unpack, tmp_path: Path) -> None:
    paths = [image(name) for name in SLICE]
    done = wofs("campaign", *paths, "--faults", "150", "--seed", "11", "--json", "-j", "2")
    found = done.objects
    assert done.code == 0, [f for f in found if f["outcome"] in ("silent", "broken")]
    assert len(found) == 150
    assert {f["outcome"] for f in found} <= set(OUTCOMES)
    assert {"refused", "contained", "caught", "harmless"} <= {f["outcome"] for f in found}
    assert {f["image"] for f in found} == {str(path) for path in paths}


def test_a_log_that_was_not_replayed_is_no_hindrance(wofs: Run, image: Unpack) -> None:
    """A directory of this image cannot be read whole: what was damaged before is no finding."""
    options = ("--norecovery", "--faults", "60", "--seed", "5", "--json", "-j", "2")
    done = wofs("campaign", image("dirty-b1k"), *options)
    found = done.objects
    assert done.code == 0, [f for f in found if f["outcome"] in ("silent", "broken")]
    assert len(found) == 60
    assert {"contained", "caught", "harmless"} <= {f["outcome"] for f in found}


def rows(path: Path) -> int:
    """Return how many results a file holds."""
    if not path.exists():
        return 0
    with closing(sqlite3.connect(path)) as db:
        try:
            return int(db.execute("SELECT count(*) FROM result").fetchone()[0])
        except sqlite3.OperationalError:  # the tables are not there yet
            return 0


def test_an_interrupted_campaign_goes_on(wofs: Run, image: Unpack, tmp_path: Path) -> None:
    """Ctrl-C loses no result that was kept; the next run does what is missing, and no more."""
    path, file = image("empty"), tmp_path / "found.db"
    options = ("--faults", "600", "--seed", "3", "--results", str(file), "-j", "2")
    with subprocess.Popen([*WOFS, "campaign", path, *options], start_new_session=True) as first:
        while not rows(file) and first.poll() is None:
            time.sleep(0.02)
        os.killpg(first.pid, signal.SIGINT)
        assert first.wait(30) == 130
    before = rows(file)
    assert 0 < before < 600
    done = wofs("campaign", path, *options, "--json")
    assert len(done.objects) == 600 - before
    assert rows(file) == 600
    again = wofs("campaign", path, *options)
    assert (again.code, again.lines) == (0, ["0 faults (seed 3)"])
    assert again.err == f"wofs: {file}: goes on: 600 faults of these images had results\n"


def test_without_a_seed_the_same_command_goes_on(wofs: Run, image: Unpack, tmp_path: Path) -> None:
    file = tmp_path / "found.db"
    command = ("campaign", image("empty"), "--faults", "4", "--results", file, "-j", "1")
    first, again = wofs(*command), wofs(*command)
    seed = first.lines[0].removeprefix("4 faults ")
    assert again.lines == [f"0 faults {seed}"]
    other = wofs(*command, "--seed", "1")
    assert other.lines[0].endswith(" (seed 1)")
    assert wofs(*command).lines == ["0 faults (seed 1)"]


def test_an_image_of_an_earlier_run_may_be_gone(wofs: Run, image: Unpack, tmp_path: Path) -> None:
    gone, file = tmp_path / "gone.img", tmp_path / "found.db"
    gone.write_bytes(image("empty").read_bytes())
    options = ("--faults", "2", "--seed", "3", "--results", file, "-j", "1")
    assert wofs("campaign", gone, *options).code == 0
    gone.unlink()
    reader = "command:grep -q XFSB {image}"
    done = wofs("campaign", image("empty"), *options, "--target", reader)
    assert (done.code, done.err) == (0, "")


def test_one_fault_by_its_key(wofs: Run, image: Unpack) -> None:
    key = "field 'agf[0].btreeblks=99' --crc fix"
    done = wofs("campaign", image("empty"), "--only", key, "--json")
    assert done.code == 0
    (told,) = done.objects
    assert (told["key"], told["outcome"]) == (key, "caught")
    assert "WX0208" in str(told["codes"])
    for nonsense in ("nonsense", "", "field 'agf[0]", "flip --flip 1 --seed x"):
        done = wofs("campaign", image("empty"), "--only", nonsense)
        assert (done.code, "is no key of a fault" in done.err) == (2, True)


def test_what_is_no_xfs_is_refused(wofs: Run, image: Unpack, tmp_path: Path) -> None:
    other = tmp_path / "other.img"
    other.write_bytes(b"no filesystem" * 10000)
    assert wofs("campaign", other).code == 3
    assert wofs("campaign", image("v4")).code == 3
    assert wofs("campaign").code == 2


def test_a_mount_is_asked_too(wofs: Run, image: Unpack) -> None:
    if not os.access("/dev/fuse", os.W_OK):
        pytest.skip("no FUSE")
    options = ("--faults", "12", "--seed", "5", "--fuse", "3", "--json")
    done = wofs("campaign", image("b1k-rmap"), *options)
    served = [f for f in done.objects if str(f["klass"]).startswith("fuse-")]
    assert done.code == 0, served
    assert len(served) == 3


# ---- workers
def dies(unit: Unit) -> list[Result]:
    """Die with the faults that strike an AGF."""
    if any(fault.structure == "agf" for fault in unit.faults):
        os.kill(os.getpid(), signal.SIGKILL)
    return [Result(fault, "harmless") for fault in unit.faults]


def refuses(unit: Unit) -> list[Result]:
    """Cannot open the image."""
    raise FileNotFoundError(2, "no such image", unit.path)


@pytest.fixture
def units(image: Unpack) -> list[Unit]:
    """Some units of an image."""
    plan = Plan(60, 1)
    return list(units_of(generated(str(image("empty")), 60, plan), plan, False))


def test_a_worker_that_dies_costs_one_fault(units: list[Unit]) -> None:
    with Pool(2, dies) as pool:
        found = [result for results in pool.run(units) for result in results]
    assert sorted(r.fault.key for r in found) == sorted(f.key for u in units for f in u.faults)
    for result in found:
        lost = result.fault.structure == "agf"
        assert (result.outcome, result.signal) == (("broken", 9) if lost else ("harmless", 0))
    assert any(result.outcome == "broken" for result in found)


def test_a_worker_that_cannot_work_ends_the_run(units: list[Unit]) -> None:
    with Pool(1, refuses) as pool, pytest.raises(WorkerFailed, match="no such image"):
        list(pool.run(units))


# ---- the smallest fault
def test_a_fault_is_made_smaller() -> None:
    """Edits that do not matter go, bits are halved, values become simple."""
    fault = Fault.of_key(
        "a.img", "pair 'agf[0].freeblks=77' 'agf[0].longest=99' 'agf[1].seqno=5' --crc fix"
    )

    def run(fault: Fault) -> Result:
        bad = any(edit.startswith("agf[0].longest") for edit in fault.edits)
        return Result(fault, "silent" if bad else "harmless")

    assert shrink(run(fault), run).fault.edits == ("agf[0].longest=0", "--crc", "fix")
    flips = Fault.of_key("a.img", "flip --flip 32 --in 'agf[0]' --seed 9 --crc fix")

    def needs_three(fault: Fault) -> Result:
        return Result(fault, "broken" if int(fault.edits[1]) >= 3 else "harmless")

    assert shrink(needs_three(flips), needs_three).fault.edits[1] == "3"
    assert not list(smaller(Fault.of_key("a.img", "field 'agf[0].longest=0' --crc fix")))
