"""Damage with right checksums: what holds structures against each other finds it.

Each edit is one that the checks of single fields cannot see. What is damaged says so by name,
and everything else is read as before.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.patched import Patched, parts_of
from wofs.corrupt.parts import Part
from wofs.errors import BadField, ImageError, Unsupported
from wofs.fs import Filesystem

Unpack = Callable[[str], Path]

INO_SIZE, INO_NEXTENTS, INO_FORKS = 56, 76, 176
MAX_COUNT = (1 << 21) - 1


class Image:
    """An image whose parts can be found by path and changed."""

    def __init__(self, path: Path) -> None:
        self.device = Patched(path)
        self.parts = parts_of(path)
        with self.device.opened() as fs:
            self.inos = {str(p): p.ino for p in _all_paths(fs)}

    def part(self, path: str, kind: str, number: int = 0) -> Part:
        """Return the structure of a path (or AG number in digits) by kind and number."""
        owner = self.inos[path] if path.startswith("/") else int(path)
        return next(p for p in self.parts if (p.kind, p.owner, p.number) == (kind, owner, number))

    def read(self, part: Part, offset: int, code: str) -> int:
        """Return a number of a structure."""
        size = struct.calcsize(">" + code)
        raw = self.device.pread(part.start + offset, size)
        return int(struct.unpack(">" + code, raw)[0])

    def put(self, part: Part, offset: int, code: str, *values: int) -> None:
        """Change numbers of a structure."""
        self.device.change(part, offset, struct.pack(">" + code, *values))


def _all_paths(fs: Filesystem) -> Iterator:  # type: ignore[type-arg]
    yield fs.root
    for top, dirs, files in fs.root.walk():
        for name in [*dirs, *files]:
            yield top / name


@pytest.fixture(scope="module")
def b1k_image(image: Unpack) -> Iterator[Image]:
    made = Image(image("b1k"))
    yield made
    made.device.really_close()


@pytest.fixture
def b1k(b1k_image: Image) -> Iterator[Image]:
    yield b1k_image
    b1k_image.device.restore()


def fails(image: Image, act: Callable[[Filesystem], object], text: str) -> BadField:
    """Hold that `act` raises a BadField whose line holds `text`."""
    with image.device.opened() as fs, pytest.raises(BadField) as caught:
        act(fs)
    assert text in str(caught.value)
    return caught.value


def data_of(path: str) -> Callable[[Filesystem], object]:
    return lambda fs: fs.path(path).read_bytes()


# ---- extents
def test_a_lost_extent_is_no_hole(b1k: Image) -> None:
    b1k.put(b1k.part("/files/big", "inode"), INO_NEXTENTS, "I", 0)
    fails(b1k, data_of("/files/big"), "data fork: nblocks is 256, expected 0, what is mapped")


def test_a_shortened_extent_is_no_hole(b1k: Image) -> None:
    part = b1k.part("/files/big", "inode")
    low = b1k.read(part, INO_FORKS + 8, "Q")
    b1k.put(part, INO_FORKS + 8, "Q", low - 1)
    fails(b1k, data_of("/files/big"), "data fork: nblocks is 256, expected 255, what is mapped")


def test_blocks_of_an_attribute_fork_count(b1k: Image) -> None:
    part = b1k.part("/attrs/node", "inode")
    blocks = b1k.read(part, 64, "Q")
    b1k.put(part, 64, "Q", blocks + 1)
    fails(b1k, data_of("/attrs/node"), f"nblocks is {blocks + 1}, expected {blocks}")


def shares_with_itself(image: Image) -> Part:
    """Make the second extent of a file lead to the block of its first."""
    part = image.part("/files/holes4", "inode")
    first, high, low = (image.read(part, INO_FORKS + at, "Q") for at in (8, 16, 24))
    image.put(part, INO_FORKS + 16, "QQ", high, first & ~MAX_COUNT | low & MAX_COUNT)
    return part


def test_one_block_is_not_two_of_a_file(b1k: Image) -> None:
    shares_with_itself(b1k)
    fails(b1k, data_of("/files/holes4"), "startblock is 1 blocks at")


def test_a_reflinked_file_may_share_with_itself(b1k: Image) -> None:
    part = shares_with_itself(b1k)
    b1k.put(part, 120, "Q", b1k.read(part, 120, "Q") | 2)
    with b1k.device.opened() as fs:
        first, second, *_ = fs.path("/files/holes4").segments()
        data = fs.path("/files/holes4").read_bytes()
        assert data[second[0] : second[1]] == data[first[0] : first[1]] != bytes(1024)


def test_no_file_has_more_blocks_than_offsets(b1k: Image) -> None:
    b1k.put(b1k.part("/files/big", "inode"), 64, "Q", 1 << 55)
    text = "nblocks is 36028797018963968, expected less than 2^55"
    fails(b1k, lambda fs: fs.path("/files/big").stat(), text)


# ---- btrees
TREE = "/many_extents"


def interior(image: Image) -> Part:
    """Return the block of the tree that is above its leaves."""
    parts = [p for p in image.parts if p.kind == "bmbt" and p.owner == image.inos[TREE]]
    return next(p for p in parts if image.read(p, 4, "H") == 1)


def leaf_parts(image: Image) -> list[Part]:
    """Return the leaves of the tree in file order."""
    parts = [p for p in image.parts if p.kind == "bmbt" and p.owner == image.inos[TREE]]
    found = [p for p in parts if image.read(p, 4, "H") == 0]
    return sorted(found, key=lambda p: image.read(p, 72, "Q"))


def test_keys_ascend(b1k: Image) -> None:
    top = interior(b1k)
    b1k.put(top, 72 + 8, "Q", b1k.read(top, 72, "Q"))
    fails(b1k, data_of(TREE), "keys is out of order, expected keys in ascending order")


def test_a_key_is_its_childs_first(b1k: Image) -> None:
    top = interior(b1k)
    key = b1k.read(top, 72 + 8, "Q")
    b1k.put(top, 72 + 8, "Q", key + 1)
    fails(b1k, data_of(TREE), f"first key is {key}, expected {key + 1}, as the block above says")


def test_the_roots_key_is_its_childs_first(b1k: Image) -> None:
    b1k.put(b1k.part(TREE, "inode"), INO_FORKS + 4, "Q", 1)
    fails(b1k, data_of(TREE), "first key is 0, expected 1")


@pytest.mark.parametrize(("number", "field"), [(0, "rightsib"), (1, "leftsib"), (-1, "rightsib")])
def test_siblings_are_neighbours(b1k: Image, number: int, field: str) -> None:
    leaf = leaf_parts(b1k)[number]
    b1k.put(leaf, 16 if field == "rightsib" else 8, "Q", 0x77)
    fails(b1k, data_of(TREE), f"{field} is 0x77, expected 0x")


def test_an_inode_tree_has_no_sibling_beyond_its_end(
    b1k: Image, caplog: pytest.LogCaptureFixture
) -> None:
    b1k.put(b1k.part("0", "inobt"), 12, "I", 0x77)
    with b1k.device.opened() as fs:
        assert len(fs.path("/files/one").read_bytes()) == 1
    assert "rightsib is 0x77, expected 0xffffffff" in caplog.text


def test_a_map_is_no_longer_than_its_inode_says(b1k: Image) -> None:
    part = b1k.part(TREE, "inode")
    count = b1k.read(part, INO_NEXTENTS, "I")
    b1k.put(part, INO_NEXTENTS, "I", 100)
    fails(b1k, data_of(TREE), "nextents is 100, expected at least 1")
    b1k.put(part, INO_NEXTENTS, "I", count + 1)
    fails(b1k, data_of(TREE), f"nextents is {count + 1}, expected the {count} that are there")


def test_a_map_beyond_all_bounds_is_not_read(b1k: Image) -> None:
    part = b1k.part(TREE, "inode")
    b1k.put(part, 64, "Q", 1 << 40)
    b1k.put(part, INO_NEXTENTS, "I", 1 << 24)
    with b1k.device.opened() as fs:
        assert fs.path(TREE).stat().st_blocks == 1 << 41
        with pytest.raises(Unsupported, match="has 16777216 extents, more than 8388608"):
            fs.path(TREE).read_bytes()


def test_no_chunk_lies_in_the_headers(b1k: Image, caplog: pytest.LogCaptureFixture) -> None:
    b1k.put(b1k.part("0", "inobt"), 56, "I", 0)
    with b1k.device.opened() as fs:
        assert len(fs.path("/files/one").read_bytes()) == 1  # by its own evidence
    assert "the record lies in the AG's headers, before inode 4" in caplog.text


# ---- directories
NODE = "/dirs/node"


def index_parts(image: Image, path: str) -> list[Part]:
    """Return (the node, then the leaves by hash) of a directory's index."""
    found = [p for p in image.parts if p.kind == "dirindex" and p.owner == image.inos[path]]
    node = next(p for p in found if image.read(p, 8, "H") == 0x3EBE)
    leaves = [p for p in found if image.read(p, 8, "H") == 0x3DFF]
    return [node, *sorted(leaves, key=lambda p: image.read(p, 64, "I"))]


