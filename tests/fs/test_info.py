"""`info` and `statfs`: what the kernel's read-only mount counts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import wofs

KERNEL = {
    "b1k-n8k": (1024, 62009, 60832, 60832, 32768, 32498),
    "default": (4096, 15016, 13407, 13407, 32768, 32410),
    "b64k": (65536, 7168, 6852, 6852, 262144, 261881),
    "empty": (4096, 6824, 6788, 6788, 16384, 16381),
    "b1k-rmap": (1024, 60173, 59402, 59402, 32768, 32563),
    "grown": (4096, 24488, 24074, 24074, 51712, 51519),
}
"""What `stat -f -c '%S %b %f %a %c %d'` says of a read-only mount by Linux 6.18."""


@pytest.mark.parametrize("name", KERNEL)
def test_statfs_counts_as_the_kernel(name: str, image: Callable[[str], Path]) -> None:
    with wofs.open(image(name)) as fs:
        st = fs.statfs()
    shown = (st.f_bsize, st.f_blocks, st.f_bfree, st.f_bavail, st.f_files, st.f_ffree)
    assert shown == KERNEL[name]
    assert (st.f_frsize, st.f_namemax) == (st.f_bsize, 255)


def test_info_names_what_it_is(image: Callable[[str], Path]) -> None:
    path = image("meta-uuid")
    with wofs.open(path) as fs:
        about = fs.info()
        ags = list(fs.ags())
    assert about.image == path.name
    assert about.version == 5
    assert about.size == about.dblocks * about.blocksize <= about.image_bytes
    assert about.uuid != about.meta_uuid
    assert {"crc", "ftype", "metauuid", "finobt"} <= set(about.features)
    assert about.log.state == "clean"
    assert about.slab.sealed
    assert about.crc in ("crcmod", "google-crc32c")
    assert len(ags) == about.agcount
    assert sum(ag.length for ag in ags) == about.dblocks
    assert sum(ag.icount or 0 for ag in ags) == about.icount
    assert sum(ag.ifree or 0 for ag in ags) == about.ifree


def test_info_of_a_dirty_log(image: Callable[[str], Path]) -> None:
    with wofs.open(image("dirty"), norecovery=True) as fs:
        about = fs.info()
    assert (about.log.state, about.norecovery) == ("dirty", True)
    assert "not replayed" in about.log.why


def test_info_of_an_external_log(image: Callable[[str], Path]) -> None:
    with wofs.open(image("external-log")) as fs:
        log = fs.info().log
    assert (log.state, log.external) == ("unknown", True)


def test_a_secondary_superblock_serves(image: Callable[[str], Path]) -> None:
    with wofs.open(image("default")) as first, wofs.open(image("default"), sb=1) as second:
        assert second.info().sb_agno == 1
        assert second.root.stat() == first.root.stat()
