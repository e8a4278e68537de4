"""The doctor's checks of this machine: the spool's disk and the limits of a process. They block."""

from __future__ import annotations

import os
import resource
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bridge.diagnostics.finding import failed, ok, warning
from bridge.spool.errors import SpoolError
from bridge.spool.folder import other_files
from bridge.spool.listing import read_contents
from bridge.spool.spool import MAX_ENTRY_BYTES

if TYPE_CHECKING:
    from bridge.diagnostics.finding import Finding
    from bridge.settings.sections import Receiver, Spool

_MOUNTS: Final = Path("/proc/self/mountinfo")
_MEMORY_FILE_SYSTEMS: Final = frozenset({"tmpfs", "ramfs", "devtmpfs"})
_CONTAINER_FILE_SYSTEMS: Final = frozenset({"overlay", "aufs"})
_NETWORK_FILE_SYSTEMS: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "fuse.glusterfs", "ceph"}
)
_FILLING: Final = 0.8
"""Share of the limit, as in the alert."""
_OWN_DESCRIPTORS: Final = 100
"""Connections to RabbitMQ, the spool, the listening sockets, Python itself."""
_FEWEST_DESCRIPTORS: Final = 1024


def spool_writable(check: str, spool: Spool) -> Finding:
    """A temporary file can be written and fsynced in the spool's folder."""
    place = _nearest_existing(spool.directory)
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
    """The disk survives a restart, and is local: SQLite's WAL does not work on a network file system."""
    kind = _kind_of(_nearest_existing(spool.directory).resolve(), _MOUNTS.read_text())
    advice = "put spool.directory on a disk, or a volume, of its own"
    if kind in _MEMORY_FILE_SYSTEMS:
        return warning(check, f"{spool.directory} is in memory ({kind}): a restart loses it", advice)
    if kind in _CONTAINER_FILE_SYSTEMS:
        return warning(check, f"{spool.directory} is the container's own ({kind}) and goes with it", advice)
    if kind in _NETWORK_FILE_SYSTEMS:
        return warning(
            check, f"{spool.directory} is on another machine ({kind}): SQLite needs one here", advice
        )
    return ok(check, f"{spool.directory} is on {kind}")


def spool_space(check: str, spool: Spool) -> Finding:
    """The fullest spool file is below `spool.max_bytes`, and the disk has enough free space.

    Below `spool.min_free_bytes` the spool takes no events. To use all of `spool.max_bytes` it needs that much more.
    """
    held = _most_in_a_file(spool.directory)
    filled = f"a spool file holds {held / 1024**2:,.0f} MiB, {held / spool.max_bytes:.0%} of spool.max_bytes"
    advice = "see why RabbitMQ does not take the events (bridge spool status), or raise spool.max_bytes"
    if held + MAX_ENTRY_BYTES > spool.max_bytes:
        return failed(check, f"{filled}: it takes no more events", advice)
    if held > _FILLING * spool.max_bytes:
        return warning(check, filled, advice)
    there = os.statvfs(_nearest_existing(spool.directory))
    free = there.f_bavail * there.f_frsize
    seen = f"{free / 1024**2:,.0f} MiB are free"
    if free < spool.min_free_bytes:
        return failed(
            check, f"{seen}, below spool.min_free_bytes: the spool takes no events", "free disk space"
        )
    if free < spool.min_free_bytes + spool.max_bytes - held:
        return warning(
            check,
            f"{seen}, too few for spool.max_bytes",
            "free disk space, or lower spool.max_bytes",
        )
    return ok(check, seen)


def _most_in_a_file(directory: Path) -> int:
    """Bytes in the fullest spool file. Another check reports files that cannot be read."""
    most = 0
    for path in other_files(directory, ()):
        with suppress(SpoolError):
            most = max(most, read_contents(path).bytes)
    return most


def descriptors(check: str, receiver: Receiver) -> Finding:
    """There are enough file descriptors: each waiting request has a socket. This is the limit of this process."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = receiver.max_in_flight + _OWN_DESCRIPTORS
    advice = f"raise it (ulimit -n {needed}; LimitNOFILE={needed} in a systemd unit), or lower receiver.max_in_flight"
    if limit == resource.RLIM_INFINITY or limit >= needed:
        return ok(check, "no limit" if limit == resource.RLIM_INFINITY else f"{limit:,} here")
    if limit < _FEWEST_DESCRIPTORS:
        return failed(check, f"{limit:,} here", advice)
    return warning(check, f"{limit:,} here; receiver.max_in_flight needs {needed:,}", advice)


def _nearest_existing(directory: Path) -> Path:
    """The folder, or its nearest parent that exists."""
    return next((path for path in (directory, *directory.absolute().parents) if path.exists()), directory)


def _kind_of(path: Path, mounts: str) -> str:
    """The type of a path's file system: that of the longest mount point above it, of equal ones the last.

    Args:
        path: absolute.
        mounts: in the format of proc(5): `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw`.
    """
    kind, longest = "?", -1
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        point = Path(before.split()[4].replace("\\040", " "))
        if path.is_relative_to(point) and len(point.parts) >= longest:
            kind, longest = after.split()[0], len(point.parts)
    return kind
