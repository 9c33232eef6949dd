"""Writes what follows from the tables: the type stubs and the README's list of functions. ``python -m bench.docs``."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

from fastact.table import ACTIVATIONS, ELEMENTWISE_LOSSES, GATED

MORE = {"rrelu": "training: bool = False, rng: Any = None, return_slopes: bool = False, "}
"""What single functions take by name beside what all of them do, for the stubs."""

ROOT = Path(__file__).resolve().parents[1]


def markdown(head: str, rows) -> str:
    """A table of (name, parameters, formula, promised errors)."""
    lines = [head, "|---|---|--:|--:|--:|--:|"]
    for name, parameters, formula, ulps in rows:
        parameters = ", ".join(name if default is None else f"{name}={as_fraction(default)}"
                               for name, default in parameters)  # fmt: skip
        name = f"{name}({parameters})" if parameters else name
        formula = formula.replace("|", "\\|")
        lines.append(f"| `{name}` | {formula} | " + " | ".join(f"{ulp:g}" for ulp in ulps) + " |")
    return "\n".join(lines)


def activations_table() -> str:
    return markdown("| function | f(x) | float32 | float64 | f' float32 | f' float64 |",
                    [(row.name, row.parameters, row.formula, row.max_ulp + row.max_ulp_derivative) for row in ACTIVATIONS])  # fmt: skip


def as_fraction(value: float) -> str:
    """0.5 as it is, 0.16666666666666666 as 1/6."""
    return repr(value) if len(repr(value)) < 10 else str(Fraction(value).limit_denominator(100))


def gated_table() -> str:
    """The same of the gated functions, with the formulas of their gradients."""
    lines = ["| function | f | gradients (g: grad_output) | float32 | float64 | gradients float32 | float64 |",
             "|---|---|---|--:|--:|--:|--:|"]  # fmt: skip
    for row in GATED:
        lines.append(f"| `{row.name}({', '.join(row.inputs)})` | {row.formula} | {', '.join(row.gradients)} | "
                     + " | ".join(f"{ulp:g}" for ulp in row.max_ulp + row.max_ulp_backward) + " |")  # fmt: skip
    return "\n".join(lines)


def losses_table() -> str:
    return markdown("| loss | of an element | float32 | float64 | gradient float32 | gradient float64 |",
                    [(row.name, [*((name, None) for name in row.inputs[2:]), *row.parameters], row.formula,
                      row.max_ulp + row.max_ulp_gradient) for row in ELEMENTWISE_LOSSES])  # fmt: skip


def readme(text: str) -> str:
    """The README with fresh tables."""
    for name, table in (("table", activations_table), ("gated", gated_table), ("losses", losses_table)):
        text = re.sub(rf"(<!-- {name}: .*? -->\n).*?(<!-- end -->)", lambda m: f"{m[1]}{table()}\n{m[2]}", text, flags=re.S)
    return text


def stubs(text: str) -> str:
    """The stubs with fresh lists of activations, of gated functions and of elementwise losses, each with its parameters."""
    lines = []
    for row in ACTIVATIONS:
        kind = "Activation"
        if row.parameters:
            kind = "_" + row.name.title().replace("_", "")
            parameters = ", ".join(f"{name}: ArrayLike" + ("" if default is None else f" = {default!r}")
                                   for name, default in row.parameters)  # fmt: skip
            lines += [f"class {kind}(Activation):",
                      f"    def __call__(self, x: ArrayLike, /, {parameters}, out: _Out = None, "
                      f"{'*, ' + MORE[row.name] if row.name in MORE else ''}**ufunc: Unpack[_Keywords]) -> Any: ..."]  # fmt: skip
        lines.append(f"{row.name}: {kind}")
    lines += [f"{row.name}: {'_Glu' if row.name == 'glu' else '_Gated'}" for row in GATED]
    text = re.sub(r"(# table: .*?\n).*?(# end)", lambda m: "{}{}\n{}".format(m[1], "\n".join(lines), m[2]), text, flags=re.S)
    lines = [line for row in ELEMENTWISE_LOSSES for line in loss_stub(row)]
    return re.sub(r"(# losses: .*?\n).*?(# end)", lambda m: "{}{}\n{}".format(m[1], "\n".join(lines), m[2]), text, flags=re.S)


def loss_stub(row) -> list[str]:
    """The lines that declare an elementwise loss."""
    if row.inputs == ("input", "target") and not row.parameters:
        return [f"{row.name}: _ElementwiseLoss"]
    kind = "_" + row.name.title().replace("_", "")
    required = row.inputs if row.third_gradient else row.inputs[:2]
    inputs = ["self", *(f"{name}: ArrayLike" for name in required), "*"]
    inputs += [f"{name}: ArrayLike | None = None" for name in row.inputs if name not in required]
    types = {float: "float", bool: "bool"}
    inputs += [f"{name}: {types.get(type(default), 'float | None')} = {default!r}" for name, default in row.parameters]
    gradients = ["grad_out: NDArray[Any] | None = None"]
    if row.third_gradient:
        gradients.append(f"{row.inputs[2]}_grad: bool | NDArray[Any] = False")
    options = ["**options: Unpack[_OfElements]"]
    return [f"class {kind}:",
            f"    def __call__({', '.join(inputs + options)}) -> Any: ...",
            f"    def value_and_grad({', '.join(inputs + gradients + options)}) -> tuple[Any, Any]: ...",
            f"{row.name}: {kind}"]  # fmt: skip


if __name__ == "__main__":
    for path, function in ((ROOT / "README.md", readme), (ROOT / "fastact" / "__init__.pyi", stubs)):
        path.write_text(function(path.read_text()))
