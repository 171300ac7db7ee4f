"""`wofs mount`: serve an image at a directory, in the background once it is really there.

Exit status as mount(8): 0 mounted, 1 usage or permissions, 32 the mount failed.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import click

from wofs.device import FileDevice
from wofs.errors import WofsError
from wofs.xfs.options import MountOptions, mount_options

EXIT_USAGE, EXIT_FAILED = 1, 32
_KERNEL = frozenset({"allow_other", "noexec", "nosuid", "nodev", "suid", "dev", "exec"})
_IGNORED = frozenset({"ro", "defaults", "default_permissions", "_netdev", "nofail", "user", "auto"})
_NUMBERS = ("sb", "uid", "gid")


class Usage(click.ClickException):
    """A wrong option; mount(8)'s exit status for it."""

    exit_code = EXIT_USAGE


def parse_options(text: tuple[str, ...], source: str) -> tuple[MountOptions, set[str]]:
    """Return the options of the mount and those for the kernel; Usage for an unknown one."""
    flags: set[str] = set()
    numbers: dict[str, int] = {}
    fsname = source
    for word in filter(None, ",".join(text).split(",")):
        name, _, value = word.partition("=")
        if name in _NUMBERS:
            if not value.isdecimal():
                raise Usage(f"option {name}= needs a number, not {value!r}")
            numbers[name] = int(value)
        elif name == "fsname" and value:
            fsname = value
        elif word == "rw":
            click.echo("wofs: mounted read-only: wofs never writes an image", err=True)
        elif word in _KERNEL or word == "norecovery":
            flags.add(word)
        elif word not in _IGNORED and not word.startswith("x-"):
            raise Usage(f"unknown option {word!r}; see wofs mount --help")
    kernel = {"ro", "default_permissions", "subtype=wofs", f"fsname={fsname.replace(',', '_')}"}
    kernel |= {flag for flag in flags & _KERNEL if flag not in {"dev", "suid", "exec"}}
    for allowed, refused in (("dev", "nodev"), ("suid", "nosuid")):
        kernel.add(allowed if allowed in flags else refused)
    options = mount_options(
        norecovery="norecovery" in flags,
        sb_agno=numbers.get("sb", 0),
        uid=numbers.get("uid", -1),
        gid=numbers.get("gid", -1),
        allow_other="allow_other" in flags,
        nosuid="suid" not in flags,
        nodev="dev" not in flags,
        noexec="noexec" in flags,
        fsname=os.fsencode(fsname),
    )
    return options, kernel


@click.command("mount")
@click.argument("image", type=click.Path())
@click.argument("directory", type=click.Path())
@click.option("-f", "--foreground", is_flag=True, help="Stay; log to stderr.")
@click.option("-o", "options", multiple=True, metavar="OPT[,OPT…]", help="Mount options.")
@click.option("--log", "log_file", type=click.Path(), help="Append log lines to this file.")
@click.option("--report", type=click.Path(), help="Append a crash report to this file too.")
def command(
    image: str,
    directory: str,
    foreground: bool,
    options: tuple[str, ...],
    log_file: str | None,
    report: str | None,
) -> None:
    """Mount the XFS image IMAGE at DIRECTORY, read-only.

    Goes to the background once the mount is there; exit status 0 means mounted, 1 wrong usage,
    32 a failed mount. Unmount with: wofs umount DIRECTORY

    \b
    Options (-o): ro allow_other noexec nosuid nodev (suid, dev: root only)
      norecovery   mount although the log is dirty
      sb=AGNO      read the superblock's copy in that AG
      uid=N gid=N  show every file as theirs
      fsname=NAME  source shown in the mount table
    """
    parsed, kernel = parse_options(options, image)
    if not os.path.isdir(directory):
        raise Usage(f"{directory}: is no directory (or a dead mount: wofs umount cleans it)")
    image, directory = os.path.abspath(image), os.path.abspath(directory)
    for path in (log_file, report):
        if path:
            Path(path).touch(mode=0o600)
    log_file = os.path.abspath(log_file) if log_file else None
    report = os.path.abspath(report) if report else None
    pipe = None if foreground else _to_background()
    _log_to(log_file)
    try:
        _serve(image, directory, parsed, kernel, report, pipe)
    except (WofsError, OSError) as error:
        text = str(error) if isinstance(error, WofsError) else f"{image}: {error.strerror or error}"
        _fail(f"wofs: {text}", pipe)
    sys.exit(0)


def _serve(
    image: str,
    directory: str,
    options: MountOptions,
    kernel: set[str],
    report: str | None,
    pipe: int | None,
) -> None:
    from wofs.fuse.session import serve
    from wofs.slab import report_to

    if report:
        report_to(report)

    def ready() -> None:
        if pipe is not None:
            _detach(pipe)

    serve(FileDevice(image), directory, options, kernel, ready)


def _log_to(path: str | None) -> None:
    """Send log lines to a file, or to stderr as long as there is one."""
    handler = logging.FileHandler(path) if path else logging.StreamHandler()
    handler.setFormatter(logging.Formatter("wofs: %(message)s"))
    logger = logging.getLogger("wofs")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO if path else logging.WARNING)


def _to_background() -> int:
    """Fork; the parent waits for the child's word and exits with it. Return the child's pipe."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.close(reader)
        return writer
    os.close(writer)
    with os.fdopen(reader, "rb") as told:
        word = told.read()
    if word == b"mounted\n":
        os._exit(0)
    click.echo(word.decode(errors="replace").rstrip() or "wofs: the server ended", err=True)
    os._exit(EXIT_FAILED)


def _detach(pipe: int) -> None:
    """Become a daemon and tell the parent that the mount is there."""
    os.setsid()
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)
    os.write(pipe, b"mounted\n")
    os.close(pipe)


def _fail(text: str, pipe: int | None) -> None:
    """Report a failed mount, to the parent if there is one."""
    if pipe is None:
        click.echo(text, err=True)
    else:
        os.write(pipe, text.encode(errors="replace"))
    sys.exit(EXIT_FAILED)
