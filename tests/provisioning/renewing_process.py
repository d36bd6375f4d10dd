"""One renewal on the disk, killed at its N-th step: run by `test_renewing`, in a process of its own.

A step is a call by which the folder changes or is synchronised; the kill comes before it takes place.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

from provisioning.authority import Authority, Enrolment
from provisioning.renewing import Identity, new_key


def main(folder: Path, kill_at: int) -> None:
    """Renew as the bridge does: keep the next pair, then promote it."""
    identity = Identity(Enrolment.load(folder / "enrolment"), folder / "state")
    key, csr = new_key("gw-1")
    certificate = Authority.open(folder / "hq").issue_client(csr, "gw-1", 60)
    steps = 0

    def killing(real: Any) -> Any:
        def step(*args: Any, **kwargs: Any) -> Any:
            nonlocal steps
            steps += 1
            if steps == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)

        return step

    for name in ("open", "fsync", "replace", "rename", "unlink", "mkdir", "fdopen"):
        setattr(os, name, killing(getattr(os, name)))
    identity.keep_next(key, certificate)
    identity.promote()
    print(steps)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
