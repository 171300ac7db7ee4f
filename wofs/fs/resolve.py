"""From a path to the inode it means: names, '..', symbolic links inside the image.

Absolute targets start at the image's root, so nothing leads out of it. Source of the rules:
`path_resolution(7)`.
"""

from __future__ import annotations

import os

from wofs.errors import Loop, NotDir, NotFound, PathError
from wofs.fs.stat import DIR, LNK
from wofs.fs.tree import Tree
from wofs.xfs.inode import Inode

MAX_LINKS = 40
"""Symbolic links followed on one way, as in the kernel (`namei.h: MAXSYMLINKS`)."""

Step = tuple[bytes, Inode]
"""A name and the inode it led to."""


class Resolver:
    """Walks paths through a tree."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree

    def walk(self, names: list[bytes], follow: bool, shown: bytes) -> list[Step]:
        """Return the steps from the root (with the name b"") to what `names` mean.

        With `follow` a symbolic link at the end is followed too. `shown` is the path that
        messages tell. Raises NotFound, NotDir, Loop, and `ImageError` for what is damaged.
        """
        trail: list[Step] = [(b"", self._tree.root())]
        pending = names[::-1]
        links = 0
        while pending:
            name = pending.pop()
            here = trail[-1][1]
            if here.type != DIR:
                raise _problem(NotDir, shown, "not a directory")
            if name in (b"", b"."):
                continue
            if name == b"..":
                if len(trail) > 1:
                    trail.pop()
                continue
            inode = self._child(here, name, shown)
            if inode.type == LNK and (pending or follow):
                links += 1
                target = self._tree.mount.links.target(inode)
                if links > MAX_LINKS:
                    raise _problem(Loop, shown, "too many levels of symbolic links")
                if target.startswith(b"/"):
                    del trail[1:]
                pending.extend(reversed(target.split(b"/")))
                continue
            trail.append((name, inode))
        return trail

    def _child(self, here: Inode, name: bytes, shown: bytes) -> Inode:
        try:
            return self._tree.child(here, name)
        except NotFound as error:
            raise _problem(NotFound, shown, "no such file or directory") from error


def _problem(kind: type[PathError], path: bytes, problem: str) -> PathError:
    return kind(f"{os.fsdecode(path)}: {problem}", path)
