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
from wofs.demo import straywrite as straywrite_demo
from wofs.demo.workload import WORKLOADS
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


@command.command(
    "straywrite",
    epilog="\b\nExamples:\n  wofs demo straywrite disk.img\n"
    "  wofs demo straywrite disk.img --workload find --writes 100 -b memfd",
)
@click.argument("image", type=click.Path(exists=True))
@click.option("--workload", type=click.Choice(list(WORKLOADS)), default="tree", show_default=True)
@click.option("--writes", type=click.IntRange(1), default=10, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True)
@chooses_backends(("none", "memfd"))
def straywrite(
    image: str,
    workload: str,
    writes: int,
    seed: int,
    backends: tuple[str, ...],
    as_json: bool,
    quiet: bool,
) -> int:
    """Strike a serving process at random while a workload runs over its mount.

    IMAGE is mounted anew for each write; a random word goes to a random place of its mount
    structures, at a random moment, the same for every backend. Each answer is compared with
    that of an undisturbed mount.

    Of the outcomes, `named` is a crash whose report names the place; `wrong` answers that were
    served as if right; `errors` errors where there were answers; `noticed` found by comparing
    at the end; `unnoticed` a write that no answer depended on. Exit status 1 if a write did
    anything but end the server of a protected mount, named right.
    """
    out, rows, code = Output(), [], 0
    for backend in backends:
        with progress.counting(f"{workload} on {backend}", quiet) as tell:
            found = _tried(straywrite_demo.campaign, image, workload, backend, writes, seed, tell)
        if found is None:
            code = FAILED
            continue
        if backend != "none" and found.outcomes != {"named": writes}:
            code = FAILED
        if as_json:
            out.json(found.as_json())
        told = ", ".join(f"{count} {name}" for name, count in sorted(found.outcomes.items()))
        seconds = "-" if found.median_seconds is None else f"{found.median_seconds:.3f}"
        counts = (found.strikes, found.answers, found.wrong, found.errors)
        rows.append((backend, *map(str, counts), seconds, told))
    if rows and not as_json:
        heads = ("backend", "writes", "answers", "wrong", "errors", "ended after s", "outcomes")
        out.table(heads, rows)
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
