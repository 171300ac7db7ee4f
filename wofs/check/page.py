"""A check as a page: a map of the image, and the findings by their rule."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import groupby

from wofs.check.atlas import COLUMNS, KINDS, METADATA, Atlas
from wofs.check.findings import Finding, Report
from wofs.check.problems import CODES, ERROR, NOTE, WARNING
from wofs.page import Html, box, document, heading, joined, label, paragraph, svg, table, text

_HUES = dict(
    zip(
        KINDS,
        ("#8a949e55", "#4c78a8", "#f2a03d", "#54a24b", "#b279a2", "#2a9d9d", "#9d755d", "#5b6770",
         "#e4575655"),
        strict=True,
    )
)  # fmt: skip
_SEVERITIES = {ERROR: "#d32f2f", WARNING: "#d98e04", NOTE: "#8a949e"}

_WIDTH, _LEFT, _ROW, _BAR, _STRIP, _LEGEND = 960, 130, 40, 18, 5, 24
_SHOWN = 50
"""Findings of one rule that are listed; the numbers are complete."""

_MARKS = 400
"""Marks drawn one by one."""

_STYLE = """
details{margin:.8em 0} summary{cursor:pointer}
.error,.warning,.note{border-left:6px solid;padding-left:.8em}
.error{border-color:#d32f2f} .warning{border-color:#d98e04} .note{border-color:#8a949e}
"""


def page(image: str, report: Report, atlas: Atlas) -> Html:
    """Return the page of a check that was done."""
    size = atlas.blocks * atlas.blocksize
    facts = (
        f"{size:,} bytes in {atlas.blocks:,} blocks of {atlas.blocksize:,}, {atlas.agcount:,} "
        f"allocation groups, {atlas.inodes:,} inodes in use"
    )
    body = [
        paragraph(f"{report.verdict.capitalize()}."), heading("Map"), _map(atlas),
        paragraph(
            "A row is an allocation group (or some), from its first block to its last. The bar "
            "shows what most blocks of a piece are; the strip below it what other metadata lies "
            "among them; triangles above it are findings.", dim=True,
        ),
        _legend(atlas), *_findings(report),
    ]  # fmt: skip
    return document(f"wofs check: {image}", facts, body, _STYLE)


def _map(atlas: Atlas) -> Html:
    """Return the picture of all rows."""
    parts: list[Html] = []
    for row, ((first, end), pieces) in enumerate(zip(atlas.rows, atlas.pieces, strict=True)):
        top = row * _ROW + 14
        name = f"ag {first}" if end == first + 1 else f"ag {first} to {end - 1}"
        parts.append(label(_LEFT - 10, top + 14, name, "end"))
        most = [max(piece, key=piece.__getitem__, default=KINDS[-1]) for piece in pieces]
        parts += _strip(most, top, _BAR)
        among = [
            max((k for k in METADATA if piece[k] and k != bar), key=piece.__getitem__, default="")
            for bar, piece in zip(most, pieces, strict=True)
        ]
        parts += _strip(among, top + _BAR + 1, _STRIP)
    parts += _marks(atlas)
    return svg(_WIDTH, len(atlas.rows) * _ROW + 14, parts, "what lies where")


def _strip(kinds: Sequence[str], top: float, height: float) -> Iterator[Html]:
    """Yield a bar of equal pieces; neighbours of a kind are one box, "" is left out."""
    step, at = (_WIDTH - _LEFT) / COLUMNS, 0
    for kind, group in groupby(kinds):
        count = len(list(group))
        if kind:
            yield box(_LEFT + at * step, top, (count * step, height), _HUES[kind], kind)
        at += count


def _marks(atlas: Atlas) -> Iterator[Html]:
    """Yield a triangle for each piece that has findings, the gravest first."""
    step = (_WIDTH - _LEFT) / COLUMNS
    order = list(_SEVERITIES)
    places: dict[tuple[int, int], list[Finding]] = {}
    for mark in atlas.marks:
        places.setdefault((mark.row, mark.column), []).append(mark.finding)
    for (row, column), findings in list(places.items())[:_MARKS]:
        findings.sort(key=lambda f: order.index(f.problem.severity))
        x, y = _LEFT + (column + 0.5) * step, row * _ROW + 13
        lines = [f"{f.problem.code} {f.problem.name}: {f.object}" for f in findings[:8]]
        if len(findings) > len(lines):
            lines.append(f"and {len(findings) - len(lines)} more")
        hue, told = _SEVERITIES[findings[0].problem.severity], text("\n".join(lines))
        shape = f"{x - 5:.1f},{y - 10} {x + 5:.1f},{y - 10} {x:.1f},{y}"
        yield Html(f'<polygon points="{shape}" fill="{hue}"><title>{told}</title></polygon>')


def _legend(atlas: Atlas) -> Html:
    """Return what the colours are, and how much of the image is of each kind."""
    parts, column, top = [], _WIDTH // 3, 0
    kinds = [kind for kind in KINDS if atlas.totals[kind]]
    for number, kind in enumerate(kinds):
        x, top = number % 3 * column, number // 3 * _LEGEND + 16
        share = 100 * atlas.totals[kind] / max(1, atlas.blocks)
        parts.append(box(x, top - 13, (15, 15), _HUES[kind]))
        parts.append(label(x + 24, top, f"{kind}: {atlas.totals[kind]:,} ({share:.1f} %)"))
    return svg(_WIDTH, top + 8, parts, "the colours of the map")


def _findings(report: Report) -> Iterator[Html]:
    """Yield the findings, a section for each rule."""
    groups: dict[str, list[Finding]] = {}
    for finding in report.findings:
        groups.setdefault(finding.problem.code, []).append(finding)
    if groups:
        yield heading("Findings")
    for code, findings in sorted(groups.items()):
        problem, count = CODES[code], report.counts[code]
        shown = findings[:_SHOWN]
        rows = [
            (_object(f), f.field or "", _fact(f), f.expected or "",
             "" if f.offset is None else f"{f.offset:#x}")
            for f in shown
        ]  # fmt: skip
        rest = f"… and {count - len(shown):,} more" if count > len(shown) else ""
        parts = [
            Html(f'<details class="{problem.severity}" open><summary><b>{code} '),
            text(problem.name), Html("</b>: "), text(f"{problem.text} ({count:,})"),
            Html("</summary>"), paragraph(problem.rule, dim=True),
            paragraph(f"What a reader sees: {problem.effect}"),
            table(("object", "field", "found", "expected", "byte"), rows, left=True),
            paragraph(rest, dim=True) if rest else Html(""), Html("</details>"),
        ]  # fmt: skip
        yield joined(parts)


def _object(finding: Finding) -> str:
    if finding.path is None:
        return finding.object
    return f"{finding.object} ({os.fsdecode(finding.path)})"


def _fact(finding: Finding) -> str:
    return ", ".join(fact for fact in (finding.found, finding.detail) if fact)
