"""Questions for attributes through a mount: the kernel stops asking once there can be none."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

import wofs
from support import fuse
from wofs.corrupt.damage import Damage, Request
from wofs.device import FileDevice
from wofs.ondisk import features as feat

pytestmark = pytest.mark.skipif(fuse.lacking() is not None, reason=str(fuse.lacking()))


def asked(top: Path) -> list[int]:
    """Ask every file twice; return the errnos."""
    return [answer(path) for path in [top, *top.rglob("*")] * 2]


def answer(path: Path) -> int:
    """Return the errno of a question for an attribute that the file does not have."""
    try:
        os.getxattr(path, "user.none", follow_symlinks=False)
    except OSError as error:
        return error.errno or 0
    return 0


def test_without_any_attribute_it_stops(image: Callable[[str], Path], tmp_path: Path) -> None:
    with fuse.mounted(image("sparse-inodes"), tmp_path / "mnt"):
        answers = asked(tmp_path / "mnt")
    assert answers[0] == errno.ENODATA
    assert answers[-1] == errno.EOPNOTSUPP


def test_with_some_every_question_is_answered(image: Callable[[str], Path], tmp_path: Path) -> None:
    with fuse.mounted(image("default"), tmp_path / "mnt"):
        closed = set() if fuse.is_root() else {errno.EACCES}
        assert set(asked(tmp_path / "mnt")) - closed == {errno.ENODATA}
        acl = os.getxattr(tmp_path / "mnt/attrs/acl", "system.posix_acl_access")
    assert acl.startswith(b"\x02\0\0\0")


def test_a_lost_bit_of_the_superblock_hides_nothing(
    image: Callable[[str], Path], tmp_path: Path
) -> None:
    """The bit that tells of attributes may be lost: the inodes are asked."""
    path = tmp_path / "bad.img"
    path.write_bytes(image("default").read_bytes())
    with wofs.open(path) as fs:
        bits = fs.root.image.mount.sb.versionnum
    assert bits & feat.VERSION_ATTR
    device = FileDevice(path)
    edit = f"sb[0].versionnum={bits & ~feat.VERSION_ATTR}"
    with Damage(device, Request((edit,), "fix")) as damage:
        damage.do()
        sector = damage.editor.image.pread(0, 512)
    device.close()
    with path.open("r+b") as out:
        out.write(sector)
    with fuse.mounted(path, tmp_path / "mnt"):
        top = tmp_path / "mnt"
        closed = set() if fuse.is_root() else {errno.EACCES}
        assert set(asked(top)) - closed == {errno.ENODATA}
        assert "system.posix_acl_access" in os.listxattr(top / "attrs/acl")
        assert os.getxattr(top / "attrs/acl", "system.posix_acl_access").startswith(b"\x02\0\0\0")
