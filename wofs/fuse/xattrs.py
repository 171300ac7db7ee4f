"""Extended attributes through FUSE: which errno saves the kernel and `ls` from asking again.

`ls -l` asks two attributes of every file. The kernel's XFS says ENODATA each time; through
FUSE each answer costs a round trip, so two shortcuts are taken where they tell no lie:

* Where no inode of the image has any, ENOSYS makes the kernel stop asking for the whole
  mount. Each question that found no attribute has the image's inodes looked through a little
  further, until one with attributes is found or none is left. Listing 200,000 files needs 40
  requests, not 200,000. The superblock's ATTR bit is no answer: a kernel with security modules
  sets it for nothing, and a bit may be lost. Where it is clear the search begins at once.
* EOPNOTSUPP for `security.selinux` makes `ls` ask it once per filesystem. It is given only
  for an inode without that attribute, as long as neither the root nor any inode met so far
  has it. Every request is still answered from its own inode, so a label is never denied.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from pyfuse3 import FUSEError

from wofs.errors import ImageError, NoXattr
from wofs.fuse.errmap import INVALID, NOT_SERVED, NOT_SUPPORTED
from wofs.fuse.handler import log_once
from wofs.ondisk.inode import FMT_LOCAL
from wofs.xfs import attrsearch
from wofs.xfs.attr import ACL_NAMES
from wofs.xfs.inode import Inode
from wofs.xfs.mount import Mount

LABEL = b"security.selinux"
_STORED_LABEL = b"selinux"
_PRIVILEGED = b"trusted."
_NAMESPACES = (b"user.", _PRIVILEGED, b"security.")
_ACLS = frozenset(ACL_NAMES.values())

_QUESTIONS_BEFORE_SEARCH = 8
"""A single look at a file is not worth a search."""


class XattrPolicy:
    """Answers attribute requests of one mount."""

    def __init__(self, mounted: Mount) -> None:
        self._mounted = mounted
        self._labelled = self._root_is_labelled()
        self._root_is_privileged = _in_first_user_namespace()
        self._patience = _QUESTIONS_BEFORE_SEARCH if mounted.geo.has_attr else 0
        self._search: Iterator[bool] | None = attrsearch.steps(mounted, mounted.inodes.inobt)
        self._none_anywhere = False

    def get(self, inode: Inode, name: bytes) -> bytes:
        """Return a value; raises NoXattr, FUSEError by policy, or the `ImageError` met."""
        if self._none_anywhere:
            raise FUSEError(NOT_SERVED)
        _check_name(name)
        try:
            value = self._mounted.attrs.get(inode, name)
        except NoXattr:
            self._search_on()
            if name == LABEL and not self._labelled:
                raise FUSEError(NOT_SUPPORTED) from None
            raise
        if name == LABEL:
            self._labelled = True
        return value

    def _search_on(self) -> None:
        """Look a little further for any inode that has attributes."""
        self._patience -= 1
        if self._search is None or self._patience >= 0:
            return
        try:
            may_be_some = next(self._search, None)
        except OSError:
            may_be_some = True
        if may_be_some is None:
            self._none_anywhere = True
        if may_be_some is not False:
            self._search = None

    def names(self, inode: Inode, uid: int) -> list[bytes]:
        """Return the names of all attributes; `trusted.` ones only to root (`uid` 0).

        Root of a user namespace is not root here: it could not read them either.
        Source: `xfs_xattr.c: xfs_xattr_put_listent`.
        """
        names = self._mounted.attrs.names(inode)
        privileged = uid == 0 and self._root_is_privileged
        return names if privileged else [n for n in names if not n.startswith(_PRIVILEGED)]

    def met(self, inodes: Iterable[Inode | Exception]) -> None:
        """Look for labels in the attribute forks of inodes that were just decoded.

        Sees those that lie in the inode, where a label practically always is; one in a block
        of its own is seen when it is asked for.
        """
        if self._labelled:
            return
        for inode in inodes:
            if (
                isinstance(inode, Inode)
                and inode.aformat == FMT_LOCAL
                and _STORED_LABEL in inode.afork
            ):
                self._labelled = True
                return

    def _root_is_labelled(self) -> bool:
        m = self._mounted
        try:
            return LABEL in m.attrs.names(m.inodes.get(m.geo.rootino))
        except ImageError as error:
            m.report(error)
        except OSError as error:
            log_once(m.device.name, "attributes of the root", error)
        return True


def _check_name(name: bytes) -> None:
    """Refuse names outside the namespaces XFS has, and empty ones (`xattr_resolve_name`)."""
    if name in _ACLS:
        return
    if not name.startswith(_NAMESPACES):
        raise FUSEError(NOT_SUPPORTED)
    if name in _NAMESPACES:
        raise FUSEError(INVALID)


def _in_first_user_namespace() -> bool:
    """Whether uid 0 of this process is uid 0 of the machine."""
    whole = ["0", "0", str(0xFFFFFFFF)]
    return Path("/proc/self/uid_map").read_text(encoding="ascii").split() == whole
