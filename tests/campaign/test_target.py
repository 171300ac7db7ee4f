"""Other readers: what their end says, that they leave nothing behind, and xfs_repair for real."""

from __future__ import annotations

import os
import select
import shlex
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support.cli import runner
from wofs.campaign.fault import Fault
from wofs.campaign.laws import Result
from wofs.campaign.results import Image, Results
from wofs.campaign.target import BadReader, Target, ask_all, control, known_false, target_of

Unpack = Callable[[str], Path]

PATIENCE_S = 60.0
needs_repair = pytest.mark.skipif(not shutil.which("xfs_repair"), reason="no xfs_repair here")


def program(code: str) -> Target:
    """Return a reader in Python; the path of the copy is sys.argv[1]."""
    return target_of(f"command:{shlex.join([sys.executable, '-c', code, '{image}'])}")


def fault(image: Path, edit: str, crc: str = "fix") -> Fault:
    """Return the fault that an edit makes."""
    name, _, value = edit.partition("=")
    kind, _, field = name.rpartition(".")
    structure = kind.partition("[")[0]
    edits = (edit, "--crc", crc)
    return Fault(str(image), "field", structure, kind, field, value, crc, edits)


def driven(
    path: Path, image: Path, edits: list[str], targets: list[Target]
) -> dict[str, dict[str, tuple[str, str]]]:
    """Drive readers over faults; return (status, text) by edit and reader."""
    with Results(str(path), create=True) as results:
        results.begin("1", {})
        results.add_image(Image(str(image), "", 0))
        results.add(Result(fault(image, edit), "contained") for edit in edits)
        ask_all(results, targets, 2, PATIENCE_S, lambda done, total: None)
        return {
            stored.result.fault.edits[0]: {
                one.target: (one.status, one.text) for one in stored.verdicts
            }
            for stored in results.results()
        }


# ---- how it ends
@pytest.mark.parametrize(
    ("code", "status", "text"),
    [
        ("print('fine')", "accepted", "fine"),
        (
            "import sys; print('\\n  \\n bad agf '); print('more'); sys.exit(3)",
            "refused",
            "bad agf",
        ),
        ("import sys; sys.exit('on stderr')", "refused", "on stderr"),
        ("import os; os.kill(os.getpid(), 11)", "crashed", "SIGSEGV"),
        ("import os; os.kill(os.getpid(), 40)", "crashed", "signal 40"),
        ("import os; print('oh', flush=True); os.abort()", "crashed", "oh"),
        ("import os; os.close(1); os.close(2); os._exit(0)", "accepted", ""),
        (
            "import sys; sys.stdout.buffer.write(b'\\xff\\x00'); sys.exit(1)",
            "refused",
            "\udcff\x00",
        ),
        (
            "import sys; print('a: ' + sys.argv[1] + ' bad'); sys.exit(1)",
            "refused",
            "a: {image} bad",
        ),
    ],
)
def test_the_end_is_the_verdict(code: str, status: str, text: str) -> None:
    verdict = program(code).ask("/some/copy", PATIENCE_S)
    assert (verdict.status, verdict.text) == (status, text)


def test_much_output_is_read_and_only_its_beginning_kept() -> None:
    verdict = program("print('x' * 50_000_000)").ask("/some/copy", PATIENCE_S)
    assert (verdict.status, verdict.text) == ("accepted", "x" * 200)


def test_one_that_hangs_is_killed_with_all_it_started(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    code = (
        "import os, sys, time\n"
        "print('waiting', flush=True)\n"
        f"with open({str(pids)!r}, 'w') as file:\n"
        "    child = os.fork()\n"
        "    if child: file.write(f'{os.getpid()} {child}')\n"
        "time.sleep(600)\n"
    )
    verdict = program(code).ask("/some/copy", 8.0)
    assert (verdict.status, verdict.text) == ("hung", "waiting")
    for pid in pids.read_text().split():
        assert _ends(int(pid))


def test_what_one_leaves_running_does_not_hold_it_up() -> None:
    code = "import os, sys, time\nif not os.fork():\n    time.sleep(600)\nsys.exit(1)\n"
    assert program(code).ask("/some/copy", PATIENCE_S).status == "refused"


def _ends(pid: int) -> bool:
    """Wait for the end of a process that was killed; whether it came."""
    try:
        watched = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([watched], [], [], PATIENCE_S)[0])
    finally:
        os.close(watched)


def test_it_dumps_no_core_and_asks_nobody() -> None:
    code = "import resource, sys; print(resource.getrlimit(4)[0], sys.stdin.read())"
    assert program("import time; time.sleep(.2)\n" + code).ask("x", PATIENCE_S).text == "0"


# ---- names
def test_there_is_no_shell() -> None:
    target = target_of("command:echo $HOME '{image};' | `ls` \"a b\"")
    assert target.ask("/c", PATIENCE_S).text == "$HOME {image}; | `ls` a b"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fsck", "a reader is kernel-repair, or command:"),
        ("command:true", "says nowhere {image}"),
        ("command:", "says nowhere {image}"),
        ("command:{image}", "says nowhere {image}"),
        ("command:cat 'x {image}", "no closing quotation"),
        ("command:no-such-program-here {image}", "no-such-program-here: no such program"),
    ],
)
def test_what_is_no_reader_is_told_of(text: str, said: str) -> None:
    with pytest.raises(BadReader) as error:
        target_of(text)
    assert said in str(error.value)


