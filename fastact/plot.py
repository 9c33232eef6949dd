"""Pictures, as matplotlib figures that touch no global state and need no display."""

from __future__ import annotations

import numpy as np

import fastact as fa

from .nn.names import find

INTERVALS = {"sigmoid": (-10, 10), "tanh": (-10, 10), "relu": (-20, 20), "relu6": (-10, 10)}
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
    """
    activation = find("activation", activation, fa.list_activations())
    low, high = interval or INTERVALS.get(activation.name, (-5, 5))
    if not low < high:
        raise ValueError(f"the interval must go from low to high, not from {low} to {high}")
    x = np.linspace(low, high, 2001)
    values = ", ".join(f"{name} = {value:g}" for name, value in parameters.items())

    figure = new_figure(figsize=(10, 4))
    panels = figure.subplots(1, 2)
    lines = ((activation.name, "f(x)", activation(x, **parameters), "tab:blue"),
             (f"derivative of {activation.name}", "f'(x)", activation.derivative(x, **parameters), "red"))
    for axes, (title, label, y, colour) in zip(panels, lines):
        axes.set(title=f"{title} ({values})" if values else title, xlabel="x", ylabel=label, xlim=(low, high))
        axes.grid(alpha=0.4)
        axes.axhline(0, color="black", linewidth=0.8)
        axes.axvline(0, color="black", linewidth=0.8)
        axes.plot(x, y, color=colour, linewidth=2)
    return figure


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
