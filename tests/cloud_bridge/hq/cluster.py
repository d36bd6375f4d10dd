"""A PostgreSQL of our own on loopback, from Debian's packages, for as long as a block runs."""

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import psycopg
from msgspec import Struct

from cloud_bridge.ports import free_port

BINARIES: Final = Path("/usr/lib/postgresql/15/bin")
PATIENCE_S: Final = 30.0
USER: Final = "hq"


class Cluster(Struct):
    """A server, which can be killed and started again."""

    folder: Path
    port: int
    run: dict[str, Any]
    process: "subprocess.Popen[bytes] | None" = None

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        settings = ["-c", "listen_addresses=127.0.0.1", "-c", "wal_sync_method=fdatasync", "-p", str(self.port), "-k", str(self.folder)]
        command = [str(BINARIES / "postgres"), "-D", str(self.folder / "data"), *settings]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, **self.run)
        until_s = time.monotonic() + PATIENCE_S
        while True:
            try:
                psycopg.connect(self.url(), connect_timeout=2).close()
                return
            except psycopg.OperationalError as error:
                assert self.process.poll() is None and time.monotonic() < until_s, (self.folder / "log").read_text()[-2000:] + str(error)
                time.sleep(0.05)

    def kill(self) -> None:
        """As a power cut does; its children follow, since they lose their parent."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(PATIENCE_S)
            self.process = None

    def make_database(self, name: str) -> str:
        """A new database's URL."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} ENCODING 'UTF8' TEMPLATE template0")
        return self.url(name)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(PATIENCE_S)
            self.kill()


@contextlib.contextmanager
def cluster() -> Iterator[Cluster]:
    """A running server. It refuses to run as root, so a root's test runs it as `postgres`, which its package has made."""
    folder = Path(tempfile.mkdtemp(prefix="hq-pg-"))
    run: dict[str, Any] = {"cwd": folder, "env": {"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"}}
    if os.geteuid() == 0:
        postgres = pwd.getpwnam("postgres")
        os.chown(folder, postgres.pw_uid, postgres.pw_gid)
        run |= {"user": postgres.pw_uid, "group": postgres.pw_gid, "extra_groups": []}
    made = Cluster(folder, free_port(), run)
    try:
        initdb = [str(BINARIES / "initdb"), "-D", str(folder / "data"), "-A", "trust", "-U", USER, "-E", "UTF8", "--no-sync"]
        subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, **run)
        made.start()
        yield made
    finally:
        made.stop()
        shutil.rmtree(folder, ignore_errors=True)
