"""`wofs explain`: what a rule of `wofs check` says, where it comes from, what breaking it costs.

And what no rule can tell, by name.
"""

from __future__ import annotations

import difflib
import re
import textwrap

import click

from wofs.campaign.invisible import ROWS, UNSOUND
from wofs.check.problems import CODES, PROBLEMS, Problem
from wofs.cli.output import Output

_WIDTH = 88
_FAMILY = re.compile(r"(?:WX)?(?P<digits>[0-9]{2,4})", re.IGNORECASE | re.ASCII)
_INVISIBLE = "invisible"
_SLACK = (
    "Nor what nobody reads: bytes behind the last record of a btree block, the last entry of an "
    "index block, the end of a value or a target, in free inodes and in the free space of "
    "blocks; and fields that only writers use (an earlier lsn, hints, padding)."
)


@click.command(
    "explain",
    epilog="\b\nExamples:\n  wofs explain WX0312\n  wofs explain dir-hash-order\n"
    "  wofs explain                   all rules, one a line\n"
    "  wofs explain invisible         what no rule can tell, and why",
)
@click.argument("codes", nargs=-1, metavar="[CODE]...")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def command(codes: tuple[str, ...], as_json: bool) -> None:
    """Explain the rules that `wofs check` holds an image to, by code or name; without, list all.

    The beginning of codes stands for all of them: WX03 for the rules of directories.

    `invisible` lists what no rule can tell where the checksum is right.
    """
    out = Output()
    if codes == (_INVISIBLE,):
        _name_invisible(out, as_json)
        out.flush()
        return
    chosen = [problem for code in codes for problem in _find(code)] or list(CODES.values())
    for number, problem in enumerate(chosen):
        if as_json:
            out.json({name: getattr(problem, name) for name in Problem.__slots__})
        elif not codes:
            out.line(f"{problem.code} {problem.name:<20} {problem.severity:<8} {problem.text}")
        else:
            _teach(out, problem, number > 0)
    out.flush()


def _name_invisible(out: Output, as_json: bool) -> None:
    """Write what a right checksum makes valid whatever it is."""
    rows = [(row, "") for row in ROWS]
    rows += [(row, code) for code, more in UNSOUND.items() for row in more]
    for (structure, field, _, why), code in rows:
        if as_json:
            out.json({"structure": structure, "field": field, "why": why, "with": code or None})
        else:
            where = f"with {code}: " if code else ""
            out.line(f"{structure + ' ' + field:<24} {where}{why}")
    if not as_json:
        for line in textwrap.wrap(_SLACK, _WIDTH):
            out.line(line)


def _find(code: str) -> list[Problem]:
    """Return the rule of a code or name, or those whose codes begin so: WX03 is directories."""
    one = CODES.get(code.upper()) or PROBLEMS.get(code.lower())
    if one is not None:
        return [one]
    if match := _FAMILY.fullmatch(code):
        found = [p for key, p in CODES.items() if key.startswith(f"WX{match['digits']}")]
        if found:
            return found
    near = difflib.get_close_matches(code.lower(), [*PROBLEMS, _INVISIBLE], n=3)
    hint = f": perhaps {', '.join(near)}" if near else ""
    raise click.BadParameter(f"{code!r} is no code of a rule{hint}", param_hint="CODE")


def _teach(out: Output, problem: Problem, apart: bool) -> None:
    """Write all that the table says of a problem."""
    out.line(("\n" if apart else "") + f"{problem.code} {problem.name} ({problem.severity})")
    facts = (
        ("Problem", problem.text[0].upper() + problem.text[1:] + "."),
        ("Rule", problem.rule),
        ("Source", problem.source),
        ("A reader sees", problem.effect),
    )
    for name, text in facts:
        lead = f"  {name + ':':<15}"
        for line in textwrap.wrap(
            text, _WIDTH, initial_indent=lead, subsequent_indent=" " * len(lead)
        ):
            out.line(line)
