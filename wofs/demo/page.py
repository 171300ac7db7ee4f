"""The strikes as a page: one file of HTML, its pictures inside, nothing fetched.

What became of each strike, how long until it was noticed, and one strike shown on both sides:
the wrong answer where the memory is ordinary, the report where it is write-once.
"""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Iterator, Sequence
from html import escape

from wofs.demo.straywrite import NOTICED, OUTCOMES, Tally, Task, Trial

_HUES = {
    **{"named": "#00796b", "misnamed": "#7b5ea7", "died": "#5d4037", "hung": "#212121"},
    **{"wrong": "#c62828", "errors": "#ef8a17", "unseen": "#b0b7bf"},
}
_WIDTH, _LEFT, _ROW, _BAR = 960, 210, 48, 32
_TIMES = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)
_REPORT_LINES = 22

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>
body{{font:16px/1.5 system-ui,sans-serif;color:#1d2733;max-width:60em;margin:2.5em auto;
padding:0 1em}}
h1{{font-size:2em;line-height:1.2;margin-bottom:.2em}} h2{{font-size:1.25em;margin-top:2em}}
svg{{width:100%;height:auto}} svg text{{font:15px system-ui,sans-serif;fill:#1d2733}}
svg .in{{fill:#fff;font-weight:600}} svg .dim{{fill:#66707a;font-size:13px}}
table{{border-collapse:collapse;width:100%}} td,th{{padding:.3em .6em;text-align:right;
border-bottom:1px solid #e1e5e9}} th:first-child,td:first-child{{text-align:left}}
.pair{{display:grid;grid-template-columns:1fr 1.4fr;gap:1em}} .pair>div{{border-top:5px solid;
padding:.6em 1em;background:#f6f7f9;min-width:0}} pre{{white-space:pre-wrap;
overflow-wrap:anywhere;font-size:12px;line-height:1.4}} .dim{{color:#66707a}}
</style>
<h1>{title}</h1><p class="dim">{subtitle}</p>
<h2>What became of each strike</h2>{bars}{kinds}
<h2>Time until it was noticed</h2>{times}
{pair}
<h2>Figures</h2>{table}
<p class="dim">{how}</p><p class="dim">{machine}</p></html>
"""


def _svg(height: int, parts: list[str], label: str) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
    return head + f'aria-label="{escape(label)}">' + "".join(parts) + "</svg>"


def _text(x: float, y: float, text: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {more}>{escape(text)}</text>'


def _rows(tallies: Sequence[Tally]) -> Iterator[tuple[str, dict[str, int]]]:
    """Yield what each bar shows: (label, outcomes).

    Where most strikes showed in no answer those that did have a bar of their own, else nobody
    sees them.
    """
    for tally in tallies:
        yield f"{tally.backend}: {tally.strikes:,} strikes", tally.outcomes
        shown = {name: n for name, n in tally.outcomes.items() if name != "unseen"}
        if 0 < sum(shown.values()) < tally.strikes / 2:
            yield f"{sum(shown.values()):,} of them showed", shown


def _bar(row: int, label: str, outcomes: dict[str, int]) -> Iterator[str]:
    """Yield the parts of a bar, cut by outcome; all bars have the same width."""
    x, top, scale = float(_LEFT), row * _ROW + 8, (_WIDTH - _LEFT - 10) / sum(outcomes.values())
    yield _text(_LEFT - 12, top + 22, label, 'text-anchor="end"')
    for name in (name for name in OUTCOMES if name in outcomes):
        width, count = outcomes[name] * scale, f"{outcomes[name]:,}"
        yield (
            f'<rect x="{x:.1f}" y="{top}" width="{max(1.0, width - 2):.1f}" height="{_BAR}" '
            f'fill="{_HUES[name]}"><title>{escape(OUTCOMES[name])}: {count}</title></rect>'
        )
        if width > 12 * len(count):
            middle = 'class="in" text-anchor="middle"'
            yield _text(x + (width - 2) / 2, top + 22, count, middle)
        x += width


def bars(tallies: Sequence[Tally]) -> str:
    """Return a bar or two a backend, with a legend of the outcomes that occurred."""
    parts: list[str] = []
    rows = list(_rows(tallies))
    for row, (label, outcomes) in enumerate(rows):
        parts += _bar(row, label, outcomes)
    top = len(rows) * _ROW + 20
    for name in (n for n in OUTCOMES if any(n in tally.outcomes for tally in tallies)):
        parts.append(
            f'<rect x="{_LEFT}" y="{top - 12}" width="14" height="14" fill="{_HUES[name]}"/>'
        )
        parts.append(_text(_LEFT + 22, top, OUTCOMES[name]))
        top += 24
    return _svg(top, parts, "outcomes of the strikes by backend")


def _x_of(seconds: float) -> float:
    """Return where a time stands on the logarithmic axis."""
    first, last = math.log10(_TIMES[0]), math.log10(_TIMES[-1])
    at = (math.log10(max(seconds, _TIMES[0])) - first) / (last - first)
    return _LEFT + min(1.0, at) * (_WIDTH - _LEFT - 130)


def times(tallies: Sequence[Tally]) -> str:
    """Return a dot a strike on a logarithmic axis; those that nothing noticed stand apart."""
    bottom = len(tallies) * _ROW + 6
    parts, never = [], _WIDTH - 60
    for seconds in _TIMES:
        x = _x_of(seconds)
        parts.append(f'<line x1="{x:.1f}" y1="0" x2="{x:.1f}" y2="{bottom}" stroke="#e1e5e9"/>')
        unit = f"{seconds:g} s" if seconds >= 1 else f"{seconds * 1000:g} ms"
        parts.append(_text(x, bottom + 18, unit, 'class="dim" text-anchor="middle"'))
    parts.append(_text(never, bottom + 18, "never", 'class="dim" text-anchor="middle"'))
    for row, tally in enumerate(tallies):
        middle = row * _ROW + 26
        parts.append(_text(_LEFT - 12, middle + 4, tally.backend, 'text-anchor="end"'))
        for number, one in enumerate(tally.trials):
            x = never if one.noticed_s is None else _x_of(one.noticed_s)
            y = middle + (number * 7 % 23) - 11  # apart, so that equal times are seen as several
            parts.append(
                f'<circle cx="{x:.1f}" cy="{y}" r="4.5" fill="{_HUES[one.outcome]}" '
                f'fill-opacity="0.65"><title>{escape(one.place)}</title></circle>'
            )
        if NOTICED[1] in tally.noticed:
            more = 'class="dim" text-anchor="end"'
            parts.append(_text(_LEFT - 12, middle + 21, "only at unmount", more))
    return _svg(bottom + 28, parts, "time until each strike was noticed, by backend")


def pairs(tallies: Sequence[Tally]) -> Iterator[tuple[str, Trial, str, Trial]]:
    """Yield strikes that gave wrong answers (or else errors) beside the same one named.

    Each with its memory: (backend, trial, backend, trial).
    """
    named = {
        one.number: (t.backend, one) for t in tallies for one in t.trials if one.outcome == "named"
    }
    for outcome in ("wrong", "errors"):
        for tally in tallies:
            for one in tally.trials:
                if one.outcome == outcome and one.number in named:
                    yield tally.backend, one, *named[one.number]


def _pair(tallies: Sequence[Tally]) -> str:
    found = next(pairs(tallies), None)
    if found is None:
        return ""
    ordinary, bad, protected, good = found
    lines = bad.examples or ["errors where there were answers"]
    answers = "\n".join(map(escape, lines))
    report = "\n".join(map(escape, good.report.splitlines()[:_REPORT_LINES]))
    return (
        f"<h2>One strike, twice: {escape(bad.place)}</h2>"
        f'<p class="dim">bytes {bad.before}, overwritten by {bad.word}</p><div class="pair">'
        f'<div style="border-color:{_HUES[bad.outcome]}"><b>{ordinary}</b>: '
        f"{bad.wrong:,} wrong answers, {bad.errors:,} errors, and it goes on serving"
        f"<pre>{answers}</pre></div>"
        f'<div style="border-color:{_HUES["named"]}"><b>{protected}</b>: stopped before '
        f"anything changed<pre>{report}</pre></div></div>"
    )


def _table(tallies: Sequence[Tally]) -> str:
    heads = ("backend", "strikes", "landed", "mounts", "answers", "wrong", "errors")
    rows: list[tuple[str, ...]] = [
        (*heads, "noticed after", "answers per s, undisturbed (least to most)")
    ]
    for tally in tallies:
        after = "never" if tally.noticed_s is None else f"{tally.noticed_s:.3f} s"
        least, median, most = tally.answers_per_s
        counts = [tally.strikes, tally.landed, tally.mounts, tally.answers]
        counts += [tally.wrong, tally.errors]
        speed = f"{median:,.0f} ({least:,.0f} to {most:,.0f})"
        rows.append((tally.backend, *(f"{count:,}" for count in counts), after, speed))
    drawn = [
        "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in line)
        for line, tag in zip(rows, ["th"] + ["td"] * len(tallies), strict=True)
    ]
    return "<table>" + "".join(f"<tr>{line}</tr>" for line in drawn) + "</table>"


def _kinds(tallies: Sequence[Tally]) -> str:
    """Return a sentence about each memory that gave wrong answers."""
    told = [
        f"<p>{tally.backend}: {tally.wrong:,} answers were wrong and served as if right: "
        + escape(", ".join(f"{kind} {count:,}" for kind, count in tally.kinds.items()))
        + ".</p>"
        for tally in tallies
        if tally.wrong
    ]
    return "".join(told) or "<p>No answer of any was wrong.</p>"


def page(image: str, task: Task, tallies: Sequence[Tally]) -> str:
    """Return the page about what was found of an image, by its name."""
    first = tallies[0]
    blow = task.blow
    where = f"into {blow.at}" if blow.at else "at a random place of the mount structures"
    subtitle = (
        f"{image}, workload {task.workload}: {first.strikes:,} strikes for each kind of memory, "
        f"each of {blow.size} bytes {where} of a serving process, at a random moment "
        f"(seed {task.seed})"
    )
    how = (
        f"Truth: {task.truth.judge}. Strike n of every memory is the same: place, bytes, moment. "
        "Every place in the objects is as likely as every other. Each run begins with the "
        "kernel's caches dropped; what landed unseen stays until a strike shows: then the server "
        "is unmounted, which compares its memory with what was published. The times are medians, "
        "from the store to the end of the process."
    )
    machine = f"{platform.system()} {platform.release()}, {platform.machine()}, "
    machine += f"{os.cpu_count()} processors, Python {platform.python_version()}"
    return _PAGE.format(
        title="A stray write hits a filesystem's metadata. Who notices?",
        subtitle=escape(subtitle),
        bars=bars(tallies),
        kinds=_kinds(tallies),
        times=times(tallies),
        pair=_pair(tallies),
        table=_table(tallies),
        how=escape(how),
        machine=escape(machine),
    )
