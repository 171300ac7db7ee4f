"""Mount points: fit to be mounted on? mounted by whom? and unmounting.

No pyfuse3 here: `wofs umount` and the checks before a mount load quickly.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import socket
import stat
import struct
import subprocess
import time
from dataclasses import dataclass

from wofs.errors import MountError
from wofs.fuse.errmap import is_busy, is_dead_mount, is_taken
from wofs.fuse.options import FSTYPE

FUSE_DEVICE = "/dev/fuse"
_MOUNTINFO = "/proc/self/mountinfo"
_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8
_GONE_WITHIN_S = 10.0
_FREE_WITHIN_S = 1.0
_PEER = struct.Struct("3i")
_BUSY = "is in use; end what uses it, or detach it with `wofs umount -l`"


class Refused(MountError):
    """The machine or the user's rights do not allow it; trying again would not help."""


@dataclass(frozen=True)
class Mounted:
    """One line of the mount table.

    `number` is the st_dev of what is mounted, `owner` the user who made a FUSE mount, -1 for
    others.
    """

    number: int
    root: str
    mountpoint: str
    fstype: str
    source: str
    owner: int


def mounts() -> list[Mounted]:
    """Return the mount table of this process, in the order of mounting."""
    found = []
    with open(_MOUNTINFO, encoding="utf-8", errors="surrogateescape") as table:
        for line in table:
            left, _, right = line.rstrip("\n").partition(" - ")
            _, _, device, root, mountpoint = left.split(" ")[:5]
            fstype, source, options = right.split(" ", 2)
            user = re.search(r"\buser_id=(\d+)", options)
            owner = int(user[1]) if user else -1
            root, mountpoint, source = map(_plain, (root, mountpoint, source))
            number = os.makedev(*(int(part) for part in device.split(":")))
            found.append(Mounted(number, root, mountpoint, fstype, source, owner))
    return found


def _plain(text: str) -> str:
    """Undo the octal escapes of the mount table."""
    raw = re.sub(
        rb"\\([0-7]{3})",
        lambda m: bytes((int(m[1], 8),)),
        text.encode("utf-8", "surrogateescape"),
    )
    return os.fsdecode(raw)


def resolve(path: str) -> str:
    """Return the absolute path of a mount point; its last part may be a dead mount."""
    if not path:
        raise MountError("no mount point: its name is empty")
    whole = os.path.abspath(path)
    if os.path.islink(whole):
        return os.path.realpath(whole)
    folder, name = os.path.split(whole)
    return os.path.join(os.path.realpath(folder), name)


def wofs_mount_at(path: str) -> Mounted | None:
    """Return the wofs mount whose mount point is `path`, None if there is none."""
    where = resolve(path)
    here = [m for m in mounts() if m.mountpoint == where]
    return here[-1] if here and here[-1].fstype == FSTYPE else None


def check_mountpoint(path: str) -> str:
    """Return the absolute path of a directory that can be mounted on; raises MountError."""
    where = resolve(path)
    try:
        mode = os.stat(where).st_mode
        if any(m.mountpoint == where and m.fstype == FSTYPE for m in mounts()):
            os.statvfs(where)  # the attributes of a dead mount may still be cached, this is not
    except OSError as error:
        if is_dead_mount(error):
            raise MountError(
                f"{path}: a mount whose server is gone; `wofs umount {path}` clears it"
            ) from error
        if isinstance(error, FileNotFoundError):
            raise MountError(f"{path}: the mount point does not exist") from error
        raise MountError(f"{path}: {error.strerror}") from error
    if not stat.S_ISDIR(mode):
        raise MountError(f"{path}: the mount point is not a directory")
    return where


def check_not_mounted(where: str, source: str) -> None:
    """Raise MountError if `source` is what is mounted at `where` already: it would be hidden."""
    here = [m for m in mounts() if m.mountpoint == where]
    if here and (here[-1].fstype, here[-1].source) == (FSTYPE, source):
        raise MountError(f"{where}: {source} is mounted there already")


def check_fuse() -> None:
    """Raise Refused unless this user can mount through FUSE, saying what root could do."""
    if not os.path.exists(FUSE_DEVICE):
        raise Refused(f"{FUSE_DEVICE} is missing: as root, `modprobe fuse`; give it to a container")
    if not os.access(FUSE_DEVICE, os.R_OK | os.W_OK):
        mode = stat.S_IMODE(os.stat(FUSE_DEVICE).st_mode)
        raise Refused(
            f"{FUSE_DEVICE} is closed to you (mode {mode:04o}): "
            f"root can open it with `chmod 0666 {FUSE_DEVICE}`"
        )
    if os.geteuid() != 0 and shutil.which("fusermount3") is None:
        raise Refused("fusermount3 is missing: without it only root can mount (package fuse3)")


