"""What a campaign found, told: tables, coverage, defects with their command, two runs, the page."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import click
import pytest
from click.testing import CliRunner, Result

from wofs.campaign.compare import compare
from wofs.campaign.fault import Fault
from wofs.campaign.laws import OUTCOMES
from wofs.campaign.laws import Result as Outcome
from wofs.campaign.page import HUES, page
from wofs.campaign.report import is_bad, reproducing, summary
from wofs.campaign.results import Image, Results, Verdict
from wofs.cli.campaignreport import command
from wofs.cli.main import main

IMAGE = Image("disk.img", "ab" * 32, 16 << 20)
HOSTILE = "</pre><script>alert(1)</script>\x1b[2J\udcff"

Make = Callable[..., str]


def fault(object_: str, field: str, value: str = "max", crc: str = "fix") -> Fault:
    """Return a fault in a field of a structure."""
    structure = object_.partition("[")[0]
    edits = (f"{object_}.{field}={value}", "--crc", crc)
    return Fault(IMAGE.path, "field", structure, object_, field, value, crc, edits)


def stray(memory: str, field: str) -> Fault:
    """Return a stray write into a kind of memory."""
    edits = ("straywrite", "--backends", memory, "--writes", "1", "--at", f"agf[0].{field}")
    return Fault(IMAGE.path, "memory", "agf", "agf[0]", field, "8 random bytes", memory, edits)


SOUND = [
    Outcome(fault("agf[0]", "freeblks"), "refused", error="agf 0: freeblks is wrong"),
    Outcome(fault("agf[1]", "freeblks"), "contained"),
    Outcome(fault("agf[1]", "freeblks", "1"), "caught", codes=("WX0203",)),
    Outcome(fault("agfl[0]", "bno[3]"), "harmless"),
    Outcome(fault("agfl[0]", "bno[4]"), "harmless"),
    Outcome(fault("inode[131]", "mtime"), "invisible", reason="a time is any time"),
    Outcome(fault("inode[132]", "mtime"), "invisible", reason="a time is any time"),
    Outcome(stray("memfd", "freeblks"), "crashed", count=900, signal=11),
    Outcome(stray("none", "freeblks"), "missed", count=900, reason="wrong answers"),
]
SILENT = Outcome(fault("inode[131]", "size", "1"), "silent", changed=("/files/one st_size",))
BROKEN = Outcome(fault("inode[133]", "size"), "broken", laws=("hang", "memory"), error="killed")


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Make a file of results; return its name."""

    def made(outcomes: Iterable[Outcome], name: str = "results.db", image: Image = IMAGE) -> str:
        path = str(tmp_path / name)
        with Results(path, create=True) as results:
            results.begin("0.1.0", {"seed": 1})
            results.add_image(image)
            results.add(outcomes)
        return path

    return made


def report(*arguments: str) -> Result:
    """Run the command."""
    return CliRunner().invoke(command, arguments, standalone_mode=False)


def rows(text: str, first: str) -> dict[str, list[str]]:
    """Return the lines of the table whose head begins with `first`, by their first cell."""
    lines = iter(text.splitlines())
    head = next(line.split() for line in lines if line.split()[:1] == [first])
    found = {first: head[1:]}
    for line in lines:
        cells = line.rsplit(maxsplit=len(head) - 1)
        if len(cells) != len(head) or not cells[-1].replace(",", "").isdecimal():
            break
        found[cells[0].strip()] = cells[1:]
    return found


# ---- sums
def test_faults_are_counted_by_structure_and_outcome(make: Make) -> None:
    done = report(make(SOUND))
    assert done.return_value == 0
    table = rows(done.output, "structure")
    head = table["structure"]
    assert head == ["faults", "refused", "contained", "caught", "harmless", "invisible", "crashed",
                    "missed"]  # fmt: skip
    assert table["agf"] == ["3", "1", "1", "1", "0", "0", "0", "0"]
    assert table["agfl"] == ["2", "0", "0", "0", "2", "0", "0", "0"]
    assert table["agf in memfd"][-2:] == ["900", "0"]
    assert table["agf in none"][-2:] == ["0", "900"]
    assert table["all"] == ["1,807", "1", "1", "1", "2", "2", "900", "900"]
    assert "no law was broken" in done.output


