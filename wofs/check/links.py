"""What only the whole tells: link counts, '..', what no path leads to, names of inodes.

Source: `scrub/nlinks.c`, `scrub/parent.c`, `repair/phase6.c`.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator

from wofs.check.findings import KEPT_PER_PROBLEM
from wofs.check.state import DAMAGED, TYPE_DIR, Inventory, State
from wofs.errors import ImageError
from wofs.ondisk.sb import NULL_FSINO
from wofs.xfs.geometry import valid_ino

_MAX_DEPTH = 4096
"""Components of a path that is shown."""


def check_links(state: State) -> None:
    """Hold link counts, '..' and reachability to what the directories say.

    Where some names could not be read, only what these cannot change is judged.
    """
    root = state.mount.geo.rootino
    _find_parents(state, root)
    inventory, slot = state.find(root)
    if inventory is not None and (slot < 0 or inventory.type[slot] != TYPE_DIR):
        state.report.add(
            "root-damaged", "superblock", "rootino", expected="a sound directory", found=root,
            offset=0, ino=root,
        )  # fmt: skip
        return
    _count_hidden(state)
    _check_dotdot(state, root)
    lost, circular = _unreachable(state, root)
    judge = _Judge(state, lost, circular)
    for agno, inventory in enumerate(state.inodes):
        if inventory is not None:
            judge.check(agno, inventory)
        if inventory is not None and inventory.parents:
            judge.check_parents(agno, inventory)
    judge.finish()


def _count_hidden(state: State) -> None:
    """Count the superblock's own inodes, which no name leads to, as named.

    Its copies do not name the realtime ones, which follow the root (`xfs_repair: sb.c`). A name
    that does lead to one has the kernel refuse the directory (`xfs_types.c: xfs_verify_dir_ino`).
    """
    sb, named = state.mount.sb, []
    for ino, place in ((sb.rbmino, 1), (sb.rsumino, 2)):
        named.append(sb.rootino + place if ino in (0, NULL_FSINO) else ino)
    for ino in {*named, sb.uquotino, sb.gquotino, sb.pquotino}:
        inventory, slot = state.find(ino) if ino not in (0, NULL_FSINO) else (None, -1)
        if inventory is not None and slot >= 0 and inventory.type[slot]:
            if inventory.names[slot]:
                state.report.add(
                    "dir-refused", f"inode {ino}", "name", found=f"{inventory.names[slot]} names",
                    expected="none: it is the superblock's own", ino=ino,
                    offset=state.inode_offset(ino),
                )  # fmt: skip
            inventory.names[slot] += 1


def _names_lost(state: State) -> bool:
    """Whether there may be names that could not be read.

    An inode that cannot be decoded may be a directory, unless an entry says otherwise.
    """
    if state.lost_names:
        return True
    others = set(state.no_folders)
    log = state.mount.geo.agino_log
    for agno, inventory in enumerate(state.inodes):
        if inventory is None:
            return True
        damaged = inventory.of_type(DAMAGED, 0, len(inventory.type))
        if any(agno << log | agino not in others for _, agino in damaged):
            return True
    return False


def _find_parents(state: State, root: int) -> None:
    """Note which directory has the name of each; report those with more than one."""
    folders = state.folders
    folders.parent = array("Q", bytes(8 * len(folders.ino)))
    again: list[tuple[int, int, int]] = []
    pairs, more = iter(folders.children), 0
    for ino, parent in zip(pairs, pairs, strict=True):
        at = folders.rank(ino)
        known = root if ino == root else folders.parent[at]
        if not known:
            folders.parent[at] = parent
        elif len(again) < KEPT_PER_PROBLEM:
            again.append((ino, parent, known))
        else:
            more += 1
    _report_parents(state, again)
    state.report.count("dir-two-parents", more)


def _report_parents(state: State, again: list[tuple[int, int, int]]) -> None:
    """Report further names of directories: (directory, who has one, who has another)."""
    wanted = {(ino, parent) for ino, parent, _ in again}
    names: dict[tuple[int, int], bytes] = {}
    for folder in dict.fromkeys(parent for _, parent, _ in again):  # each is listed once
        for ino, name in _names(state, folder):
            if (ino, folder) in wanted:
                names[ino, folder] = name
    for ino, parent, known in again:
        state.report.add(
            "dir-two-parents", f"directory {parent}", f"entry {names.get((ino, parent), b'?')!r}",
            ino=parent, expected=f"only directory {known}", found=ino,
        )  # fmt: skip


def _check_dotdot(state: State, root: int) -> None:
    """Hold every '..' against the directory that has the name."""
    folders = state.folders
    for ino, dotdot, known in zip(folders.ino, folders.dotdot, folders.parent, strict=True):
        parent = root if ino == root else known
        if parent and dotdot and dotdot != parent:
            state.report.add(
                "dir-dotdot", f"directory {ino}", "'..'", expected=parent, found=dotdot, ino=ino,
                offset=state.inode_offset(ino),
            )  # fmt: skip


_UNKNOWN, _REACHED, _LOST, _CIRCULAR, _PASSED = range(5)


def _unreachable(state: State, root: int) -> tuple[set[int], set[int]]:
    """Return the directories that no path from the root leads to: (known ones, in circles)."""
    folders = state.folders
    found = bytearray(len(folders.ino))
    at = folders.rank(root)
    if at >= 0:
        found[at] = _REACHED
    for first in range(len(found)):
        way: list[int] = []
        here = first
        while here >= 0 and found[here] == _UNKNOWN:
            found[here] = _PASSED
            way.append(here)
            parent = folders.parent[here]
            here = folders.rank(parent) if parent else -1
        end = _LOST if here < 0 else _CIRCULAR if found[here] == _PASSED else found[here]
        for here in way:
            found[here] = end
    lost = {ino for ino, end in zip(folders.ino, found, strict=True) if end == _LOST}
    circular = {ino for ino, end in zip(folders.ino, found, strict=True) if end == _CIRCULAR}
    return lost, circular


class _Judge:
    """Holds link counts to the names that were met."""

    def __init__(self, state: State, lost: set[int], circular: set[int]) -> None:
        self.state = state
        self.lost = lost
        self.circular = circular
        self.names_lost = _names_lost(state)
        self.lists_known = all(agi is not None for agi in state.mount.agi)
        self.left = 0
        """Inodes that could not be judged."""

    def check(self, agno: int, inventory: Inventory) -> None:
        """Judge every inode of an AG."""
        high, lost = agno << self.state.mount.geo.agino_log, self.lost | self.circular
        columns = zip(inventory.type, inventory.links, inventory.names, strict=True)
        for slot, (kind, links, names) in enumerate(columns):
            if kind and (links != names or not links or kind == TYPE_DIR) and kind != DAMAGED:
                ino = high | inventory.agino(slot)
                if links != names or not links or ino in lost:
                    self._judge(ino, kind == TYPE_DIR, links, names)

    def _judge(self, ino: int, folder: bool, links: int, names: int) -> None:
        listed = ino in self.state.unlinked
        if ino in self.circular:
            self._add("dir-unreachable", ino, None, "a name", "none")
        elif not links and not names:
            if not listed and self.lists_known:
                self._add("inode-orphan", ino, "nlink", "at least 1", 0)
        elif folder and listed:
            pass  # it has its '.' still, and no name
        elif links < names:
            self._add("inode-nlink", ino, "nlink", names, links)
        elif self.names_lost:
            self.left += 1
        elif ino in self.lost or (not folder and not names):
            self._add("dir-unreachable", ino, None, "a name", "none")
        else:
            self._add("inode-nlink", ino, "nlink", names, links)

    def check_parents(self, agno: int, inventory: Inventory) -> None:
        """Hold the parent pointers of an AG's inodes to the entries that lead to them."""
        high = agno << self.state.mount.geo.agino_log
        for slot, (kind, rest) in enumerate(zip(inventory.type, inventory.parents, strict=True)):
            if rest and kind != DAMAGED:
                ino = high | inventory.agino(slot)
                if self.names_lost:
                    self.left += 1
                else:
                    self._add("parent-differs", ino, None, "one of each name that leads here", None)

    def _add(
        self, problem: str, ino: int, field: str | None, expected: object, found: object
    ) -> None:
        self.state.report.add(
            problem, f"inode {ino}", field, expected=expected, found=found, ino=ino,
            offset=self.state.inode_offset(ino),
        )  # fmt: skip

    def finish(self) -> None:
        """Say how many could not be judged."""
        if self.left:
            self.state.report.add(
                "links-not-judged",
                "image",
                found=f"{self.left} inodes whose names are not all known",
            )


