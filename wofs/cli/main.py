"""The `wofs` command: finds the verb's module, turns every error into a line and a code.

A verb's module is loaded when it is asked for, so that one costs what it needs.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

import click

from wofs.cli.output import (
    DONE,
    FAILED,
    INTERRUPTED,
    USAGE,
    code_of,
    drop,
    internal,
    message,
    say,
)
from wofs.errors import WofsError

VERBS = {
    "info": "Show geometry, features, label, log, memory and the counters of each AG.",
    "ls": "List directories.",
    "tree": "Draw a directory and all below it.",
    "cat": "Write the data of files to standard output.",
    "stat": "Show all attributes of files.",
    "cp": "Copy files and trees out of the image.",
    "find": "Search a tree by name, type, size and time.",
    "check": "Hold the image to every rule and report what breaks one; nothing is written.",
    "explain": "Explain a rule of `wofs check` by its code.",
    "mount": "Mount the image through FUSE.",
    "umount": "Unmount what `wofs mount` mounted.",
    "slab": "Show the mount structures in write-once memory: caches, pages, values.",
    "crash": "Read the reports of stray writes back.",
    "corrupt": "Write a copy that is damaged on purpose, and a record of it.",
    "campaign": "Strike every field of an image, and judge what the reader does then.",
    "demo": "Show what write-once memory withstands, and ordinary memory does not.",
}
"""Verb -> what it does; the module is wofs.cli.VERB, the command in it is called `command`."""

HELP = """Read XFS images: without root, without mounting, and without ever writing to them.

IMAGE is a file or a block device; gzip, xz and zstd are unpacked first, once, into
~/.cache/wofs. PATH is a path inside the image, from its root; symbolic links are
followed inside the image.

\b
Examples:
  wofs info disk.img                     what the image is
  wofs ls -l disk.img /etc               list a directory
  wofs cat disk.img /etc/os-release      read a file
  wofs cp -r disk.img /etc ./etc         copy a tree, times and holes kept
  wofs find disk.img -name '*.conf' --ls
  wofs check disk.img                    is it sound? (exit codes as fsck)
  wofs mount disk.img /mnt               mount it through FUSE
  wofs ls -o norecovery dirty.img        a log that was not replayed is refused otherwise

\b
Exit codes: 0 done, 1 the request failed (path, I/O), 2 usage, 3 not XFS or not
supported, 4 damaged (what is sound was still delivered), 130 interrupted.
"""


class Verbs(click.Group):
    """The verbs, each loaded when needed; errors as lines, no traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the verbs in the order of the table."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Load a verb's module and return its command; None for no verb."""
        if name not in VERBS:
            return None
        command = import_module(f"wofs.cli.{name}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the verbs from the table, without loading any."""
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401
        """Run the verb; a closed pipe and an interrupt end it quietly."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            drop(sys.stdout)
            return DONE
        except KeyboardInterrupt:
            return INTERRUPTED

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = "wofs",
        *_: object,
        **extra: Any,  # noqa: ANN401
    ) -> NoReturn:
        """Run and exit with the code of DESIGN: 0 done ... 130 interrupted."""
        extra["standalone_mode"] = False
        _hold_standard_streams()
        sys.exit(_guarded(self, args, prog_name, extra))


def _guarded(
    group: Verbs, args: Sequence[str] | None, prog_name: str | None, extra: dict[str, Any]
) -> int:
    """Run the group and return the exit code."""
    try:
        result = click.Group.main(group, args, prog_name, **extra)
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "wofs"
        say(f"{error.format_message()} (see '{path} --help')")
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except click.ClickException as error:
        if error.__cause__ is not None:
            _debug()
        say(error.format_message())
        return error.exit_code
    except (WofsError, OSError) as error:
        _debug()
        say(message(error))
        return code_of(error)
    except Exception as error:
        _debug()
        say(internal(error))
        return FAILED
    return result if isinstance(result, int) else DONE


def _debug() -> None:
    """Show the traceback to who asked for it."""
    if os.environ.get("WOFS_DEBUG"):
        traceback.print_exc()


def _hold_standard_streams() -> None:
    """Open what is closed of stdin, stdout and stderr, so that no image takes their numbers."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


@click.group(
    cls=Verbs,
    help=HELP,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="wofs", message="wofs %(version)s")
@click.pass_context
def main(ctx: click.Context) -> int:
    """Hold the verbs (see HELP); without one show the help."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        return USAGE
    return DONE
