"""The file of results: what goes in comes out, whole transactions, resuming, damage."""

from __future__ import annotations

import os
import resource
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from wofs.campaign.fault import Fault
from wofs.campaign.laws import Result
from wofs.campaign.results import BadResults, Image, Results, Verdict

IMAGE = Image("a disk?#%41.img", "ab" * 32, 1 << 40)
FAULT = Fault(
    image=IMAGE.path,
    klass="field",
    structure="agf",
    object="agf[2]",
    field="freeblks",
    value="max",
    crc="fix",
    edits=("agf[2].freeblks=max", "--crc", "fix"),
    seed=(1 << 63) - 1,
)
RESULT = Result(
    fault=FAULT,
    outcome="contained",
    laws=("hang", "traceback"),
    error="agf 2: freeblks is 4294967295, expected at most 4096",
    codes=("WX0203", "WX0901"),
    changed=("/files/one st_size",),
    reason="because",
    millis=17,
    peak_kib=30_000,
    signal=11,
    count=3,
)


def made(number: int, outcome: str = "harmless") -> Result:
    """Return a result of a fault of its own."""
    fault = replace(FAULT, value=str(number), edits=(f"agf[2].freeblks={number}",))
    return replace(RESULT, fault=fault, outcome=outcome, laws=(), count=1)


@pytest.fixture
def path(tmp_path: Path) -> str:
    """The name of a file of results, which is not there; its characters mean things in URIs."""
    return str(tmp_path / "re?sults#%41.db")


@pytest.fixture
def results(path: str) -> Iterator[Results]:
    """A new file of results, with one image."""
    with Results(path, create=True) as made:
        made.begin("1.2", {"faults": 3, "seed": 1})
        made.add_image(IMAGE)
        yield made


def test_what_goes_in_comes_out_of_the_file(results: Results, path: str) -> None:
    results.add([RESULT, made(1)])
    results.close()
    assert Path(path).is_file()
    with Results(path) as again:
        (run,) = again.runs()
        assert (run.version, run.options) == ("1.2", {"faults": 3, "seed": 1})
        assert again.images() == [IMAGE]
        assert [stored.result for stored in again.results()] == [RESULT, made(1)]
        assert [stored.result for stored in again.results("contained")] == [RESULT]
        assert list(again.results("silent", "broken")) == []
        assert again.one(IMAGE.path, FAULT.key) == RESULT


def test_names_and_messages_of_any_bytes_are_kept(results: Results) -> None:
    odd = "/\udcff\udc80\x00\n\x1b[31m'\"é"
    fault = replace(FAULT, object=odd, value=odd, field=odd, edits=(odd,))
    result = replace(RESULT, fault=fault, error=odd, reason=odd, changed=(odd,), codes=(odd,))
    results.add([result])
    results.add_verdicts([(fault, Verdict(odd, "refused", odd, 3))])
    (stored,) = results.results()
    assert stored.result == result
    assert stored.verdicts == [Verdict(odd, "refused", odd, 3)]
    assert results.done(IMAGE.path) == {fault.key}
    assert results.judged(IMAGE.path, odd) == {fault.key}


def test_a_fault_has_one_result_the_last(results: Results) -> None:
    results.add([made(1), made(2)])
    results.add([made(1, "silent")])
    assert [(s.result.fault.value, s.result.outcome) for s in results.results()] == [
        ("1", "silent"),
        ("2", "harmless"),
    ]


def test_a_resumed_campaign_knows_what_is_done(results: Results, path: str) -> None:
    results.add([made(1)])
    results.close()
    with Results(path, create=True) as again:
        again.begin("1.3", {})
        again.add_image(IMAGE)
        assert again.done(IMAGE.path) == {made(1).fault.key}
        assert again.done("another.img") == set()
        again.add([made(2)])
        assert again.done(IMAGE.path) == {made(1).fault.key, made(2).fault.key}
        assert [run.version for run in again.runs()] == ["1.2", "1.3"]


def test_results_of_another_image_are_refused(results: Results) -> None:
    with pytest.raises(BadResults, match="is not the image that these results are of"):
        results.add_image(replace(IMAGE, sha256="cd" * 32))
    assert results.images() == [IMAGE]


def test_a_batch_that_fails_leaves_nothing(results: Results) -> None:
    stranger = replace(made(3), fault=replace(FAULT, image="stranger.img"))
    with pytest.raises(KeyError):
        results.add([made(1), stranger])
    assert list(results.results()) == []
    results.add([made(1)])
    assert len(list(results.results())) == 1


