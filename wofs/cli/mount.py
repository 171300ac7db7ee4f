"""`wofs mount`: serve an image at a directory, in the background once it is mounted.

Exit status as mount(8): 0 mounted, 1 wrong usage, rights or system, 32 the mount failed.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

import click

from wofs.cli import progress, serverlog
from wofs.cli.output import message, say
from wofs.cli.request import ended_tidily
from wofs.cli.usage import StatusVerb
from wofs.errors import MountError, SlabError, WofsError
from wofs.fs.filesystem import open_source
from wofs.fuse.background import Child, Outcome, fill_standard_streams, fork
from wofs.fuse.mountpoint import Refused, check_fuse, check_mountpoint, check_not_mounted
from wofs.fuse.options import BadOption, Options, parse

EXIT_USAGE, EXIT_FAILED = 1, 32

log = logging.getLogger("wofs")


class WrongUsage(click.UsageError):
    """Wrong usage of a verb whose exit status is mount(8)'s."""

    exit_code = EXIT_USAGE


class SystemVerb(StatusVerb):
    """A verb whose exit status for wrong usage is mount(8)'s."""

    wrong_usage = WrongUsage


@dataclass(frozen=True)
class Order:
    """What is to be mounted, where and how."""

    image: str
    directory: str
    options: Options


@click.command("mount", cls=SystemVerb)
@click.argument("image", type=click.Path(readable=False))  # we say ourselves why not
@click.argument("directory", type=click.Path(readable=False))
@click.option("-f", "--foreground", is_flag=True, help="Stay in the foreground, log to stderr.")
@click.option("-o", "words", multiple=True, metavar="OPT[,OPT...]", help="Mount options.")
@click.option("--log", "log_file", type=click.Path(dir_okay=False), help="Append the log here.")
@click.option(
    "--report", type=click.Path(dir_okay=False), help="Append reports of stray writes, as text."
)
@click.option("--sloppy", is_flag=True, hidden=True)
@click.option("--fake", is_flag=True, hidden=True)
def command(
    image: str,
    directory: str,
    foreground: bool,
    words: tuple[str, ...],
    log_file: str | None,
    report: str | None,
    sloppy: bool,
    fake: bool,
) -> int:
    """Mount the XFS image IMAGE at DIRECTORY, read-only.

    Returns once the mount is there. In the background, damage met in the image is logged to
    syslog, or without one to `wofs.log` in $XDG_STATE_HOME/wofs (~/.local/state/wofs), where
    stray writes are told of too (see `wofs crash`). End it with `wofs umount DIRECTORY`. For
    `mount -t wofs` and fstab link `mount.wofs`, installed beside this command, into /sbin.

    \b
    Options (-o):
      allow_other     other users may reach it (users need user_allow_other in /etc/fuse.conf)
      norecovery      mount although the log is dirty: recent changes may be missing
      logdev=FILE     where an external log lies
      sb=AGNO         read the copy of the superblock in that AG
      protect=WHAT    what is write-once memory: mount (default: the mount structures), all (also
                      every inode, extent map and block that is kept), none (to compare)
      slab=BACKEND    memory of the mount structures: auto, memfd, shared, mprotect, alias,
                      pkey, pool, none
      require=BACKEND the same, said for safety: fail rather than take a weaker one
      scrub=SECONDS   compare them with what was published that often, not only at the end
      report=FILE     append the report of a stray write, as JSON, to FILE
      uid=N, gid=N    show every file as owned by N
      noexec, exec    whether programs may run (default: they may)
      nosuid, nodev   the default; root may give suid, dev
      fsname=NAME     the source shown in the mount table; "\\," is a comma, "\\\\" a backslash
    """
    fill_standard_streams()
    try:
        if not image:
            raise MountError("no image: its name is empty")
        options = parse(words, os.path.abspath(image), os.geteuid() == 0, sloppy)
        check_not_mounted(check_mountpoint(directory), options.source)
        check_fuse()
        if fake:
            return 0
        serverlog.set_report(report, background=not foreground)
        serverlog.set_json_report(options.report)
        serverlog.start(log_file, background=not foreground)
    except (WofsError, OSError) as error:
        say(_line(error, image))
        return _status(error)
    for warning in options.warnings:
        say(f"warning: {warning}")
    return _run(Order(image, directory, options), foreground)


def _run(order: Order, foreground: bool) -> int:
    """Serve, here or in a child; return the exit status."""
    child = None if foreground else fork()
    if isinstance(child, Outcome):
        if child.message:
            say(child.message)
        return child.status
    serverlog.to_stderr(logging.WARNING if child else logging.INFO)
    try:
        with ended_tidily():
            _serve(order, _ready(child))
    except (WofsError, OSError) as error:
        status, line = _status(error), _line(error, order.image)
        if child is None:
            say(line)
        elif not child.fail(status, line):
            log.error("%s", line)
        return status
    except Exception as error:
        serverlog.drop_stderr()  # the traceback is for the log
        log.exception("internal error")
        if child is None:
            raise
        child.fail(EXIT_FAILED, f"internal error: {type(error).__name__}: {error}")
        return EXIT_FAILED
    return 0


def _serve(order: Order, ready: Callable[[], None]) -> None:
    try:
        from wofs.fuse.session import serve
    except ImportError as error:
        line = f"mounting needs pyfuse3 and trio: pip install 'wofs[fuse]' ({error})"
        raise Refused(line) from error
    options = order.options
    words, probed = options.for_kernel(), not options.mount.sb_agno
    with ExitStack() as stack:
        with progress.unpacking(quiet=False) as tell:
            log_device = None
            if options.logdev:
                log_device = open_source(options.logdev, tell)
                stack.callback(log_device.close)
            device = open_source(order.image, tell, probed=probed)
        serve(
            device,
            order.directory,
            options.take(),
            words,
            ready,
            slab=options.slab,
            log_device=log_device,
        )


def _ready(child: Child | None) -> Callable[[], None]:
    """Return what is done when the mount is there: nothing in the foreground."""

    def ready() -> None:
        if child is not None:
            serverlog.drop_stderr()
            child.ready()

    return ready


def _line(error: WofsError | OSError, image: str) -> str:
    """Return an error as one line; what the system says of no file is said of the image."""
    if isinstance(error, OSError) and error.strerror and not error.filename:
        return f"{image}: {message(error)}"
    return message(error)


def _status(error: WofsError | OSError) -> int:
    system = isinstance(error, BadOption | Refused | SlabError | PermissionError)
    return EXIT_USAGE if system else EXIT_FAILED
