"""What only the whole tells: link counts, '..', what no path leads to, names of inodes.

Source: `scrub/nlinks.c`, `scrub/parent.c`, `repair/phase6.c`.
"""

from __future__ import annotations

from collections.abc import Iterator

from wofs.check.state import DAMAGED, Inventory, State
from wofs.errors import ImageError
from wofs.ondisk.sb import NULL_FSINO

_MAX_DEPTH = 4096
"""Components of a path that is shown."""


def check_links(state: State) -> None:
    """Hold link counts, '..' and reachability to what the directories say."""
    root = state.mount.geo.rootino
    inventory, slot = state.find(root)
    if inventory is not None and (slot < 0 or inventory.type[slot] != 4):
        state.report.add(
            "root-damaged", "superblock", "rootino", expected="a sound directory", found=root,
            offset=0, ino=root,
        )  # fmt: skip
        return
    _count_hidden(state)
    if state.names_hidden:
        return
    _check_dotdot(state, root)
    lost = _unreachable(state, root)
    for agno, inventory in enumerate(state.inodes):
        if inventory is not None:
            _check_counts(state, agno, inventory, lost)


def _count_hidden(state: State) -> None:
    """Count the superblock's own inodes, which no name leads to, as named.

    Its copies do not name the realtime ones, which follow the root (`xfs_repair: sb.c`).
    """
    sb, named = state.mount.sb, []
    for ino, place in ((sb.rbmino, 1), (sb.rsumino, 2)):
        named.append(sb.rootino + place if ino in (0, NULL_FSINO) else ino)
    for ino in {*named, sb.uquotino, sb.gquotino, sb.pquotino}:
        inventory, slot = state.find(ino) if ino not in (0, NULL_FSINO) else (None, -1)
        if inventory is not None and slot >= 0 and inventory.type[slot]:
            inventory.names[slot] += 1
    for inventory in state.inodes:
        state.names_hidden |= inventory is None or DAMAGED in inventory.type


def _check_dotdot(state: State, root: int) -> None:
    """Hold every '..' against the directory that has the name."""
    for ino, dotdot in state.dotdot.items():
        parent = root if ino == root else state.parents.get(ino)
        if parent is not None and dotdot != parent:
            state.report.add(
                "dir-dotdot", f"directory {ino}", "'..'", expected=parent, found=dotdot, ino=ino,
                offset=state.inode_offset(ino),
            )  # fmt: skip


def _unreachable(state: State, root: int) -> set[int]:
    """Return the directories that no path from the root leads to."""
    good: set[int] = {root}
    lost: set[int] = set()
    for ino in state.dotdot:
        way: list[int] = []
        here: int | None = ino
        seen: set[int] = set()
        while here is not None and here not in good and here not in lost and here not in seen:
            way.append(here)
            seen.add(here)
            here = state.parents.get(here)
        (good if here in good else lost).update(way)
    return lost


def _check_counts(state: State, agno: int, inventory: Inventory, lost: set[int]) -> None:
    """Hold the link count of each inode of an AG to the number of its names."""
    log = state.mount.geo.agino_log
    for slot, agino in inventory.aginos():
        kind, links, names = inventory.type[slot], inventory.links[slot], inventory.names[slot]
        ino = agno << log | agino
        if ino in lost or (kind != 4 and not names and links):
            state.report.add(
                "dir-unreachable", f"inode {ino}", expected="a name", found="none", ino=ino,
                offset=state.inode_offset(ino),
            )  # fmt: skip
        elif not links and ino not in state.unlinked and not names:
            state.report.add(
                "inode-orphan", f"inode {ino}", "nlink", expected="at least 1", found=0, ino=ino,
                offset=state.inode_offset(ino),
            )  # fmt: skip
        elif links != names and not (kind == 4 and ino in state.unlinked):
            state.report.add(
                "inode-nlink", f"inode {ino}", "nlink", expected=names, found=links, ino=ino,
                offset=state.inode_offset(ino),
            )  # fmt: skip


def name_findings(state: State) -> None:
    """Give the findings that speak of inodes the inodes' paths, by one walk of the names."""
    wanted = {f.ino for f in state.report.findings if f.ino is not None}
    if not wanted:
        return
    names: dict[int, tuple[int, bytes]] = {}
    for ino in list(wanted):
        for above in _ancestors(state, ino):
            wanted.add(above)
    for folder in state.dotdot:
        for ino, name in _names(state, folder):
            if ino in wanted:
                names.setdefault(ino, (folder, name))
                wanted.update(_ancestors(state, folder))
    for folder in state.dotdot:
        for ino, name in _names(state, folder):
            if ino in wanted:
                names.setdefault(ino, (folder, name))
    for finding in state.report.findings:
        if finding.ino is not None:
            finding.path = _path(names, finding.ino, state.mount.geo.rootino)


def _ancestors(state: State, ino: int) -> Iterator[int]:
    """Yield an inode and the directories above it, as far as they are known."""
    seen: set[int] = set()
    here: int | None = ino
    while here is not None and here not in seen:
        seen.add(here)
        yield here
        here = state.parents.get(here)


def _names(state: State, folder: int) -> Iterator[tuple[int, bytes]]:
    """Yield (ino, name) of a directory as far as it can be read; its damage is known already."""
    mount = state.mount
    try:
        for _, ino, _, name in mount.dirs.entries(mount.inodes.get(folder)):
            yield ino, name
    except ImageError:
        return


def _path(names: dict[int, tuple[int, bytes]], ino: int, root: int) -> bytes | None:
    """Return the path of an inode by the names that were met; None where it is not known."""
    parts: list[bytes] = []
    while ino != root:
        if ino not in names or len(parts) > _MAX_DEPTH:
            return None
        ino, name = names[ino]
        parts.append(name)
    return b"/" + b"/".join(reversed(parts))
