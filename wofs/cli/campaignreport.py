"""`wofs campaign report`: what a campaign found; what changed between two."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import click

from wofs.campaign.compare import Change, Comparison, compare
from wofs.campaign.fault import Fault
from wofs.campaign.laws import OUTCOMES
from wofs.campaign.page import page
from wofs.campaign.report import (
    Coverage,
    Reader,
    Row,
    Summary,
    counted,
    listed,
    reproducing,
    summary,
)
from wofs.campaign.results import Results, Stored, Verdict
from wofs.campaign.target import STATUSES, known_false
from wofs.cli import pagefile
from wofs.cli.output import DONE, FAILED, Json, Output, escape

SHOWN = 10
"""Defects and changes shown one by one, unless all are asked for."""


@click.command(
    "report",
    epilog="\b\nExamples:\n  wofs campaign report results.db\n"
    "  wofs campaign report --fields results.db\n"
    "  wofs campaign report before.db after.db --html changed.html\n"
    "  wofs campaign report --json results.db | jq 'select(.kind == \"defect\") | .command'",
)
@click.argument("files", metavar="FILE [FILE2]", nargs=-1, required=True)
@click.option("-f", "--fields", is_flag=True, help="A line for each field, not each structure.")
@click.option("-a", "--all", "every", is_flag=True, help="Every defect and change, not ten.")
@click.option(
    "--html", type=click.Path(dir_okay=False, writable=True), help="Draw it as a page: one file."
)
@click.option(
    "--json", "as_json", is_flag=True, help="One JSON object a line: its `kind` says what it tells."
)
def command(
    files: tuple[str, ...], fields: bool, every: bool, html: str | None, as_json: bool
) -> int:
    """Add up what a campaign found, from its file of results.

    How many faults of each structure had which outcome, which fields were struck, what is by
    nature invisible and why, what other readers say of the same copies, and every defect with
    the command that does it again. With a second file: what has another outcome there, new
    defects first; all else is then about the second.

    Exit codes: 0 no law was broken and nothing was silently wrong, 1 otherwise.
    """
    if len(files) > 2:
        raise click.UsageError("one file, or two to compare")
    if html:
        pagefile.claim(html)
    with ExitStack() as stack:
        opened = [stack.enter_context(Results(name)) for name in files]
        found = summary(opened[-1])
        comparison = compare(*opened) if len(opened) == 2 else None
    if html:
        pagefile.write(html, page(found, comparison, files[0]))
    out = Output()
    if as_json:
        for told in _objects(found, comparison):
            out.json(told)
    else:
        _write(out, found, comparison, fields, None if every else SHOWN)
    out.flush()
    return DONE if found.sound else FAILED


# ---- for people
def _write(
    out: Output, found: Summary, comparison: Comparison | None, fields: bool, most: int | None
) -> None:
    """Write all parts, none that is empty; of lists `most` lines."""
    faults, images = counted(found.total.total(), "fault"), counted(len(found.images), "image")
    out.line(f"{escape(found.path)}: {faults} in {images}")
    out.line("")
    _write_counts(out, found, fields)
    _write_coverage(out, found.coverage(), most)
    _write_invisible(out, found)
    _write_missed(out, found)
    write_readers(out, found, most)
    if comparison is not None:
        _write_changes(out, comparison, most)
    _write_bad(out, found, most)
    out.line("")
    if found.sound:
        out.line("no law was broken, nothing was silently wrong")
    else:
        out.line(counted(len(found.bad), "defect"))


def _write_counts(out: Output, found: Summary, fields: bool) -> None:
    names = found.outcomes
    rows = [
        (escape(label), f"{counts.total():,}", *(f"{counts[name]:,}" for name in names))
        for label, counts in _lines(found, fields)
    ]
    total = found.total
    rows.append(("all", f"{total.total():,}", *(f"{total[name]:,}" for name in names)))
    out.table(("field" if fields else "structure", "faults", *names), rows)
    for name in names:
        out.line(f"  {name}: {OUTCOMES[name]}")


def _lines(found: Summary, fields: bool) -> Iterator[tuple[str, Counter[str]]]:
    """Yield (label, counts by outcome) of each line of the table."""
    for row, by_field in found.fields.items():
        if not fields:
            yield str(row), found.structures[row]
            continue
        for name, counts in sorted(by_field.items()):
            yield _named(row, name), counts


def _named(row: Row, name: str) -> str:
    label = f"{row.structure}.{name}" if name else row.structure
    return str(Row(row.backend, label))


def _write_coverage(out: Output, covered: dict[str, Coverage], most: int | None) -> None:
    """Write how many fields of each structure were struck, and with what outcomes."""
    if not covered:
        return
    names = [name for name in OUTCOMES if any(one.by_outcome[name] for one in covered.values())]
    rows = [
        (
            escape(kind),
            str(one.fields),
            str(one.struck),
            *(str(one.by_outcome[name]) for name in names),
        )
        for kind, one in covered.items()
    ]
    out.line("")
    out.line("fields of each structure, those struck, and those that had an outcome")
    out.table(("structure", "fields", "struck", *names), rows)
    for kind, one in covered.items():
        if one.never:
            shown = ", ".join(one.never[:most])
            more = len(one.never) - most if most else 0
            rest = f" and {more} more (-a: all)" if more > 0 else ""
            out.line(f"  never struck in {escape(kind)}: {shown}{rest}")


def _write_invisible(out: Output, found: Summary) -> None:
    if not found.invisible:
        return
    out.line("")
    out.line("by nature invisible")
    for reason, fields in sorted(found.invisible.items()):
        out.line(
            f"  {escape(reason)}: {counted(fields.total(), 'fault')}: {escape(listed(fields))}"
        )


def _write_missed(out: Output, found: Summary) -> None:
    """Write what came of the stray writes that landed."""
    for memory, reasons in found.missed.items():
        out.line("")
        out.line(f"fields in {escape(memory)} where a stray write landed, and what came of it")
        for reason, count in reasons.most_common():
            out.line(f"  {escape(reason)}: {count:,}")


def write_readers(out: Output, found: Summary, most: int | None) -> None:
    """Write what each other reader says, by what came of it in wofs."""
    for target, reader in found.readers.items():
        counts = reader.counts
        out.line("")
        out.line(f"what {escape(target)} says, by the outcome in wofs")
        statuses = [name for name in STATUSES if any(status == name for _, status in counts)]
        rows = [
            (outcome, *(f"{counts[outcome, status]:,}" for status in statuses))
            for outcome in OUTCOMES
            if any(counts[outcome, status] for status in statuses)
        ]
        out.table(("wofs", *statuses), rows)
        for known in known_false(target):
            out.line(f"  {known}")
        for what, pairs in reader.lists.items():
            _write_faults(out, what, pairs, most)


def _write_faults(
    out: Output, what: str, pairs: Sequence[tuple[Fault, Verdict]], most: int | None
) -> None:
    """Write faults with what another reader says of them."""
    if pairs:
        out.line(f"{what}: {counted(len(pairs), 'fault')}")
    for fault, verdict in pairs[:most]:
        out.line(f"  {escape(verdict.told)}")
        out.line(f"    {reproducing(fault)}")
    _write_rest(out, len(pairs), most)


def _write_changes(out: Output, comparison: Comparison, most: int | None) -> None:
    out.line("")
    here, there = comparison.only_after.total(), comparison.only_before.total()
    out.line(
        f"compared: {comparison.same:,} as before, {len(comparison.changes):,} changed, "
        f"{there:,} only in the first file, {here:,} only in the second"
    )
    for (before, after), count in comparison.moves.most_common():
        out.line(f"  {count:,} from {before} to {after}")
    for change in comparison.changes[:most]:
        mark = ("new defect", "mended", "changed")[change.rank]
        what = f"{change.image}: {change.key}: {change.before} -> {change.after}"
        out.line(f"  {mark}: {escape(what)}")
    _write_rest(out, len(comparison.changes), most)


def _write_bad(out: Output, found: Summary, most: int | None) -> None:
    for law, count in found.laws.most_common():
        out.line(f"law broken: {escape(law)}: {count:,}")
    for stored in found.bad[:most]:
        result = stored.result
        out.line("")
        laws = f" ({', '.join(result.laws)})" if result.laws else ""
        out.line(f"{result.outcome}{escape(laws)}: {escape(_struck(stored))}")
        out.line(f"  {reproducing(result.fault)}")
        if result.error:
            out.line(f"  said: {escape(result.error)}")
        for line in result.changed:
            out.line(f"  differs: {escape(line)}")
    _write_rest(out, len(found.bad), most)


def _struck(stored: Stored) -> str:
    fault = stored.result.fault
    return f"{fault.image}: {fault.name}={fault.value}, {fault.klass}, crc {fault.crc}"


def _write_rest(out: Output, count: int, most: int | None) -> None:
    if most is not None and count > most:
        out.line(f"  ... and {count - most:,} more (-a: all)")


# ---- for programs
def _objects(found: Summary, comparison: Comparison | None) -> Iterator[Json]:
    """Yield everything as objects with a `kind`."""
    for run in found.runs:
        yield {
            "kind": "run",
            "started": run.started,
            "version": run.version,
            "options": run.options,
        }
    for image in found.images:
        yield {"kind": "image", "path": image.path, "sha256": image.sha256, "size": image.size}
    for row, fields in found.fields.items():
        for name, counts in sorted(fields.items()):
            yield {
                "kind": "field",
                "structure": row.structure,
                "memory": row.backend or None,
                "field": name,
                "outcomes": dict(counts),
            }
    for structure, one in found.coverage().items():
        yield {
            "kind": "coverage",
            "structure": structure,
            "fields": one.fields,
            "struck": one.struck,
            "never": one.never,
            "outcomes": dict(one.by_outcome),
        }
    for reason, named in sorted(found.invisible.items()):
        yield {"kind": "invisible", "reason": reason, "fields": dict(named)}
    for memory, reasons in found.missed.items():
        yield {"kind": "missed", "memory": memory, "fields": dict(reasons)}
    for target, reader in found.readers.items():
        yield from reader_objects(target, reader)
    yield from (_defect(stored) for stored in found.bad)
    if comparison is not None:
        yield from _compared(comparison)


def reader_objects(target: str, reader: Reader) -> Iterator[Json]:
    """Yield what another reader says, as objects."""
    for (outcome, status), count in sorted(reader.counts.items()):
        told = {"target": target, "outcome": outcome, "status": status, "count": count}
        yield {"kind": "reader", **told}
    for fault, verdict in (pair for pairs in reader.lists.values() for pair in pairs):
        told = {"target": target, "status": verdict.status, "text": verdict.text}
        yield {"kind": "verdict", **told, "fault": fault.as_json, "command": reproducing(fault)}


def _defect(stored: Stored) -> Json:
    result = stored.result
    return {
        "kind": "defect",
        "outcome": result.outcome,
        "fault": result.fault.as_json,
        "laws": result.laws,
        "error": result.error,
        "codes": result.codes,
        "changed": result.changed,
        "signal": result.signal,
        "count": result.count,
        "verdicts": {one.target: one.status for one in stored.verdicts},
        "command": reproducing(result.fault),
    }


def _compared(comparison: Comparison) -> Iterator[Json]:
    yield {
        "kind": "comparison",
        "same": comparison.same,
        "changed": len(comparison.changes),
        "only_first": dict(comparison.only_before),
        "only_second": dict(comparison.only_after),
    }
    for change in comparison.changes:
        yield _change(change)


def _change(change: Change) -> Json:
    return {
        "kind": "change",
        "image": change.image,
        "key": change.key,
        "before": change.before,
        "after": change.after,
        "defect": change.rank == 0,
    }
