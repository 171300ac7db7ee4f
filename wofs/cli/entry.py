"""Where the commands start: one interrupted while its modules load ends without a word.

Python would show a traceback; as it is set here the signal does what it does to any program.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


def wofs() -> None:
    """Run the command `wofs`."""
    with _loading():
        from wofs.cli.main import main
    main()


def mount_helper() -> None:
    """Run the command `mount.wofs`."""
    with _loading():
        from wofs.cli.mounthelper import main
    main()


@contextmanager
def _loading() -> Iterator[None]:
    """Leave SIGINT to the system meanwhile, where Python would raise KeyboardInterrupt."""
    raising = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if raising:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    yield
    if raising:
        signal.signal(signal.SIGINT, signal.default_int_handler)
