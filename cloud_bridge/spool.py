"""Documents on their way: pieces are gathered into files, and a whole file is announced to core.

Nothing here judges a document; the SHA-256 of the manifest only tells when a file is whole.
"""

import hashlib
import os
from pathlib import Path
from typing import Final

from msgspec import Struct

from cloud_bridge.envelope import Chunk, Want
from gateway.signed import DOCUMENT_NAMES, MEMBER_NAMES, OPENING_NAME, DocumentRef, Manifest

KNOWN: Final = (*DOCUMENT_NAMES, OPENING_NAME)
ASK_AGAIN_S: Final = 2.0
MAX_DOCUMENT_B: Final = 64 * 1024 * 1024


class Fetch(Struct):
    """One document under way."""

    ref: DocumentRef
    data: bytearray
    asked_s: float | None = None


class Spool:
    """The folder of documents."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._folder.mkdir(parents=True, exist_ok=True)
        self._whole: dict[str, tuple[DocumentRef, Path]] = {}
        self._fetches: dict[str, Fetch] = {}
        self._announced: set[str] = set()

    def heed(self, manifest: Manifest) -> None:
        """Take what HQ says a box should have."""
        for ref in manifest.documents:
            known = self._whole.get(ref.name)
            if ref.name not in KNOWN or ref.size_b > MAX_DOCUMENT_B or (known and known[0].version >= ref.version):
                continue
            path = self._path(ref)
            if path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == ref.sha256:
                self._whole[ref.name] = (ref, path)
                self._fetches.pop(ref.name, None)
            elif (under_way := self._fetches.get(ref.name)) is None or (under_way.ref != ref and under_way.ref.version <= ref.version):
                self._fetches[ref.name] = Fetch(ref, bytearray())

    def wants(self, now_s: float) -> list[Want]:
        """What to ask HQ for now: the next piece of each document, again after a silence."""
        due = [fetch for fetch in self._fetches.values() if fetch.asked_s is None or now_s - fetch.asked_s > ASK_AGAIN_S]
        for fetch in due:
            fetch.asked_s = now_s
        return [Want(fetch.ref.name, fetch.ref.version, len(fetch.data)) for fetch in due]

    def put(self, chunk: Chunk) -> None:
        """Take a piece; pieces nobody asked for are passed over."""
        fetch = self._fetches.get(chunk.name)
        if fetch is None or (chunk.version, chunk.size_b) != (fetch.ref.version, fetch.ref.size_b) or chunk.offset != len(fetch.data):
            return
        fetch.data += chunk.data
        fetch.asked_s = None
        if len(fetch.data) < fetch.ref.size_b:
            return
        del self._fetches[chunk.name]
        if hashlib.sha256(fetch.data).hexdigest() == fetch.ref.sha256:
            self._whole[chunk.name] = (fetch.ref, self._save(fetch))
        else:
            self._fetches[chunk.name] = Fetch(fetch.ref, bytearray())

    def arrived(self) -> list[tuple[DocumentRef, Path]]:
        """Whole documents that were not announced yet."""
        fresh = [(ref, path) for ref, path in self._whole.values() if ref.sha256 not in self._announced]
        self._announced.update(ref.sha256 for ref, _ in fresh)
        return fresh

    def taken(self, ref: DocumentRef) -> None:
        """Core has put a document in force. A list of members is not left lying here: core forgets what is in it after its time.

        The next start of the bridge fetches it again, and core finds that it is no news.
        """
        if ref.name in MEMBER_NAMES:
            self._path(ref).unlink(missing_ok=True)

    def _path(self, ref: DocumentRef) -> Path:
        return self._folder / f"{ref.name}.{ref.version}.sealed"

    def _save(self, fetch: Fetch) -> Path:
        path, part = self._path(fetch.ref), self._folder / f"{fetch.ref.name}.part"
        with part.open("wb") as file:
            file.write(fetch.data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        for older in self._folder.glob(f"{fetch.ref.name}.*.sealed"):
            if older != path:
                older.unlink(missing_ok=True)
        return path
