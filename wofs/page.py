"""Pages of HTML in one file: nothing fetched, no script, light or dark as the reader has it.

What is `Html` is finished; every other text is escaped here, so that no name out of an image is
taken for markup. Colours come from the style's variables where they depend on the background.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import NewType

Html = NewType("Html", str)
"""Markup that is finished: nothing in it came from elsewhere without `text`."""

_STYLE = """
:root{color-scheme:light dark;--ink:#1d2733;--dim:#66707a;--line:#e1e5e9;--paper:#fff;
--panel:#f6f7f9}
@media(prefers-color-scheme:dark){:root{--ink:#dfe5ea;--dim:#98a3ad;--line:#39424b;
--paper:#14191e;--panel:#1f262d}}
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);
max-width:60em;margin:2.5em auto;padding:0 1em}
h1{font-size:2em;line-height:1.2;margin-bottom:.2em;overflow-wrap:anywhere}
h2{font-size:1.25em;margin-top:2em} .dim{color:var(--dim)}
svg{width:100%;height:auto} svg text{font:15px system-ui,sans-serif;fill:var(--ink)}
svg .in{fill:#fff;font-weight:600} svg .dim{fill:var(--dim);font-size:13px}
svg line{stroke:var(--line)}
table{border-collapse:collapse;width:100%} td,th{padding:.3em .6em;text-align:right;
border-bottom:1px solid var(--line);overflow-wrap:break-word}
th:first-child,td:first-child,.left td,.left th{text-align:left}
pre{white-space:pre-wrap;overflow-wrap:anywhere;font-size:12px;line-height:1.4;
background:var(--panel);padding:.6em 1em}
"""


def text(raw: object) -> Html:
    """Return a text for a page; characters that do not print, and odd bytes, as escapes."""
    shown = "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode("ascii")
        for c in str(raw)
    )
    return Html(html.escape(shown))


def joined(parts: Iterable[Html]) -> Html:
    """Return parts one after the other."""
    return Html("".join(parts))


def document(title: str, subtitle: str, body: Iterable[Html], style: str = "") -> Html:
    """Return a whole page; `style` are more rules of CSS."""
    return Html(
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width"><title>{text(title)}</title>\n'
        f"<style>{_STYLE}{style}</style>\n"
        f"<h1>{text(title)}</h1>{paragraph(subtitle, dim=True) if subtitle else ''}\n"
        f"{joined(body)}</html>\n"
    )


def heading(title: str) -> Html:
    """Return the heading of a section."""
    return Html(f"\n<h2>{text(title)}</h2>")


def paragraph(words: str, dim: bool = False) -> Html:
    """Return a paragraph; `dim`: beside the point."""
    kind = ' class="dim"' if dim else ""
    return Html(f"<p{kind}>{text(words)}</p>")


def preformatted(lines: str) -> Html:
    """Return lines as they are."""
    return Html(f"<pre>{text(lines)}</pre>")


def table(head: Sequence[object], rows: Iterable[Sequence[object]], left: bool = False) -> Html:
    """Return a table; all but the first column to the right, unless all go `left`."""
    lines = [joined(Html(f"<th>{text(cell)}</th>") for cell in head)]
    lines += [joined(Html(f"<td>{text(cell)}</td>") for cell in row) for row in rows]
    kind = ' class="left"' if left else ""
    return Html(f"<table{kind}>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>")


# ---- pictures
def svg(width: int, height: int, parts: Iterable[Html], label: str) -> Html:
    """Return a picture, which fills the page's width; `label` says what it shows."""
    return Html(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{text(label)}">{joined(parts)}</svg>'
    )


def label(x: float, y: float, words: object, anchor: str = "start", style: str = "") -> Html:
    """Return words in a picture: `anchor` is start, middle or end, `style` a class."""
    kind = f' class="{style}"' if style else ""
    return Html(f'<text x="{x:.1f}" y="{y:.1f}"{kind} text-anchor="{anchor}">{text(words)}</text>')


def box(
    x: float, y: float, size: tuple[float, float], fill: str, title: str = "", opacity: float = 1
) -> Html:
    """Return a filled rectangle of `size` (width, height); `title` is shown when pointed at."""
    width, height = size
    faint = f' fill-opacity="{opacity:.2f}"' if opacity < 1 else ""
    told = f"<title>{text(title)}</title>" if title else ""
    return Html(
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" '
        f'fill="{fill}"{faint}>{told}</rect>'
    )