def names_found(fs: Filesystem, path: str) -> tuple[int, list[ImageError]]:
    """Look every name of a directory up by its hash; return the number found, and the errors."""
    mount, directory = fs.root.image.mount, fs.path(path).inode()
    names = [p.name_bytes for p in fs.path(path).iterdir()]
    found, errors = 0, []
    for name in names:
        try:
            found += mount.dirs.lookup(directory, name)[3] == name
        except ImageError as error:
            errors.append(error)
    assert found + len(errors) == len(names)  # never NotFound
    return found, errors


def lowered(image: Image, node: Part, leaf: Part) -> None:
    """Make a node's key of its first leaf too small, so that lookups go on to the next."""
    image.put(node, 64, "I", image.read(leaf, 64, "I"))


def last_lowered(image: Image, node: Part, leaf: Part) -> None:
    """Make a node's last key too small, so that the greatest hashes are beyond it."""
    count = image.read(node, 56, "H")
    image.put(node, 64 + 8 * (count - 1), "I", image.read(node, 64 + 8 * (count - 2), "I"))


def swapped(image: Image, node: Part, leaf: Part) -> None:
    """Let the two first keys lead to each other's leaf."""
    first, second = (image.read(node, 68 + at, "I") for at in (0, 8))
    image.put(node, 68, "I", second)
    image.put(node, 76, "I", first)


