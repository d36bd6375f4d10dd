"""A customer at the counter, in a process of its own: presents codes at a steady rate and times core's answers.

`python -m benchmarks.asker URL`, tokens as a JSON array on the first line of stdin; asks until stdin ends, then prints what it
found as JSON.
"""

import json
import secrets
import subprocess
import sys
import threading
import time
from typing import Final, Self

import msgspec
from msgspec import Struct, field

from virtual_store.web import Web

ASKED_PER_S: Final = 5.0


class Answers(Struct):
    """What was found."""

    waits: list[float] = field(default_factory=list)  # s
    answered: dict[str, float] = field(default_factory=dict)  # presentation or redemption to when it was answered
    decisions: dict[str, int] = field(default_factory=dict)


def ask(url: str, tokens: list[str], closing: threading.Event) -> Answers:
    """Until told to stop."""
    web, found, due_s = Web(url).pair_now("entrance"), Answers(), time.monotonic()
    while not closing.is_set():
        presentation_id = secrets.token_hex(16)
        body = {"station": "entrance", "code": tokens[len(found.waits) % len(tokens)], "presentation_id": presentation_id}
        begun_s = time.perf_counter()
        answer = web.call("/v1/redeem", json.dumps(body).encode())
        found.waits.append(time.perf_counter() - begun_s)
        found.answered[answer.get("redemption_id") or presentation_id] = time.time()
        decision = answer["reason"] or answer["decision"]
        found.decisions[decision] = found.decisions.get(decision, 0) + 1
        due_s += 1 / ASKED_PER_S
        closing.wait(max(0.0, due_s - time.monotonic()))
    return found


class Asker:
    """That process, from here."""

    def __init__(self, url: str, tokens: list[str]) -> None:
        command = [sys.executable, "-m", "benchmarks.asker", url]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(tokens) + "\n")
        self._process.stdin.flush()
        self._found = Answers()

    def finish(self) -> Self:
        """Stop; everything asked is answered."""
        said, _ = self._process.communicate()
        self._found = msgspec.json.decode(said, type=Answers)
        return self

    @property
    def found(self) -> Answers:
        """After `finish`."""
        return self._found


def main() -> None:
    """Entry of the process."""
    tokens, closing = json.loads(sys.stdin.readline()), threading.Event()

    def wait_for_the_end() -> None:
        sys.stdin.read()
        closing.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    print(msgspec.json.encode(ask(sys.argv[1], tokens, closing)).decode())


if __name__ == "__main__":
    main()
