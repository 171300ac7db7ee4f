"""Pictures of an arena's runs: for a terminal, and as SVG."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from wofs.fs.memory import Json

_SLOT, _ROW, _LEFT, _TOP = 10, 18, 250, 44
_HUES = ("#4c78a8", "#f58518", "#54a24b", "#b279a2", "#e45756", "#72b7b2", "#9d755d")
_FREE = "#eeeeee"


def lines(pages: Sequence[Json], marks: tuple[str, str]) -> Iterator[str]:
    """Yield a line a run: page, address, cache, its slots as taken or free `marks`."""
    taken, free = marks
    width = max((len(page["cache"]) for page in pages), default=0)
    for page in pages:
        slots = "".join(taken if slot else free for slot in page["slots"])
        yield f"{page['page']:>6}  {page['address']:#x}  {page['cache']:<{width}}  {slots}"


def svg(pages: Sequence[Json], title: str) -> str:
    """Return the same as a picture: a row a page, a box a slot, a colour a cache."""
    caches = list(dict.fromkeys(page["cache"] for page in pages))
    hues = {cache: _HUES[i % len(_HUES)] for i, cache in enumerate(caches)}
    widest = max((len(page["slots"]) for page in pages), default=0)
    width, height = _LEFT + widest * _SLOT + 20, _TOP + len(pages) * _ROW + 10
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        'font-family="monospace" font-size="12">'
    )
    parts = [head, f'<text x="10" y="20" font-size="14">{escape(title)}</text>']
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
