"""The command line. `run UNIT` goes its own light way; everything else is Typer's."""

import sys


def main() -> None:
    """Entry point of `store-gateway` and `python -m gateway`."""
    if sys.argv[1:2] == ["run"]:
        from gateway.units import run_unit

        raise SystemExit(run_unit(sys.argv[2:]))
    from gateway.commands import app

    app(prog_name="store-gateway")


if __name__ == "__main__":
    main()
