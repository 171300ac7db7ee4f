"""`wofs demo`: stray writes on purpose, by backend of the write-once memory.

Every attack is made in a child process, on memory of its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import click

from wofs.cli import pagefile, progress
from wofs.cli.output import DONE, FAILED, Output, say
from wofs.cli.request import ended_tidily
from wofs.demo import fields as fields_demo
from wofs.demo import page
from wofs.demo import race as race_demo
from wofs.demo import straywrite as straywrite_demo
from wofs.demo.truth import manifest_of
from wofs.demo.workload import WORKLOADS
from wofs.slab import BACKENDS

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T", race_demo.Race, fields_demo.Tally)
Tell = Callable[[int, int], None]

WINDOWLESS = ("memfd", "alias", "pkey")
"""Backends that never make a published page writable for another thread."""


_ALL_AGS = 1 << 32


def _own_image() -> str | None:
    """Return a small image of the source tree that this package runs from, None without one."""
    image = Path(__file__).resolve().parents[2] / "images" / "default.img.xz"
    return str(image) if image.exists() else None


def _known_backends(
    context: click.Context, option: click.Parameter, values: tuple[str, ...]
) -> tuple[str, ...]:
    """Return the backends named, in order; BadParameter for one that does not exist."""
    names = tuple(filter(None, ",".join(values).split(",")))
    if unknown := [name for name in names if name not in BACKENDS]:
        raise click.BadParameter(f"{unknown[0]!r} is none of {', '.join(BACKENDS)}")
    if not names:
        raise click.BadParameter(f"none is named: they are {', '.join(BACKENDS)}")
    return tuple(dict.fromkeys(names))


def chooses_backends(default: tuple[str, ...]) -> Callable[[F], F]:
    """Give a command the options --backend, --json and -q."""

    def give(command: F) -> F:
        for option in (
            click.option("-q", "--quiet", is_flag=True, help="No progress bar."),
            click.option("--json", "as_json", is_flag=True, help="One JSON object a backend."),
            click.option(
                "-b",
                "--backends",
                "--backend",
                "backends",
                multiple=True,
                default=default,
                show_default=True,
                callback=_known_backends,
                help="With commas, or given several times; `none` is ordinary memory, the control.",
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
def race(stores: int, seconds: float, backends: tuple[str, ...], as_json: bool, quiet: bool) -> int:
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
@click.option("--ags", type=click.IntRange(1), help="The headers of so many AGs (default: all).")
@chooses_backends(("none", "memfd"))
def fields(
    image: str, ags: int | None, backends: tuple[str, ...], as_json: bool, quiet: bool
) -> int:
    """Strike every field of every mount structure of IMAGE once in each of three ways.

    The image is mounted in a child (without FUSE). Each strike must end in a crash whose
    report names the right object and field; on `none` each lands and nobody notices.

    Exit status 1 if a strike did not end as it must.
    """

    def work(backend: str, tell: Tell) -> fields_demo.Tally:
        return fields_demo.in_child(image, backend, ags or _ALL_AGS, tell)

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
    epilog="\b\nExamples:\n  wofs demo straywrite --html strikes.html\n"
    "  wofs demo straywrite --at options.uid=4242       every owner wrong, and nobody notices\n"
    "  wofs demo straywrite --image disk.img --workload find --writes 300 -b none,memfd",
)
@click.option(
    "--image",
    type=click.Path(exists=True),
    default=_own_image,
    help="What is served and struck (default: an image of wofs's own source).",
)
@click.option(
    "--manifest",
    type=click.Path(exists=True, dir_okay=False),
    help="The kernel's manifest of it, as tools/mkimages makes them: the truth. By default what "
    "lies beside the image; without any, a first run without strikes is.",
)
@click.option("--workload", type=click.Choice(list(WORKLOADS)), default="tar", show_default=True)
@click.option("--writes", type=click.IntRange(1), default=50, show_default=True)
@click.option(
    "--word",
    type=click.Choice(("1", "2", "4", "8")),
    default=str(straywrite_demo.WORD_BYTES),
    show_default=True,
    help="Bytes of each.",
)
@click.option(
    "--at",
    "target",
    metavar="OBJECT[.FIELD[=VALUE]]",
    help="Strike there instead of anywhere: an object (geometry), a field (agi[0].root), a value "
    "of your choice (options.uid=4242). `wofs slab IMAGE` shows them.",
)
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True)
@click.option(
    "--html", type=click.Path(dir_okay=False, writable=True), help="Draw it as a page: one file."
)
@chooses_backends(("none", "memfd"))
def straywrite(
    image: str | None,
    manifest: str | None,
    workload: str,
    writes: int,
    word: str,
    target: str | None,
    seed: int,
    html: str | None,
    backends: tuple[str, ...],
    as_json: bool,
    quiet: bool,
) -> int:
    """Strike a serving process at random while a workload runs over its mount.

    A workload runs over the image again and again, mounted with each memory, the kernel's
    caches dropped each time: `find`, `tar` and `fio` are the real programs, `tree` and
    `random` ask by system calls. In each run a random word goes to a random place of the
    server's mount structures at a random moment, the same for each memory; another whole run
    follows. All answers are compared with the truth. A server that ended, or gave an answer
    that is not right, is replaced by a new one; what landed unseen stays.

    \b
    Outcomes:
      named   the process ended at once; its report names the right place
      wrong   wrong answers, served as if they were right
      errors  errors where there were answers
      hung    it hung, or its answers had no end
      unseen  it landed, and no answer depended on it
      other   it ended in another way, or named another place

    The image is served with its log as it is. Exit status 1 if a protected memory did anything
    but end the server, named right, or where the experiment cannot be made.
    """
    if image is None:
        raise click.UsageError("no image is beside this installation: give one by --image")
    if html:
        pagefile.claim(html)
    title = f"{workload} on {', '.join(backends)}"
    try:
        with ended_tidily():
            blow = straywrite_demo.Blow(int(word))
            if target is not None:
                blow = straywrite_demo.blow_at(image, target, int(word))
            truth = manifest or manifest_of(image)
            task = straywrite_demo.prepare(image, workload, seed, truth, blow)
            with progress.counting(title, quiet) as tell:
                tallies = straywrite_demo.campaign(task, backends, writes, tell)
    except RuntimeError as error:
        say(str(error))
        return FAILED
    if html:
        pagefile.write(html, page.page(os.path.basename(image), task, tallies))
    out = Output()
    if as_json:
        for tally in tallies:
            out.json(asdict(tally))
    else:
        _show_strikes(out, tallies)
    out.flush()
    protected = [tally for tally in tallies if tally.backend != "none"]
    return FAILED if any(tally.outcomes.keys() != {"named"} for tally in protected) else DONE


_SHOWN = ("named", "wrong", "errors", "hung", "unseen")


def _strikes(found: straywrite_demo.Tally) -> tuple[str, ...]:
    """Return a column of the table."""
    counts = [found.outcomes.get(name, 0) for name in _SHOWN]
    counts = [found.strikes, *counts, found.strikes - sum(counts), found.answers, found.wrong]
    noticed = ", ".join(f"{count} {when}" for when, count in found.noticed.items())
    after = "-" if found.noticed_s is None else f"{found.noticed_s:.3f}"
    speeds = (f"{speed:.0f}" for speed in found.answers_per_s)
    return found.backend, *map(str, counts), noticed, after, *speeds


def _show_strikes(out: Output, tallies: list[straywrite_demo.Tally]) -> None:
    """Write a table, a column for each memory, and below what was wrong."""
    heads = (
        *("backend", "strikes", *_SHOWN, "other", "answers", "wrong ones", "noticed"),
        *("after s, median", "answers/s undisturbed, least", "median", "most"),
    )
    lines = list(zip(heads, *map(_strikes, tallies), strict=True))
    out.table(lines[0], lines[1:])
    for found in tallies:
        if found.kinds:
            told = ", ".join(f"{kind} {count}" for kind, count in found.kinds.items())
            out.line(f"{found.backend}: wrong and served as if right: {told}")
        for one in found.trials:
            if one.outcome == "wrong":
                out.line(f"{found.backend}: strike {one.number} at {one.place}: {one.examples[0]}")
    out.line(f"truth: {tallies[0].judge}; seed {tallies[0].seed}")


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
            with ended_tidily(), progress.counting(title.format(backend), quiet) as tell:
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
