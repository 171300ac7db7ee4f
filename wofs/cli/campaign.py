"""`wofs campaign`: thousands of faults, each met by the reader in a child and judged."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from typing import Any

import click

from wofs.campaign import memory
from wofs.campaign.drive import Plan, changed, drive, fingerprint, prepare, reduced
from wofs.campaign.fault import OVER_FUSE, Fault
from wofs.campaign.laws import OUTCOMES, Result
from wofs.campaign.manifest import BadManifest, contradictions
from wofs.campaign.pool import Pool, processors
from wofs.campaign.report import counted, is_bad, reproducing, summary
from wofs.campaign.results import Results
from wofs.campaign.runner import work
from wofs.campaign.scheduler import Cluster
from wofs.campaign.target import REPAIR, BadReader, ask_all, control, target_of
from wofs.campaign.unit import Limits, Unit
from wofs.cli import campaignreport, progress
from wofs.cli.output import DONE, FAILED, Output, escape, say
from wofs.cli.request import ended_tidily, logged

_SHOWN_PATHS = 5
"""Paths shown that the sound image has otherwise than its manifest."""

_SHRUNK = 8
"""Defects of different sorts that are made smaller and shown."""


class Campaign(click.Group):
    """Verbs of a campaign; what is none of them is an image, and the verb is `run`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the verb in front where it is left out."""
        if args and args[0] not in (*self.commands, "-h", "--help"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


@click.group(
    "campaign",
    cls=Campaign,
    epilog="\b\nExamples:\n  wofs campaign disk.img --faults 5000 --results found.db\n"
    "  wofs campaign report found.db --html found.html\n"
    "  wofs campaign run --help                what a campaign can be told",
)
def command() -> None:
    """Make faults by the thousand, each with a known answer, and hold the reader to laws.

    `wofs campaign IMAGE...` is short for `wofs campaign run IMAGE...`.
    """


command.add_command(campaignreport.command, "report")


@command.command(
    "run",
    epilog="\b\nExamples:\n  wofs campaign a.img b.img --faults 20000 --seed 7 --results found.db\n"
    "  wofs campaign a.img --stray 100000 --results found.db\n"
    "  wofs campaign a.img --target kernel-repair --target command:'./mine {image}'\n"
    "  wofs campaign a.img --only \"field 'agf[0].freeblks=0' --crc fix\"",
)
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True)
@click.option("-n", "--faults", type=click.IntRange(0), default=2000, show_default=True,
              metavar="N", help="How many faults, over all images.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0),
              help="Of what is random; else that of the last run in --results, or one is "
              "chosen.")  # fmt: skip
@click.option("--results", "file", metavar="FILE",
              help="Keep results there; what has one there already is not run again.")  # fmt: skip
@click.option("-j", "--jobs", type=click.IntRange(1), metavar="N",
              help="Processes side by side. [default: all processors]")  # fmt: skip
@click.option("--fuse", type=click.IntRange(0), default=0, show_default=True, metavar="N",
              help="So many of the faults are met by a FUSE mount too.")  # fmt: skip
@click.option("--only", multiple=True, metavar="KEY", help="Run this fault, and no others.")
@click.option("--shrink/--no-shrink", default=True, show_default=True,
              help="Look for the smallest fault that does what a defect did.")  # fmt: skip
@click.option("--seconds", type=click.FloatRange(0.1), default=30.0, show_default=True,
              help="What a fault may take; more is a hang.")  # fmt: skip
@click.option("--memory", type=click.IntRange(16), default=512, show_default=True,
              metavar="MIB", help="What a fault may take in memory.")  # fmt: skip
@click.option("--norecovery", is_flag=True, help="Open images whose log was not replayed.")
@click.option("--manifest", "manifests", metavar="FILE", multiple=True,
              help="What the kernel's own mount of the IMAGE shows, as tools/mkimages writes it "
              "(given once for each, in their order): held against the sound image first.",
              )  # fmt: skip
@click.option("--stray", "strays", type=click.IntRange(0), default=0, show_default=True,
              metavar="N", help="So many stray writes into each kind of memory, over all images.",
              )  # fmt: skip
@click.option("--slab", "memories", metavar="NAMES", default="memfd,none", show_default=True,
              help="Those kinds of memory; `none` is ordinary memory, the control.")  # fmt: skip
@click.option("--target", "readers", metavar="READER", multiple=True,
              help=f"Ask another reader about the same damaged copies: {REPAIR} (xfs_repair -n) or "
              "command:'PROGRAM ... {image}'.")  # fmt: skip
@click.option("--scheduler", metavar="ADDRESS",
              help="Run on the Dask cluster of this scheduler (needs wofs[dask]); its machines "
              "have the images under the same paths.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each fault.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def run(images: tuple[str, ...], **options: Any) -> int:  # noqa: ANN401
    """Strike every field of every structure of IMAGE, and judge what a reader does then.

    For each fault a child process opens the damaged image (laid over the sound one, which is
    never written to), asks for everything a user can, and checks it. The laws: no crash, no
    hang, no memory beyond the limit, no traceback, nothing written; every answer is that of the
    sound image or an error that names an object; nothing of a wrong checksum is served; and
    `wofs check` reports, at the right object, whatever changes an answer.

    With --manifest the answers of the sound image are the kernel's, not only the reader's own:
    where it is read otherwise nothing is struck.

    Stray writes hit the memory of a mount instead: each must be stopped, and named where it
    hit. Another reader gets a copy of its own of each damaged image; its exit status is its
    verdict (0: it accepts), a signal a crash, too long a hang.

    Exit codes: 0 no law was broken and nothing was silently wrong, 1 otherwise, 2 usage, 3 an
    image is not XFS or not supported.
    """
    asked = Asked(**options)
    try:
        targets = [target_of(name) for name in asked.readers]
    except BadReader as error:
        raise click.UsageError(str(error)) from error
    if asked.strays and not asked.plan.memories:
        raise click.UsageError("--slab names no memory for the stray writes")
    if asked.manifests and len(asked.manifests) != len(images):
        raise click.UsageError("--manifest: give one for each IMAGE, in their order")
    if _contradicted(images, asked):
        return FAILED
    bad: list[Result] = []
    output = Output()
    with ended_tidily(), logged(True, False), ExitStack() as stack:
        results = stack.enter_context(Results(asked.file or ":memory:", create=True))
        if asked.seed is None:
            asked = replace(asked, seed=results.seed())  # the same command goes on
        results.begin(version("wofs"), asked.told | {"images": list(images)})
        bad += _all_faults(images, asked, results, output, stack)
        if targets:
            for image, verdict in control(images, targets, asked.seconds):
                say(f"{verdict.target}: has this against {image} as it is: {verdict.told}")
            with progress.counting("other readers", asked.quiet) as tell:
                ask_all(results, targets, asked.processes, asked.seconds, tell, images)
        written = changed(image for image in results.images() if image.path in images)
        found = summary(results)
        if asked.as_json:
            for name, reader in found.readers.items():
                for told in campaignreport.reader_objects(name, reader):
                    output.json(told)
        else:
            campaignreport.write_readers(output, found, campaignreport.SHOWN)
            for result in _sorts(bad)[:_SHRUNK]:
                _show(output, reduced(result, asked.plan) if asked.shrink else result)
        for path in written:
            say(f"{path}: was written to")
        output.flush()
    return FAILED if bad or written else DONE


@dataclass(frozen=True)
class Asked:
    """What the options say."""

    faults: int
    seed: int | None
    file: str | None
    jobs: int | None
    fuse: int
    only: tuple[str, ...]
    shrink: bool
    seconds: float
    memory: int
    norecovery: bool
    manifests: tuple[str, ...]
    strays: int
    memories: str
    readers: tuple[str, ...]
    scheduler: str | None
    as_json: bool
    quiet: bool

    @cached_property
    def plan(self) -> Plan:
        """The same for the driver, with a seed."""
        seed = random.randrange(1 << 32) if self.seed is None else self.seed
        limits = Limits(self.seconds, self.memory << 20)
        memories = tuple(dict.fromkeys(name for name in self.memories.split(",") if name))
        return Plan(
            self.faults, seed, limits, self.norecovery, self.fuse, self.strays, memories
        )

    @property
    def told(self) -> dict[str, object]:
        """What a file of results keeps of it."""
        strays = {"strays": self.strays, "memories": self.memories} if self.strays else {}
        return {"faults": self.faults, "seed": self.plan.seed, "fuse": self.fuse, **strays}

    @property
    def processes(self) -> int:
        """How many run side by side."""
        return self.jobs or processors()


def _contradicted(images: tuple[str, ...], asked: Asked) -> bool:
    """Hold each image against its manifest; say what differs, and return whether anything does."""
    differing = 0
    with ended_tidily(), logged(True, False):
        for image, manifest in zip(images, asked.manifests, strict=False):
            try:
                lines = list(contradictions(image, manifest, asked.norecovery))
            except BadManifest as error:
                raise click.UsageError(str(error)) from error
            for line in lines[:_SHOWN_PATHS]:
                say(f"{image}: {line}")
            if lines:
                what = f"{counted(len(lines), 'path')} not as {manifest} has it"
                say(f"{image}: {what}: nothing was struck")
            differing += len(lines)
    return bool(differing)


def _all_faults(
    images: tuple[str, ...], asked: Asked, results: Results, output: Output, stack: ExitStack
) -> Iterator[Result]:
    """Do what is still to be done, tell of it, and yield the defects."""
    plan, counts = asked.plan, Counter[str]()
    units = _only(images, asked.only, plan, results) if asked.only else None
    kept = 0 if asked.only else sum(len(results.done(image)) for image in set(images))
    if kept:
        say(f"{results.path}: goes on: {counted(kept, 'fault')} of these images had results")
    units = prepare(images, plan, results) if units is None else units
    pool: Pool | Cluster
    if asked.scheduler is None:
        pool = Pool(min(asked.processes, max(1, len(units))), work)
    else:
        pool = Cluster(asked.scheduler, work)
    stack.enter_context(pool)
    with progress.counting(f"faults (seed {plan.seed})", asked.quiet) as tell:
        for result in drive(units, pool.run, results, tell):
            counts[result.outcome] += result.count
            if is_bad(result):
                yield result
            if asked.as_json:
                output.json(_told(result))
    if not asked.as_json:
        _summary(output, counts, plan.seed)


def _only(
    images: tuple[str, ...], keys: tuple[str, ...], plan: Plan, results: Results
) -> list[Unit]:
    """Return the faults that were named, of every image."""
    units = []
    for image in images:
        results.add_image(fingerprint(image))
        for key in keys:
            mounted = key.startswith(OVER_FUSE)
            of_key = memory.of_key if key.startswith(memory.CLASS) else Fault.of_key
            try:
                fault = of_key(image, key)
            except ValueError as error:
                raise click.UsageError(str(error)) from error
            units.append(Unit(image, (fault,), plan.limits, plan.norecovery, mounted))
    return units


def _told(result: Result) -> dict[str, object]:
    """Return a result as a JSON object."""
    return {
        "key": result.fault.key, **result.fault.as_json, "outcome": result.outcome,
        "laws": result.laws, "error": result.error, "codes": result.codes,
        "changed": result.changed, "reason": result.reason, "millis": result.millis,
        "peak_kib": result.peak_kib, "signal": result.signal, "count": result.count,
    }  # fmt: skip


def _summary(output: Output, counts: Counter[str], seed: int) -> None:
    output.line(f"{counted(counts.total(), 'fault')} (seed {seed})")
    for outcome, meaning in OUTCOMES.items():
        if counts[outcome]:
            output.line(f"  {counts[outcome]:>7,} {outcome}: {meaning}")


def _sorts(bad: list[Result]) -> list[Result]:
    """Return one defect of each sort."""
    found: dict[tuple[object, ...], Result] = {}
    for result in bad:
        fault = result.fault
        key = result.outcome, result.laws, fault.structure, fault.field
        found.setdefault(key, result)
    return list(found.values())


def _show(output: Output, result: Result) -> None:
    """Write a defect, and the commands that make it again."""
    laws = f" ({', '.join(result.laws)})" if result.laws else ""
    output.line(f"{result.outcome}{laws}: {escape(result.fault.name)}")
    if result.error:
        output.line(f"  said: {escape(result.error)}")
    for line in result.changed:
        output.line(f"  {escape(line)}")
    output.line(f"  {reproducing(result.fault)}")
