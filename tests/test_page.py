"""What a page is made of: nothing from outside becomes markup, and every page is sound."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.html import Sound
from wofs.page import box, document, heading, label, paragraph, preformatted, svg, table, text

HOSTILE = "</title></style><script>alert('x')</script>\"'&\x00\x1b[2J\udcff\u202e"


def whole(words: str) -> str:
    """Return a page that shows `words` in every way there is."""
    parts = [label(1, 2, words), box(1, 2, (3, 4), "#fff", words, 0.5)]
    body = [
        heading(words),
        paragraph(words, dim=True),
        preformatted(words),
        table([words], [[words]]),
    ]
    return document(words, words, [*body, svg(10, 10, parts, words)])


@given(st.text(st.characters(codec=None), max_size=20) | st.just(HOSTILE))
def test_no_text_becomes_markup(words: str) -> None:
    page = whole(words)
    page.encode("utf-8")
    known = Sound(whole("plain"))
    sound = Sound(page)
    assert not sound.open
    assert sound.tags == known.tags


def test_what_does_not_print_is_shown_as_escapes() -> None:
    shown = text(HOSTILE)
    assert "\\x00\\x1b[2J\\udcff\\u202e" in shown
    assert shown.isprintable()
    assert text("a\nb") == "a\nb"


@pytest.mark.parametrize(
    "needed", ["prefers-color-scheme:dark", "<!doctype html>", "<title>T</title>"]
)
def test_a_page_is_whole(needed: str) -> None:
    page = document("T", "", [])
    assert needed in page
    assert "http" not in page
