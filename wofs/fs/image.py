"""What all paths of an opened image share."""

from __future__ import annotations

from typing import NoReturn, cast

from wofs.errors import StaleHandle
from wofs.fs.resolve import Resolver
from wofs.fs.tree import Tree
from wofs.xfs.mount import Mount


class Image:
    """A mounted image with its tree and the resolver of paths.

    Whoever outlives one call keeps the `Image` and not what it holds: after `close` all of
    that raises StaleHandle.
    """

    __slots__ = ("mount", "resolver", "tree")

    def __init__(self, mount: Mount) -> None:
        self.mount = mount
        self.tree = Tree(mount)
        self.resolver = Resolver(self.tree)

    @property
    def closed(self) -> bool:
        """Whether the image was given back."""
        return isinstance(self.mount, _Closed)

    def close(self) -> None:
        """Give back the memory and the device; a second call does nothing."""
        mount = self.mount
        if isinstance(mount, _Closed):
            return
        closed = _Closed(mount.device.name)
        self.mount = cast(Mount, closed)
        self.tree = cast(Tree, closed)
        self.resolver = cast(Resolver, closed)
        mount.close()


class _Closed:
    """Stands where the parts of an open image were; every look at it raises StaleHandle."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> NoReturn:
        raise StaleHandle(f"{self._name}: the filesystem is closed")
