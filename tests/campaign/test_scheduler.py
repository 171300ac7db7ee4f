"""A campaign on a real Dask cluster of two workers, one of which is killed on the way."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import pytest

from support.fuse import WOFS
from wofs.campaign import memory
from wofs.campaign.fault import Fault
from wofs.campaign.results import Results

pytestmark = pytest.mark.skipif(
    find_spec("distributed") is None, reason="no Dask here: pip install 'wofs[dask]'"
)
Unpack = Callable[[str], Path]

_LONG_S = 300.0
FIELDS = ("freeblks", "longest", "flcount", "cnt_root", "length", "crc")

_CAMPAIGN = """
import json, sys
from wofs.campaign.fault import Fault
from wofs.campaign.results import Image, Results
from wofs.campaign.runner import work
from wofs.campaign.scheduler import Cluster
from wofs.campaign.unit import Unit
from wofs.errors import WofsError
address, file, path, *faults = json.load(sys.stdin)
units = [Unit(path, tuple(map(Fault.from_json, some))) for some in faults]
try:
    with Results(file, create=True) as results, Cluster(address, work) as cluster:
        results.begin("1", {})
        results.add_image(Image(path, "", 0))
        for found in cluster.run(units):
            results.add(found)
            print(json.dumps([one.fault.key for one in found]), flush=True)
except WofsError as error:
    sys.exit(str(error))
"""


class Cluster:
    """A scheduler and two workers, each a process of its own; the kernel's choice of ports."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        told = folder / "scheduler.json"
        self.scheduler = self._start("dask_scheduler", "--port", "0", "--scheduler-file", str(told))
        until = time.monotonic() + _LONG_S
        while not told.exists() or not told.read_text().endswith("}"):
            assert time.monotonic() < until, "no scheduler came up"
            time.sleep(0.05)
        self.address: str = json.loads(told.read_text())["address"]

    def worker(self, name: str) -> subprocess.Popen[bytes]:
        """Start a worker with one thread, which nobody starts again."""
        spool = self._folder / name
        options = ("--nthreads", "1", "--no-nanny", "--name", name, "--local-directory", str(spool))
        return self._start("dask_worker", self.address, *options)

    def _start(self, module: str, *options: str) -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-m", f"distributed.cli.{module}", "--host", "127.0.0.1"]
        log = self._stack.enter_context((self._folder / f"{module}.log").open("ab"))
        child = subprocess.Popen(
            [*argv, *options, "--no-dashboard"], stdout=log, stderr=log, cwd=self._folder
        )
        self._stack.callback(_end, child)
        return child