def test_a_program_that_cannot_be_run_is_told_of(tmp_path: Path) -> None:
    script = tmp_path / "reader"
    script.write_bytes(b"\x7fELF no program")
    script.chmod(0o755)
    with pytest.raises(BadReader, match="reader: exec format error"):
        target_of(f"command:{script} {{image}}").ask("x", PATIENCE_S)


# ---- over damaged copies
def test_it_reads_a_damaged_copy_and_the_image_stays(image: Unpack, tmp_path: Path) -> None:
    sound = image("default")
    before = sound.read_bytes()
    read = program(
        "import sys, os\n"
        "f = open(sys.argv[1], 'r+b')\n"
        "print(f.seek(0, 2), os.stat(sys.argv[1]).st_nlink, end=' ')\n"
        "f.seek(108); label = f.read(12); print(label)\n"
        "f.truncate(0)\n"  # a reader may do what it likes with its copy
    )
    edits = ['sb[0].fname="struck"', 'sb[0].fname="other"']
    found = driven(tmp_path / "r.db", sound, edits, [read])
    size = len(before)
    assert found[edits[0]][read.name] == (
        "accepted",
        f"{size} 1 b'struck" + "\\x00" * 6 + "'",
    )
    assert "other" in found[edits[1]][read.name][1]
    assert sound.read_bytes() == before


def test_the_copies_are_gone_afterwards(
    image: Unpack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "copies"))
    (tmp_path / "copies").mkdir()
    paths = program("import sys, os; print(os.path.dirname(os.path.dirname(sys.argv[1])))")
    bad = program("import sys, os; os.kill(os.getpid(), 9)")
    found = driven(tmp_path / "r.db", image("default"), ["agf[0].freeblks=0"], [paths, bad])
    assert found["agf[0].freeblks=0"] == {
        paths.name: ("accepted", str(tmp_path / "copies")),
        bad.name: ("crashed", "SIGKILL"),
    }
    assert os.listdir(tmp_path / "copies") == []


def test_verdicts_are_asked_for_once(image: Unpack, tmp_path: Path) -> None:
    count = tmp_path / "count"
    code = f"open({str(count)!r}, 'a').write('x')"
    edits = ["agf[0].freeblks=0", "agf[1].freeblks=0", "agf[0].longest=0"]
    for already in (1, 3, 3):
        driven(tmp_path / "r.db", image("default"), edits[:already], [program(code)])
        assert count.read_text() == "x" * already


def test_a_reader_that_cannot_be_run_ends_it(image: Unpack, tmp_path: Path) -> None:
    gone = Target("gone", (str(tmp_path / "gone"), "{image}"))
    with pytest.raises(BadReader, match="gone: no such file"):
        driven(tmp_path / "r.db", image("default"), ["agf[0].freeblks=0"], [gone])


# ---- xfs_repair
@needs_repair
def test_xfs_repair_sees_what_it_sees(image: Unpack, tmp_path: Path) -> None:
    repair = target_of("kernel-repair")
    edits = ["agf[0].freeblks=1", "sb[0].magicnum=0", 'sb[0].fname="struck"']
    found = driven(tmp_path / "r.db", image("default"), edits, [repair])
    assert found["agf[0].freeblks=1"][repair.name][0] == "refused"
    status, text = found["sb[0].magicnum=0"][repair.name]
    assert (status, "bad primary superblock" in text) == ("refused", True)
    assert found['sb[0].fname="struck"'][repair.name][0] == "accepted"
    assert len(known_false(repair.name)) == 2
    assert known_false("command:x") == ()


def test_what_a_reader_has_against_the_sound_image_is_told(image: Unpack) -> None:
    path, never = str(image("empty")), program("import sys; sys.exit('not mine')")
    sees = program("import sys; sys.exit(open(sys.argv[1], 'rb').read(4) != b'XFSB')")
    found = list(control([path], [sees, never], PATIENCE_S))
    assert [(name, one.target, one.text) for name, one in found] == [
        (path, never.name, "not mine")
    ]  # fmt: skip


def test_signals_have_their_names() -> None:
    verdict = program(f"import os; os.kill(os.getpid(), {signal.SIGBUS})").ask("x", PATIENCE_S)
    assert verdict.text == "SIGBUS"


# ---- the command
def test_the_command_asks_readers_beside_wofs(
    image: Unpack, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    wofs, path, file = runner(capfdbinary), image("empty"), tmp_path / "results.db"
    asked = ("campaign", path, "--faults", "6", "--seed", "1", "-j", "1", "--results", file)
    crash = program("import os; os.abort()").name
    done = wofs(*asked, "--target", crash)
    assert done.code == 0, done.err
    assert "it did not survive: 6 faults" in done.text
    assert done.text.count("  crashed: SIGABRT\n    wofs corrupt ") == 6
    readers = [one for one in wofs(*asked, "--target", crash, "--json").objects if "kind" in one]
    assert {one["target"] for one in readers} == {crash}
    assert f"against {path} as it is: crashed: SIGABRT" in done.err
    wrong = wofs(*asked, "--target", "fsck")
    assert (wrong.code, "a reader is kernel-repair" in wrong.err) == (2, True)