# ---- unmounting
def lifeline(device: int) -> str:
    """Return the abstract socket address that the server of a mount holds while it lives.

    `device` is the mount's st_dev. Who is connected to it learns of the server's end.
    """
    return f"\0wofs-mount-{os.major(device)}:{os.minor(device)}"


def hold_lifeline(device: int) -> socket.socket | None:
    """Open the server's end of the lifeline; None where the address is taken or refused."""
    try:
        return listening(lifeline(device), 16)
    except OSError:
        return None


def listening(address: str, backlog: int) -> socket.socket:
    """Return a socket that listens at an abstract address; raises `OSError`.

    The number of a mount that ended is the next one's: the address that goes by it may be held
    for a moment by a server that is about to end.
    """
    line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    patience = time.monotonic() + _FREE_WITHIN_S
    try:
        while True:
            try:
                line.bind(address)
                break
            except OSError as error:
                if not is_taken(error) or time.monotonic() > patience:
                    raise
                time.sleep(0.02)
        line.listen(backlog)
    except BaseException:
        line.close()
        raise
    return line


def peer_uid(line: socket.socket) -> int:
    """Return the user at the other end, by the kernel's word."""
    _, uid, _ = _PEER.unpack(line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    return int(uid)


def _grasp_lifeline(mounted: Mounted) -> socket.socket | None:
    """Connect to the lifeline of a mount; None: no server, or somebody else at its address."""
    line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    line.settimeout(_GONE_WITHIN_S)
    try:
        line.connect(lifeline(mounted.number))
    except OSError:
        line.close()
        return None
    if peer_uid(line) not in (0, mounted.owner):
        line.close()
        return None
    return line


def unmount(path: str, lazy: bool = False) -> bool:
    """Unmount what wofs mounted at `path`; return whether its server has ended.

    It is waited for, unless the mount shows elsewhere too, where it lives on. With `lazy` the
    mount is detached at once and ends when nobody uses it any more; then nothing is waited
    for. A dead mount is cleared. Raises MountError, Refused.
    """
    where = resolve(path)
    table = mounts()
    here = [m for m in table if m.mountpoint == where]
    if not here or here[-1].fstype != FSTYPE:
        what = f"holds a {here[-1].fstype} mount, not one of wofs" if here else "is not mounted"
        raise MountError(f"{path}: {what}")
    mounted = here[-1]
    alone = sum(m.number == mounted.number for m in table) == 1
    line = _grasp_lifeline(mounted) if alone and not lazy else None
    try:
        if os.geteuid() == 0:
            _unmount_as_root(where, lazy)
        elif mounted.owner != os.geteuid():
            raise Refused(f"{path}: was mounted by user {mounted.owner}, only they and root may")
        else:
            _unmount_as_user(where, lazy)
        return alone and not lazy and (line is None or _ended(line))
    finally:
        if line is not None:
            line.close()


def _unmount_as_root(where: str, lazy: bool) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    flags = _UMOUNT_NOFOLLOW | (_MNT_DETACH if lazy else 0)
    if libc.umount2(os.fsencode(where), flags) != 0:
        number = ctypes.get_errno()
        error = OSError(number, os.strerror(number))
        kind = Refused if isinstance(error, PermissionError) else MountError
        raise kind(f"{where}: {_BUSY if is_busy(error) else error.strerror}") from error


def _unmount_as_user(where: str, lazy: bool) -> None:
    program = shutil.which("fusermount3")
    if program is None:
        raise Refused("fusermount3 is missing: without it only root can unmount")
    argv = [program, "-u", *(["-z"] if lazy else []), "--", where]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines()
        line = said[-1].removeprefix("fusermount3: ") if said else "fusermount3 failed"
        raise MountError(f"{where}: {_BUSY}" if "busy" in line else line)


def _ended(line: socket.socket) -> bool:
    """Wait until the server's end of the lifeline closes; False if it does not in time."""
    try:
        return not line.recv(1)
    except ConnectionError:
        return True
    except TimeoutError:
        return False
