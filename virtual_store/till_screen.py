"""The simulator till on a terminal: a basket, a code, two steps, and every request with its answer as it went over the wire."""

import json
import secrets
from collections.abc import Callable
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from virtual_store.till import Exchange, Till

HELP: Final = (
    "  [b]CODE[/b]            掃描或輸入票券：查詢 → 保留     scan or type a voucher: validate, then authorize\n"
    "  [b]+ 品名 金額[/b]      加入購物籃                      + NAME AMOUNT: put something into the basket\n"
    "  [b]m 電話[/b]           會員（先徵得同意）              m PHONE: a member, who has agreed\n"
    "  [b]c[/b]  結帳          capture 保留中的票券，送出銷售  check out: capture what is held, post the sale\n"
    "  [b]v[/b]  取消          void 保留中的票券               void what is held\n"
    "  [b]r[/b]  退回          reverse 上一筆核銷              reverse the last redemption\n"
    "  [b]b[/b]  退貨          returns 上一筆銷售全部退回      bring all of the last sale back\n"
    "  [b]? q[/b]              說明、離開                      help, leave"
)
SECRET: Final = ("code",)  # not shown in full


class Screen:
    """One till, one terminal.

    Args:
        ask: Where lines come from; raises EOFError at their end.
    """

    def __init__(self, till: Till, console: Console, ask: Callable[[], str]) -> None:
        self._till = till
        self._console = console
        self._ask = ask
        self._basket: list[tuple[str, int]] = []
        self._held: dict[str, Any] | None = None
        self._last = ""  # redemption
        self._sold: tuple[str, list[dict[str, Any]]] = ("", [])  # the last sale
        self._phone = ""

    def run(self) -> None:
        """Until `q` or the end of the lines."""
        self._console.print(HELP)
        verbs: dict[str, Callable[[], None]] = {"c": self._capture, "v": self._void, "r": self._reverse, "b": self._bring_back}
        while True:
            try:
                line = self._ask().strip()
            except EOFError:
                return
            if line == "q":
                return
            if line == "?" or not line:
                self._console.print(HELP)
            elif line.startswith("+"):
                self._add(line[1:])
            elif line.startswith("m "):
                self._phone = line[2:].strip()
            else:
                verbs.get(line, lambda line=line: self._scan(line))()

    def _add(self, line: str) -> None:
        name, _, amount = line.strip().rpartition(" ")
        if not name or not amount.isdigit():
            self._console.print("[yellow]+ 品名 金額（最小單位）　+ NAME AMOUNT, in minor units[/yellow]")
            return
        self._basket.append((name, int(amount)))
        table = Table("品項 item", "金額 amount", title=f"合計 total {self._total}")
        for one, price in self._basket:
            table.add_row(escape(one), str(price))
        self._console.print(table)

    @property
    def _total(self) -> int:
        return sum(price for _, price in self._basket)

    def _scan(self, code: str) -> None:
        if self._held is not None:
            self._console.print("[yellow]先 c 或 v　First capture or void what is held[/yellow]")
            return
        found = self._show(self._till.ask("validate", code=code))
        amount, lent = None, found.get("balance")
        if lent or found.get("reason") == "amount_needed":  # a face value: as much of the basket as it covers
            amount = self._total if lent else min(self._total, found.get("balance_minor") or 0)
            if amount <= 0:
                self._console.print("[yellow]面額券：先以 + 加入品項　A face value needs a basket: add something with +[/yellow]")
                return
        elif found.get("decision") != "valid":
            return
        held = self._show(self._till.hold_less(code, amount or 0, lent["unit"]) if lent else self._till.present("authorize", code, amount))
        if held.get("decision") == "authorized":
            self._held = held

    def _capture(self) -> None:
        if self._held is None and not self._basket:
            self._console.print("[yellow]沒有保留中的票券，也沒有品項　Nothing is held or bought[/yellow]")
            return
        used = self._redeem_held() if self._held is not None else ""
        if self._basket:
            self._post(used)

    def _post(self, redemption_id: str) -> None:
        """The finished sale, with what led to it and who bought."""
        lines = [{"sku": f"ITEM-{at}", "quantity": 1, "price_minor": minor} for at, (_, minor) in enumerate(self._basket, 1)]
        member = {"consent": True, "phone": self._phone} if self._phone else None
        receipt, named = f"R{secrets.token_hex(6)}", [redemption_id] if redemption_id else []
        said = self._show(self._till.settle("sales", receipt_id=receipt, lines=lines, redemption_ids=named, member=member))
        self._sold = (str(said.get("reference") or ""), lines) if said.get("decision") == "sale_posted" else self._sold
        self._basket, self._phone = [], ""

    def _redeem_held(self) -> str:
        """What came of the hold: a redemption, or nothing."""
        if self._held is None:
            return ""
        done = self._show(self._till.settle("capture", authorization_id=self._held["authorization_id"]))
        self._held = None
        self._last = done.get("redemption_id") or self._last
        if done.get("reason") == "hold_expired":
            self._console.print("[red]收銀台必須撤銷此筆折抵　This till must take its discount back[/red]")
        return str(done.get("redemption_id") or "")

    def _void(self) -> None:
        if self._held is not None:
            self._show(self._till.settle("void", authorization_id=self._held["authorization_id"]))
            self._held = None

    def _reverse(self) -> None:
        if self._last:
            self._show(self._till.settle("reverse", redemption_id=self._last))

    def _bring_back(self) -> None:
        sale_id, lines = self._sold
        if sale_id:
            back = [{"line": at, **line} for at, line in enumerate(lines, 1)]
            self._show(self._till.settle("returns", refund_id=f"B{secrets.token_hex(6)}", sale_id=sale_id, lines=back))

    def _show(self, exchange: Exchange) -> dict[str, Any]:
        body = {name: value[:12] + "…" if name in SECRET and len(value) > 12 else value for name, value in exchange.body.items()}
        body |= {"member": {"consent": True, "phone": "…"}} if "member" in body else {}
        answer = {name: value for name, value in exchange.answer.items() if value not in (None, "", {"zh": "", "en": ""})}
        again = f"，第 {exchange.tries} 次 try {exchange.tries}" if exchange.tries > 1 else ""
        self._console.print(f"[b cyan]→ POST /v1/{exchange.verb}[/b cyan] {escape(json.dumps(body, ensure_ascii=False))}")
        colour = "green" if exchange.status == 200 and answer.get("decision") != "refused" else "red"
        self._console.print(f"[b {colour}]← {exchange.status}[/b {colour}] {exchange.took_ms:.0f} ms{again}")
        for name, value in answer.items():
            text = f"{value['zh']}　{value['en']}" if isinstance(value, dict) and value.keys() == {"zh", "en"} else json.dumps(value)
            self._console.print(f"    {name:<17} {escape(text)}")
        return exchange.answer
