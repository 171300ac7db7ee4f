"""`tools/bench slab`: what write-once memory costs, as ratios of one run.

Each part runs in processes of its own and gives rows of a table: what, its figure, what it is
measured beside, the ratio, and the mark it is held against by a reader. Nothing passes or fails.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from benchlib import slabwork
from benchlib.images import image_of, run
from benchlib.sides import PYTHON, ROOT

BACKENDS = ("none", "memfd", "shared", "mprotect", "alias", "pool")
AGS = (1_000, 10_000, 100_000)
DAYS, SEED = 365, 1
REPEATED = (1, 6)
"""How often a workload is done where its instructions are counted; the difference is reported."""

COLUMNS = ("protect=none", "protect=mount", "protect=all")
"""What the workloads compare: mount options; the first is what the others are divided by."""


@dataclass(frozen=True)
class Row:
    """One line: a figure, or a ratio, or both; `note` says of what, or its spread."""

    what: str
    figure: str = ""
    ratio: float | None = None
    note: str = ""
    mark: str = ""


def child(module: str, *arguments: str | Path) -> dict[str, dict[str, float]]:
    """Run a part in a process of its own; return the JSON it prints."""
    os.environ["PYTHONPATH"] = str(ROOT / "tools")
    found: dict[str, dict[str, float]] = json.loads(
        run(PYTHON, "-m", f"benchlib.{module}", *arguments)
    )
    return found


def costs(_images: Path, _rounds: int) -> Iterator[Row]:
    """Yield what single operations cost."""
    ns: dict[str, float] = child("slabcosts", *BACKENDS)  # type: ignore[assignment]
    copy, copies = ns["memcpy of one object"], ns["memcpy of a batch"]
    for name in ("memcpy of one object", "memcpy of a batch", "packing one row"):
        yield Row(name, f"{ns[name]:.0f} ns")
    for backend in BACKENDS:
        for what, beside, mark in (
            ("init_once", copy, "2000 ns"),
            ("init_once of packed bytes", copy, "2000 ns"),
            ("init_batch", copies, "200 ns"),
            ("init_batch of packed bytes", copies, "200 ns"),
            ("free", copy, ""),
        ):
            name = f"{what}, {backend}"
            if name in ns:
                yield Row(name, f"{ns[name]:.0f} ns", ns[name] / beside, "of a memcpy", mark)
    for how in ("read", "read in a loop"):
        slab = ns[f"{how}: field of the slab"]
        for name in (name for name in ns if name.startswith(f"{how}: ")):
            mark = "5" if "slotted" in name else "1" if "field" not in name else ""
            yield Row(name, f"{ns[name]:.1f} ns", slab / ns[name], "slab / this", mark)


def mounts(images: Path, rounds: int) -> Iterator[Row]:
    """Yield what mounting many allocation groups takes, and the memory they hold."""
    for agcount in AGS:
        image = image_of(f"ags{agcount}", images)
        times = rounds if agcount <= 10_000 else 1
        found = child("slabmount", image, str(times), *BACKENDS)
        seconds: dict[str, list[float]] = found["seconds"]  # type: ignore[assignment]
        for backend in BACKENDS:
            low, middle, high = slabwork.spread(slabwork.ratios(seconds[backend], seconds["none"]))
            yield Row(
                f"mount of {agcount} AGs, {backend}",
                f"{statistics.median(seconds[backend]):.3f} s cpu",
                middle,
                f"of none; quartiles {low:.2f} to {high:.2f}",
                "1.2" if (agcount, backend) == (10_000, "memfd") else "",
            )
        held = found["held"]
        yield Row(
            f"memory of {agcount} AGs",
            f"{held['page_bytes'] / held['objects']:.0f} B/object",
            held["page_bytes"] / held["object_bytes"],
            f"of the {held['object_bytes']} B of objects",
        )


def year(_images: Path, _rounds: int) -> Iterator[Row]:
    """Yield resident over live bytes in a simulated year."""
    for mix in ("even", "small"):
        found = child("slabyear", mix, str(DAYS), str(SEED), "memfd")
        left = " and ".join(map(str, found["left_ags"]))
        ends = {
            "median day": f"{found['mounts']} mounts, {found['most_alive']} at once",
            "worst day": "of all, the days of emptying too",
            "two images left": f"of {left} AGs",
        }
        for (what, note), key in zip(ends.items(), ("median", "worst", "end"), strict=True):
            ratio: float = found[key]  # type: ignore[assignment]
            mark = "1.25" if key != "median" else ""
            yield Row(f"year, {mix} mix: {what}", "", ratio, note, mark)


def work(images: Path, rounds: int) -> Iterator[Row]:
    """Yield what find, tar and random reads take beside the control."""
    found = slabwork.measure(image_of("small", images), 4 * rounds, COLUMNS)
    base, *others = COLUMNS
    for name, seen in found.items():
        for words in others:
            for what, taken in (("server cpu", seen.cpu), ("wall clock", seen.wall)):
                low, middle, high = slabwork.spread(slabwork.ratios(taken[words], taken[base]))
                total = sum(taken[words]) / sum(taken[base])
                yield Row(
                    f"{name}, {words}: {what}",
                    f"{statistics.median(taken[words]):.3f} s",
                    middle,
                    f"of {base}; quartiles {low:.3f} to {high:.3f}; sums {total:.3f}",
                    "1.25" if words == "protect=all" else "1.02",
                )


def counted(images: Path, _rounds: int) -> Iterator[Row]:
    """Yield what the same workloads take in instructions, without FUSE."""
    image = image_of("small", images)
    for name in slabwork.WORK:
        needs = {words: _one(image, words.split("=")[1], name) for words in COLUMNS}
        for words in COLUMNS[1:]:
            yield Row(
                f"{name}, {words}: instructions",
                f"{needs[words] / 1e6:.2f} million",
                needs[words] / needs[COLUMNS[0]],
                f"of {COLUMNS[0]}",
                "1.25" if words == "protect=all" else "1.02",
            )


def _one(image: Path, protect: str, name: str) -> float:
    """Return the instructions that one repetition of a workload needs."""
    few, many = (_instructions(image, protect, name, times) for times in REPEATED)
    return (many - few) / (REPEATED[1] - REPEATED[0])


def _instructions(image: Path, protect: str, name: str, times: int) -> int:
    """Return the instructions of a process that does a workload some times, its start with it."""
    argv = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", str(PYTHON)]
    argv += ["-m", "benchlib.slabcounted", str(image), protect, name, str(times)]
    environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": str(ROOT / "tools")}
    done = subprocess.run(argv, capture_output=True, text=True, env=environment, check=False)
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or found is None:
        raise RuntimeError(f"{' '.join(argv)}: exit {done.returncode}\n{done.stderr[-2000:]}")
    return int(found[1])


PARTS: dict[str, Callable[[Path, int], Iterator[Row]]] = {
    "costs": costs,
    "mounts": mounts,
    "year": year,
    "work": work,
    "counted": counted,
}


def report(images: Path, rounds: int, parts: list[str], as_json: bool) -> None:
    """Measure the parts and print their rows as they come."""
    if not as_json:
        print(f"{'what':46} {'figure':>14} {'ratio':>7} {'mark':>8}  ")
    for part in parts:
        for row in PARTS[part](images, rounds):
            if as_json:
                print(json.dumps({"part": part, **asdict(row)}), flush=True)
                continue
            ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
            if row.mark in ("1.02", "1.25") and part in ("work", "counted"):
                ratio = f"{row.ratio:.4f}"
            line = f"{row.what:46} {row.figure:>14} {ratio:>7} {row.mark:>8}  {row.note}"
            print(line.rstrip(), flush=True)
