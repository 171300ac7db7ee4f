"""The event loop: pyfuse3's own, with a cheaper wait for the next request.

As shipped each request waits through trio: five system calls. Here a short poll(2) comes
first, and trio only when nothing arrives within it, so that signals and threads stay alive.
While requests follow each other closely, poll(2) does not even sleep for the first moments:
waking a processor from its sleep takes a virtual machine longer than most answers.
That function of pyfuse3 is private: where a version lacks it, its loop runs unchanged.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pyfuse3
import trio

from wofs.errors import MountError

log = logging.getLogger("wofs.fuse")

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
"""These end the server as unmounting does; SIGHUP only where nohup(1) did not turn it off.

SIGQUIT too: its core would cost the mount. Who wants one has gcore(1), or SIGABRT.
"""

WITHOUT_MEANING = (signal.SIGUSR1, signal.SIGUSR2)
"""Sent by mistake, these would end the process and leave a dead mount."""

_POLL_MS = 5
_REQUESTS_BETWEEN_CHECKPOINTS = 64
_LOOKS = 100
"""Times the device is looked at before sleeping, some 100 us: two to three wake-ups' worth."""

_SOON_S = 0.0003
"""A request that comes so soon after falling asleep might have been waited for awake."""

_PRIVATE = "_wait_fuse_readable"
_DEVICE = "/dev/fuse"


def run(
    settled: Callable[[], object], scrub: Callable[[], object] | None = None, every_s: int = 0
) -> None:
    """Serve until unmounted or told to end; `settled` runs in a thread, to talk to the mount.

    `scrub` is called every `every_s` seconds (0: never). Raises MountError if serving fails.
    """

    heard = [s for s in SIGNALS if s != signal.SIGHUP or signal.getsignal(s) != signal.SIG_IGN]

    async def serving() -> None:
        async with trio.open_nursery() as nursery:
            with trio.open_signal_receiver(*heard) as signals:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
                nursery.start_soon(_end_on_signal, signals)
                nursery.start_soon(_in_thread, settled)
                if scrub is not None and every_s:
                    nursery.start_soon(_now_and_then, scrub, every_s)
                await pyfuse3.main(1, 1)
                nursery.cancel_scope.cancel()

    for number in WITHOUT_MEANING:
        signal.signal(number, signal.SIG_IGN)
    poll_before_waiting()
    try:
        trio.run(serving)
    except* OSError as group:
        raise MountError(f"serving failed: {group.exceptions[0]}") from group


async def _end_on_signal(signals: object) -> None:
    async for number in signals:  # type: ignore[attr-defined]
        log.info("ending on %s", signal.Signals(number).name)
        pyfuse3.terminate()
        return


async def _now_and_then(work: Callable[[], object], every_s: int) -> None:
    while True:
        await trio.sleep(every_s)
        work()


async def _in_thread(work: Callable[[], object]) -> None:
    await trio.to_thread.run_sync(work, abandon_on_cancel=True)


def poll_before_waiting() -> None:
    """Put a short poll(2) before pyfuse3's wait, where its version can be told to."""
    original: Callable[[], Awaitable[bool]] | None = getattr(pyfuse3, _PRIVATE, None)
    fd = _fuse_fd()
    if original is None or fd is None:
        return
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    poll, checkpoint = poller.poll, trio.lowlevel.checkpoint
    most = _LOOKS if len(os.sched_getaffinity(0)) > 1 else 0
    served = looks = 0

    async def wait() -> bool:
        nonlocal served, looks
        served += 1
        if served == 1:  # pyfuse3's: it sets up what its later ones need
            return await original()
        if not served % _REQUESTS_BETWEEN_CHECKPOINTS:
            await checkpoint()
        for _ in range(looks):
            if poll(0):
                looks = most
                return True
            os.sched_yield()  # the client may be waiting for this very processor
        looks //= 2
        asleep = time.monotonic()
        if poll(_POLL_MS):
            if time.monotonic() - asleep < _SOON_S:
                looks = most
            return True
        return await original()

    setattr(pyfuse3, _PRIVATE, wait)


def _fuse_fd() -> int | None:
    """Return the descriptor of the FUSE device; None unless there is exactly one."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            if os.readlink(f"/proc/self/fd/{name}") == _DEVICE:
                found.append(int(name))
    return found[0] if len(found) == 1 else None
