"""`wofs crash`: read the reports of stray writes back."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import click

from wofs.cli.output import Json, Output, escape
from wofs.cli.serverlog import CRASHES, state_folder
from wofs.errors import NotFound
from wofs.page import Html, document, heading, preformatted, table
from wofs.slab.crashes import Crash, reports


@click.group("crash")
def command() -> None:
    """Read the reports of stray writes back."""


F = TypeVar("F", bound=Callable[..., Any])


def from_file(function: F) -> F:
    """Give a command the option --file."""
    return click.option(
        "--file",
        "path",
        type=click.Path(),
        help="A file or folder of reports (default: where `wofs mount` leaves them).",
    )(function)


def _read(path: str | None) -> list[Crash]:
    """Return the reports of a file or folder; none if the default one is not there."""
    place = Path(path) if path else state_folder() / CRASHES
    return reports(place) if path or place.exists() else []


def _when(crash: Crash) -> str:
    if crash.when is None:
        return "?"
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(crash.when))


def _as_json(number: int, crash: Crash) -> Json:
    return {
        "number": number,
        "hit": crash.hit,
        "pid": crash.pid,
        "when": crash.when,
        **asdict(crash),
    }


@command.command("list", epilog="\b\nExample:\n  wofs crash list --json | jq .hit")
@from_file
@click.option("--json", "as_json", is_flag=True, help="One JSON object a report.")
def list_command(path: str | None, as_json: bool) -> int:
    """List the reports, the oldest first."""
    out, rows = Output(), []
    for number, crash in enumerate(_read(path), 1):
        if as_json:
            out.json(_as_json(number, crash))
        else:
            pid = str(crash.pid if crash.pid is not None else "?")
            rows.append((str(number), _when(crash), pid, crash.kind, escape(crash.hit)))
    if rows:
        out.table(("number", "when", "process", "kind", "hit"), rows)
    out.flush()
    return 0


@command.command(
    "show", epilog="\b\nExamples:\n  wofs crash show\n  wofs crash show 2 --html > crash.html"
)
@click.argument("number", type=click.IntRange(1), required=False)
@from_file
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
@click.option("--html", "as_html", is_flag=True, help="As a page.")
def show(number: int | None, path: str | None, as_json: bool, as_html: bool) -> int:
    """Show report NUMBER of the list, by default the last."""
    found = _read(path)
    number = number or len(found)
    if not 1 <= number <= len(found):
        raise NotFound(f"there is no report {number}: {len(found)} in all")
    out, crash = Output(), found[number - 1]
    if as_json:
        out.json(_as_json(number, crash))
    elif as_html:
        out.line(page(number, crash))
    else:
        for line in crash.text.splitlines():
            out.line(escape(line))
    out.flush()
    return 0


def page(number: int, crash: Crash) -> Html:
    """Return a report as a page of HTML."""
    facts = {**crash.facts, "time": _when(crash)}
    lists = {
        "Memory around it": crash.memory,
        "C stack": crash.c_stack,
        "Python stack": crash.python_stack,
    }
    body = [table(("fact", "value"), facts.items(), left=True)]
    for title, lines in lists.items():
        if lines:
            body += [heading(title), preformatted("\n".join(lines))]
    return document(f"Report {number}: {crash.kind}, {crash.hit}", "", body)
