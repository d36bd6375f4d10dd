"""Files that pages load. What lies there as `NAME.gz` is served as NAME, packed: a reader of codes takes a megabyte otherwise."""

import os
from typing import Final

from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

PACKED: Final = ".gz"


class PackedFiles(StaticFiles):
    """As `StaticFiles`; every browser unpacks gzip."""

    def lookup_path(self, path: str) -> tuple[str, os.stat_result | None]:
        """The file of a path, or the packed one."""
        found = super().lookup_path(path)
        return found if found[1] is not None else super().lookup_path(path + PACKED)

    def file_response(
        self, full_path: "str | os.PathLike[str]", stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        """The answer; its type is that of what is packed."""
        answer = super().file_response(full_path, stat_result, scope, status_code)
        if os.fspath(full_path).endswith(PACKED):
            answer.headers["content-encoding"] = "gzip"
        return answer