def test_fields_are_counted_without_their_numbers(make: Make) -> None:
    table = rows(report("--fields", make(SOUND)).output, "field")
    assert table["agf.freeblks"] == ["3", "1", "1", "1", "0", "0", "0", "0"]
    assert table["agfl.bno"] == ["2", "0", "0", "0", "2", "0", "0", "0"]


def test_coverage_knows_the_fields_that_were_never_struck(make: Make) -> None:
    with Results(make(SOUND)) as results:
        covered = summary(results).coverage()
    agf = covered["agf"]
    assert agf.struck == 1
    assert "freeblks" not in agf.never
    assert {"longest", "crc", "magicnum"} <= set(agf.never)
    assert agf.fields == agf.struck + len(agf.never)
    assert agf.by_outcome == {"refused": 1, "contained": 1, "caught": 1}
    assert covered.keys() == {"agf", "agfl", "inode"}, "memory has no declared coverage"


def test_a_pair_strikes_both_of_its_fields_and_data_has_none(make: Make) -> None:
    pair = replace(fault("agf[0]", "freeblks"), klass="pair", field="flcount+longest")
    data = replace(fault("bytes[0:4]", ""), structure="data", field="")
    with Results(make([*SOUND, Outcome(pair, "caught"), Outcome(data, "harmless")])) as results:
        covered = summary(results).coverage()
    assert covered["agf"].struck == 3
    assert covered["agf"].by_outcome == {"refused": 1, "contained": 1, "caught": 3}
    assert not {"flcount", "longest"} & set(covered["agf"].never)
    assert "data" not in covered


def test_what_is_invisible_is_listed_with_its_reason(make: Make) -> None:
    assert "  a time is any time: 2 faults: inode.mtime (2)\n" in report(make(SOUND)).output


# ---- defects
@pytest.mark.parametrize("bad", [SILENT, BROKEN, Outcome(stray("memfd", "longest"), "missed")])
def test_a_defect_ends_with_status_1(make: Make, bad: Outcome) -> None:
    done = report(make([*SOUND, bad]))
    assert done.return_value == 1
    assert "1 defect\n" in done.output
    assert reproducing(bad.fault) in done.output


def test_what_ordinary_memory_lets_through_is_no_defect() -> None:
    assert not is_bad(Outcome(stray("none", "longest"), "missed"))
    assert is_bad(Outcome(stray("memfd", "longest"), "missed"))


def test_what_came_of_stray_writes_that_landed(make: Make) -> None:
    path = make([*SOUND, Outcome(stray("none", "longest"), "missed", reason="errors")])
    done = report(path)
    assert "fields in none where a stray write landed, and what came of it\n" in done.output
    assert "  wrong answers: 1\n  errors: 1\n" in done.output
    assert done.return_value == 0


def test_defects_come_with_laws_and_differences_the_worst_first(make: Make) -> None:
    out = report(make([*SOUND, SILENT, BROKEN])).output
    assert "law broken: hang: 1\n" in out
    assert "law broken: memory: 1\n" in out
    assert "differs: /files/one st_size" in out
    assert "said: killed" in out
    assert out.index("broken (hang, memory): disk.img: inode[133].size=max") < out.index(
        "silent: disk"
    )


def test_of_many_defects_some_are_shown_and_all_if_asked(make: Make) -> None:
    path = make(Outcome(fault("agf[0]", "freeblks", str(n)), "silent") for n in range(30))
    some, every = report(path).output, report("--all", path).output
    assert some.count("wofs corrupt disk.img") == 10
    assert "... and 20 more (-a: all)" in some
    assert every.count("wofs corrupt disk.img") == 30


def test_the_command_that_does_it_again_is_one_for_a_shell() -> None:
    odd = replace(
        fault("agf[0]", "freeblks"),
        image="my disk's.img",
        edits=('inode["/a b"].size=0', "--crc", "fix"),
    )
    argv = ["wofs", "corrupt", "my disk's.img", "bad.img", 'inode["/a b"].size=0', "--crc", "fix"]
    assert shlex.split(reproducing(odd)) == argv
    assert "$'a\\xff\\x1b\\x27'" in reproducing(replace(odd, image="a\udcff\x1b'"))
    again = (
        "wofs demo straywrite --backends memfd --writes 1 --at 'agf[0].longest' --image disk.img"
    )
    assert reproducing(stray("memfd", "longest")) == again