def name_findings(state: State) -> None:
    """Give the findings that speak of inodes the inodes' paths, by one walk of the names.

    Those without a place of their own lie where their inode does.
    """
    wanted = {f.ino for f in state.report.findings if f.ino is not None}
    names = _first_names(state, {ino for ino in wanted if state.folders.rank(ino) < 0})
    climbed = wanted | {folder for folder, _ in names.values()}
    below: dict[int, set[int]] = {}
    for ino in climbed:
        for here in _ancestors(state, ino):
            parent = state.folders.parent_of(here)
            if parent:
                below.setdefault(parent, set()).add(here)
    for parent, children in below.items():
        for ino, name in _names(state, parent):
            if ino in children:
                names.setdefault(ino, (parent, name))
    for finding in state.report.findings:
        if finding.ino is not None:
            finding.path = _path(names, finding.ino, state.mount.geo.rootino)
            if finding.offset is None and valid_ino(state.mount.geo, finding.ino):
                finding.offset = state.inode_offset(finding.ino)


def _first_names(state: State, wanted: set[int]) -> dict[int, tuple[int, bytes]]:
    """Return the first name that is met of each of these inodes: (directory, name)."""
    found: dict[int, tuple[int, bytes]] = {}
    for folder in state.folders.ino:
        if len(found) == len(wanted):
            break
        for ino, name in _names(state, folder):
            if ino in wanted:
                found.setdefault(ino, (folder, name))
    return found


def _ancestors(state: State, ino: int) -> Iterator[int]:
    """Yield an inode and the directories above it, as far as they are known."""
    seen: set[int] = set()
    here = ino
    while here and here not in seen:
        seen.add(here)
        yield here
        here = state.folders.parent_of(here)


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
