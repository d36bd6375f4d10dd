"""What was measured beside what was aimed at, for people."""

from collections.abc import Mapping

Aims = Mapping[str, tuple[str, float]]  # by key: ">=" or "<=", and the number


def table(flat: Mapping[str, float], aims: Aims) -> str:
    """A line for each number; those that miss their aim say so."""
    lines = [f"{'what':<42}{'measured':>12}{'aim':>12}"]
    for name, value in flat.items():
        sign, aim = aims.get(name, ("", 0.0))
        held = not sign or (value >= aim if sign == ">=" else value <= aim)
        lines.append(f"{name:<42}{value:>12.5g}{f'{sign} {aim:g}' if sign else '':>12}{'' if held else '  missed'}")
    return "\n".join(lines)
