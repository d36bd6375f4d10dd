"""What a unit no longer needs goes back to the system. Each in a process of its own: these are properties of a whole process."""

import subprocess
import sys

LOOK = """
import re, threading
from pathlib import Path
from gateway import memory

def mb(key):
    return int(re.search(key + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024
"""
HOLES = """
held = [bytes(3000) for _ in range(30_000)]
pins = held[::40]  # between the holes, so that free() alone cannot shrink the heap
del held
before = mb("VmRSS")
memory.give_back()
print(before - mb("VmRSS"))
"""
HEAPS = """
together = threading.Barrier(9)

def take():
    held = [bytes(3000) for _ in range(100)]
    together.wait()
    together.wait()

before = mb("VmSize")
threads = [threading.Thread(target=take) for _ in range(8)]
threading.stack_size(1 << 20)
for thread in threads:
    thread.start()
together.wait()
print(mb("VmSize") - before)
together.wait()
"""


def in_process(code: str) -> float:
    return float(subprocess.run([sys.executable, "-c", LOOK + code], capture_output=True, text=True, check=True, timeout=30).stdout)


def test_free_memory_goes_back_to_the_system_even_from_between_what_is_in_use() -> None:
    assert in_process(HOLES) > 30  # of 90 MB


def test_threads_share_heaps() -> None:
    """A heap of its own for each thread reserves 64 MB or more of address space."""
    assert in_process(HEAPS) - in_process("memory.share_heaps()\n" + HEAPS) > 5 * 64


def test_giving_back_freezes_what_lives() -> None:
    assert in_process("import gc\nmemory.give_back()\nprint(gc.get_freeze_count())") > 1000


def test_a_busy_moment_does_not_wake_the_collector() -> None:
    busy = "held = [[number] for number in range(5_000)]\nprint(sum(one['collections'] for one in gc.get_stats()) - before)"
    assert in_process(f"import gc\nmemory.give_back()\nbefore = sum(one['collections'] for one in gc.get_stats())\n{busy}") == 0
