"""Units of work on a Dask cluster: the same as on a `Pool`, on other machines too.

A Dask worker has threads and is told not to have children, so each of its threads keeps a helper,
a process of its own that does units (`python -m wofs.campaign.scheduler`) and ends with it. Every
machine must have this version of wofs and the images under the same paths. Whoever reaches a
Dask scheduler can run programs there: it belongs into a trusted network.
"""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import ExitStack, suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, Self

from wofs.campaign.laws import Result
from wofs.campaign.pool import Pool, Work, WorkerFailed
from wofs.campaign.unit import Unit
from wofs.errors import WofsError

if TYPE_CHECKING:
    from distributed import Client, Future

PATIENCE_S = 10.0
"""How long the scheduler may take to answer, and its first worker to be there."""

_AHEAD = 2
"""Units handed out for each thread of the cluster."""

Told = tuple[str, Any]
"""("done", results) or ("failed", why)"""


class NoCluster(WofsError):
    """There is no Dask here, no scheduler at the address, or no worker there."""


class Cluster:
    """A Dask cluster that does units; a context manager. `work` is a function of a module."""

    def __init__(self, address: str, work: Work) -> None:
        """Connect to the scheduler at `address`; raises NoCluster."""
        try:
            from distributed import Client
            from distributed.comm.addressing import get_address_host_port
        except ImportError as error:
            raise NoCluster("--scheduler needs Dask: pip install 'wofs[dask]'") from error
        try:
            # A client that never connected takes long to be rid of.
            socket.create_connection(get_address_host_port(address), PATIENCE_S).close()
            self._client: Client = Client(address, timeout=PATIENCE_S, set_as_default=False)
        except (OSError, ValueError, TimeoutError) as error:
            raise NoCluster(f"{address}: no Dask scheduler answers") from error
        # of a lost connection it would show tracebacks: it is told of in one line
        for name in ("distributed", "distributed.client"):  # the second has a level of its own
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        self._work, self._address = work, address
        try:
            self._client.wait_for_workers(1, timeout=PATIENCE_S)
        except TimeoutError as error:
            self._client.close()
            raise NoCluster(f"{address}: the cluster has no workers") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def run(self, units: Iterable[Unit]) -> Iterator[list[Result]]:
        """Yield the results of each unit as they come, once.

        Raises WorkerFailed, and NoCluster where the scheduler is lost on the way.
        """
        from distributed.comm import CommClosedError

        try:
            yield from self._run(units)
        except (CancelledError, CommClosedError) as error:
            raise NoCluster(f"{self._address}: the scheduler was lost on the way") from error

    def _run(self, units: Iterable[Unit]) -> Iterator[list[Result]]:
        """Yield the results of each unit.

        A unit whose worker is lost is done again by another. One with which several are lost is
        done again fault by fault; a fault with which they are lost then is the result.
        """
        from distributed import as_completed
        from distributed.scheduler import KilledWorker

        source, again = iter(units), deque[Unit]()
        given: dict[Future, Unit] = {}
        ended = as_completed(loop=self._client.loop)
        while True:
            while len(given) < max(1, _AHEAD * self._threads()):
                unit = again.popleft() if again else next(source, None)
                if unit is None:
                    break
                future = self._client.submit(_do, unit, self._work, pure=False)
                given[future] = unit
                ended.add(future)
            if not given:
                return
            future = next(ended)
            unit = given.pop(future)
            try:
                kind, told = future.result()
            except KilledWorker as error:
                if len(unit.faults) > 1 or not unit.again:
                    again.extend(unit.single())
                else:
                    line = f"the workers that ran it were lost: {error}"
                    yield [Result(unit.faults[0], "broken", ("crash: the worker",), line)]
                continue
            if kind == "failed":
                raise WorkerFailed(str(told))
            yield told

    def _threads(self) -> int:
        return sum(self._client.nthreads().values())


# ---- on a worker
class _Helper:
    """A process that does units for one thread."""

    def __init__(self) -> None:
        self._line, theirs = Pipe()
        with theirs:
            number = theirs.fileno()
            argv = [sys.executable, "-m", "wofs.campaign.scheduler", str(number)]
            self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, pass_fds=(number,))

    def do(self, unit: Unit, work: Work) -> Told:
        """Have a unit done; EOFError or OSError where the process has ended."""
        self._line.send((unit, work))
        told: Told = self._line.recv()
        return told

    def end(self) -> int:
        """End the process; return its exit status."""
        self._process.kill()
        self._line.close()
        return self._process.wait()


_mine = threading.local()


def _do(unit: Unit, work: Work) -> Told:
    """Do a unit on a worker of the cluster."""
    helper = getattr(_mine, "helper", None)
    if helper is None:
        helper = _mine.helper = _Helper()
    try:
        told: Told = helper.do(unit, work)
    except (EOFError, OSError):
        del _mine.helper
        return "failed", f"{unit.path}: the helper of a worker ended with {helper.end()}"
    return told


def main(line: Connection) -> None:
    """Be a helper: do the units that come, until the other end is gone."""
    with ExitStack() as stack:
        pools: dict[Work, Pool] = {}
        while True:
            try:
                unit, work = line.recv()
            except EOFError:
                return
            if work not in pools:
                pools[work] = stack.enter_context(Pool(1, work))
            try:
                told: Told = "done", [one for found in pools[work].run([unit]) for one in found]
            except WorkerFailed as error:
                told = "failed", str(error)
            with suppress(BrokenPipeError):  # the worker was killed: nobody waits for it
                line.send(told)


if __name__ == "__main__":
    main(Connection(int(sys.argv[1])))
