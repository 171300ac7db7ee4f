"""A campaign as a page: one file of HTML, its pictures inside, nothing fetched.

What came of the faults, a map of structures and outcomes, the fields, what other readers say,
and every defect with the command that does it again. Of two runs, what changed too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from wofs.campaign.compare import Comparison
from wofs.campaign.fault import Fault
from wofs.campaign.laws import OUTCOMES
from wofs.campaign.report import BAD, CONTROL, Row, Summary, counted, listed, reproducing
from wofs.campaign.results import Verdict
from wofs.campaign.target import STATUSES, known_false
from wofs.page import Html, box, document, heading, label, paragraph, preformatted, svg, table, text

HUES = {
    **{"refused": "#00796b", "contained": "#2e8b57", "caught": "#1f6fb2", "harmless": "#8a949e"},
    **{"invisible": "#b7791f", "silent": "#c62828", "broken": "#7b1fa2"},
    **{"crashed": "#00796b", "stopped": "#2e8b57", "missed": "#c62828"},
}
_WIDTH, _LEFT, _ROW, _BAR = 960, 230, 30, 36
_LEGEND = 24
_SHOWN = 500
"""Defects and changes drawn one by one; the numbers are complete."""

_STYLE = """
pre{margin:.2em 0} details{margin:.4em 0} summary{cursor:pointer}
.good{border-left:6px solid #2e8b57;padding-left:.8em}
.bad{border-left:6px solid #c62828;padding-left:.8em}
"""


def bar(summary: Summary) -> Html:
    """Return one bar cut by outcome, and what the outcomes mean."""
    total, parts, x = summary.total, [], 0.0
    scale = _WIDTH / max(1, total.total())
    for name in summary.outcomes:
        width, count = total[name] * scale, f"{total[name]:,}"
        size = max(1.0, width - 2), float(_BAR)
        parts.append(box(x, 0, size, HUES[name], f"{name}: {count}"))
        if width > 12 * len(count):
            parts.append(label(x + width / 2, 24, count, "middle", "in"))
        x += width
    top = _BAR + _LEGEND
    for name in summary.outcomes:
        parts.append(box(0, top - 13, (15, 15), HUES[name]))
        share = 100 * total[name] / total.total()
        parts.append(label(24, top, f"{name}: {OUTCOMES[name]} ({total[name]:,}, {share:.1f} %)"))
        top += _LEGEND
    return svg(_WIDTH, top, parts, "faults by outcome")


def heat(summary: Summary) -> Html:
    """Return the map: a row a structure, a column an outcome, darker for a larger share."""
    names, structures = summary.outcomes, summary.structures
    step = (_WIDTH - _LEFT - 90) / max(1, len(names))
    parts = [
        label(_LEFT + (column + 0.5) * step, 16, name, "middle", "dim")
        for column, name in enumerate(names)
    ]
    parts.append(label(_WIDTH, 16, "faults", "end", "dim"))
    for number, (row, counts) in enumerate(structures.items()):
        parts += _cells(24 + number * _ROW, row, counts, names, step)
    height = 28 + len(structures) * _ROW
    return svg(_WIDTH, height, parts, "share of outcomes by structure")


def _cells(
    top: float, row: Row, counts: Counter[str], names: Sequence[str], step: float
) -> Iterator[Html]:
    """Yield the parts of one row of the map."""
    total = counts.total()
    yield label(_LEFT - 12, top + 20, row, "end")
    yield label(_WIDTH, top + 20, f"{total:,}", "end", "dim")
    for column, name in enumerate(names):
        count, x = counts[name], _LEFT + column * step
        if not count:
            continue
        share = count / total
        told = f"{row}, {name}: {count:,} of {total:,}"
        size = step - 2, float(_ROW - 2)
        shade = 1.0 if name in BAD else 0.12 + 0.88 * share
        yield box(x, top, size, HUES[name], told, shade)
        style = "in" if shade > 0.5 else ""
        yield label(x + step / 2, top + 20, f"{count:,}", "middle", style)


def _coverage(summary: Summary) -> Html:
    covered = summary.coverage()
    if not covered:
        return Html("")
    names = [name for name in OUTCOMES if any(one.by_outcome[name] for one in covered.values())]
    rows = [
        (kind, one.fields, one.struck, *(one.by_outcome[name] or "" for name in names))
        for kind, one in covered.items()
    ]
    return table(("structure", "fields", "struck", *names), rows)


def _fields(summary: Summary) -> Iterator[Html]:
    """Yield the table of each structure's fields, folded."""
    covered = summary.coverage()
    for row, fields in summary.fields.items():
        names = [name for name in summary.outcomes if any(c[name] for c in fields.values())]
        rows = [
            (field or "(whole)", *(f"{counts[name]:,}" if counts[name] else "" for name in names))
            for field, counts in sorted(fields.items())
        ]
        of = covered.get(str(row))
        told = f"{row}: {of.struck} of {of.fields} fields struck" if of else f"{row}"
        never = paragraph("Never struck: " + ", ".join(of.never) + ".") if of and of.never else ""
        shown = table(("field", *names), rows)
        yield Html(f"<details><summary>{text(told)}</summary>{shown}{never}</details>")


def _invisible(summary: Summary) -> Iterator[Html]:
    if not summary.invisible:
        return
    yield heading("By nature invisible")
    for reason, fields in sorted(summary.invisible.items()):
        told = f"{reason}: {counted(fields.total(), 'fault')}"
        shown = paragraph(listed(fields) + ".")
        yield Html(f"<details open><summary>{text(told)}</summary>{shown}</details>")


def _missed(summary: Summary) -> Iterator[Html]:
    for memory, reasons in summary.missed.items():
        yield heading(f"What came of stray writes that landed, in {memory}")
        if memory == CONTROL:
            yield paragraph("This is ordinary memory, the control: they were to land.", dim=True)
        yield table(("what", "fields"), [(why, f"{n:,}") for why, n in reasons.most_common()])


def _bad(summary: Summary) -> Iterator[Html]:
    if summary.laws:
        yield heading("Laws that were broken")
        yield table(("law", "faults"), summary.laws.most_common())
    if not summary.bad:
        return
    yield heading("Defects, and how to see each again")
    for stored in summary.bad[:_SHOWN]:
        result = stored.result
        told = [f"{result.outcome}: {result.fault.name}={result.fault.value}", *result.laws]
        lines = [*result.changed, *([result.error] if result.error else [])]
        shown = "\n".join([reproducing(result.fault), *lines])
        yield Html(f'<div class="bad">{text(", ".join(told))}<pre>{text(shown)}</pre></div>')
    if len(summary.bad) > _SHOWN:
        yield paragraph(f"… and {len(summary.bad) - _SHOWN:,} more.", dim=True)


def _readers(summary: Summary) -> Iterator[Html]:
    for target, reader in summary.readers.items():
        yield heading(f"Side by side: {target}")
        counts = reader.counts
        statuses = [name for name in STATUSES if any(status == name for _, status in counts)]
        yield table(
            ("outcome in wofs", *statuses),
            [
                (name, *(f"{counts[name, status]:,}" for status in statuses))
                for name in OUTCOMES
                if any(counts[name, status] for status in statuses)
            ],
        )
        for known in known_false(target):
            yield paragraph(known, dim=True)
        for what, pairs in reader.lists.items():
            yield from _faults(pairs, what.capitalize(), pairs is reader.ended)


def _faults(pairs: Sequence[tuple[Fault, Verdict]], title: str, opened: bool) -> Iterator[Html]:
    """Yield a folded list of faults with what a reader says of each."""
    if not pairs:
        return
    lines = "\n".join(
        f"{reproducing(fault)}\n    {verdict.told}"
        for fault, verdict in pairs[:_SHOWN]
    )
    told = text(f"{title}: {counted(len(pairs), 'fault')}")
    is_open = " open" if opened else ""
    yield Html(f"<details{is_open}><summary>{told}</summary>{preformatted(lines)}</details>")


def _changes(comparison: Comparison, before: str) -> Iterator[Html]:
    yield heading(f"Changed since {before}")
    told = f"{comparison.same:,} faults have the outcome they had, {len(comparison.changes):,} "
    told += f"another; {comparison.only_before.total():,} are only there, "
    yield paragraph(told + f"{comparison.only_after.total():,} only here.")
    if comparison.changes:
        moves = comparison.moves.most_common()
        yield table(("before", "now", "faults"), [(a, b, f"{count:,}") for (a, b), count in moves])
    for change in comparison.changes[:_SHOWN]:
        style = ("bad", "good", "")[change.rank]
        told = f"{change.before} → {change.after}: {change.image}: {change.key}"
        yield Html(f'<div class="{style}">{text(told)}</div>')


def page(summary: Summary, comparison: Comparison | None = None, before: str = "") -> Html:
    """Return the page about a campaign, and what changed since the one called `before`."""
    versions = ", ".join(sorted({run.version for run in summary.runs})) or "?"
    faults, images = summary.total.total(), len(summary.images)
    subtitle = f"{summary.path}: {counted(faults, 'fault')} in {counted(images, 'image')}, "
    subtitle += f"wofs {versions}"
    verdict = "No law was broken, and no answer was silently wrong."
    if not summary.sound:
        verdict = f"{counted(len(summary.bad), 'defect')}, below."
    told = f'<p class="{"good" if summary.sound else "bad"}">{text(verdict)}</p>'
    body = [
        Html(told),
        bar(summary),
        *(() if comparison is None else _changes(comparison, before)),
        *_bad(summary),
        heading("Structures and outcomes"),
        heat(summary),
        heading("Fields that had each outcome"),
        _coverage(summary),
        *_fields(summary),
        *_invisible(summary),
        *_missed(summary),
        *_readers(summary),
        heading("Images"),
        table(
            ("image", "bytes", "SHA-256 begins"),
            [(one.path, f"{one.size:,}", one.sha256[:16]) for one in summary.images],
            left=True,
        ),
    ]
    return document("A campaign of faults: what came of each", subtitle, body, _STYLE)