@pytest.mark.parametrize("edit", [lowered, last_lowered, swapped])
def test_no_damaged_index_hides_a_name(
    b1k: Image, edit: Callable[[Image, Part, Part], None]
) -> None:
    node, leaf, *_ = index_parts(b1k, NODE)
    with b1k.device.opened() as fs:
        total, errors = names_found(fs, NODE)
        assert not errors
    edit(b1k, node, leaf)
    with b1k.device.opened() as fs:
        found, errors = names_found(fs, NODE)
        assert 0 < len(errors) <= total
        assert all("directory" in e.where.object for e in errors)
        assert found
        # reading all of the directory finds what the index cannot
        assert all(p.exists() for p in fs.path(NODE).iterdir())
        for path in fs.path(NODE).iterdir():
            assert fs.path(bytes(path)).ino == path.ino


def test_a_leafs_stale_entries_are_counted(b1k: Image) -> None:
    leaf = index_parts(b1k, NODE)[1]
    stale = b1k.read(leaf, 58, "H")
    b1k.put(leaf, 58, "H", stale + 1)
    with b1k.device.opened() as fs:
        errors = names_found(fs, NODE)[1]
        assert f"stale is {stale + 1}, expected {stale}" in str(errors[0])


def test_a_block_forms_entries_are_counted(b1k: Image) -> None:
    part = b1k.part("/dirs/block", "dirdata")
    count = b1k.read(part, part.size - 8, "I")
    b1k.put(part, part.size - 4, "I", 1)
    fails(
        b1k,
        lambda fs: list(fs.path("/dirs/block").iterdir()),
        f"tail count is {count} with 1 stale, expected {count} in use",
    )


def test_a_name_in_two_blocks_is_delivered_once(b1k: Image) -> None:
    with b1k.device.opened() as fs:
        batches = list(fs.path(NODE).batches())
        first, other = batches[0].entries[-1], batches[1].entries[-1]
        total = sum(len(batch.entries) for batch in batches)
    assert len(first[3]) == len(other[3])
    block = b1k.part(NODE, "dirdata", 1)
    raw = b1k.device.pread(block.start, block.size)
    b1k.device.change(block, raw.index(other[3]), first[3])
    with b1k.device.opened() as fs:
        told: list[ImageError] = []
        batches = list(fs.path(NODE).batches(told.append))
        names = [entry[3] for batch in batches for entry in batch.entries]
        assert len(names) == len(set(names)) == total - 1
        name = first[3].decode()
        assert [e.text() for e in told] == [
            f"entry '{name}' name is there twice, expected unique names"
        ]


