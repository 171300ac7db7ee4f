"""All attacks on the slab, each in a process of its own: `python -m support.attacks BACKEND STATE`.

STATE is `open` (still being filled) or `finished` (sealed, locked for the process). Prints one
JSON object: for each attack what became of it and what the process said. Outcomes: `landed`
(an object reads differently, or its memory is gone), `no effect`, `error ENAME`, `exception
TypeName`, `signal NAME`, or the attack's own words.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import tempfile

import support.attacks.files
import support.attacks.kernel
import support.attacks.misuse
import support.attacks.stores  # noqa: F401
from support.attacks.target import ATTACKS, Outcome, Target


def outcome_of(name: str, target: Target) -> str:
    """Run one attack and return what became of it."""
    try:
        ATTACKS[name](target)
    except Outcome as outcome:
        return str(outcome)
    except OSError as error:
        said = f"error {errno.errorcode.get(error.errno or 0, str(error.errno))}"
    except Exception as error:
        said = f"exception {type(error).__name__}"
    else:
        return "landed" if target.landed() else "no effect"
    return f"{said}, landed" if target.landed() else said


def run(name: str, backend: str, state: str) -> dict[str, str]:
    """Fork, attack in the child, return {"outcome", "said"}."""
    with tempfile.TemporaryFile() as result, tempfile.TemporaryFile() as said:
        child = os.fork()
        if child == 0:
            os.dup2(said.fileno(), 2)
            target = Target(backend, state)
            os.write(result.fileno(), outcome_of(name, target).encode())
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        outcome = os.pread(result.fileno(), 4096, 0).decode()
        text = os.pread(said.fileno(), 65536, 0).decode(errors="replace")
    if status < 0:
        outcome = f"signal {signal.Signals(-status).name}"
    return {"outcome": outcome, "said": text}


if __name__ == "__main__":
    print(json.dumps({name: run(name, *sys.argv[1:3]) for name in ATTACKS}))
