"""One process that fuzzes one parser with atheris; `tools/fuzz-parsers` starts it.

    python -m fuzzlib.child PARSER SEEDS [libFuzzer's options and folders]

Writes the parser's seeds to the folder SEEDS first. What breaks the law ends the process.
"""

from __future__ import annotations

import logging
import random
import shlex
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["wofs"]):
    from fuzzlib.targets import TARGETS

from fuzzlib.corpus import write
from fuzzlib.target import Target, judge


def mutator(target: Target) -> object:
    """Return what makes an input of another: libFuzzer's ways, the target's own, or both."""

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        chance = random.Random(seed)
        if chance.random() < 0.5:
            data = target.mutate(data, chance)[:max_size]
            if chance.random() < 0.5:
                return data
        return bytes(atheris.Mutate(data, max_size))

    return mutate


def main() -> None:
    """Fuzz until libFuzzer ends the process."""
    name, seeds = sys.argv[1:3]
    target = TARGETS[name]
    logging.getLogger("wofs").addHandler(logging.NullHandler())
    write(Path(seeds), target.seeds())

    def one(data: bytes) -> None:
        judge(target, data)

    options = [f"-max_len={target.max_len}", *sys.argv[3:]]
    again = _again(Path(seeds).with_name("again"), name, seeds)
    atheris.Setup([again, *options], one, custom_mutator=mutator(target))
    atheris.Fuzz()


def _again(path: Path, *words: str) -> str:
    """Write the program by which libFuzzer starts this one again, to merge; return its path."""
    argv = shlex.join([sys.executable, "-m", "fuzzlib.child", *words])
    path.write_text(f'#!/bin/sh\nexec {argv} "$@"\n')
    path.chmod(0o755)
    return str(path)


if __name__ == "__main__":
    main()
