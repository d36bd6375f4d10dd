"""People in the shop: what they do through the doors of core, from inside of the guest. Needs nothing but Python itself.

Reads one JSON object: `base`, `cookies`, `people` (how many there are, 1), `patience_s` (how long one call is tried again while
nobody answers), `pause_s` (between two calls of one person) and `calls`, each `[METHOD, PATH, BODY]`.
Prints a line for each call when it was answered: `{"n", "status", "body", "set"}`; `set` are the cookies that came with it.
A call is the same call each time it is tried.
"""

import json
import sys
import threading
import time
import urllib.error
import urllib.request
from email.message import Message
from http.cookies import SimpleCookie
from typing import Any


def call(base: str, cookies: dict[str, str], method: str, path: str, body: Any) -> tuple[int, str, dict[str, str]]:
    """One try: status, body, cookies. Status 0: nobody answered."""
    headers = {"Content-Type": "application/json", "Origin": base, "Cookie": "; ".join(f"{k}={v}" for k, v in cookies.items())}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(base + path, data=data, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=15) as reply:
            return reply.status, reply.read().decode(), cookies_of(reply.headers)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(2000).decode("utf-8", "replace"), {}
    except OSError as error:
        return 0, str(error), {}


def cookies_of(headers: Message) -> dict[str, str]:
    """What the answer puts into the browser."""
    return {name: morsel.value for text in headers.get_all("Set-Cookie", []) for name, morsel in SimpleCookie(text).items()}


def ask(asked: dict[str, Any], cookies: dict[str, str], number: int) -> dict[str, Any]:
    """Make one of the calls, again and again until somebody answers or the patience ends."""
    method, path, body = asked["calls"][number]
    ends_s = time.monotonic() + asked.get("patience_s", 0)
    while True:
        status, text, fresh = call(asked["base"], cookies, method, path, body)
        if status not in (0, 503) or time.monotonic() > ends_s:
            return {"n": number, "status": status, "body": text, "set": fresh}
        time.sleep(0.2)


def main() -> None:
    """Make the calls in order, each as soon as one of the people is free."""
    asked = json.load(sys.stdin)
    cookies = dict(asked.get("cookies", {}))
    numbers, talking = iter(range(len(asked["calls"]))), threading.Lock()

    def person() -> None:
        while True:
            with talking:
                number = next(numbers, None)
            if number is None:
                return
            reply = ask(asked, cookies, number)
            with talking:
                cookies.update(reply["set"])
                print(json.dumps(reply), flush=True)
            time.sleep(asked.get("pause_s", 0))

    people = [threading.Thread(target=person) for _ in range(asked.get("people", 1))]
    for one in people:
        one.start()
    for one in people:
        one.join()


main()
