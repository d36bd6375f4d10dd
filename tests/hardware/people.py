"""People in the shop: what they do through the doors of core, from inside of the guest. Needs nothing but Python itself.

Reads one JSON object: `base`, `cookies`, `patience_s` (how long one call is tried again while nobody answers), `pause_s` (between
two calls) and `calls`, each `[METHOD, PATH, BODY]`. Prints a line for each call when it was answered:
`{"n", "status", "body", "set"}`; `set` are the cookies that came with it. A call is the same call each time it is tried.
"""

import json
import sys
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


def main() -> None:
    """Make the calls, one after the other."""
    asked = json.load(sys.stdin)
    cookies = dict(asked.get("cookies", {}))
    for number, (method, path, body) in enumerate(asked["calls"]):
        ends_s = time.monotonic() + asked.get("patience_s", 0)
        while True:
            status, text, fresh = call(asked["base"], cookies, method, path, body)
            if status not in (0, 503) or time.monotonic() > ends_s:
                break
            time.sleep(0.2)
        cookies.update(fresh)
        print(json.dumps({"n": number, "status": status, "body": text, "set": fresh}), flush=True)
        time.sleep(asked.get("pause_s", 0))


main()
