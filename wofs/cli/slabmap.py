"""Pictures of an arena's runs: for a terminal, and as SVG."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from wofs.fs.memory import Json

_SLOT, _ROW, _LEFT, _TOP, _WIDTH = 10, 18, 250, 64, 900
_TALLEST = 2000.0
"""Height of a picture at most."""
_HUES = ("#4c78a8", "#f58518", "#54a24b", "#b279a2", "#e45756", "#72b7b2", "#9d755d")
_FREE = "#eeeeee"


def lines(pages: Sequence[Json], marks: tuple[str, str]) -> Iterator[str]:
    """Yield a line a run: page, address, cache, its slots as taken or free `marks`."""
    taken, free = marks
    width = max((len(page["cache"]) for page in pages), default=0)
    for page in pages:
        slots = "".join(taken if slot else free for slot in page["slots"])
        yield f"{page['page']:>6}  {page['address']:#x}  {page['cache']:<{width}}  {slots}"


def _legend(hues: dict[str, str]) -> Iterator[str]:
    """Yield a dot and a name a colour, in a line below the title."""
    left = 16
    for name, hue in hues.items():
        yield f'<circle cx="{left}" cy="40" r="5" fill="{hue}" stroke="#888888"/>'
        yield f'<text x="{left + 10}" y="44">{escape(name)}</text>'
        left += 34 + 8 * len(name)


def svg(pages: Sequence[Json], title: str) -> str:
    """Return the same as a picture: a row a page, a box a slot, a colour a cache."""
    caches = list(dict.fromkeys(page["cache"] for page in pages))
    hues = {cache: _HUES[i % len(_HUES)] for i, cache in enumerate(caches)}
    widest = max((len(page["slots"]) for page in pages), default=0)
    width, height = max(_LEFT + widest * _SLOT + 20, _WIDTH), _TOP + len(pages) * _ROW + 10
    # Many runs are drawn smaller: all of them fit a screen or two, and can be enlarged there.
    shown = min(1.0, _TALLEST / height)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width * shown:.0f}" '
        f'height="{height * shown:.0f}" viewBox="0 0 {width} {height}" '
        'font-family="monospace" font-size="12">'
    )
    parts = [head, f'<text x="10" y="20" font-size="14">{escape(title)}</text>']
    parts += _legend({**hues, "free slot": _FREE})
    for row, page in enumerate(pages):
        top = _TOP + row * _ROW
        label = f"{page['page']} {page['address']:#x} {page['cache']}"
        parts.append(f'<text x="10" y="{top + 10}">{escape(label)}</text>')
        for slot, taken in enumerate(page["slots"]):
            hue = hues[page["cache"]] if taken else _FREE
            parts.append(
                f'<rect x="{_LEFT + slot * _SLOT}" y="{top}" width="{_SLOT - 2}" '
                f'height="{_ROW - 6}" fill="{hue}"/>'
            )
    return "\n".join([*parts, "</svg>", ""])
