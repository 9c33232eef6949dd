"""Pictures, as matplotlib figures that touch no global state and need no display."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np

import fastact as fa

from .names import SPELLINGS
from .nn.names import find

INTERVALS = {"sigmoid": (-10, 10), "tanh": (-10, 10), "relu": (-20, 20), "relu6": (-10, 10)}
GALLERY = {
    "leaky_relu": {"negative_slope": 0.03},
    "prelu": {"weight": 0.25},
    "threshold": {"threshold": 1.0, "value": 0.0},
}
"""Parameters in the gallery, where they are not the defaults: 0.01 would hardly be seen."""
FUNCTION, DERIVATIVE = "tab:blue", "red"
RIGHT, WRONG = "tab:green", "tab:red"


def curve(activation, interval=None, **parameters):
    """An activation and its derivative, side by side.

    Parameters
    ----------
    activation : str or fastact activation
        Such as ``"gelu"`` or ``fa.gelu``.
    interval : (float, float), optional
        Range of x; [-5, 5] for most activations.
    **parameters : float
        Parameters of the activation, such as ``negative_slope=0.03``.

    Returns
    -------
    matplotlib.figure.Figure
        To be saved with ``savefig``.

    Raises
    ------
    ValueError
        For an unknown name or an empty interval.
    TypeError
        For a function that is not elementwise.
    """
    activation = find("activation", activation, SPELLINGS if activation in SPELLINGS else fa.list_activations())
    if not isinstance(activation, fa.Activation):
        name = getattr(activation, "__name__", activation)
        raise TypeError(f"{name} is no function of single elements, so it has no curve; that of softmax is drawn by plot.softmax")
    x = _points(interval or INTERVALS.get(activation.name, (-5, 5)))
    values = ", ".join(f"{name} = {value:g}" for name, value in parameters.items())
    note = f" ({values})" if values else ""
    figure, (left, right) = _side_by_side(x, f"{activation.name}{note}", "f(x)", f"derivative of {activation.name}{note}", "f'(x)")
    left.plot(x, activation(x, **parameters), color=FUNCTION, linewidth=2)
    right.plot(x, activation.derivative(x, **parameters), color=DERIVATIVE, linewidth=2)
    return figure


def softmax(others=(0.0, 2.0), interval=(-5, 7)):
    """The softmax of a logit x beside fixed ones, and its derivatives with respect to x.

    Parameters
    ----------
    others : sequence of float
        The other logits.
    interval : (float, float)
        Range of x.

    Returns
    -------
    matplotlib.figure.Figure
    """
    x = _points(interval)
    logits = np.stack(np.broadcast_arrays(x, *others), axis=-1)
    p = fa.softmax(logits)
    slope = fa.softmax.jacobian(logits)[..., 0]
    names = ["x", *(f"{value:g}" for value in others)]
    figure, (left, right) = _side_by_side(x, f"softmax of ({', '.join(names)})", "probability", "derivatives with respect to x", "dp / dx")
    for k, (name, style) in enumerate(zip(names, ("-", "--", ":", "-."))):
        left.plot(x, p[:, k], style, color=FUNCTION, linewidth=2, label=f"of the logit {name}")
        right.plot(x, slope[:, k], style, color=DERIVATIVE, linewidth=2, label=f"of the logit {name}")
    left.legend()
    right.legend()
    return figure


def gallery(folder, suffix=".png", **options):
    """Write a picture of every activation and of softmax.

    Parameters
    ----------
    folder : str or path
        Made where it is missing.
    suffix : str
        ".png", ".svg" or ".pdf".
    **options
        For ``savefig``, such as ``dpi=60``.

    Returns
    -------
    list of pathlib.Path
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    figures = {name: functools.partial(curve, name, **GALLERY.get(name, {})) for name in fa.list_activations()} | {"softmax": softmax}
    paths = []
    for name, draw in figures.items():
        paths.append(folder / f"{name}{suffix}")
        draw().savefig(paths[-1], **options)
    return paths


def _points(interval):
    low, high = interval
    if not low < high:
        raise ValueError(f"the interval must go from low to high, not from {low} to {high}")
    return np.linspace(low, high, 2001)


def _side_by_side(x, title, label, derivative_title, derivative_label):
    """A figure with a panel for a function and one for its derivative, as all of them look."""
    figure = new_figure(figsize=(10, 4))
    panels = figure.subplots(1, 2)
    for axes, title, label in zip(panels, (title, derivative_title), (label, derivative_label)):
        axes.set(title=title, xlabel="x", ylabel=label, xlim=(x[0], x[-1]))
        axes.grid(alpha=0.4)
        axes.axhline(0, color="black", linewidth=0.8)
        axes.axvline(0, color="black", linewidth=0.8)
    return figure, panels


def training(history, images, classes, predicted):
    """Loss and accuracy over the epochs, above images with their predicted classes, right in green and wrong in red.

    Parameters
    ----------
    history : nn.History
        Of a run with integer classes and validation data.
    images : array_like of shape (n, height, width)
    classes, predicted : array_like of n integers

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = new_figure(figsize=(10, 7.5))
    top, bottom = figure.subfigures(2, 1, height_ratios=(1, 1.1))
    epochs = np.arange(1, len(history["loss"]) + 1)
    for axes, name in zip(top.subplots(1, 2), ("loss", "accuracy")):
        axes.plot(epochs, history[name], label="training", color="tab:blue", marker=".")
        axes.plot(epochs, history[f"val_{name}"], label="validation", color="tab:orange", marker=".")
        axes.set(title=name.capitalize(), xlabel="epoch", ylabel=name)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.4)
        axes.legend()

    columns = 10
    panels = bottom.subplots(-(-len(images) // columns), columns, squeeze=False).ravel()
    for axes in panels:
        axes.set_axis_off()
    for axes, image, right, guess in zip(panels, images, classes, predicted):
        axes.imshow(image, cmap="gray_r")
        axes.set_title(f"{guess}" if guess == right else f"{guess}, is {right}", fontsize=10,
                       color=RIGHT if guess == right else WRONG)
    bottom.suptitle("Test images and the answers of the network")
    return figure


def new_figure(figsize):
    """A figure outside pyplot, so that no backend is chosen and nothing has to be closed."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("pictures need matplotlib: pip install 'fastact[nn]'") from error
    return Figure(figsize=figsize, layout="constrained", dpi=120)
