"""What the one who mounts asked for, as a record of the slab."""

from __future__ import annotations

from wofs.record import NEXT, TEXT, Record, i64, raw, record, u8, u32

FSNAME_BYTES = 256

PROTECT = ("none", "mount", "all")
"""What lies in write-once memory: nothing (the control), the mount structures, or also all
metadata that is kept to answer with."""


@record("options", derived=True, source="the mount's own options")
class MountOptions(Record):
    """How an image is to be mounted; kept in the slab like everything that steers reads."""

    uid = i64(NEXT, "owner shown for every inode; -1: as on disk")
    gid = i64(NEXT, "group shown for every inode; -1: as on disk")
    sb_agno = u32(NEXT, "AG whose superblock is read", unit="agno")
    scrub_s = u32(NEXT, "seconds between comparisons with what was published; 0: none")
    norecovery = u8(NEXT, "mount although the log is dirty")
    allow_other = u8(NEXT, "other users may reach the mount")
    nosuid = u8(NEXT, "set-id bits are without effect")
    nodev = u8(NEXT, "device nodes are without effect")
    noexec = u8(NEXT, "nothing may be executed")
    protect = u8(NEXT, "what is write-once: 0 nothing, 1 mount structures, 2 all metadata kept")
    fsname = raw(NEXT, FSNAME_BYTES, "source shown in the mount table", show=TEXT)


def memory_of(slab: str, protect: str) -> tuple[str, str]:
    """Return (backend, what is protected) of words that may each be missing ("").

    Nothing protected and ordinary memory are the same thing, said in two ways; each brings the
    other. Raises ValueError where they contradict each other.
    """
    if not slab:
        return ("none" if protect == "none" else "auto"), protect or "mount"
    if not protect:
        return slab, "none" if slab == "none" else "mount"
    if (slab == "none") != (protect == "none"):
        raise ValueError(
            f"protect={protect} and slab={slab} contradict each other: protect=none is slab=none"
        )
    return slab, protect


def mount_options(
    *,
    norecovery: bool = False,
    sb_agno: int = 0,
    scrub_s: int = 0,
    uid: int = -1,
    gid: int = -1,
    allow_other: bool = False,
    nosuid: bool = True,
    nodev: bool = True,
    noexec: bool = False,
    protect: str = "mount",
    fsname: bytes = b"",
) -> MountOptions:
    """Return the options as a record; `fsname` is cut to what the field holds."""
    return MountOptions(
        uid=uid,
        gid=gid,
        sb_agno=sb_agno,
        scrub_s=scrub_s,
        norecovery=int(norecovery),
        allow_other=int(allow_other),
        nosuid=int(nosuid),
        nodev=int(nodev),
        noexec=int(noexec),
        protect=PROTECT.index(protect),
        fsname=fsname[: FSNAME_BYTES - 1].ljust(FSNAME_BYTES, b"\0"),
    )
