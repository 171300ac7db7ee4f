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
T = TypeVar("T", race_demo.Race, fields_demo.Tally, straywrite_demo.Tally)
Tell = Callable[[int, int], None]

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
@click.option("--seconds", type=click.FloatRange(0), default=0, help="Go on for so long at least.")
@chooses_backends(("none", "mprotect", "shared", "alias", "memfd"))
def race(
    stores: int, seconds: float, backends: tuple[str, ...], as_json: bool, quiet: bool
) -> int:
    """Let a thread hammer a published object while others are made in its page.

    At least STORES stores are tried for each backend, and 10,000 objects made. A backend that
    opens the page for the time of an init lets stores land in the neighbour: that is why the
    write right must never be visible to another processor. "Met" are the inits during which
    the other thread was running: on a busy machine not all.

    Exit status 1 if a store landed on memfd, alias or pkey.
    """

    def work(backend: str, tell: Tell) -> race_demo.Race:
        return race_demo.in_child(backend, stores, seconds, lambda tried: tell(tried, stores))

    def sound(found: race_demo.Race) -> bool:
        return found.backend not in WINDOWLESS or not (found.landed or found.spoiled)

    def row(found: race_demo.Race) -> tuple[object, ...]:
        share = f"{100 * found.spoiled / max(1, found.met):.1f}"
        counts = (found.tried, found.landed, found.inits, found.met, found.spoiled)
        return found.backend, *counts, share

    heads = ("backend", "stores tried", "landed", "inits", "met", "neighbour spoiled", "% of met")
    return _on_each(backends, "hammering {}", work, sound, heads, row, as_json, quiet)


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

    def work(backend: str, tell: Tell) -> fields_demo.Tally:
        return fields_demo.in_child(image, backend, ags, tell)

    def sound(found: fields_demo.Tally) -> bool:
        for line in found.wrong:
            say(f"{found.backend}: {line}")
        return not found.wrong

    def row(found: fields_demo.Tally) -> tuple[object, ...]:
        strikes = sum(found.strikes.values())
        return found.backend, found.objects, found.fields, strikes, found.ended, found.landed

    heads = ("backend", "objects", "fields", "strikes", "named right", "landed unnoticed")
    return _on_each(backends, "striking {}", work, sound, heads, row, as_json, quiet)


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

    def work(backend: str, tell: Tell) -> straywrite_demo.Tally:
        return straywrite_demo.campaign(image, workload, backend, writes, seed, tell)

    def sound(found: straywrite_demo.Tally) -> bool:
        return found.backend == "none" or found.outcomes == {"named": writes}

    def row(found: straywrite_demo.Tally) -> tuple[object, ...]:
        told = ", ".join(f"{count} {name}" for name, count in sorted(found.outcomes.items()))
        seconds = "-" if found.median_seconds is None else f"{found.median_seconds:.3f}"
        counts = (found.strikes, found.answers, found.wrong, found.errors)
        return found.backend, *counts, seconds, told

    heads = ("backend", "writes", "answers", "wrong", "errors", "ended after s", "outcomes")
    return _on_each(backends, f"{workload} on {{}}", work, sound, heads, row, as_json, quiet)


def _on_each(
    backends: tuple[str, ...],
    title: str,
    work: Callable[[str, Tell], T],
    sound: Callable[[T], bool],
    heads: tuple[str, ...],
    row: Callable[[T], tuple[object, ...]],
    as_json: bool,
    quiet: bool,
) -> int:
    """Make an experiment on each backend and show what was found; return the exit status.

    `title`, with the backend's name put in, stands beside the bar. Where the experiment cannot
    be made, one line says why.
    """
    out, rows, code = Output(), [], 0
    for backend in backends:
        try:
            with progress.counting(title.format(backend), quiet) as tell:
                found = work(backend, tell)
        except RuntimeError as error:
            say(str(error))
            code = FAILED
            continue
        if not sound(found):
            code = FAILED
        if as_json:
            out.json(asdict(found))
        rows.append(tuple(map(str, row(found))))
    if rows and not as_json:
        out.table(heads, rows)
    out.flush()
    return code
