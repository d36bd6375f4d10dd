"""`make scenarios`: runs every scenario's test and prints the table of docs/scenarios.md with pass, fail or not yet by number."""

import json
import re
import sys
from pathlib import Path
from typing import Final

import pytest
from rich.console import Console
from rich.table import Table

ROOT: Final = Path(__file__).resolve().parents[2]
ROW: Final = re.compile(r"^\| (R\d\d) \| (.+?) \| ([GPX])", re.MULTILINE)


def promises() -> dict[str, str]:
    """Number to capability, in order."""
    text = (ROOT / "docs" / "scenarios.md").read_text(encoding="utf-8")
    return {number: capability for number, capability, _ in ROW.findall(text)}


class Outcomes:
    """A pytest plugin that remembers how the tests of each number ended."""

    def __init__(self) -> None:
        self.by_number: dict[str, list[bool]] = {}
        self._numbers: dict[str, list[str]] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Learn which test shows which promise."""
        for item in items:
            self._numbers[item.nodeid] = [str(mark.args[0]) for mark in item.iter_markers("scenario")]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A test counts as passed when its call passed and nothing around it failed."""
        if report.when == "call" or report.failed or report.skipped:
            for number in self._numbers.get(report.nodeid, []):
                self.by_number.setdefault(number, []).append(report.passed)


def main() -> int:
    """Run, print, and end with a line for programs."""
    outcomes = Outcomes()
    status = pytest.main(["-q", "-m", "scenario", str(ROOT / "tests" / "scenarios"), *sys.argv[1:]], plugins=[outcomes])
    known = promises()
    passing = [number for number in known if all(outcomes.by_number.get(number, [False]))]
    failing = [number for number in known if number in outcomes.by_number and number not in passing]
    missing = [number for number in known if number not in outcomes.by_number]
    table = Table("number", "promise", "state", title=f"{len(known)} scenarios")
    for number, capability in known.items():
        state = "[green]pass[/green]" if number in passing else "[red]FAIL[/red]" if number in failing else "[dim]not yet[/dim]"
        table.add_row(number, capability, state)
    Console(width=None if sys.stdout.isatty() else 140).print(table)
    print(f"SUMMARY {json.dumps({'passing': passing, 'failing': failing, 'missing': missing})}", flush=True)
    return 0 if status in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED) and not failing else 1


if __name__ == "__main__":
    sys.exit(main())
