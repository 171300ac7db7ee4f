"""What campaigns of faults found unreported once: each is made again, and must be reported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from wofs.check.run import check
from wofs.corrupt.damage import Damage, Request
from wofs.device import FileDevice

Unpack = Callable[[str], Path]

FOUND = [
    ("meta-uuid", 'inode["/attrs"].dirdata[0].entry[15].ftype=0', "WX0304"),
    ("s4k", "inode[75456].dirdata[0].bestfree[2].offset=1", "WX0310"),
    ("new-defaults", 'inode["/attrs/fifo"].nblocks=1', "WX0410"),
    ("new-defaults", 'inode["/attrs"].nblocks=3', "WX0410"),
    ("old-v5", 'inode["/attrs/acl"].forkoff=23', "WX0501"),
    ("new-defaults", "inode[155].attr[0].back=2147483648", "WX0501"),
    ("new-defaults", 'inode["/attrs"].extsize=1', "WX0401"),
    ("new-defaults", 'inode["/attrs"].cowextsize=1', "WX0401"),
    ("new-defaults", 'inode["/attrs"].metatype=1', "WX0401"),
    ("empty", 'inode["/"].flags=32768', "WX0401"),
    ("empty", 'inode["/"].gid=max', "WX0406"),
    ("empty", 'inode["/"].flags2=0x108', "WX0406"),
    ("old-v5", 'inode["/attrs"].mtime=0x3b9aca00', "WX0406"),
    ("noreflink", 'inode["/"].flags2=4', "WX0401"),
    ("empty", "agi[1].newino=1", "WX0202"),
    ("empty", "sb[0].features_incompat=10", "WX0103"),
    ("empty", 'sb[0].fname="other"', "WX0103"),
    ("stripe", "sb[0].versionnum=46501", "WX0115"),
    ("empty", "sb[0].flags=2", "WX0114"),
    ("empty", "sb[1].flags=2", "WX0114"),
    ("empty", "sb[1].inoalignmt=1", "WX0103"),
    ("empty", "sb[1].rbmino=128", "WX0103"),
    ("empty", "sb[1].bad_features2=0", "WX0114"),
    ("empty", "sb[1].versionnum=0xbca5", "WX0103"),
    ("stripe", "sb[0].width=128", "WX0116"),
    ("default", "log[0].cycle=7", "WX0110"),
    ("default", 'inode["/"].next_unlinked=100', "WX0215"),
    ("empty", "sb[0].imax_pct=50", "WX0103"),
    ("empty", "sb[0].metadirino=8", "WX0103"),
    ("empty", "sb[1].uquotino=8192", "WX0103"),
    ("empty", "sb[1].qflags=32768", "WX0103"),
    ("empty", "sb[1].rgcount=64", "WX0103"),
    ("empty", "sb[1].frextents=1", "WX0103"),
    ("empty", "sb[0].features2=0x80000000", "WX0101"),
    ("empty", "sb[0].versionnum=0xb095", "WX0101"),
    ("new-defaults", "sb[0].width=1", "WX0101"),
    ("new-defaults", "sb[0].unit=1", "WX0101"),
    ("new-defaults", "sb[0].versionnum=0xb5b5", "WX0101"),
]
"""(image, edit with its checksum made right, code)."""


@pytest.mark.parametrize(("name", "edit", "code"), FOUND, ids=lambda v: str(v))
def test_it_is_reported(image: Unpack, name: str, edit: str, code: str) -> None:
    device = FileDevice(image(name))
    with Damage(device, Request((edit,), "fix")) as damage:
        damage.do()
    assert code not in check(device).counts
    assert code in check(damage.editor.image).counts
    device.close()
