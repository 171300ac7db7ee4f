"""`wofs check`: hold an image to every rule and report what breaks one, grouped and short."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from typing import Any

import click

from wofs.check.atlas import Atlas
from wofs.check.findings import KEPT_PER_PROBLEM, Finding, Report
from wofs.check.page import page
from wofs.check.problems import CODES, NOTE, Problem
from wofs.check.run import check
from wofs.cli import pagefile, progress
from wofs.cli.output import (
    Json,
    Output,
    Unwritable,
    escape,
    internal,
    message,
    named,
    say,
)
from wofs.cli.request import JSON_HELP, OpenOptions, ended_tidily, logged, parse_options
from wofs.cli.usage import StatusVerb
from wofs.errors import WofsError
from wofs.fs.filesystem import open_source

CLEAN, UNCORRECTED, OPERATIONAL, WRONG_USAGE = 0, 4, 8, 16
"""Exit codes of fsck(8)."""

SHOWN = 3
"""Findings of one problem shown one by one, unless all are asked for."""


_WORTH_A_PROCESS_BYTES = 64 << 20
"""Smaller images are checked before another process has begun."""


class WrongUsage(click.UsageError):
    """Wrong usage of a verb whose exit status is fsck(8)'s."""

    exit_code = WRONG_USAGE


class NotChecked(click.ClickException):
    """The check itself failed."""

    exit_code = OPERATIONAL


class FsckVerb(StatusVerb):
    """A verb whose exit status for wrong usage, and for any failure, is fsck(8)'s."""

    wrong_usage = WrongUsage

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401
        """Run the verb; what fails is no answer about the image, which 1 is to fsck(8)."""
        try:
            return super().invoke(ctx)
        except Unwritable as error:
            raise NotChecked(error.message) from error
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            raise NotChecked(internal(error)) from error


@click.command(
    "check",
    cls=FsckVerb,
    epilog="\b\nExamples:\n  wofs check disk.img\n"
    "  wofs check -a disk.img          1,000 findings of a kind, not three\n"
    "  wofs check --json disk.img | jq 'select(.severity == \"error\")'\n"
    "  wofs check --html map.html disk.img\n"
    "  wofs explain WX0312             what a rule says",
)
@click.argument("image")
@click.option(
    "-o", "words", metavar="OPTIONS", multiple=True,
    help="sb=N (believe the superblock of AG N), logdev=FILE (where an external log is), "
    "slab=NAME (memory backend).",
)  # fmt: skip
@click.option("-a", "--all", "every", is_flag=True,
              help=f"The first {KEPT_PER_PROBLEM:,} findings of each kind, as with --json, not "
              "three.")  # fmt: skip
