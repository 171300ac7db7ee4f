"""What all paths of an opened image share."""

from __future__ import annotations

from wofs.fs.resolve import Resolver
from wofs.fs.tree import Tree
from wofs.xfs.mount import Mount


class Image:
    """A mounted image with its tree and the resolver of paths."""

    __slots__ = ("mount", "resolver", "tree")

    def __init__(self, mount: Mount) -> None:
        self.mount = mount
        self.tree = Tree(mount)
        self.resolver = Resolver(self.tree)
