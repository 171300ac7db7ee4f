"""How commands show one object: a line of `ls -l`, a JSON object, times, sizes."""

from __future__ import annotations

import os
import stat as modes
import time
from functools import lru_cache

from wofs.cli.output import Json, named
from wofs.fs import Path, Stat
from wofs.fs.stat import BLK, CHR, DIR, FIFO, LNK, REG, SOCK, TYPE_NAMES

LETTERS = {REG: "f", DIR: "d", LNK: "l", CHR: "c", BLK: "b", FIFO: "p", SOCK: "s"}
"""The letter of each file type, as `find -type` knows it."""

Row = tuple[str, str, str, str, str, str]
"""Mode, links, user, group, size or device numbers, time: the columns before the name."""

DAMAGED_ROW: Row = ("?---------", "?", "?", "?", "?", "?")


@lru_cache(maxsize=4096)
def _minute(minute: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(minute * 60))


def row(stat: Stat | None, *, human: bool = False, full_time: bool = False) -> Row:
    """Return the columns of a line of `ls -l`; question marks for a damaged inode.

    `human` gives sizes in K, M, ..., `full_time` nanoseconds and the zone.
    """
    if stat is None:
        return DAMAGED_ROW
    if stat.type in (CHR, BLK):
        size = f"{os.major(stat.st_rdev)}, {os.minor(stat.st_rdev)}"
    else:
        size = short_size(stat.st_size) if human else str(stat.st_size)
    ns = stat.st_mtime_ns
    return (
        modes.filemode(stat.st_mode),
        str(stat.st_nlink),
        str(stat.st_uid),
        str(stat.st_gid),
        size,
        moment(ns) if full_time else _minute(ns // (60 * 10**9)),
    )


def short_size(size: int) -> str:
    """Return a size as `ls -h` does: rounded up, two digits below 10, a letter for the unit."""
    power = 0
    while size > 1023 << 10 * power:
        power += 1
    if not power:
        return str(size)
    tenths = -(-size * 10 >> 10 * power)
    number = f"{tenths // 10}.{tenths % 10}" if tenths < 100 else str(-(-size >> 10 * power))
    return f"{number}{'KMGTPEZ'[power - 1]}"


def widths(rows: list[Row]) -> tuple[int, ...]:
    """Return the width of each column of `rows`."""
    return tuple(max((len(cells[i]) for cells in rows), default=0) for i in range(6))


def long_line(cells: Row, width: tuple[int, ...], name: str) -> str:
    """Return a line of `ls -l`, numbers to the right."""
    mode, links, uid, gid, size, when = cells
    return (
        f"{mode:<{width[0]}} {links:>{width[1]}} {uid:>{width[2]}} {gid:>{width[3]}} "
        f"{size:>{width[4]}} {when:>{width[5]}} {name}"
    )


def moment(ns: int) -> str:
    """Return a time as `stat` prints it, nanoseconds and zone included."""
    seconds, rest = divmod(ns, 10**9)
    local = time.localtime(seconds)
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', local)}.{rest:09d} {time.strftime('%z', local)}"


def size_text(size: int) -> str:
    """Return a number of bytes in the largest binary unit that keeps it readable."""
    power = max(0, min(6, (size.bit_length() - 1) // 10))
    if not power:
        return f"{size} B"
    return f"{size / 1024**power:.1f} {'KMGTPE'[power - 1]}iB"


def as_json(path: Path, stat: Stat | None, target: bytes | None = None) -> Json:
    """Return an object for JSON: path, name, type and all of its attributes.

    A damaged one has `"damaged": true` in place of the attributes.
    """
    out = {**named("path", bytes(path)), **named("name", path.name_bytes)}
    if stat is None:
        return {**out, "damaged": True}
    out["type"] = TYPE_NAMES[stat.type]
    out["mode"] = f"{modes.S_IMODE(stat.st_mode):04o}"
    for key in ("ino", "nlink", "uid", "gid", "size", "blocks", "blksize"):
        out[key] = getattr(stat, f"st_{key}")
    for key in ("atime_ns", "mtime_ns", "ctime_ns", "birthtime_ns", "gen", "projid"):
        out[key] = getattr(stat, f"st_{key}")
    if stat.type in (CHR, BLK):
        out["rdev"] = [os.major(stat.st_rdev), os.minor(stat.st_rdev)]
    if target is not None:
        out |= named("target", target)
    return out
