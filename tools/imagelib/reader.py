"""Read one image in a process of its own and tell everything as JSON lines on stdout.

    python -m imagelib.reader {library|mount} IMAGE
                              [--norecovery] [--sb AGNO] [--logdev FILE] [--protect WHAT]
                              [--memory MIB] [--manifest FILE]

Lines: {"p": PATH, ...manifest keys..., "faults": [...]} for each path; {"refused": FAULT} when the
image cannot be opened; {"said": LINE} for each line that wofs logs; at the end {"done": {"kib":
most resident memory, "seconds": time}}. The process exits 0 unless wofs breaks. `--memory` limits
what the process may allocate. A mount does not tell holes: of files above 64 MiB it reads the data
that the manifest has.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import wofs
from imagelib.library import fault, walk_library
from imagelib.manifest import Manifest, read_big, walk_tree
from wofs.errors import WofsError

WOFS = [sys.executable, "-c", "import sys; from wofs.cli.main import main; sys.exit(main())"]
_MOUNT_PATIENCE_S = 60.0

Line = dict[str, object]


@dataclass(frozen=True)
class How:
    """How an image is opened: as `wofs.open` and the options of `wofs mount` have it."""

    image: str
    norecovery: bool
    sb: int
    logdev: str | None
    protect: str

    @property
    def words(self) -> list[str]:
        """The same for the command line."""
        words = [f"protect={self.protect}"]
        words += ["norecovery"] if self.norecovery else []
        words += [f"sb={self.sb}"] if self.sb else []
        words += [f"logdev={self.logdev}"] if self.logdev else []
        return [part for word in words for part in ("-o", word)]


def tell(line: Line) -> None:
    """Write one line."""
    sys.stdout.write(json.dumps(line, separators=(",", ":")) + "\n")


class Told(logging.Handler):
    """Passes what wofs logs on as lines."""

    def emit(self, record: logging.LogRecord) -> None:
        """Tell one record."""
        tell({"said": record.getMessage()})


def resident_kib(pid: int | str = "self") -> int:
    """Return the most memory a process has had resident (`VmHWM`)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    return 0


# --- through the library -------------------------------------------------------------------
def by_library(how: How) -> int:
    """Tell of every path as the library reads it; return the memory used in KiB."""
    logging.getLogger("wofs").addHandler(Told())
    try:
        filesystem = wofs.open(
            how.image,
            norecovery=how.norecovery,
            sb=how.sb,
            logdev=how.logdev,
            protect=how.protect,
        )
    except (WofsError, OSError) as error:
        tell({"refused": fault("open", error)})
        return resident_kib()
    with filesystem:
        for path, entry, faults in walk_library(filesystem, lookups=True):
            tell({"p": path, **entry, **({"faults": faults} if faults else {})})
    return resident_kib()


# --- through a mount -----------------------------------------------------------------------
def by_mount(how: How, big: Manifest) -> int:
    """Tell of every path as a mount shows it; return the server's memory in KiB."""
    with tempfile.TemporaryDirectory(prefix=f"wofs-verify-{os.getpid()}-") as folder:
        top = Path(folder, "mnt")
        top.mkdir()
        with Path(folder, "said").open("w+") as said:
            command = [*WOFS, "mount", "-f", *how.words, how.image, str(top)]
            server = subprocess.Popen(command, stdout=said, stderr=said)
            try:
                kib = _walk_mount(server, top, big)
            finally:
                if server.poll() is None:
                    unmount = ["umount", "-l"] if os.geteuid() == 0 else ["fusermount3", "-uz"]
                    subprocess.run([*unmount, top], check=False, capture_output=True)
                    server.wait()
            said.seek(0)
            lines = said.read().splitlines()
    last = lines.pop() if kib is None and lines else ""
    for line in lines:
        tell({"said": line})
    if kib is None:
        ended = f"exit {server.returncode}"
        tell({"refused": {"part": "mount", "class": ended, "text": last}})
        return 0
    if server.returncode:
        raise SystemExit(f"wofs mount ended with {server.returncode}")
    return kib


def _walk_mount(server: subprocess.Popen[bytes], top: Path, big: Manifest) -> int | None:
    """Tell of all paths once the server is there; None if it ended without mounting."""
    deadline = time.monotonic() + _MOUNT_PATIENCE_S
    while not os.path.ismount(top):
        if server.poll() is not None:
            return None
        if time.monotonic() > deadline:
            raise SystemExit("wofs mount did not come up")
        time.sleep(0.01)
    for path, entry in walk_tree(top, big):
        errors = entry.pop("e", None)
        if isinstance(errors, list):
            parts = [str(error).split(":", 1) for error in errors]
            entry["faults"] = [{"part": part, "class": name} for part, name in parts]
        tell({"p": path, **entry})
    return resident_kib(server.pid)


def main() -> None:
    """Read what was asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("how", choices=("library", "mount"))
    parser.add_argument("image")
    parser.add_argument("--norecovery", action="store_true")
    parser.add_argument("--sb", type=int, default=0, metavar="AGNO")
    parser.add_argument("--logdev", metavar="FILE")
    parser.add_argument("--protect", default="mount")
    parser.add_argument("--memory", type=int, default=0, metavar="MIB")
    parser.add_argument("--manifest", type=Path, metavar="FILE")
    chosen = parser.parse_args()
    if chosen.memory:
        resource.setrlimit(resource.RLIMIT_DATA, (chosen.memory << 20, chosen.memory << 20))
    begun = time.monotonic()
    how = How(chosen.image, chosen.norecovery, chosen.sb, chosen.logdev, chosen.protect)
    if chosen.how == "library":
        kib = by_library(how)
    else:
        kib = by_mount(how, read_big(chosen.manifest) if chosen.manifest else {})
    tell({"done": {"kib": kib, "seconds": round(time.monotonic() - begun, 3)}})


if __name__ == "__main__":
    main()
