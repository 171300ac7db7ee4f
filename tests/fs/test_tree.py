"""Hostile trees: loops, second places, lying entries; what is sound is still delivered."""

from __future__ import annotations

import logging
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.hostile import INODE_MODE, INODE_NLINK, Edited
from wofs.errors import BadChecksum, BadField, Corrupt, ImageError
from wofs.fs import Filesystem

DEEP = "/dirs/deep"


@pytest.fixture
def edited(image: Callable[[str], Path]) -> Iterator[Edited]:
    edited = Edited(image("default"))
    yield edited
    edited.close()


def walked(fs: Filesystem) -> tuple[set[str], list[ImageError]]:
    """Return all paths that a walk delivers, and the damage it told of."""
    told: list[ImageError] = []
    found = set()

    def tell(error: ImageError | OSError) -> None:
        assert isinstance(error, ImageError)
        told.append(error)

    for path, folders, files in fs.root.walk(on_error=tell):
        found |= {str(path / name) for name in folders + files}
    return found, told


def test_a_loop_to_an_ancestor_is_not_entered(edited: Edited) -> None:
    edited.entry(f"{DEEP}/00", "01", ino=edited.ino("/dirs"))
    with edited.opened() as fs:
        found, told = walked(fs)
        assert f"{DEEP}/00/01" in found
        assert f"{DEEP}/00/01/deep" not in found
        assert "/dirs/node" in found
        assert len(told) == 1
        assert "'..' inumber" in str(told[0])
        with pytest.raises(Corrupt, match=r"'\.\.' inumber is 128, expected"):
            fs.path(f"{DEEP}/00/01/deep").stat()


def test_the_root_has_no_name(edited: Edited) -> None:
    edited.entry(DEEP, "00", ino=edited.ino("/"))
    with edited.opened() as fs:
        found, told = walked(fs)
        assert f"{DEEP}/00" in found
        assert f"{DEEP}/00/dirs" not in found
        assert [str(e) for e in told] == [
            f"edited.img: directory {edited.ino(DEEP)}: inumber is 128: "
            "the root directory has a name: a loop"
        ]


def test_a_directory_has_one_place(edited: Edited) -> None:
    edited.entry(f"{DEEP}/00", "01", ino=edited.ino("/dirs/empty"))
    with edited.opened() as fs:
        assert len(walked(fs)[1]) == 1
        assert list(fs.path("/dirs/empty").iterdir()) == []
        with pytest.raises(BadField, match="a loop or a second place"):
            list(fs.path(f"{DEEP}/00/01").iterdir())


def test_a_directory_has_one_name(edited: Edited) -> None:
    edited.entry("/dirs", "empty", ino=edited.ino("/dirs/sf"))
    with edited.opened() as fs:
        found, told = walked(fs)
        assert {"/dirs/empty", "/dirs/sf"} <= found
        assert len([e for e in told if "a second time" in str(e)]) == 1
        bad = [p for p in fs.path("/dirs").iterdir() if p.name in ("sf", "empty")]
        with pytest.raises(BadField, match="names is directory"):
            bad[1].lstat()


def test_a_wrong_parent_is_refused(edited: Edited) -> None:
    edited.parent(f"{DEEP}/00", edited.ino("/files"))
    with edited.opened() as fs:
        told = walked(fs)[1]
        assert len(told) == 1
        with pytest.raises(BadField) as caught:
            list(fs.path(f"{DEEP}/00").iterdir())
        assert caught.value.expected == edited.ino(DEEP)
        assert caught.value.found == edited.ino("/files")


def test_an_entry_must_not_lie_about_the_type(edited: Edited) -> None:
    edited.entry("/dirs", "empty", ftype=1)
    with edited.opened() as fs:
        line = (
            f"edited.img: directory {edited.ino('/dirs')}: entry 'empty' ftype is regular file, "
            f"expected directory (inode {edited.ino('/dirs/empty')})"
        )
        with pytest.raises(BadField) as caught:
            fs.path("/dirs/empty").stat()
        assert str(caught.value) == line
        assert [str(e) for e in walked(fs)[1]] == [line]
        assert "/dirs/empty" in walked(fs)[0]


def test_what_has_a_name_is_linked(edited: Edited) -> None:
    edited.inode("/dirs/sf/f00001__", INODE_NLINK, bytes(4))
    with edited.opened() as fs, pytest.raises(BadField, match="nlink is 0"):
        fs.path("/dirs/sf/f00001__").stat()


def test_a_damaged_inode_costs_itself_alone(edited: Edited) -> None:
    edited.inode("/dirs/sf/f00001__", INODE_MODE, b"\xff\xff", fix=False)
    with edited.opened() as fs:
        names = {path.name: path for path in fs.path("/dirs/sf").iterdir()}
        assert len(names) == 3
        with pytest.raises(BadChecksum) as caught:
            names["f00001__"].lstat()
        assert caught.value.__notes__ == ["path: /dirs/sf/f00001__"]
        with pytest.raises(BadChecksum):
            names["f00001__"].is_file()
        assert names["f00000__"].is_file()
        assert len(walked(fs)[0]) == 2465


def test_a_damaged_block_costs_its_own_entries(edited: Edited) -> None:
    blocks = edited.mapped("/dirs/holes")
    assert len(blocks) > 4
    with edited.opened() as fs:
        whole = [path.name for path in fs.path("/dirs/holes").iterdir()]
    for index in (blocks[1], blocks[3]):
        edited.block("/dirs/holes", index, 200, b"\0\1\2\3", fix=False)
    with edited.opened() as fs:
        told: list[ImageError] = []
        batches = fs.path("/dirs/holes").batches(told.append)
        found = [os.fsdecode(entry[3]) for batch in batches for entry in batch.entries]
        assert [name for name in whole if name in found] == found
        assert 0 < len(found) < len(whole)
        assert [type(error) for error in told] == [BadChecksum, BadChecksum]
        listing = fs.path("/dirs/holes").iterdir()
        assert [next(listing).name for _ in found] == found
        with pytest.raises(BadChecksum) as caught:
            next(listing)
        assert caught.value.__notes__ == ["path: /dirs/holes"]
        assert len([e for e in walked(fs)[1] if isinstance(e, BadChecksum)]) == 2


def test_a_damaged_index_is_read_around(edited: Edited, caplog: pytest.LogCaptureFixture) -> None:
    blocks = 8 << 20  # the index of a directory begins at 32 GiB
    edited.block("/dirs/leaf", blocks, 70, b"\xff\xff", fix=False)
    with edited.opened() as fs, caplog.at_level(logging.WARNING, "wofs.image"):
        name = next(fs.path("/dirs/leaf").iterdir()).name
        assert fs.path("/dirs/leaf", name).stat().st_ino
        assert "crc" in caplog.text
        with pytest.raises(BadChecksum):
            fs.path("/dirs/leaf/no_such_name").stat()


def test_walk_without_listener_logs(edited: Edited, caplog: pytest.LogCaptureFixture) -> None:
    edited.entry("/dirs", "empty", ftype=1)
    with edited.opened() as fs, caplog.at_level(logging.WARNING, "wofs.image"):
        for _ in range(2):
            assert sum(1 for _ in fs.root.walk())
        assert list(fs.root.glob("dirs/emp*")) == [fs.path("/dirs/empty")]
    assert caplog.text.count("ftype") == 1


def test_a_huge_directory_map_ends(edited: Edited) -> None:
    edited.inode("/dirs/holes", 56, struct.pack(">Q", 1 << 40))  # its size
    with edited.opened() as fs, pytest.raises(Corrupt):
        list(fs.path("/dirs/holes").iterdir())