@click.option("-q", "--quiet", is_flag=True, help="No progress; only the exit code and findings.")
@click.option("-v", "--verbose", is_flag=True, help="Say more on stderr.")
@click.option(
    "-j", "--jobs", type=click.IntRange(1, 1024), metavar="N",
    help="Processes that share the work; by default one for each processor where the image is "
    "large.",
)  # fmt: skip
@click.option(
    "--html", type=click.Path(dir_okay=False, writable=True), metavar="FILE",
    help="Draw it as a page, with a map of the image: one file.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
def command(
    image: str, words: tuple[str, ...], every: bool, quiet: bool, verbose: bool, jobs: int | None,
    html: str | None, as_json: bool,
) -> int:  # fmt: skip
    """Read all metadata of IMAGE and report every rule it breaks. Nothing is written.

    Superblocks, AG headers, all btrees, inodes, extents, directories, attributes, symlinks,
    the log; link counts, the owner of every block, all counters. Like findings are one line
    with a count and the first three. File data has no checksums and is not read.

    Exit codes as fsck(8), which add up: 0 clean (or notes only), 4 something is wrong, 8 the
    check could not be done (no XFS, not supported, I/O) or its page not written, 16 usage, 130
    interrupted.
    """
    try:
        options = parse_options(words)
    except click.UsageError as error:
        raise WrongUsage(error.format_message(), error.ctx) from error
    try:
        atlas = Atlas() if html else None
        with logged(not verbose, verbose), ended_tidily():
            if html:
                pagefile.claim(html)
            report = _run(image, options, quiet, jobs, atlas)
    except (WofsError, OSError) as error:
        say(message(error))
        return OPERATIONAL
    code = CLEAN if report.clean else UNCORRECTED
    if html and atlas:
        try:
            pagefile.write(html, page(os.path.basename(image), report, atlas))
        except OSError as error:
            say(message(error))
            code |= OPERATIONAL
    with suppress(BrokenPipeError):  # who closed it has seen enough; the verdict stands
        _tell(Output(), image, report, every, quiet, as_json)
    return code


def _tell(out: Output, image: str, report: Report, every: bool, quiet: bool, as_json: bool) -> None:
    """Write the report to standard output."""
    if as_json:
        for finding in report.findings:
            out.json(as_object(finding))
        for problem, count in _left_out(report):
            out.json({"code": problem.code, "name": problem.name, "not_shown": count})
    else:
        _write(out, image, report, every, quiet)
    out.flush()


def _run(
    image: str, options: OpenOptions, quiet: bool, jobs: int | None, atlas: Atlas | None
) -> Report:
    with progress.unpacking(quiet) as unpacking:
        device = open_source(image, unpacking)
    if jobs is None:
        jobs = min(len(os.sched_getaffinity(0)), 1 + device.size // _WORTH_A_PROCESS_BYTES)
    with closing(device):
        log_device = None if options.logdev is None else open_source(options.logdev, None)
        try:
            with progress.counting("inodes", quiet) as tell:
                return check(
                    device, sb_agno=options.sb, log_device=log_device, slab=options.slab,
                    tell=tell, jobs=jobs, atlas=atlas,
                )  # fmt: skip
        finally:
            if log_device is not None:
                log_device.close()


def _left_out(report: Report) -> Iterator[tuple[Problem, int]]:
    """Yield problems of which not all findings were kept, and how many are missing."""
    kept: dict[str, int] = {}
    for finding in report.findings:
        kept[finding.problem.code] = kept.get(finding.problem.code, 0) + 1
    for code, count in sorted(report.counts.items()):
        if count > kept[code]:
            yield CODES[code], count - kept[code]


def as_object(finding: Finding) -> Json:
    """Return a finding as an object for JSON."""
    problem = finding.problem
    out: Json = {
        "code": problem.code,
        "name": problem.name,
        "severity": problem.severity,
        "object": finding.object,
    }
    for key in ("field", "expected", "found", "offset", "ino", "agno"):
        value = getattr(finding, key)
        if value is not None:
            out[key] = value
    if finding.path is not None:
        out |= named("path", finding.path)
    if finding.detail:
        out["detail"] = finding.detail
    return out | {"source": problem.source, "effect": problem.effect}


def _write(out: Output, image: str, report: Report, every: bool, quiet: bool) -> None:
    """Write the findings by code, and a last line with their number."""
    groups: dict[str, list[Finding]] = {}
    for finding in report.findings:
        groups.setdefault(finding.problem.code, []).append(finding)
    for code, findings in sorted(groups.items()):
        problem, count = CODES[code], report.counts[code]
        times = f" ({count:,} times)" if count > 1 else ""
        out.line(f"{code} {problem.name}: {problem.severity}: {problem.text}{times}")
        shown = findings if every else findings[:SHOWN]
        _write_lines(out, shown)
        if count > len(shown):
            out.line(f"    ... and {count - len(shown):,} more")
        if problem.severity != NOTE:
            out.line(f"    What a reader sees: {problem.effect}")
    if not quiet:
        out.line(f"{escape(image)}: {report.verdict}")


def _write_lines(out: Output, findings: Iterable[Finding]) -> None:
    for f in findings:
        name = f.object if f.path is None else f"{f.object} ({os.fsdecode(f.path)})"
        if f.field:
            name += f" / {f.field}"
        facts = [f.detail] if f.detail else []
        if f.found is not None:
            facts.append(f"found {f.found}")
        if f.expected is not None:
            facts.append(f"expected {f.expected}")
        place = "" if f.offset is None else f" [byte {f.offset:#x}]"
        told = f": {escape(', '.join(facts))}" if facts else ""
        out.line(f"    {escape(name)}{told}{place}")
