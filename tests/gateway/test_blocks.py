"""Compressors are kept, each by its thread: what one packs, anybody unpacks."""

import os
from concurrent.futures import ThreadPoolExecutor

from backports import zstd

from gateway.blocks import FAST_LEVEL, SEALED_LEVEL, compressed, decompressed


def test_a_kept_compressor_writes_what_a_new_one_would() -> None:
    for size in (0, 1, 300, 70_000):
        section = os.urandom(size // 2) * 2
        assert compressed(section) == zstd.compress(section, FAST_LEVEL)
        assert compressed(section, SEALED_LEVEL) == zstd.compress(section, SEALED_LEVEL)


def test_threads_do_not_disturb_each_other() -> None:
    sections = [bytes([number]) * 500 + os.urandom(2_000) for number in range(200)]
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(decompressed, threads.map(compressed, sections))) == sections
