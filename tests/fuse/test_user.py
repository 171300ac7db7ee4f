"""Mounting without rights: as a user with fusermount3, and as root of a user namespace."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import wofs
from imagelib import unprivileged
from imagelib.unprivileged import NOBODY
from support import fuse

WHY = fuse.lacking() or unprivileged.lacking()
pytestmark = pytest.mark.skipif(WHY is not None, reason=str(WHY))

Unpack = Callable[[str], Path]

PRELUDE = f"""
wofs() {{
  {sys.executable} -c 'from wofs.cli.main import main; main()' "$@"
  echo "exit $?"
}}
mounts() {{ grep -c "$PWD/m fuse.wofs" /proc/self/mounts; }}
exec 2>&1
"""


@pytest.fixture
def place(image: Unpack) -> Iterator[Path]:
    """A folder with an image `i` that everybody may read and a mount point `m` of nobody's."""
    with fuse.open_folder() as folder:
        (folder / "m").mkdir()
        (folder / "of_root").mkdir()
        (folder / "state").mkdir()
        for own in ("m", "state"):
            os.chown(folder / own, NOBODY, NOBODY)
        subprocess.run(["cp", "--sparse=always", image("default"), folder / "i"], check=True)
        yield folder


def as_user(script: str, folder: Path, fuse_mode: int = 0o666, uid: int = NOBODY) -> list[str]:
    """Run a script in `folder` in a namespace of its own; return the lines it said."""
    done = subprocess.run(
        unprivileged.command(["sh", "-c", f"{PRELUDE}{script}\nexit 0"], fuse_mode, uid),
        cwd=folder,
        env={**os.environ, "HOME": str(folder), "XDG_STATE_HOME": str(folder / "state")},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_user_mounts_looks_and_unmounts(place: Path) -> None:
    script = """
    wofs mount i m
    grep "$PWD/m" /proc/self/mounts
    ls m/dirs/sf
    sha256sum < m/files/big
    cat m/special/mode0400
    stat -c %i m
    wofs umount m
    mounts
    wofs umount m
    XDG_STATE_HOME=/nowhere/x wofs mount i m
    wofs umount m
    """
    said = as_user(script, place)
    assert said[0] == "exit 0"
    assert said[1].startswith(f"{place}/i {place}/m fuse.wofs ro,nosuid,nodev,")
    assert f"user_id={NOBODY},group_id={NOBODY}" in said[1]
    assert said[2:5] == ["f00000__", "f00001__", "f00002__"]
    with wofs.open(place / "i") as fs:
        assert said[5].split()[0] == hashlib.sha256(fs.path("/files/big").read_bytes()).hexdigest()
    assert said[6].endswith("Permission denied")
    assert said[7:11] == ["128", "exit 0", "0", "wofs: m: is not mounted"]
    assert said[11] == "exit 32"
    assert said[12].startswith("wofs: warning: nothing will be logged: /nowhere")
    assert said[13:] == ["exit 0", "exit 0"]


def test_every_ending_is_open_to_a_user(place: Path) -> None:
    script = """
    for way in "fusermount3 -u m" "kill -INT" "kill -TERM" "kill -HUP"; do
      wofs mount i m
      pid=$(sed -n 's/.* wofs.\\([0-9]*\\). INFO mounted.*/\\1/p' state/wofs/wofs.log | tail -n 1)
      case $way in kill*) $way $pid ;; *) $way ;; esac
      for try in 1 2 3 4 5 6 7 8 9 10; do [ -e /proc/$pid ] && sleep 0.1; done
      [ -e /proc/$pid ] && echo "still there"
      mounts
    done
    """
    assert as_user(script, place) == ["exit 0", "0"] * 4


def test_what_a_user_may_not_is_told_in_a_line(place: Path) -> None:
    script = """
    wofs mount i of_root
    wofs mount -o suid i m
    wofs mount -o dev i m
    wofs mount -o allow_other i m
    """
    assert as_user(script, place) == [
        f"wofs: {place}/of_root: user has no write access to mountpoint {place}/of_root",
        "exit 1",
        "wofs: option suid: only root may give it",
        "exit 1",
        "wofs: option dev: only root may give it",
        "exit 1",
        f"wofs: {place}/m: option allow_other only allowed if 'user_allow_other' is set "
        "in /etc/fuse.conf",
        "exit 1",
    ]


def test_a_user_may_let_others_in_where_fuse_conf_says_so(place: Path) -> None:
    (place / "conf").write_text("user_allow_other\n")
    script = f"""
    mount --bind conf /etc/fuse.conf
    setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups sh -c '
      {sys.executable} -c "from wofs.cli.main import main; main()" mount i m \
        -o "allow_other,fsname=a b\\\\,c"'
    grep -o "a.*b,c.*$PWD/m fuse.wofs" /proc/self/mounts
    stat -c %s m/files/big
    wofs umount m
    """
    assert as_user(script, place, uid=0) == [
        f"a\\040b,c {place}/m fuse.wofs",
        str(256 << 10),
        "exit 0",
    ]


def test_an_image_closed_to_the_user(place: Path) -> None:
    (place / "i").chmod(0o600)
    assert as_user("wofs mount i m", place) == ["wofs: i: permission denied", "exit 1"]


def test_a_closed_fuse_device_is_named(place: Path) -> None:
    assert as_user("wofs mount i m", place, fuse_mode=0o600) == [
        "wofs: /dev/fuse is closed to you (mode 0600): "
        "root can open it with `chmod 0666 /dev/fuse`",
        "exit 1",
    ]


def test_a_users_mount_is_closed_to_others_and_theirs_to_unmount(place: Path) -> None:
    script = f"""
    setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups sh -c '
      {sys.executable} -c "from wofs.cli.main import main; main()" mount i m 2>/dev/null'
    ls m
    setpriv --reuid=1 --regid=1 --clear-groups \\
      {sys.executable} -c "from wofs.cli.main import main; main()" umount m
    echo "exit $?"
    wofs umount m
    mounts
    """
    assert as_user(script, place, uid=0) == [
        "ls: cannot access 'm': Permission denied",
        f"wofs: m: was mounted by user {NOBODY}, only they and root may",
        "exit 1",
        "exit 0",
        "0",
    ]


def test_root_of_a_user_namespace(place: Path) -> None:
    """It mounts without fusermount3; `trusted.` names, which it may not read, it is not shown."""
    script = f"""
    unshare --user --map-root-user true || exit 0
    unshare --user --map-root-user --mount sh -c '
      {sys.executable} -c "from wofs.cli.main import main; main()" mount i m 2>/dev/null
      grep -c $PWD/m.fuse.wofs /proc/self/mounts
      {sys.executable} -c "import os; print(sorted(os.listxattr(\\"m/attrs/same_name\\")))"
      {sys.executable} -c "from wofs.cli.main import main; main()" umount m
      grep -c $PWD/m.fuse.wofs /proc/self/mounts'
    """
    said = as_user(script, place)
    if len(said) == 1:
        pytest.skip(f"no user namespaces: {said[0]}")
    assert said == ["1", "['security.x', 'user.x']", "0"]
