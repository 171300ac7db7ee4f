"""Runs of one parser's fuzzer in a process of its own, and what they found."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from fuzzlib.corpus import CORPUS, failure, files, shrunk, write
from fuzzlib.targets import TARGETS

ROOT = CORPUS.parent.parent
HANG_S = 5
"""Of the processor, that one input may take."""

PATIENCE_S = 20
"""After which an input is given up, and tried again by itself; the machine may be busy."""

RSS_MIB = 1024
MOST_KEPT = 30
"""Inputs of a parser that are committed, at most."""

MOST_KEPT_BYTES = 24 << 10

_DIGEST = re.compile("[0-9a-f]{40}")
_STATUS = re.compile(r"^#(\d+)\s+(\w+)\s+cov: (\d+) ft: (\d+) corp: (\d+)/", re.MULTILINE)


@dataclass(frozen=True)
class Finding:
    """An input that breaks the law, and what it does."""

    path: Path
    text: str


@dataclass
class Told:
    """What a run says: executions, coverage (edges of wofs' Python) at the start and at the end."""

    name: str
    seconds: float = 0.0
    cpu: float = 0.0
    executions: int = 0
    started: int = 0
    reached: int = 0
    features: int = 0
    inputs: int = 0
    findings: list[Finding] = field(default_factory=list)
    fine: int = 0
    """Inputs that were given up, or slow, and take less when they are tried again."""

    @property
    def line(self) -> str:
        """One line about the run."""
        text = f"{self.name:15} {self.seconds:6.0f} s ({self.cpu:.0f} of the processor), "
        text += f"{self.executions} inputs, "
        if self.reached:
            text += f"edges {self.started} -> {self.reached}, features {self.features}, "
        text += f"corpus {self.inputs}: "
        text += f"{len(self.findings)} FOUND" if self.findings else "nothing found"
        return text + (f", {self.fine} slow for others at work" if self.fine else "")


class Session:
    """Fuzzes one parser; its folder keeps `corpus`, `findings` and the `log` of each run."""

    def __init__(self, name: str, folder: Path) -> None:
        self.target = TARGETS[name]
        self.folder = folder
        self.findings = folder / "findings"
        self.corpus = folder / "corpus"
        for made in (self.findings, self.corpus):
            made.mkdir(parents=True, exist_ok=True)

    def run(self, seconds: int) -> Told:
        """Fuzz until time is up or the law is broken; go on after what a busy machine did."""
        start, told = time.monotonic(), Told(self.target.name)
        while not told.findings and (left := seconds - int(time.monotonic() - start)) > 0:
            told = self._once(left, told)
        told.seconds = time.monotonic() - start
        return told

    def _once(self, seconds: int, before: Told) -> Told:
        """Fuzz until the process ends; return what it told, added to what was told before."""
        known = set(files(self.findings))
        committed = CORPUS / self.target.name
        folders = [self.corpus, self.folder / "seeds", *([committed] if committed.exists() else [])]
        log = self.folder / "log"
        code, cpu = self._child(
            log, f"-max_total_time={seconds}", f"-timeout={PATIENCE_S}",
            f"-report_slow_units={HANG_S}", f"-rss_limit_mb={RSS_MIB}",
            f"-artifact_prefix={self.findings}/", "-print_final_stats=1", *map(str, folders),
        )  # fmt: skip
        told = self._read(log)
        told.cpu = before.cpu + cpu
        told.executions += before.executions
        told.started = before.started or told.started
        told.fine = before.fine
        for path in set(files(self.findings)) - known:
            finding = self._examine(path)
            if finding is None:
                told.fine += 1
                path.unlink()
            else:
                told.findings.append(finding)
        if code and not told.findings and told.fine == before.fine:
            told.findings.append(Finding(log, f"ended with status {code}"))
        return told

    def _child(self, log: Path, *options: str) -> tuple[int, float]:
        """Run the fuzzer to its end; return its exit status, and its seconds of the processor."""
        environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'tools'}:{ROOT / 'tests'}:{ROOT}"}
        argv = [sys.executable, "-m", "fuzzlib.child", self.target.name, str(self.folder / "seeds")]
        with log.open("wb") as out, subprocess.Popen(
            [*argv, *options], cwd=ROOT, env=environment, stdout=out, stderr=out
        ) as child:
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
        return child.returncode, usage.ru_utime + usage.ru_stime

    def _read(self, log: Path) -> Told:
        text = log.read_text(errors="replace")
        rows = _STATUS.findall(text)
        told = Told(self.target.name)
        if rows:
            first = next((row for row in rows if row[1] == "INITED"), rows[0])
            told.executions, told.reached = int(rows[-1][0]), int(rows[-1][2])
            told.started, told.features = int(first[2]), int(rows[-1][3])
            told.inputs = int(rows[-1][4])
        return told

    def _examine(self, path: Path) -> Finding | None:
        """Cut an input down that breaks the law; None where that was the machine's fault.

        A crash of the interpreter, or a hang, must not end this process: those are tried in one
        of their own, and a hang is 5 seconds of the processor, not of a busy machine's clock.
        """
        data = path.read_bytes()
        code, cpu = self._replay(path)
        if code not in (0, 1) or cpu > HANG_S:
            return Finding(path, f"{path.name}: status {code}, {cpu:.1f} s of the processor")
        said = failure(self.target, data) if code else ""
        if not said:
            return None
        small = shrunk(data, lambda tried: failure(self.target, tried) == said)
        kept = path.with_name(f"small-{path.name}")
        kept.write_bytes(small)
        return Finding(kept, f"{said}: {small[:100]!r}")

    def _replay(self, path: Path) -> tuple[int, float]:
        """Return the exit status of a replay, and the seconds of the processor it took."""
        tool = str(ROOT / "tools" / "fuzz-parsers")
        argv = ["prlimit", "--cpu=15", sys.executable, tool, self.target.name]
        argv += ["--replay", str(path)]
        with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
        return child.returncode, usage.ru_utime + usage.ru_stime


def merge(name: str, folder: Path) -> str:
    """Put into tests/corpus some of what a run's corpus adds to the seeds, in place of others."""
    session, kept = Session(name, folder), folder / "merged"
    for old in files(kept):
        old.unlink()
    write(kept, TARGETS[name].seeds())
    sown = {path.name for path in files(kept)}
    committed = CORPUS / name
    log = folder / "merge-log"
    sources = [str(path) for path in (committed, session.corpus) if path.exists()]
    code, _ = session._child(log, "-merge=1", str(kept), *sources)
    if code:
        return f"{name}: merging ended with status {code}: {log}"
    new = sorted((p for p in files(kept) if p.name not in sown), key=lambda p: p.stat().st_size)
    chosen, size = [], 0
    for path in new[:: -(-len(new) // MOST_KEPT) or 1]:  # of all sizes
        size += path.stat().st_size
        if size > MOST_KEPT_BYTES:
            break
        chosen.append(path.read_bytes())
    for old in files(committed):
        if _DIGEST.fullmatch(old.name):  # others were given a name: they broke the law once
            old.unlink()
    write(committed, chosen)
    return f"{name}: {len(chosen)} of {len(new)} inputs that add to the seeds, {size} bytes"
