"""Writes what follows from the table: the type stubs and the README's list of functions. ``python -m bench.docs``."""

from __future__ import annotations

import re
from pathlib import Path

from fastact.table import ACTIVATIONS, GATED

ROOT = Path(__file__).resolve().parents[1]


def readme_table() -> str:
    """Functions, formulas and promised errors as Markdown."""
    lines = ["| function | f(x) | float32 | float64 | f' float32 | f' float64 |", "|---|---|--:|--:|--:|--:|"]
    for row in ACTIVATIONS:
        parameters = ", ".join(name if default is None else f"{name}={'1/6' if default == 1 / 6 else default}"
                               for name, default in row.parameters)  # fmt: skip
        name = f"{row.name}({parameters})" if parameters else row.name
        formula = row.formula.replace("|", "\\|")
        lines.append(f"| `{name}` | {formula} | " + " | ".join(f"{ulp:g}" for ulp in row.max_ulp + row.max_ulp_derivative) + " |")
    return "\n".join(lines)


def gated_table() -> str:
    """The same of the gated functions, with the formulas of their gradients."""
    lines = ["| function | f | gradients (g: grad_output) | float32 | float64 | gradients float32 | float64 |",
             "|---|---|---|--:|--:|--:|--:|"]  # fmt: skip
    for row in GATED:
        lines.append(f"| `{row.name}({', '.join(row.inputs)})` | {row.formula} | {', '.join(row.gradients)} | "
                     + " | ".join(f"{ulp:g}" for ulp in row.max_ulp + row.max_ulp_backward) + " |")  # fmt: skip
    return "\n".join(lines)


def readme(text: str) -> str:
    """The README with fresh tables."""
    for mark, table in (("table", readme_table), ("gated", gated_table)):
        text = re.sub(rf"(<!-- {mark}: .*? -->\n).*?(<!-- end -->)", lambda m: f"{m[1]}{table()}\n{m[2]}", text, flags=re.S)
    return text


def stubs(text: str) -> str:
    """The stubs with a fresh list of activations, each with its parameters, and of gated functions."""
    lines = []
    for row in ACTIVATIONS:
        kind = "Activation"
        if row.parameters:
            kind = "_" + row.name.title().replace("_", "")
            parameters = ", ".join(f"{name}: ArrayLike" + ("" if default is None else f" = {default!r}")
                                   for name, default in row.parameters)  # fmt: skip
            lines += [f"class {kind}(Activation):",
                      f"    def __call__(self, x: ArrayLike, /, {parameters}, out: _Out = None, **ufunc: Unpack[_Keywords]) -> Any: ..."]  # fmt: skip
        lines.append(f"{row.name}: {kind}")
    lines += [f"{row.name}: {'_Glu' if row.name == 'glu' else '_Gated'}" for row in GATED]
    return re.sub(r"(# table: .*?\n).*?(# end)", lambda m: "{}{}\n{}".format(m[1], "\n".join(lines), m[2]), text, flags=re.S)


if __name__ == "__main__":
    for path, function in ((ROOT / "README.md", readme), (ROOT / "fastact" / "__init__.pyi", stubs)):
        path.write_text(function(path.read_text()))
