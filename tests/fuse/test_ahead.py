"""Reading ahead: what is expected next, what it spares, and that it hides no damage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import pytest

pytest.importorskip("pyfuse3")

from support.hostile import INODE_MODE, Edited
from wofs.device import BytesDevice, FileDevice
from wofs.errors import Corrupt
from wofs.fs.stat import DIR
from wofs.fs.tree import Tree
from wofs.fuse.ahead import STEPS_AHEAD, Ahead, Order
from wofs.ondisk.inode import FMT_LOCAL
from wofs.xfs.inode import Inode
from wofs.xfs.mount import Mount, mount


def coming(order: Order, count: int = 4) -> list[int]:
    """Return what an order expects next."""
    return list(islice(order.coming(), count))


def test_order_follows_a_walk_down_and_up() -> None:
    order = Order()
    order.listed(1, [10, 20])
    order.listed(1, [30])  # the listing's second part
    assert order.opened(10)
    order.listed(10, [11, 12])
    assert coming(order) == [11, 12, 20, 30]
    assert order.opened(11)
    order.listed(11, [])
    assert order.opened(12)
    assert coming(order) == [20, 30]
    assert order.opened(20)
    assert coming(order) == [30]


def test_order_may_skip_a_little_but_is_not_made_up() -> None:
    order = Order()
    order.listed(1, list(range(100, 200)))
    assert order.opened(105)
    assert coming(order) == [106, 107, 108, 109]
    assert not order.opened(104)  # it is over
    assert not order.opened(199)  # too far
    assert not order.opened(7)
    assert coming(order) == [106, 107, 108, 109]


def test_order_is_bounded() -> None:
    order = Order()
    for owner in range(1, 3000):
        order.listed(owner, list(range(owner * 10_000, owner * 10_000 + 5000)))
    assert sum(1 for _ in order.coming()) <= 64 * 2048


class Counting(FileDevice):
    """Counts what is read."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.reads = 0

    def pread(self, offset: int, length: int) -> bytes:
        """Count a read."""
        self.reads += 1
        return super().pread(offset, length)


@pytest.fixture
def mounted(image: Callable[[str], Path]) -> Iterator[tuple[Mount, Counting]]:
    device = Counting(image("b1k"))
    opened = mount(device)
    yield opened, device
    opened.close()


def children(tree: Tree, directory: Inode, kind: int) -> list[int]:
    """Return the inode numbers of what a directory holds of one type, in its order."""
    inodes = [inode for batch in tree.listing(directory) for inode in batch.inodes()]
    return [i.ino for i in inodes if isinstance(i, Inode) and i.mode >> 12 == kind]


def work(ahead: Ahead) -> int:
    """Do all there is; return the number of steps."""
    steps = 0
    while ahead.pending():
        ahead.step()
        steps += 1
    return steps


def test_a_directory_read_ahead_costs_no_read(mounted: tuple[Mount, Counting]) -> None:
    opened, device = mounted
    tree = Tree(opened)
    ahead = Ahead(tree)
    root = tree.root()
    below = children(tree, root, DIR)
    assert len(below) > STEPS_AHEAD + 1
    ahead.listed(root.ino, below)
    assert not work(ahead), "a listing alone is no reason"
    ahead.opened(below[0])
    assert work(ahead) == STEPS_AHEAD
    before = device.reads
    small = [d for d in map(opened.inodes.get, below[1 : STEPS_AHEAD + 1]) if d.size <= 8192]
    assert small
    for directory in small:
        opened.inodes.get_many([entry[1] for entry in opened.dirs.batch(directory, 0)])
    assert device.reads == before
    ahead.opened(below[1])
    assert work(ahead) == 1, "what was read is not read again"


def test_damage_is_left_to_the_request_that_meets_it(image: Callable[[str], Path]) -> None:
    edited = Edited(image("default"))
    edited.inode("/dirs", INODE_MODE, b"\xff\xff")
    opened = mount(BytesDevice(bytes(edited.data)))
    ahead = Ahead(Tree(opened))
    damaged = edited.ino("/dirs")
    ahead.listed(opened.geo.rootino, [1 << 40, damaged])
    ahead.opened(1 << 40)
    assert work(ahead) == 1
    with pytest.raises(Corrupt):
        opened.inodes.get(damaged)
    opened.close()
    edited.close()


class Failing(BytesDevice):
    """Breaks down as only a bug would, once told to."""

    broken = False

    def pread(self, offset: int, length: int) -> bytes:
        """Read, or break down."""
        if self.broken:
            raise RuntimeError("a bug in the device")
        return super().pread(offset, length)


def test_a_bug_is_logged_and_ends_nothing(
    image: Callable[[str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    device = Failing(image("b1k").read_bytes())
    opened = mount(device)
    tree = Tree(opened)
    ahead = Ahead(tree)
    below = children(tree, tree.root(), DIR)
    large = [i for i in below if opened.inodes.get(i).format != FMT_LOCAL]
    ahead.listed(opened.geo.rootino, [below[0], *large])
    ahead.opened(below[0])
    device.broken = True
    assert work(ahead)
    assert "reading ahead: RuntimeError: a bug in the device" in caplog.text
    opened.close()