def test_counts_and_outcomes(results: Results) -> None:
    results.add([made(1), made(2), RESULT])
    assert results.counts() == {
        ("field", "agf", "fix", "freeblks", "harmless"): 2,
        ("field", "agf", "fix", "freeblks", "contained"): 3,
    }
    wanted = {(IMAGE.path, one.fault.key, one.outcome) for one in (made(1), made(2), RESULT)}
    assert set(results.outcomes()) == wanted


def test_a_verdict_may_come_before_the_result(results: Results) -> None:
    results.add_verdicts([(FAULT, Verdict("kernel-repair", "accepted", "", 5))])
    assert results.done(IMAGE.path) == set()
    assert list(results.results()) == []
    results.add([RESULT])
    (stored,) = results.results()
    assert stored.verdicts == [Verdict("kernel-repair", "accepted", "", 5)]


def test_a_fault_that_is_not_there(results: Results) -> None:
    with pytest.raises(KeyError):
        results.one(IMAGE.path, "none")


# ---- files that are no results
def test_a_report_makes_no_file(path: str) -> None:
    with pytest.raises(BadResults, match="unable to open"):
        Results(path)
    assert not Path(path).exists()


@pytest.mark.parametrize("create", [False, True])
@pytest.mark.parametrize("content", [b"no database, but long enough\n", b"SQLite format 3\0"])
def test_another_file_is_refused_and_kept(tmp_path: Path, content: bytes, create: bool) -> None:
    file = tmp_path / "notes.txt"
    file.write_bytes(content * 40)
    with pytest.raises(BadResults, match=r"notes\.txt: "):
        Results(str(file), create)
    assert file.read_bytes() == content * 40


@pytest.mark.parametrize("create", [False, True])
def test_another_programs_database_is_refused(tmp_path: Path, create: bool) -> None:
    file = tmp_path / "other.db"
    other = sqlite3.connect(file)
    other.execute("CREATE TABLE cookies (a)")
    other.close()
    before = file.read_bytes()
    with pytest.raises(BadResults, match="no results of `wofs campaign`"):
        Results(str(file), create)
    assert file.read_bytes() == before


def test_another_format_is_refused(results: Results, path: str) -> None:
    results.close()
    other = sqlite3.connect(path)
    other.execute("PRAGMA user_version = 9")
    other.close()
    with pytest.raises(BadResults, match="results of format 9, expected 1"):
        Results(path)


def test_a_damaged_file_is_told_of(results: Results, path: str) -> None:
    results.add(made(number) for number in range(2000))
    results.close()
    data = bytearray(Path(path).read_bytes())
    data[8192:-4096] = b"\xa5" * (len(data) - 12288)
    Path(path).write_bytes(data)
    with pytest.raises(BadResults, match="malformed"), Results(path) as damaged:
        list(damaged.results())


def test_values_of_the_wrong_kind_are_told_of(results: Results, path: str) -> None:
    results.add([RESULT])
    results.close()
    other = sqlite3.connect(path)
    with other:
        other.execute("UPDATE result SET millis = 'soon'")
    with Results(path) as damaged, pytest.raises(BadResults, match="'soon' where a number"):
        list(damaged.results())
    with other:
        other.execute("UPDATE result SET millis = 1, laws = '{]'")
    other.close()
    with Results(path) as damaged, pytest.raises(BadResults, match="a list of words belongs"):
        list(damaged.results())


def test_a_file_that_another_holds_is_told_by_name(results: Results, path: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(BadResults, match="database is locked"):
            results.add([RESULT])
        other.execute("ROLLBACK")
    results.add([RESULT])
    assert results.done(IMAGE.path) == {FAULT.key}


def test_a_disk_that_is_full_loses_no_result_that_was_kept(results: Results, path: str) -> None:
    """The limit of a file's size stands for the disk's end."""
    results.add([made(number) for number in range(20)])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (os.path.getsize(path), hard))
    try:
        with pytest.raises(BadResults, match=r"sults#%41\.db: "):
            results.add([made(number) for number in range(20, 2000)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(results.done(IMAGE.path)) == 20
    results.add([made(number) for number in range(20, 40)])
    with Results(path) as again:
        assert len(again.done(IMAGE.path)) == 40
