"""Reading directories ahead of the client, while no request waits.

Who goes through a tree (find, du, tar, ls -R) takes the directories of a listing one after
the other, and waits for each until it was read and its inodes were proved. Meanwhile, between
its requests, the next ones are read into the caches. That starts only when directories are
opened in the order in which they were listed, and goes a few steps ahead at most. Nothing
depends on it: an error met here is met again, and reported, by the request for what has it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice

from wofs.errors import ImageError, PathError
from wofs.fs.tree import Tree
from wofs.fuse.handler import log_once

STEPS_AHEAD = 4
"""Directories that are read before the client asks."""

_FRAMES = 64
"""Depth of listings that are remembered: what was listed above is gone on with later."""

_FRAME_ITEMS = 2048
_SKIPPED_AT_MOST = 16
"""What may be passed over before an order is none."""

_DIRECTORY_BYTES = 8192
"""A larger directory takes too long: a request that comes meanwhile would have to wait."""

class Order:
    """Inode numbers in the order in which they may be opened: listings within listings."""

    def __init__(self) -> None:
        self._frames: deque[tuple[int, deque[int]]] = deque(maxlen=_FRAMES)

    def listed(self, owner: int, inos: Sequence[int]) -> None:
        """Note what a listing of the directory `owner` held, or one more part of it."""
        if not inos:
            return
        if not self._frames or self._frames[-1][0] != owner:
            self._frames.append((owner, deque()))
        items = self._frames[-1][1]
        items.extend(inos[: _FRAME_ITEMS - len(items)])

    def opened(self, ino: int) -> bool:
        """Whether `ino` is next, or nearly; if so, what was before it is over."""
        for depth in range(len(self._frames) - 1, -1, -1):
            items = self._frames[depth][1]
            for skipped, item in enumerate(islice(items, _SKIPPED_AT_MOST)):
                if item == ino:
                    while len(self._frames) > depth + 1:
                        self._frames.pop()
                    for _ in range(skipped + 1):
                        items.popleft()
                    return True
        return False

    def coming(self) -> Iterator[int]:
        """Yield what comes next, the innermost listing first."""
        for _, items in reversed(self._frames):
            yield from items


class Ahead:
    """Reads ahead in one tree."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._order = Order()
        self._turn: list[int] = []
        self._done: deque[int] = deque(maxlen=4 * STEPS_AHEAD)

    def listed(self, owner: int, directories: Sequence[int]) -> None:
        """Note the directories in a part of a listing of the directory `owner`."""
        self._order.listed(owner, directories)

    def opened(self, ino: int) -> None:
        """Note that a directory is opened; if it was expected, the next ones are worth reading."""
        if self._order.opened(ino):
            coming = islice(self._order.coming(), STEPS_AHEAD)
            self._turn = [ino for ino in coming if ino not in self._done]
            self._turn.reverse()

    def pending(self) -> bool:
        """Whether there is anything to be read."""
        return bool(self._turn)

    def step(self) -> None:
        """Read one directory ahead."""
        ino = self._turn.pop()
        self._done.append(ino)
        mount = self._tree.mount
        try:
            directory = mount.inodes.get(ino)
            if directory.size <= _DIRECTORY_BYTES:
                entries = mount.dirs.batch(directory, 0)
                mount.inodes.get_many([entry[1] for entry in entries])
        except (ImageError, PathError, OSError):
            pass  # whoever asks for it gets to know
        except Exception as error:  # no request is to blame for it, and none may suffer
            log_once(str(mount.where(f"inode {ino}")), "reading ahead", error)
