"""The doctor's checks of this machine: the spool's disk and the limits of a process. Blocking."""

from __future__ import annotations

import os
import resource
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bridge.diagnostics.finding import failed, ok, warning
from bridge.spool.folder import SpoolError, others
from bridge.spool.spool import LARGEST_ENTRY
from bridge.spool.spool_file import peek

if TYPE_CHECKING:
    from bridge.diagnostics.finding import Finding
    from bridge.settings.sections import Receiver, Spool

_MOUNTS: Final = Path("/proc/self/mountinfo")
_GONE_WITH_THE_MACHINE: Final = frozenset({"tmpfs", "ramfs", "devtmpfs"})
_GONE_WITH_THE_CONTAINER: Final = frozenset({"overlay", "aufs"})
_OVER_THE_NET: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "fuse.glusterfs", "ceph"}
)
_FILLING: Final = 0.8
"""Of the limit: as the alert has it."""
_OWN_DESCRIPTORS: Final = 100
"""Connections to RabbitMQ, the spool, the listening sockets, Python itself."""
_FEWEST_DESCRIPTORS: Final = 1024


def spool_writable(check: str, spool: Spool) -> Finding:
    """Written and fsynced into a file without a name, which is gone when it is closed."""
    place = _standing(spool.directory)
    try:
        with tempfile.TemporaryFile(dir=place) as probe:
            probe.write(b"bridge doctor")
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        return failed(
            check,
            f"{place}: {error.strerror}",
            "make it a folder that the receiver's user may write, or set spool.directory",
        )
    made = "" if place == spool.directory else f"; the receiver will make {spool.directory}"
    return ok(check, f"{place} takes a write and an fsync{made}")


def spool_disk(check: str, spool: Spool) -> Finding:
    """What is on it has to be there after a restart, and SQLite's log needs a disk of this machine."""
    kind = _kind_of(_standing(spool.directory).resolve(), _MOUNTS.read_text())
    advice = "put spool.directory on a disk, or a volume, of its own"
    if kind in _GONE_WITH_THE_MACHINE:
        return warning(check, f"{spool.directory} is in memory ({kind}): a restart loses it", advice)
    if kind in _GONE_WITH_THE_CONTAINER:
        return warning(check, f"{spool.directory} is the container's own ({kind}) and goes with it", advice)
    if kind in _OVER_THE_NET:
        return warning(
            check, f"{spool.directory} is on another machine ({kind}): SQLite needs one here", advice
        )
    return ok(check, f"{spool.directory} is on {kind}")


def spool_space(check: str, spool: Spool) -> Finding:
    """What the fullest file holds of `spool.max_bytes`, and what the disk has.

    Below `spool.min_free_bytes` nothing is taken; for all of `spool.max_bytes` there has to be that much more.
    """
    held = _most_in_a_file(spool.directory)
    filled = f"a spool file holds {held / 1024**2:,.0f} MiB, {held / spool.max_bytes:.0%} of spool.max_bytes"
    advice = "see why RabbitMQ does not take it (bridge spool status), or raise spool.max_bytes"
    if held + LARGEST_ENTRY > spool.max_bytes:
        return failed(check, f"{filled}: it takes nothing", advice)
    if held > _FILLING * spool.max_bytes:
        return warning(check, filled, advice)
    there = os.statvfs(_standing(spool.directory))
    free = there.f_bavail * there.f_frsize
    seen = f"{free / 1024**2:,.0f} MiB are free"
    if free < spool.min_free_bytes:
        return failed(check, f"{seen}, below spool.min_free_bytes: it takes nothing", "free some")
    if free < spool.min_free_bytes + spool.max_bytes - held:
        return warning(
            check,
            f"{seen}, too few for spool.max_bytes",
            "free some, or lower spool.max_bytes to what there is",
        )
    return ok(check, seen)


def _most_in_a_file(directory: Path) -> int:
    """Bytes. Files that cannot be read are another check's."""
    most = 0
    for path in others(directory, ()):
        with suppress(SpoolError):
            most = max(most, peek(path).bytes)
    return most


def descriptors(check: str, receiver: Receiver) -> Finding:
    """Each request that waits holds a socket. This is the limit of this process: a service has its own."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = receiver.max_in_flight + _OWN_DESCRIPTORS
    advice = f"raise it (ulimit -n {needed}; LimitNOFILE={needed} in a systemd unit), or lower receiver.max_in_flight"
    if limit == resource.RLIM_INFINITY or limit >= needed:
        return ok(check, "no limit" if limit == resource.RLIM_INFINITY else f"{limit:,} here")
    if limit < _FEWEST_DESCRIPTORS:
        return failed(check, f"{limit:,} here", advice)
    return warning(check, f"{limit:,} here; receiver.max_in_flight needs {needed:,}", advice)


def _standing(directory: Path) -> Path:
    """The folder, or the nearest one above it that is there already."""
    return next((path for path in (directory, *directory.absolute().parents) if path.exists()), directory)


def _kind_of(path: Path, mounts: str) -> str:
    """The file system under a path: the mount point that is the longest beginning of it, the last one of equals.

    Args:
        path: absolute.
        mounts: as proc(5) has it: `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw`.
    """
    kind, longest = "?", -1
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        point = Path(before.split()[4].replace("\\040", " "))
        if path.is_relative_to(point) and len(point.parts) >= longest:
            kind, longest = after.split()[0], len(point.parts)
    return kind
