"""What memory and disk the machine has, asked before work starts rather than found missing."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import jax

_GIB = 2**30
_CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")


def available_memory() -> int:
    """Bytes that work can still take: of the device, where it has its own, else of this machine.

    On Linux the limit of a container (cgroup v2) counts too. Where the system tells nothing, a
    number beyond any machine.
    """
    device = jax.local_devices()[0].memory_stats()
    if device and "bytes_limit" in device:
        return int(device["bytes_limit"]) - int(device.get("bytes_in_use", 0))
    return host_memory()


def host_memory() -> int:
    """Bytes that work on the host can still take, as `available_memory` knows them."""
    return min(_free_memory(), _container_memory())


def check_memory(needed: float, what: str, remedy: str, host: bool = False) -> None:
    """Refuse work that needs more memory than there is.

    Args:
        needed: bytes.
        what: the work, as the subject of the message.
        remedy: what to do instead.
        host: whether it is done on the host, whatever the device.

    Raises:
        ValueError: if there is less.
    """
    there = host_memory() if host else available_memory()
    if needed > there:
        raise ValueError(
            f"{what} needs about {needed / _GIB:.1f} GiB of memory, and {there / _GIB:.1f} are "
            f"available ({remedy})"
        )


def check_disk(folder: Path, needed: float, what: str, remedy: str) -> None:
    """Refuse work whose results would fill the disk; ``folder`` need not be there yet.

    Raises:
        ValueError: if the file system has less room than ``needed`` bytes.
    """
    nearest = next(part for part in (folder, *folder.absolute().parents) if part.exists())
    there = shutil.disk_usage(nearest).free
    if needed > there:
        raise ValueError(
            f"{what} take {needed / _GIB:.1f} GiB, and the disk of {folder} has "
            f"{there / _GIB:.1f} left ({remedy})"
        )


def _free_memory() -> int:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:  # not Linux
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 2**62


def _container_memory() -> int:
    try:
        return int(_CONTAINER_LIMIT.read_text())
    except (OSError, ValueError):  # no container, or "max": no limit
        return 2**62
