"""The pictures: what is drawn, and that drawing leaves no global state behind."""

import subprocess
import sys

import numpy as np
import pytest

import fastact as fa


def test_curve_draws_function_and_derivative():
    figure = fa.plot.curve("leaky_relu", negative_slope=0.03)
    left, right = figure.axes
    (function,), (derivative,) = ([line for line in axes.lines if len(line.get_xdata()) > 2] for axes in (left, right))
    x = function.get_xdata()
    assert (x[0], x[-1]) == (-5, 5)
    np.testing.assert_array_equal(function.get_ydata(), fa.leaky_relu(x, 0.03))
    np.testing.assert_array_equal(derivative.get_ydata(), fa.leaky_relu.derivative(x, 0.03))
    assert derivative.get_color() == "red"
    assert "negative_slope = 0.03" in left.get_title()
    for axes in figure.axes:
        assert axes.get_title() and axes.get_xlabel() == "x" and axes.get_ylabel()
        assert axes.xaxis.get_gridlines()[0].get_visible()


@pytest.mark.parametrize("name, interval", [
    ("sigmoid", (-10, 10)), ("tanh", (-10, 10)), ("relu", (-20, 20)), ("gelu", (-5, 5)),
])  # fmt: skip
def test_intervals(name, interval):
    assert fa.plot.curve(name).axes[0].get_xlim() == interval
    assert fa.plot.curve(getattr(fa, name), (-1, 2)).axes[0].get_xlim() == (-1, 2)


def test_every_activation_can_be_drawn(tmp_path):
    required = {"prelu": {"weight": 0.25}, "threshold": {"threshold": 1, "value": 0}}
    for name in fa.list_activations():
        figure = fa.plot.curve(name, **required.get(name, {}))
        assert all(np.isfinite(line.get_ydata()).all() for axes in figure.axes for line in axes.lines)
    figure.savefig(tmp_path / "last.png")
    assert (tmp_path / "last.png").read_bytes().startswith(b"\x89PNG")


def test_softmax_draws_probabilities_and_their_derivatives():
    figure = fa.plot.softmax((0.0, 2.0))
    left, right = ([line.get_ydata() for line in axes.lines if len(line.get_xdata()) > 2] for axes in figure.axes)
    np.testing.assert_allclose(sum(left), 1)
    np.testing.assert_allclose(sum(right), 0, atol=1e-15)
    x = next(line.get_xdata() for line in figure.axes[0].lines if len(line.get_xdata()) > 2)
    np.testing.assert_allclose(right[0], np.gradient(left[0], x), atol=1e-3)


def test_gallery(tmp_path):
    paths = fa.plot.gallery(tmp_path / "new" / "folder", dpi=20)
    assert [path.stem for path in paths] == [*fa.list_activations(), "softmax"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


def test_errors():
    with pytest.raises(ValueError, match="unknown activation 'sigmoyd'; did you mean sigmoid"):
        fa.plot.curve("sigmoyd")
    with pytest.raises(ValueError, match="low to high"):
        fa.plot.curve("sigmoid", (1, 1))
    with pytest.raises(TypeError):
        fa.plot.curve("relu", slope=1)
    for function in ("softmax", fa.softmax, "swiglu", "mse"):
        with pytest.raises(TypeError, match="no function of single elements"):
            fa.plot.curve(function)


def test_training_colours_right_and_wrong():
    history = {"loss": [2, 1], "accuracy": [0.5, 1], "val_loss": [3, 2], "val_accuracy": [0.4, 0.9]}
    figure = fa.plot.training(history, np.zeros((3, 8, 8)), [1, 2, 3], [1, 2, 5])
    titles = {axes.get_title(): axes.title.get_color() for axes in figure.axes}
    assert titles["1"] == titles["2"] == fa.plot.RIGHT
    assert titles["5, is 3"] == fa.plot.WRONG
    assert {"Loss", "Accuracy"} <= set(titles)


def test_import_costs_nothing_and_pyplot_stays_out(tmp_path):
    code = """
import sys
import fastact as fa
heavy = ("matplotlib", "tqdm", "sklearn", "fastact.nn", "fastact.plot")
assert not any(name in sys.modules for name in heavy), [name for name in heavy if name in sys.modules]
fa.nn, fa.plot
assert not any(name in sys.modules for name in heavy[:3])
fa.plot.curve("gelu").savefig(sys.argv[1])
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code, tmp_path / "gelu.png"], check=True)
