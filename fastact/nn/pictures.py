"""Pictures of a training run, as Matplotlib figures that touch no global state and need no display."""

from __future__ import annotations

import numpy as np

from ..plot import new_figure
from .places import on_host

RASTER = 200
"""Points of a decision boundary's picture along each axis."""
COLOURS = ("tab:blue", "tab:orange", "tab:green", "tab:red", "tab:purple", "tab:brown", "tab:pink", "tab:gray", "tab:olive",
           "tab:cyan")  # fmt: skip


def learning_curves(history):
    """Loss and metrics over the epochs, training beside validation; norms of gradients and shares of dead units.

    Parameters
    ----------
    history : History

    Returns
    -------
    matplotlib.figure.Figure
        With a panel for each name in the history, and one for each of the two that are known layer by layer.
    """
    names = [name for name in history if not name.startswith("val_")]
    by_layer = [
        ("norm of the gradient", history.gradient_norms, "log"),
        ("share of dead units", history.dead_units, "linear"),
    ]
    by_layer = [(title, epochs, scale) for title, epochs, scale in by_layer if epochs and epochs[0]]
    figure = new_figure(figsize=(5 * (len(names) + len(by_layer)), 4))
    panels = figure.subplots(1, len(names) + len(by_layer), squeeze=False)[0]
    for axes, name in zip(panels, names):
        for label, key in (("training", name), ("validation", f"val_{name}")):
            if key in history:
                axes.plot(np.arange(1, len(history[key]) + 1), history[key], label=label)
        axes.set(title=name.replace("_", " "), xlabel="epoch", ylabel=name)
    for axes, (title, epochs, scale) in zip(panels[len(names) :], by_layer):
        for layer in epochs[0]:
            values = np.array([epoch[layer] for epoch in epochs])
            axes.plot(np.arange(1, len(values) + 1), values, label=layer)
        axes.set(title=title, xlabel="epoch", ylabel=title)
        if scale == "linear" or any(value > 0 for epoch in epochs for value in epoch.values()):
            axes.set_yscale(scale)
    for axes in panels:
        axes.grid(alpha=0.4)
        axes.legend(fontsize=8)
        axes.xaxis.get_major_locator().set_params(integer=True)
    return figure


def decision_boundary(model, x, y, title=None):
    """Which class a model of two features gives every point of the plane, behind the points of a data set.

    Parameters
    ----------
    model : Sequential, Trainer or anything with ``predict``
        Its outputs are scores of classes, a single score that is positive for class 1, or class numbers.
    x : array_like of shape (rows, 2)
    y : array_like of rows integers
    title : str, optional

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If `x` has another shape.
    """
    figure = new_figure(figsize=(5, 4.5))
    draw_boundary(figure.subplots(), model, x, y, title or "decision boundary")
    return figure


def draw_boundary(axes, model, x, y, title):
    """The same into given axes."""
    x, y = on_host(x), on_host(y).ravel()
    if x.ndim != 2 or x.shape[1] != 2 or len(x) != len(y):
        raise ValueError(
            f"a decision boundary needs points of two features and as many classes, not {x.shape} and {y.shape}"
        )
    low, high = x.min(axis=0), x.max(axis=0)
    margin = 0.1 * np.maximum(high - low, 1e-9)
    lines = [np.linspace(a - m, b + m, RASTER) for a, b, m in zip(low, high, margin)]
    plane = np.stack(np.meshgrid(*lines), axis=-1)
    classes = _classes(on_host(model.predict(plane.reshape(-1, 2)))).reshape(RASTER, RASTER)
    known = np.unique(np.concatenate([np.unique(classes), np.unique(y)]))
    colours = [COLOURS[int(k) % len(COLOURS)] for k in known]
    edges = np.concatenate([[known[0] - 0.5], (known[1:] + known[:-1]) / 2, [known[-1] + 0.5]])
    axes.contourf(*lines, classes, levels=edges, colors=colours, alpha=0.3)
    for k, colour in zip(known, colours):
        axes.scatter(*x[y == k].T, color=colour, edgecolor="black", linewidth=0.5, s=25, label=f"class {k:g}")
    axes.set(title=title, xlabel="feature 0", ylabel="feature 1")
    axes.legend(fontsize=8)


def _classes(outputs):
    if outputs.ndim == 1:
        return outputs
    return outputs.argmax(axis=1) if outputs.shape[1] > 1 else (outputs[:, 0] > 0).astype(int)
