"""`wofs demo`: stray writes on purpose, by backend of the write-once memory.

Every attack is made in a child process, on memory of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, TypeVar

import click

from wofs.cli import progress
from wofs.cli.output import FAILED, Output, say
from wofs.demo import fields as fields_demo
from wofs.demo import race as race_demo
from wofs.slab import BACKENDS

F = TypeVar("F", bound=Callable[..., Any])

WINDOWLESS = ("memfd", "alias", "pkey")
"""Backends that never make a published page writable for another thread."""


def chooses_backends(default: tuple[str, ...]) -> Callable[[F], F]:
    """Give a command the options --backend, --json and -q."""

    def give(command: F) -> F:
        for option in (
            click.option("-q", "--quiet", is_flag=True, help="No progress bar."),
            click.option("--json", "as_json", is_flag=True, help="One JSON object a backend."),
            click.option(
                "-b",
                "--backend",
                "backends",
                multiple=True,
                type=click.Choice(BACKENDS),
                default=default,
                show_default=True,
                help="May be given several times; `none` is ordinary memory, the control.",
            ),
        ):
            command = option(command)
        return command

    return give


@click.group("demo")
def command() -> None:
    """Show what write-once memory withstands, and ordinary memory does not."""


@command.command(
    "race",
    epilog="\b\nExamples:\n  wofs demo race\n  wofs demo race -b memfd --stores 10000000",
)
@click.option("--stores", type=click.IntRange(1), default=1_000_000, show_default=True)
@chooses_backends(("none", "mprotect", "shared", "alias", "memfd"))
def race(stores: int, backends: tuple[str, ...], as_json: bool, quiet: bool) -> int:
    """Let a thread hammer a published object while others are made in its page.

    At least STORES stores are tried for each backend, and 10,000 objects made. A backend that
    opens the page for the time of an init lets stores land in the neighbour: that is why the
    write right must never be visible to another processor.

    Exit status 1 if a store landed on memfd, alias or pkey.
    """
    out, rows, code = Output(), [], 0
    for backend in backends:
        with progress.counting(f"hammering {backend}", quiet) as tell:
            found = _tried(
                race_demo.in_child, backend, stores, lambda n, tell=tell: tell(n, stores)
            )
        if found is None:
            code = FAILED
            continue
        if backend in WINDOWLESS and (found.landed or found.spoiled):
            code = FAILED
        if as_json:
            out.json(asdict(found))
        share = 100 * found.spoiled / found.inits
        rows.append(
            (backend, found.tried, found.landed, found.inits, found.spoiled, f"{share:.1f}")
        )
    if rows and not as_json:
        heads = ("backend", "stores tried", "landed", "inits", "neighbour spoiled", "% of inits")
        out.table(heads, (tuple(map(str, row)) for row in rows))
    out.flush()
    return code


@command.command(
    "fields",
    epilog="\b\nExamples:\n  wofs demo fields disk.img\n  wofs demo fields -b memfd disk.img",
)
@click.argument("image", type=click.Path(exists=True, dir_okay=False))
@click.option("--ags", type=click.IntRange(1), default=4, show_default=True, help="How many AGs.")
@chooses_backends(("none", "memfd"))
def fields(image: str, ags: int, backends: tuple[str, ...], as_json: bool, quiet: bool) -> int:
    """Strike every field of every mount structure of IMAGE once in each of three ways.

    The image is mounted in a child (without FUSE). Each strike must end in a crash whose
    report names the right object and field; on `none` each lands and nobody notices.

    Exit status 1 if a strike did not end as it must.
    """
    out, rows, code = Output(), [], 0
    for backend in backends:
        with progress.counting(f"striking {backend}", quiet) as tell:
            found = _tried(fields_demo.in_child, image, backend, ags, tell)
        if found is None:
            code = FAILED
            continue
        for line in found.wrong:
            say(f"{backend}: {line}")
            code = FAILED
        if as_json:
            out.json(asdict(found))
        strikes = sum(found.strikes.values())
        rows.append((backend, found.objects, found.fields, strikes, found.ended, found.landed))
    if rows and not as_json:
        heads = ("backend", "objects", "fields", "strikes", "named right", "landed unnoticed")
        out.table(heads, (tuple(map(str, row)) for row in rows))
    out.flush()
    return code


T = TypeVar("T")


def _tried(work: Callable[..., T], *arguments: object) -> T | None:
    """Return what an experiment found; None, after saying why, where it cannot be made."""
    try:
        return work(*arguments)
    except RuntimeError as error:
        say(str(error))
        return None
