"""`store-gateway doctor`: what is wrong with this box, why it matters, and the next step.

Each check is a question of its own: it changes nothing, cannot break another, and has `LIMIT_S`. They run at the same time, so
that a dead disk or a silent network costs the doctor no more than that. What a check needs and does not have, it skips and says.
"""

import queue
import threading
import time
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from gateway.config import GatewayConfig, load
from gateway.errors import ConfigError
from gateway.rules.reasons import NOTHING, Text
from provisioning.checks import admission, books, devices, files, machine, running, trust
from provisioning.checks.outcome import RETIRED, Box, Check, Outcome, State, skipped

LIMIT_S: Final = 3.0
ASK_CORE_S: Final = 2.0
LANGUAGES: Final = ("zh-Hant", "en")
CHECKS: Final[list[Check]] = [
    *files.CHECKS, *books.CHECKS, *running.CHECKS, *admission.CHECKS, *devices.CHECKS, *trust.CHECKS, *machine.CHECKS,
]  # fmt: skip
STUCK_STEP: Final = Text(
    "通常是磁碟或網路沒有反應：重新啟動機器後再試", "Mostly a disk or a network that does not answer: restart the box, then try again"
)


class Finding(Struct, frozen=True, kw_only=True):
    """A check's answer, as programs read it."""

    id: str
    state: State
    subject: str
    title: Text
    what: Text
    why: Text
    next_step: Text


def examine(config_path: Path, root: Path = Path("/"), checks: list[Check] | None = None) -> list[Finding]:
    """Every check's findings, in the order of `CHECKS`. Never raises for what it looks at; ends within seconds."""
    box = look_at(config_path, root)
    answers: dict[str, queue.SimpleQueue[list[Outcome]]] = {}
    chosen = CHECKS if checks is None else checks
    for check in chosen:
        answers[check.id] = queue.SimpleQueue()
        # Daemons: a thread that hangs in the kernel can be neither ended nor waited for.
        threading.Thread(target=_ask, args=(check, box, answers[check.id]), daemon=True).start()
    ends_s = time.monotonic() + LIMIT_S
    return [_finding(check, outcome) for check in chosen for outcome in _await(answers[check.id], ends_s)]


def look_at(config_path: Path, root: Path = Path("/")) -> Box:
    """What all checks start from: the configuration, and core's own view."""
    config, trouble = _configuration(config_path)
    view, silence = ask_core(config) if config else (None, "")
    return Box(config_path, config, trouble, view, silence, root)


def _configuration(path: Path) -> tuple[GatewayConfig | None, str]:
    try:
        return load(path), ""
    except ConfigError as error:
        return None, str(error)


def ask_core(config: GatewayConfig) -> tuple[dict[str, Any] | None, str]:
    """Core's view of the shop, or why there is none."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{loopback(config)}:{config.core.port}/v1/store", timeout=ASK_CORE_S) as reply:
            view = msgspec.json.decode(reply.read(4 * 1024**2))
    except urllib.error.HTTPError as error:
        with error:
            return None, RETIRED if RETIRED.encode() in error.read(4096) else str(error)
    except (OSError, HTTPException, msgspec.DecodeError) as error:
        return None, str(getattr(error, "reason", error))
    if not isinstance(view, dict) or not {"units", "line", "now_us", "time_trust"} <= view.keys():
        return None, "something else answers there"
    return view, ""


def loopback(config: GatewayConfig) -> str:
    """Where this machine itself reaches core."""
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(config.core.host, config.core.host)  # noqa: S104 - not listened on
    return f"[{host}]" if ":" in host else host


def _ask(check: Check, box: Box, answer: "queue.SimpleQueue[list[Outcome]]") -> None:
    try:
        if "config" in check.needs and box.config is None:
            answer.put([skipped("需要可讀的設定檔", "Needs a configuration that can be read")])
        elif "core" in check.needs and box.view is None:
            answer.put([skipped("需要 core 正在執行", "Needs core to answer")])
        else:
            answer.put(check.look(box))
    except PermissionError as error:
        answer.put([_forbidden(error)])
    except Exception as error:  # noqa: BLE001 - a check is a process of its own in all but name; what breaks it is itself a finding
        answer.put([_broken(f"{type(error).__name__}: {error}")])


def _await(answer: "queue.SimpleQueue[list[Outcome]]", ends_s: float) -> list[Outcome]:
    try:
        return answer.get(timeout=max(0.0, ends_s - time.monotonic()))
    except queue.Empty:
        return [Outcome(State.FAIL, Text(f"{LIMIT_S:g} 秒內沒有結果", f"No answer within {LIMIT_S:g} seconds"), STUCK_STEP)]


def _broken(error: str) -> Outcome:
    step = Text("執行 store-gateway support，把檔案交給總部", "Run `store-gateway support` and give the file to headquarters")
    return Outcome(State.FAIL, Text(f"檢查無法完成：{error}", f"The check could not be finished: {error}"), step)


def _forbidden(error: PermissionError) -> Outcome:
    step = Text("用 sudo 再執行一次", "Run the doctor again with sudo")
    return Outcome(State.FAIL, Text(f"沒有權限讀取 {error.filename}", f"{error.filename} may not be read"), step)


def _finding(check: Check, outcome: Outcome) -> Finding:
    well = outcome.state in (State.OK, State.SKIPPED)
    return Finding(
        id=check.id, state=outcome.state, subject=outcome.subject, title=check.title, what=outcome.what, why=check.why,
        next_step=NOTHING if well else outcome.next_step,
    )  # fmt: skip


def exit_status(findings: list[Finding]) -> int:
    """0: nothing fails (warnings may be there), 1: something does."""
    return int(any(finding.state is State.FAIL for finding in findings))


def as_json(findings: list[Finding]) -> str:
    """For programs: `{"ok": …, "counts": {state: n}, "checks": [Finding, …]}`."""
    counts = {state.value: sum(finding.state is state for finding in findings) for state in State}
    return msgspec.json.encode({"ok": not exit_status(findings), "counts": counts, "checks": findings}).decode()


def as_text(findings: list[Finding], language: str = LANGUAGES[0]) -> str:
    """For people: what fails first, each with why it matters and the next step."""
    marks = {State.FAIL: "✗", State.WARN: "!", State.OK: "✓", State.SKIPPED: "–"}
    lines = []
    for state in (State.FAIL, State.WARN, State.OK, State.SKIPPED):
        for finding in (one for one in findings if one.state is state):
            subject = f" {finding.subject}" if finding.subject else ""
            lines.append(f"{marks[state]} {finding.id}{subject}: {_in(finding.what, language)}")
            if _in(finding.next_step, language):
                lines += [f"    {_in(finding.why, language)}", f"    → {_in(finding.next_step, language)}"]
    bad, late = (sum(one.state is state for one in findings) for state in (State.FAIL, State.WARN))
    summary = Text(f"{bad} 項失敗，{late} 項警告", f"{bad} failed, {late} warnings")
    return "\n".join([*lines, _in(summary, language)])


def _in(text: Text, language: str) -> str:
    return text.en if language == "en" else text.zh