def _end(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.wait()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A scheduler of Dask without workers."""
    with ExitStack() as stack:
        yield Cluster(tmp_path, stack)


def units(path: str) -> list[list[Fault]]:
    """Return faults of an image, on disk and in memory, in units of two."""
    faults = [
        Fault(path, "field", "agf", f"agf[{agno}]", name, "7", crc, (edit, "--crc", crc))
        for agno in range(2)
        for name in FIELDS
        for crc in ("fix", "stale")
        for edit in [f"agf[{agno}].{name}=7"]
    ]
    faults += [fault for fault in memory.faults_of(path, ["memfd"], 1, 1) if "agi" in fault.name]
    return [faults[at : at + 2] for at in range(0, len(faults), 2)]


@contextmanager
def campaign(
    address: str, file: Path, path: str, asked: list[list[Fault]]
) -> Iterator[subprocess.Popen[str]]:
    """Run units of work on a cluster; the process tells of each unit as it is done."""
    with subprocess.Popen(
        [sys.executable, "-c", _CAMPAIGN],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        try:
            assert child.stdin is not None
            told: list[Any] = [[fault.as_json for fault in unit] for unit in asked]
            child.stdin.write(json.dumps([address, str(file), path, *told]))
            child.stdin.close()
            yield child
        finally:
            child.kill()


def lines(stream: IO[str] | None) -> Iterator[list[str]]:
    """Yield what the campaign tells."""
    assert stream is not None
    yield from map(json.loads, stream)


def children_of(pid: int) -> list[int]:
    """Return the processes that a process started."""
    return [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]


def gone(pid: int) -> bool:
    """Wait for the end of a process; whether it came."""
    try:
        watched = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([watched], [], [], _LONG_S)[0])
    finally:
        os.close(watched)


def test_a_killed_worker_costs_no_fault_and_doubles_none(
    image: Unpack, tmp_path: Path, cluster: Cluster
) -> None:
    path, file = str(image("empty")), tmp_path / "results.db"
    asked = units(path)
    wanted = Counter(fault.key for unit in asked for fault in unit)
    workers = [cluster.worker("one"), cluster.worker("two")]
    helpers: list[int] = []
    got: Counter[str] = Counter()
    with campaign(cluster.address, file, path, asked) as child:
        for number, keys in enumerate(lines(child.stdout)):
            got.update(keys)
            if not helpers and number > 2:  # as soon as it is at work
                helpers += children_of(workers[0].pid)
                if helpers:
                    os.kill(workers[0].pid, signal.SIGKILL)
        assert child.stderr is not None
        said = child.stderr.read()
        assert child.wait() == 0, said
    assert helpers, "the one to be killed was never at work"
    assert workers[0].wait() == -signal.SIGKILL
    assert workers[1].poll() is None
    assert got == wanted
    with Results(str(file)) as results:
        found = {stored.result.fault.key: stored.result for stored in results.results()}
        assert results.done(path) == set(wanted)
    assert found.keys() == set(wanted)
    outcomes = Counter(result.outcome for result in found.values())
    assert not outcomes["broken"], [r for r in found.values() if r.outcome == "broken"]
    assert outcomes["crashed"] == sum(fault.klass == "memory" for u in asked for fault in u)
    assert outcomes.total() - outcomes["crashed"] == 2 * 2 * len(FIELDS)
    assert all(map(gone, helpers)), "the helper of a killed worker lives on"


def test_the_same_comes_out_as_without_a_cluster(
    image: Unpack, tmp_path: Path, cluster: Cluster
) -> None:
    cluster.worker("one")
    files: list[str] = []
    for more in ((), ("--scheduler", cluster.address)):
        files.append(str(tmp_path / f"{len(files)}.db"))
        argv = [*WOFS, "campaign", str(image("empty")), "--faults", "8", "--seed", "3", "-j", "1"]
        argv += ["--stray", "20", "--slab", "memfd", "--results", files[-1], *more]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=_LONG_S)
        assert done.returncode == 0, done.stdout + done.stderr
    with Results(files[0]) as here, Results(files[1]) as there:
        outcomes = list(here.outcomes())
        assert list(there.outcomes()) == outcomes
    assert {"contained", "crashed"} <= {outcome for *_, outcome in outcomes}


def test_an_image_that_a_worker_does_not_have_is_told_of(tmp_path: Path, cluster: Cluster) -> None:
    path = str(tmp_path / "gone.img")
    cluster.worker("one")
    with campaign(cluster.address, tmp_path / "r.db", path, [units_of_nothing(path)]) as child:
        assert child.stderr is not None
        said = child.stderr.read()
        assert child.wait() == 1
    assert "gone.img: " in said
    assert "No such file or directory" in said
    assert len(said.splitlines()) == 1


def units_of_nothing(path: str) -> list[Fault]:
    """Return a unit for an image that is not there."""
    return [Fault(path, "field", "agf", "agf[0]", "length", "0", "fix", ("agf[0].length=0",))]


def test_a_lost_scheduler_is_one_line_and_results_stay(
    image: Unpack, tmp_path: Path, cluster: Cluster
) -> None:
    path, file = str(image("empty")), tmp_path / "results.db"
    cluster.worker("one")
    with campaign(cluster.address, file, path, units(path)) as child:
        first = next(lines(child.stdout))
        os.kill(cluster.scheduler.pid, signal.SIGKILL)
        assert child.stderr is not None
        said = child.stderr.read()
        assert child.wait() == 1
    assert said == f"{cluster.address}: the scheduler was lost on the way\n"
    with Results(str(file)) as results:
        assert set(first) <= results.done(path)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nonsense://x", "127.0.0.1"])
def test_no_scheduler_is_one_line(tmp_path: Path, address: str) -> None:
    with campaign(address, tmp_path / "r.db", "x", []) as child:
        assert child.stderr is not None
        said = child.stderr.read()
        assert child.wait() == 1
    assert said.splitlines()[-1] == f"{address}: no Dask scheduler answers"
    with suppress(FileNotFoundError):
        (tmp_path / "r.db").unlink()
