"""`wofs mount`: serve an image at a directory, in the background once it is mounted.

Exit status as mount(8): 0 mounted, 1 wrong usage, rights or system, 32 the mount failed.
"""

from __future__ import annotations

import logging
import logging.handlers
import os
import sys
from collections.abc import Callable
from pathlib import Path

import click

from wofs.device import open_device
from wofs.errors import SlabError, WofsError
from wofs.fuse.background import Child, Outcome, fork
from wofs.fuse.mountpoint import Refused, check_fuse, check_mountpoint
from wofs.fuse.options import BadOption, Options, parse
from wofs.slab import report_to

EXIT_USAGE, EXIT_FAILED = 1, 32
_SYSLOG = "/dev/log"


@click.command("mount")
@click.argument("image", type=click.Path(readable=False))  # opening it says more
@click.argument("directory", type=click.Path(readable=False))  # check_mountpoint says more
@click.option("-f", "--foreground", is_flag=True, help="Stay in the foreground, log to stderr.")
@click.option("-o", "options", multiple=True, metavar="OPT[,OPT...]", help="Mount options.")
@click.option("--log", "log_file", type=click.Path(dir_okay=False), help="Append the log here.")
@click.option(
    "--report", type=click.Path(dir_okay=False), help="Append the report of a stray write here."
)
@click.option("--slab", default="auto", help="Backend of the write-once memory.", hidden=True)
def command(
    image: str,
    directory: str,
    foreground: bool,
    options: tuple[str, ...],
    log_file: str | None,
    report: str | None,
    slab: str,
) -> int:
    """Mount the XFS image IMAGE at DIRECTORY, read-only.

    Returns once the mount is there. In the background, damage met in the image is logged to
    syslog, or without one to `wofs.log` in $XDG_STATE_HOME/wofs (~/.local/state/wofs), where
    `crash-report.txt` tells of a stray write too. End it with `wofs umount DIRECTORY`.

    \b
    Options (-o):
      allow_other     other users may reach it (users need user_allow_other in /etc/fuse.conf)
      norecovery      mount although the log is dirty: recent changes may be missing
      sb=AGNO         read the copy of the superblock in that AG
      uid=N, gid=N    show every file as owned by N
      noexec, exec    whether programs may run (default: they may)
      nosuid, nodev   the default; root may give suid, dev
      fsname=NAME     the source shown in the mount table
    """
    try:
        parsed = parse(options, os.path.abspath(image), os.geteuid() == 0)
        check_mountpoint(directory)
        check_fuse()
        log_path = os.path.abspath(log_file) if log_file else None
        report_to(os.path.abspath(report) if report else state_folder() / "crash-report.txt")
    except (WofsError, OSError) as error:
        _say(_line(error, image))
        return _status(error)
    for warning in parsed.warnings:
        _say(f"warning: {warning}")
    return _run(image, directory, parsed, foreground, log_path, slab)


def _run(
    image: str, directory: str, options: Options, foreground: bool, log_path: str | None, slab: str
) -> int:
    """Serve, here or in a child; return the exit status."""
    child = None if foreground else fork()
    if isinstance(child, Outcome):
        if child.message:
            _say(child.message)
        return child.status
    image, directory = os.path.abspath(image), os.path.abspath(directory)
    log_to_stderr(logging.WARNING if child else logging.INFO)
    try:
        if log_path or child:
            log_to(logging.FileHandler(log_path) if log_path else background_log())
        _serve(image, directory, options, _ready(child), slab)
    except (WofsError, OSError) as error:
        status, line = _status(error), _line(error, image)
        if child is None:
            _say(line)
        else:
            drop_stderr()
            logging.getLogger("wofs").error("%s", line)
            child.fail(status, line)
        return status
    return 0


def _serve(
    image: str, directory: str, options: Options, ready: Callable[[], None], slab: str
) -> None:
    try:
        from wofs.fuse.session import serve
    except ImportError as error:
        line = f"mounting needs pyfuse3 and trio: pip install 'wofs[fuse]' ({error})"
        raise Refused(line) from error
    device = open_device(image)
    serve(device, directory, options.mount, options.for_kernel(), ready, slab)


def _ready(child: Child | None) -> Callable[[], None]:
    """Return what is done when the mount is there: nothing in the foreground."""

    def ready() -> None:
        if child is not None:
            drop_stderr()
            child.ready()

    return ready


# ---- where lines go
def _say(line: str) -> None:
    click.echo(f"wofs: {line}", err=True)


def _line(error: WofsError | OSError, image: str) -> str:
    if isinstance(error, WofsError):
        return str(error)
    name = error.filename if isinstance(error.filename, str) else image
    return f"{name}: {error.strerror or error}"


def _status(error: WofsError | OSError) -> int:
    system = isinstance(error, BadOption | Refused | SlabError | PermissionError)
    return EXIT_USAGE if system else EXIT_FAILED


def state_folder() -> Path:
    """Return (and make) the folder for what a server leaves behind: its log, a crash report."""
    base = os.environ.get("XDG_STATE_HOME", "")
    top = Path(base) if os.path.isabs(base) else Path.home() / ".local" / "state"
    folder = top / "wofs"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def background_log() -> logging.Handler:
    """Return the handler of a server in the background that was given no log file."""
    if os.path.exists(_SYSLOG):
        daemon = logging.handlers.SysLogHandler.LOG_DAEMON
        handler = logging.handlers.SysLogHandler(_SYSLOG, facility=daemon)
        handler.ident = f"wofs[{os.getpid()}]: "
        handler.setFormatter(logging.Formatter("%(message)s"))
        return handler
    return logging.FileHandler(state_folder() / "wofs.log")


def log_to(handler: logging.Handler) -> None:
    """Send the log, from INFO up, to `handler`; lines of a file get their time."""
    if isinstance(handler, logging.FileHandler):
        line = f"%(asctime)s wofs[{os.getpid()}] %(levelname)s %(message)s"
        handler.setFormatter(logging.Formatter(line))
    logger = logging.getLogger("wofs")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)


def log_to_stderr(level: int) -> None:
    """Send the log from `level` up to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setLevel(level)
    handler.setFormatter(logging.Formatter("wofs: %(message)s"))
    log_to(handler)


def drop_stderr() -> None:
    """Send nothing to stderr any more: it is going to be closed."""
    logger = logging.getLogger("wofs")
    for handler in logger.handlers[:]:
        if type(handler) is logging.StreamHandler:
            logger.removeHandler(handler)
