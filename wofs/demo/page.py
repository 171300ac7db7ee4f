"""The strikes as a page: one file of HTML, its pictures inside, nothing fetched.

What became of each strike, how long until it was noticed, and one strike shown on both sides:
the wrong answer where the memory is ordinary, the report where it is write-once.
"""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Iterator, Sequence

from wofs.demo.straywrite import NOTICED, OUTCOMES, Tally, Task, Trial
from wofs.page import Html, box, document, heading, label, paragraph, preformatted, svg, table, text

_HUES = {
    **{"named": "#00796b", "misnamed": "#7b5ea7", "died": "#5d4037", "hung": "#212121"},
    **{"wrong": "#c62828", "errors": "#ef8a17", "unseen": "#b0b7bf"},
}
_WIDTH, _LEFT, _ROW, _BAR = 960, 210, 48, 32
_TIMES = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)
_REPORT_LINES = 22

_STYLE = """
.pair{display:grid;grid-template-columns:1fr 1.4fr;gap:1em} .pair>div{border-top:5px solid;
padding:.6em 1em;background:var(--panel);min-width:0}
"""


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


def _bar(row: int, name: str, outcomes: dict[str, int]) -> Iterator[Html]:
    """Yield the parts of a bar, cut by outcome; all bars have the same width."""
    x, top, scale = float(_LEFT), row * _ROW + 8, (_WIDTH - _LEFT - 10) / sum(outcomes.values())
    yield label(_LEFT - 12, top + 22, name, "end")
    for outcome in (outcome for outcome in OUTCOMES if outcome in outcomes):
        width, count = outcomes[outcome] * scale, f"{outcomes[outcome]:,}"
        size = max(1.0, width - 2), float(_BAR)
        yield box(x, top, size, _HUES[outcome], f"{OUTCOMES[outcome]}: {count}")
        if width > 12 * len(count):
            yield label(x + (width - 2) / 2, top + 22, count, "middle", "in")
        x += width


def bars(tallies: Sequence[Tally]) -> Html:
    """Return a bar or two a backend, with a legend of the outcomes that occurred."""
    parts: list[Html] = []
    rows = list(_rows(tallies))
    for row, (name, outcomes) in enumerate(rows):
        parts += _bar(row, name, outcomes)
    top = len(rows) * _ROW + 20
    for outcome in (n for n in OUTCOMES if any(n in tally.outcomes for tally in tallies)):
        parts.append(box(_LEFT, top - 12, (14, 14), _HUES[outcome]))
        parts.append(label(_LEFT + 22, top, OUTCOMES[outcome]))
        top += 24
    return svg(_WIDTH, top, parts, "outcomes of the strikes by backend")


def _x_of(seconds: float) -> float:
    """Return where a time stands on the logarithmic axis."""
    first, last = math.log10(_TIMES[0]), math.log10(_TIMES[-1])
    at = (math.log10(max(seconds, _TIMES[0])) - first) / (last - first)
    return _LEFT + min(1.0, at) * (_WIDTH - _LEFT - 130)


def times(tallies: Sequence[Tally]) -> Html:
    """Return a dot a strike on a logarithmic axis; those that nothing noticed stand apart."""
    bottom = len(tallies) * _ROW + 6
    parts, never = [], _WIDTH - 60
    for seconds in _TIMES:
        x = _x_of(seconds)
        parts.append(Html(f'<line x1="{x:.1f}" y1="0" x2="{x:.1f}" y2="{bottom}"/>'))
        unit = f"{seconds:g} s" if seconds >= 1 else f"{seconds * 1000:g} ms"
        parts.append(label(x, bottom + 18, unit, "middle", "dim"))
    parts.append(label(never, bottom + 18, "never", "middle", "dim"))
    for row, tally in enumerate(tallies):
        middle = row * _ROW + 26
        parts.append(label(_LEFT - 12, middle + 4, tally.backend, "end"))
        for number, one in enumerate(tally.trials):
            x = never if one.noticed_s is None else _x_of(one.noticed_s)
            y = middle + (number * 7 % 23) - 11  # apart, so that equal times are seen as several
            parts.append(
                Html(
                    f'<circle cx="{x:.1f}" cy="{y}" r="4.5" fill="{_HUES[one.outcome]}" '
                    f'fill-opacity="0.65"><title>{text(one.place)}</title></circle>'
                )
            )
        if NOTICED[1] in tally.noticed:
            parts.append(label(_LEFT - 12, middle + 21, "only at unmount", "end", "dim"))
    return svg(_WIDTH, bottom + 28, parts, "time until each strike was noticed, by backend")


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


def _pair(tallies: Sequence[Tally]) -> Html:
    found = next(pairs(tallies), None)
    if found is None:
        return Html("")
    ordinary, bad, protected, good = found
    answers = preformatted("\n".join(bad.examples or ["errors where there were answers"]))
    report = preformatted("\n".join(good.report.splitlines()[:_REPORT_LINES]))
    return Html(
        heading(f"One strike, twice: {bad.place}")
        + paragraph(f"bytes {bad.before}, overwritten by {bad.word}", dim=True)
        + f'<div class="pair"><div style="border-color:{_HUES[bad.outcome]}"><b>{ordinary}</b>: '
        f"{bad.wrong:,} wrong answers, {bad.errors:,} errors, and it goes on serving"
        f"{answers}</div>"
        f'<div style="border-color:{_HUES["named"]}"><b>{protected}</b>: stopped before '
        f"anything changed{report}</div></div>"
    )


def _table(tallies: Sequence[Tally]) -> Html:
    heads = ("backend", "strikes", "landed", "mounts", "answers", "wrong", "errors")
    rows: list[tuple[str, ...]] = []
    for tally in tallies:
        after = "never" if tally.noticed_s is None else f"{tally.noticed_s:.3f} s"
        least, median, most = tally.answers_per_s
        counts = [tally.strikes, tally.landed, tally.mounts, tally.answers]
        counts += [tally.wrong, tally.errors]
        speed = f"{median:,.0f} ({least:,.0f} to {most:,.0f})"
        rows.append((tally.backend, *(f"{count:,}" for count in counts), after, speed))
    head = (*heads, "noticed after", "answers per s, undisturbed (least to most)")
    return table(head, rows)


def _kinds(tallies: Sequence[Tally]) -> list[Html]:
    """Return a sentence about each memory that gave wrong answers."""
    told = [
        paragraph(
            f"{tally.backend}: {tally.wrong:,} answers were wrong and served as if right: "
            + ", ".join(f"{kind} {count:,}" for kind, count in tally.kinds.items())
            + "."
        )
        for tally in tallies
        if tally.wrong
    ]
    return told or [paragraph("No answer of any was wrong.")]


def page(image: str, task: Task, tallies: Sequence[Tally]) -> Html:
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
    body = [
        heading("What became of each strike"),
        bars(tallies),
        *_kinds(tallies),
        heading("Time until it was noticed"),
        times(tallies),
        _pair(tallies),
        heading("Figures"),
        _table(tallies),
        paragraph(how, dim=True),
        paragraph(machine, dim=True),
    ]
    title = "A stray write hits a filesystem's metadata. Who notices?"
    return document(title, subtitle, body, _STYLE)
