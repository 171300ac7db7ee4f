"""Several processes find what one finds, and end whatever happens to one of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.images import names
from support.passes import Doing
from support.patched import Patched, parts_of
from wofs.check.findings import Report
from wofs.check.run import check
from wofs.check.state import State
from wofs.check.workers import share_out
from wofs.device.source import open_device
from wofs.errors import MountError
from wofs.xfs.mount import mount
from wofs.xfs.options import mount_options

Unpack = Callable[[str], Path]


@pytest.fixture
def damaged(image: Unpack) -> Iterator[Patched]:
    """An image with a byte changed in every fifth of its structures."""
    path = image("b1k-rmap")
    device = Patched(path)
    for part in parts_of(path)[10::5]:
        device.change(part, part.size // 3, b"\x55", mend=bool(part.start & 1024))
    yield device
    device.really_close()


@pytest.mark.parametrize("jobs", [2, 3, 7])
def test_the_same_report(damaged: Patched, jobs: int) -> None:
    alone, together = check(damaged), check(damaged, jobs=jobs)
    assert len(alone.counts) > 5
    assert together.findings == alone.findings
    assert together.counts == alone.counts


@pytest.mark.parametrize("name", names("mountable"))
def test_sound(image: Unpack, name: str) -> None:
    device = open_device(image(name))
    told: list[tuple[int, int]] = []
    report = check(device, jobs=2, tell=lambda done, total: told.append((done, total)))
    device.close()
    assert report.clean
    assert told[-1][0] == told[-1][1]
    assert told == sorted(told)


@pytest.fixture
def state(image: Unpack) -> Iterator[State]:
    """What a check begins with."""
    device = open_device(image("default"))
    mounted = mount(device, mount_options(norecovery=True))
    yield State(mounted, Report(), lambda done, total: None)
    mounted.close()


def children() -> set[int]:
    """Return the processes begun by this one that were not waited for."""
    tasks = Path("/proc/self/task").iterdir()
    return {int(pid) for task in tasks for pid in (task / "children").read_text().split()}


@pytest.fixture(autouse=True)
def nobody_left() -> Iterator[None]:
    """Hold that no process is left that was begun in the test."""
    before = children()
    yield
    assert children() <= before


def test_a_worker_that_dies(state: State) -> None:
    with pytest.raises(MountError, match="SIGKILL"):
        share_out(Doing(state, lambda _: os.kill(os.getpid(), signal.SIGKILL)), state, 3)


def test_an_error_of_the_device(state: State) -> None:
    def fail(_: State) -> None:
        raise OSError(5, "the drive is gone")

    with pytest.raises(OSError, match="the drive is gone"):
        share_out(Doing(state, fail), state, 2)


def test_a_mistake_of_ours_is_shown(state: State) -> None:
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        share_out(Doing(state, lambda _: print(1 // 0)), state, 2)


def test_an_interrupt_ends_all(state: State) -> None:
    def wait(one: State) -> None:
        while True:
            one.step(1)
            time.sleep(0.01)

    told = 0

    def tell(done: int, total: int) -> None:
        nonlocal told
        told += 1
        if told == 5:
            raise KeyboardInterrupt

    state.tell = tell
    with pytest.raises(KeyboardInterrupt):
        share_out(Doing(state, wait), state, 2)


_ORPHANS = """
import os, sys, time
from wofs.check.findings import Report
from wofs.check.state import State
from wofs.check.workers import share_out
from wofs.device.source import open_device
from wofs.xfs.mount import mount
sys.path.insert(0, sys.argv[2])
from support.passes import Doing

def wait(state):
    os.write(1, b"%d\\n" % os.getpid())
    while True:
        state.step(1)
        time.sleep(0.01)

state = State(mount(open_device(sys.argv[1])), Report(), lambda done, total: None)
share_out(Doing(state, wait), state, 2)
"""


def test_no_worker_outlives_its_parent(image: Unpack) -> None:
    tests = str(Path(__file__).resolve().parent.parent)
    argv = [sys.executable, "-c", _ORPHANS, str(image("default")), tests]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        workers = [int(parent.stdout.readline()) for _ in range(2)]
        assert all(os.path.exists(f"/proc/{pid}") for pid in workers)
        parent.kill()
        parent.wait()
        assert parent.stdout.read() == b""  # the pipe ends when the last that holds it does
