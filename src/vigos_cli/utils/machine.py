"""What this machine has for its processes: processor cores and free memory.

Both are what this process may use: a container or a scheduler can allow less than the machine has.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")  # limits of a container, as it sees them itself (version 2 of the interface)
MEMINFO = Path("/proc/meminfo")


def usable_cores() -> int:
    """The number of processor cores that this process may use."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = re.match(r"(\d+) (\d+)", _text(CGROUP / "cpu.max"))  # "max 100000" if there is no limit
    return max(1, min(allowed, round(int(quota[1]) / int(quota[2])))) if quota else allowed


def free_memory() -> int | None:
    """The bytes of memory that are free for new processes; None if the system does not say.

    Where only the size of the whole memory is known (macOS), half of it counts as free.
    """
    found = re.search(r"^MemAvailable:\s+(\d+) kB", _text(MEMINFO), re.MULTILINE)
    parts = [int(found[1]) * 1024] if found else []
    if not found and "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        parts = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2]
    limit, used = _text(CGROUP / "memory.max"), _text(CGROUP / "memory.current")
    if limit.strip().isdigit() and used.strip().isdigit():
        parts.append(int(limit) - int(used) + _cached())
    return max(0, min(parts)) if parts else None


def _cached() -> int:
    """The bytes of files that the container's limit counts as used, although the system can drop them."""
    found = re.search(r"^inactive_file (\d+)", _text(CGROUP / "memory.stat"), re.MULTILINE)
    return int(found[1]) if found else 0


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
