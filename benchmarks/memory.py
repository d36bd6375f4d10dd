"""How much memory processes take: as the kernel shares it out, and as if they were alone on the machine."""

import contextlib
import os
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

PAGE_B: Final = os.sysconf("SC_PAGE_SIZE")
MB: Final = 1024 * 1024
PRESENT: Final = np.uint64(1 << 63)
FRAME: Final = np.uint64((1 << 55) - 1)  # of an entry of /proc/PID/pagemap


def pss_mb(pid: int) -> float:
    """Proportional set size: each page divided by how many map it."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise ValueError("the kernel tells no PSS")


def alone_mb(pids: dict[str, int]) -> dict[str, float]:
    """PSS of each as if nothing else ran; empty where the kernel shows page frames to nobody but root."""
    frames = {name: _frames(pid) for name, pid in pids.items()}
    if not all(len(found) for found in frames.values()):
        return {}
    numbers, sharers = np.unique(np.concatenate(list(frames.values())), return_counts=True)
    return {name: float((1 / sharers[np.searchsorted(numbers, found)]).sum() * PAGE_B / MB) for name, found in frames.items()}


def _frames(pid: int) -> NDArray[np.uint64]:
    """The physical pages of a process, each once."""
    parts = []
    with Path(f"/proc/{pid}/pagemap").open("rb", buffering=0) as pagemap:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            first, last = (int(edge, 16) for edge in line.split()[0].split("-"))
            with contextlib.suppress(OSError, OverflowError):  # the kernel's own pages are not told
                pagemap.seek(first // PAGE_B * 8)
                entries = np.frombuffer(pagemap.read((last - first) // PAGE_B * 8), dtype=np.uint64)
                parts.append(entries[(entries & PRESENT) != 0] & FRAME)
    found = np.unique(np.concatenate(parts))
    return found[found > 0]
