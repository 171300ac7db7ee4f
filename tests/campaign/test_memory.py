"""Stray writes as faults: memfd stops all of them, ordinary memory none; one table for both."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support import fuse
from support.cli import runner
from wofs.campaign import memory
from wofs.campaign.fault import Fault
from wofs.campaign.report import reproducing
from wofs.errors import NoBackend

Unpack = Callable[[str], Path]

_LONG_S = 300
_STRIKE = """
import json, sys
from wofs.campaign.fault import Fault
from wofs.campaign.runner import work
from wofs.campaign.unit import Unit
path, *faults = json.load(sys.stdin)
unit = Unit(path, tuple(map(Fault.from_json, faults)))
print(json.dumps([[one.fault.as_json, one.outcome, one.laws, one.error, one.reason, one.changed,
                   one.signal, one.count] for one in work(unit)]))
"""
KEYS = ("fault", "outcome", "laws", "error", "reason", "changed", "signal", "count")


def struck(path: str, faults: list[Fault]) -> list[dict[str, Any]]:
    """Do a unit of work in a process of its own, as campaigns do; return the results."""
    asked = json.dumps([path, *(fault.as_json for fault in faults)])
    done = subprocess.run(
        [sys.executable, "-c", _STRIKE],
        input=asked,
        capture_output=True,
        text=True,
        check=False,
        timeout=_LONG_S,
    )
    assert done.returncode == 0, done.stderr
    return [dict(zip(KEYS, one, strict=True)) for one in json.loads(done.stdout)]


def chosen(path: str, backend: str, strikes: int, *names: str) -> list[Fault]:
    """Return the faults at some places ("": anywhere) of all that there are."""
    faults = memory.faults_of(path, [backend], strikes, 1)
    return [fault for fault in faults if fault.name in names]


def test_faults_are_all_fields_and_objects_and_add_up(image: Unpack) -> None:
    path = str(image("default"))
    faults = memory.faults_of(path, ["memfd", "none"], 50_000, 1)
    assert faults == memory.faults_of(path, ["memfd", "none"], 50_000, 1)
    assert len({fault.key for fault in faults}) == len(faults)
    assert {fault.klass for fault in faults} == {"memory"}
    assert {fault.crc for fault in faults} == {"memfd", "none"}
    for backend in ("memfd", "none"):
        mine = [fault for fault in faults if fault.crc == backend]
        assert sum(map(memory.times, mine)) == 50_000
        fields = {fault.name for fault in mine if fault.field}
        assert {"agf[3].freeblks", "geometry.blocksize", "options.uid", "agi[0].root"} <= fields
        objects = {fault.object for fault in mine if not fault.field}
        assert {"", "agf[0]", "superblock", "log"} <= objects
        assert {fault.structure for fault in mine if fault.object == "agf[0]"} == {"agf"}


def test_few_strikes_still_reach_every_field(image: Unpack) -> None:
    faults = memory.faults_of(str(image("default")), ["memfd"], 1, 1)
    assert {memory.times(fault) for fault in faults if fault.field} == {1}


def test_a_kind_of_memory_that_is_none_is_refused(image: Unpack) -> None:
    with pytest.raises(NoBackend):
        memory.faults_of(str(image("default")), ["wax"], 10, 1)


@pytest.mark.parametrize("backend", ["memfd", "shared", "mprotect"])
def test_protected_memory_stops_all_and_names_them(image: Unpack, backend: str) -> None:
    path = str(image("default"))
    names = ("agf[1].freeblks", "options.uid", "geometry.blocksize", "agi[2]", "")
    found = struck(path, chosen(path, backend, 40_000, *names))
    assert len(found) == len(names)
    by_outcome: Counter[str] = Counter()
    for one in found:
        by_outcome[one["outcome"]] += one["count"]
        assert one["laws"] == []
        if one["fault"]["field"]:
            name = f"{one['fault']['object']}.{one['fault']['field']}"
            assert (one["outcome"], one["signal"]) == ("crashed", 11)
            assert one["error"] == f"hit mount_struct {name}"
        else:
            assert one["outcome"] == "stopped"
    assert set(by_outcome) == {"crashed", "stopped"}
    assert by_outcome["crashed"] == 6
    assert by_outcome["stopped"] > 9000


def test_ordinary_memory_misses_all_and_the_answers_say_what_came_of_it(image: Unpack) -> None:
    path = str(image("default"))
    names = ("agf[1].flcount", "options.uid", "agi[2]", "")
    found = struck(path, chosen(path, "none", 40_000, *names))
    assert {one["outcome"] for one in found} == {"missed"}
    assert sum(one["count"] for one in found) > 9000
    by_name = {one["fault"]["object"] + "." + one["fault"]["field"]: one for one in found}
    wrong = by_name["agf[1].flcount"]
    assert wrong["reason"] == "wrong answers, served as if right"
    assert any("ag 1" in line or "f_bfree" in line for line in wrong["changed"])
    assert by_name["options.uid"]["reason"] == "no answer depended on it"
    assert by_name["agi[2]."]["reason"] == "in a volley"


def test_disk_and_memory_are_units_of_the_same_driver(image: Unpack) -> None:
    path = str(image("default"))
    edits = ("agf[0].freeblks=0", "--crc", "fix")
    disk = Fault(path, "field", "agf", "agf[0]", "freeblks", "0", "fix", edits)
    found = struck(path, [disk, *chosen(path, "memfd", 1, "agf[0].freeblks")])
    outcomes = {one["fault"]["klass"]: one["outcome"] for one in found}
    assert outcomes["memory"] == "crashed"
    assert outcomes["field"] in ("refused", "contained", "caught")


def test_a_place_of_another_image_is_an_error(image: Unpack) -> None:
    path = str(image("default"))
    edits = ("straywrite", "--backends", "memfd", "--writes", "1", "--seed", "1", "--at", "agf[99]")
    far = Fault(path, "memory", "agf", "agf[99]", "", "1 store", "memfd", edits, 1)
    done = subprocess.run(
        [sys.executable, "-c", _STRIKE],
        input=json.dumps([path, far.as_json]),
        capture_output=True,
        text=True,
        check=False,
        timeout=_LONG_S,
    )
    assert done.returncode == 1
    assert "agf[99]: the mount has no such object or field" in done.stderr


def test_the_command_strikes_and_one_strike_can_be_asked_for(
    image: Unpack, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    wofs, path, file = runner(capfdbinary), image("empty"), tmp_path / "results.db"
    asked = ("campaign", path, "--faults", "0", "--seed", "5", "-j", "1")
    done = wofs(*asked, "--stray", "1000", "--slab", "memfd,none", "--results", file)
    assert done.code == 0, done.err
    assert "2,000 faults (seed 5)" in done.text
    assert "1,000 missed" in done.text
    told = wofs("campaign", "report", file)
    assert told.code == 0
    assert "agf in memfd" in told.text
    assert "fields in none where a stray write landed" in told.text
    again = wofs(*asked, "--stray", "1000", "--slab", "memfd,none", "--results", file)
    assert "0 faults (seed 5)" in again.text
    (fault,) = chosen(str(path), "memfd", 1, "agf[1].freeblks")
    (one,) = wofs("campaign", path, "--only", fault.key, "--json", "-j", "1").objects
    assert (one["outcome"], one["error"]) == ("crashed", "hit mount_struct agf[1].freeblks")
    assert wofs("campaign", path, "--only", "memory straywrite", "-j", "1").code == 2
    refused = wofs(*asked, "--stray", "10", "--slab", "wax")
    assert (refused.code, "wax" in refused.err) == (1, True)
    assert wofs(*asked, "--stray", "10", "--slab", ",").code == 2
    once = wofs(*asked, "--stray", "10", "--slab", "memfd,memfd")
    assert once.text.split()[0] == wofs(*asked, "--stray", "10", "--slab", "memfd").text.split()[0]


@pytest.mark.skipif(fuse.lacking() is not None, reason=str(fuse.lacking()))
def test_the_command_in_the_report_strikes_the_same_place(image: Unpack) -> None:
    path = str(image("default"))
    (fault,) = chosen(path, "memfd", 1, "agf[1].freeblks")
    command = reproducing(fault).replace("wofs ", "", 1) + " --json --workload find"
    done = subprocess.run(
        f"{subprocess.list2cmdline(fuse.WOFS)} {command}",
        shell=True,
        capture_output=True,
        text=True,
        check=False,
        timeout=_LONG_S,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["outcomes"] == {"named": 1}
    assert told["trials"][0]["place"] == "agf[1].freeblks"