# ---- other readers
def test_readers_stand_side_by_side_with_outcomes(make: Make) -> None:
    path = make(SOUND)
    with Results(path, create=True) as results:
        refused = Verdict("kernel-repair", "refused", "bad", 9)
        accepted = Verdict("kernel-repair", "accepted", "", 9)
        results.add_verdicts([(SOUND[0].fault, refused), (SOUND[1].fault, accepted)])
    done = report(path)
    table = rows(done.output, "wofs")
    assert table["wofs"] == ["accepted", "refused"]
    assert (table["refused"], table["contained"]) == (["0", "1"], ["1", "0"])
    assert "Known to be silent in it" in done.output


def test_what_readers_and_wofs_see_differently_is_listed(make: Make) -> None:
    path = make([*SOUND, BROKEN])
    statuses = ["crashed", "accepted", "hung", "refused", "accepted", "accepted", "refused"]
    with Results(path, create=True) as results:
        results.add_verdicts(
            (outcome.fault, Verdict("mine", status, f"said {number}", 1))
            for number, (outcome, status) in enumerate(zip(SOUND, statuses, strict=False))
        )
    out = report(path).output
    said = [line for line in out.splitlines() if "it " in line or "said" in line][-9:]
    assert said[:8] == [
        "it did not survive: 2 faults",
        "  crashed: said 0",
        "  hung: said 2",
        "it alone tells of: 2 faults",
        "  refused: said 3",
        "  refused: said 6",
        "it accepts, and wofs tells of: 1 fault",
        "  accepted: said 1",
    ]
    objects = [json.loads(line) for line in report("--json", path).output.splitlines()]
    assert [one["text"] for one in objects if one["kind"] == "verdict"] == [
        "said 0", "said 2", "said 3", "said 6", "said 1",
    ]  # fmt: skip


# ---- two runs
def test_two_runs_are_compared_new_defects_first(make: Make) -> None:
    moved, mended, gone, worse = (fault("agi[0]", "count", str(number)) for number in range(4))
    new = fault("agi[0]", "level")
    before = [
        *SOUND,
        *(Outcome(moved, "refused"), Outcome(mended, "silent"), Outcome(gone, "caught")),
        Outcome(worse, "contained"),
    ]
    after = [
        *SOUND,
        *(Outcome(moved, "contained"), Outcome(mended, "caught"), Outcome(worse, "broken")),
        Outcome(new, "harmless"),
    ]
    files = make(before, "a.db"), make(after, "b.db")
    with Results(files[0]) as one, Results(files[1]) as two:
        found = compare(one, two)
    assert found.same == len(SOUND)
    assert [(c.before, c.after, c.rank) for c in found.changes] == [
        ("contained", "broken", 0),
        ("silent", "caught", 1),
        ("refused", "contained", 2),
    ]
    assert (found.only_before, found.only_after) == ({"caught": 1}, {"harmless": 1})
    done = report(*files)
    assert done.return_value == 1
    lines = [line for line in done.output.splitlines() if "disk.img: field" in line]
    assert [line.split(":")[0].strip() for line in lines] == ["new defect", "mended", "changed"]
    assert report(files[1], files[0]).return_value == 1, "the second file has a silent one too"
    assert report(files[0], make(SOUND, "c.db")).return_value == 0, "the second file counts"


def test_names_of_any_bytes_meet_their_like(make: Make) -> None:
    names = ["\udcff", "\U00010000", "\uffff", "a", "\udc80b", ""]
    odd = [Outcome(fault("agf[0]", "x", name), "harmless") for name in names]
    with Results(make(odd, "a.db")) as one, Results(make(odd[::-1], "b.db")) as two:
        found = compare(one, two)
    assert (found.same, found.changes) == (len(names), [])
    assert not found.only_before + found.only_after