def test_a_directory_cannot_claim_blocks_twice(b1k: Image) -> None:
    part = b1k.part("/dirs/holes", "inode")
    count = 20_000
    for number in range(5):
        words = number * count << 9, 1 << 6 + 21 | count
        b1k.put(part, INO_FORKS + 16 * number, "QQ", *words)
    b1k.put(part, INO_SIZE, "QQ", 5 * count << 10, 5 * count)
    b1k.put(part, INO_NEXTENTS, "I", 5)
    fails(b1k, lambda fs: list(fs.path("/dirs/holes").iterdir()), "startblock is 20000 blocks at")


# ---- attributes
def attr_parts(image: Image, path: str) -> tuple[Part, list[Part]]:
    """Return (node, leaves by hash) of an attribute fork."""
    found = [p for p in image.parts if p.kind == "attr" and p.owner == image.inos[path]]
    node = next(p for p in found if image.read(p, 8, "H") == 0x3EBE)
    leaves = [p for p in found if image.read(p, 8, "H") == 0x3BEE]
    return node, sorted(leaves, key=lambda p: image.read(p, 80, "I"))


@pytest.mark.parametrize(
    ("field", "leaf", "value"),
    [("forw", 0, 0), ("forw", -1, 0x77), ("back", 0, 0x77), ("back", 1, 0)],
)
def test_no_attribute_is_lost_from_a_chain(b1k: Image, field: str, leaf: int, value: int) -> None:
    parts = attr_parts(b1k, "/attr_btree")[1]
    b1k.put(parts[leaf], 0 if field == "forw" else 4, "I", value)
    fails(b1k, lambda fs: list(fs.path("/attr_btree").xattrs()), f"{field} is {value}, expected")


def test_a_node_that_leaves_a_leaf_out_is_seen(b1k: Image) -> None:
    node = attr_parts(b1k, "/attr_btree")[0]
    count = b1k.read(node, 56, "H")
    b1k.put(node, 56, "H", count - 1)
    fails(b1k, lambda fs: list(fs.path("/attr_btree").xattrs()), "0: the last at its level")


def test_no_attribute_is_hidden_by_a_key(b1k: Image) -> None:
    node = attr_parts(b1k, "/attr_btree")[0]
    with b1k.device.opened() as fs:
        names = list(fs.path("/attr_btree").xattrs())
    b1k.put(node, 64, "I", 0)
    with b1k.device.opened() as fs:
        xattrs = fs.path("/attr_btree").xattrs()
        errors = 0
        for name in names:
            try:
                assert xattrs[name]
            except BadField:
                errors += 1
        assert errors


def test_a_leaf_that_leaves_its_last_out_is_seen(b1k: Image) -> None:
    leaf = b1k.part("/attrs/leaf", "attr")
    b1k.put(leaf, 56, "H", b1k.read(leaf, 56, "H") - 1)
    fails(b1k, lambda fs: list(fs.path("/attrs/leaf").xattrs()), "which names and values take up")


def test_no_attribute_name_has_a_nul(b1k: Image) -> None:
    part = b1k.part("/attrs/sf", "inode")
    fork = INO_FORKS + 8 * b1k.read(part, 82, "B")
    b1k.put(part, fork + 4 + 3, "B", 0)
    fails(b1k, lambda fs: list(fs.path("/attrs/sf").xattrs()), "expected no NUL")


def test_an_acl_has_known_tags(b1k: Image) -> None:
    part = b1k.part("/attrs/acl", "inode")
    raw = b1k.device.pread(part.start, part.size)
    at = raw.index(b"SGI_ACL_FILE") + len(b"SGI_ACL_FILE") + 4
    b1k.put(part, at, "I", 3)
    name = "system.posix_acl_access"
    fails(b1k, lambda fs: fs.path("/attrs/acl").xattrs()[name], "acl tag is 0x3, expected one of")


# ---- images that end early
def test_what_is_left_of_a_cut_image_is_read_without_its_log(b1k: Image) -> None:
    b1k.device.size >>= 1
    try:
        with pytest.raises(ImageError, match="norecovery"):
            b1k.device.opened()
        with b1k.device.opened(norecovery=True) as fs:
            assert fs.path("/files/one").stat().st_size == 1
    finally:
        b1k.device.size <<= 1