# ---- programs
def test_objects_hold_the_same(make: Make) -> None:
    done = report("--json", make([*SOUND, BROKEN, SILENT], "a.db"), make([*SOUND, SILENT], "b.db"))
    objects = [json.loads(line) for line in done.output.splitlines()]
    by_kind: dict[str, list[dict[str, object]]] = {}
    for told in objects:
        by_kind.setdefault(told["kind"], []).append(told)
    (defect,) = by_kind["defect"]
    assert defect["command"] == reproducing(SILENT.fault)
    assert Fault.from_json(dict(defect["fault"])) == SILENT.fault  # type: ignore[call-overload]
    (comparison,) = by_kind["comparison"]
    assert comparison["only_first"] == {"broken": 1}
    counts = [sum(dict(one["outcomes"]).values()) for one in by_kind["field"]]  # type: ignore[call-overload]
    assert sum(counts) == 1808
    assert by_kind["invisible"][0]["reason"] == "a time is any time"
    assert by_kind["run"][0]["options"] == {"seed": 1}
    assert done.return_value == 1


# ---- the page
class Tags(HTMLParser):
    """All that a page contains; it must be closed properly."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.attributes += attrs
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_one_file_with_the_map(make: Make, tmp_path: Path) -> None:
    drawn = tmp_path / "page.html"
    done = report(make([*SOUND, SILENT, BROKEN]), "--html", str(drawn))
    assert done.return_value == 1
    text = drawn.read_text()
    tags = Tags(text)
    assert not tags.open
    assert not {"script", "link", "img", "iframe"} & set(tags.seen)
    assert not [value for name, value in tags.attributes if name in ("src", "href")]
    pictures = [p.partition("</svg>")[0] for p in text.split("<svg")[1:]]
    bar, heat = (ElementTree.fromstring(f"<svg{picture}</svg>") for picture in pictures)
    told = {title.text for title in heat.iter("{http://www.w3.org/2000/svg}title")}
    assert "agf, caught: 1 of 3" in told
    assert "agf in none, missed: 900 of 900" in told
    assert len(told) == 9
    assert "broken: 1" in {title.text for title in bar.iter("{http://www.w3.org/2000/svg}title")}
    for needed in ("a time is any time", "prefers-color-scheme:dark", "inode[133].size=max"):
        assert needed in text


def test_nothing_from_an_image_becomes_markup(make: Make, tmp_path: Path) -> None:
    evil = Fault(HOSTILE, "field", HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE, (HOSTILE,))
    bad = Outcome(evil, "broken", (HOSTILE,), HOSTILE, (HOSTILE,), (HOSTILE,), HOSTILE)
    image = replace(IMAGE, path=HOSTILE)
    first = make([replace(bad, outcome="invisible")], "a.db", image)
    second = make([bad], "b.db", image)
    with Results(second, create=True) as results:
        results.add_verdicts([(evil, Verdict(HOSTILE, "refused", HOSTILE, 1))])
    drawn = tmp_path / "page.html"
    done = report(first, second, "--html", str(drawn))
    assert isinstance(done.return_value, int), done.exception
    assert "\x1b" not in done.output
    tags = Tags(drawn.read_text())
    assert not tags.open
    assert "script" not in tags.seen
    assert report("--json", first, second).return_value == 1


def test_every_outcome_has_a_colour() -> None:
    assert HUES.keys() == OUTCOMES.keys()


def test_an_empty_campaign_has_a_page(make: Make) -> None:
    with Results(make([])) as results:
        assert not Tags(page(summary(results))).open
    assert report(make([])).return_value == 0


# ---- mistakes
def test_more_than_two_files_are_wrong_usage(make: Make) -> None:
    done = report(*[make(SOUND)] * 3)
    assert isinstance(done.exception, click.UsageError)


def test_an_outcome_that_is_none_is_told_of(make: Make) -> None:
    done = report(make([replace(SILENT, outcome="splendid")]))
    assert "'splendid' is no outcome" in str(done.exception)


def test_no_file_of_results_is_one_line(tmp_path: Path) -> None:
    other = tmp_path / "notes.txt"
    other.write_text("nothing of the kind, at some length\n" * 30)
    for path in (other, tmp_path / "none.db"):
        done = report(str(path))
        assert type(done.exception).__name__ == "BadResults"
        assert str(path) in str(done.exception)
        assert not (tmp_path / "none.db").exists()


def test_it_is_a_verb(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["campaign", "report", make(SOUND)])
    assert ended.value.code == 0
    assert "no law was broken" in capsys.readouterr().out
