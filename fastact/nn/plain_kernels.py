"""The kernels of the layers and optimizers once more, in NumPy: slower, in more memory.

They are for where nothing is compiled, and for arrays on a GPU, so they use only what CuPy has, too.

Each is called as its twin in layers.pxi.in or optimizers.pxi.in, with arrays, sizes and values in the same order.
"""

from __future__ import annotations

import math

import numpy as np


class Kernel:
    """``kernel(total, arrays, sizes, values)``, as the compiled class of that name."""

    def __init__(self, name):
        self.name = name
        self.run = globals()[name]

    def __call__(self, total, arrays, sizes=(), values=()):
        with np.errstate(all="ignore"):
            self.run(*arrays, *sizes, *values)


def chunk(function, kind):
    """An activation, or its backward pass from input or output, as a function of arrays, parameters and out."""
    if kind != "backward_from_output":
        return function if kind == "forward" else function.backward

    def from_output(grad_output, output, *values, out):
        return function.backward(grad_output, output=output, out=out, **dict(zip(function.parameters, values)))

    return from_output


def rows_of(x, n):
    return x.reshape(-1, n)


def unit_sums(totals, unit, terms):
    """Into each row of totals, which are float64, the sum of as many rows of terms."""
    whole, features = len(terms) // unit, terms.shape[1]
    np.sum(terms[: whole * unit].reshape(whole, unit, features), axis=1, dtype=np.float64, out=totals[:whole])
    if whole < len(totals):
        np.sum(terms[whole * unit :], axis=0, dtype=np.float64, out=totals[whole])


# --- Bias, activation and their gradients -----------------------------------------------------------------------------


def bias_activation(x, bias, y, n, function, *values):
    x = rows_of(x, n)
    x += bias
    if function:
        function(x, *values, out=rows_of(y, n))


def activation_backward(g, kept, totals, n, function, unit, rows, *values):
    g = rows_of(g, n)
    if function:
        function(g, rows_of(kept, n), *values, out=g)
    unit_sums(totals, unit, g)


def slopes_backward(g, x, weight, totals, n, unit, rows):
    g, x = rows_of(g, n), rows_of(x, n)
    unit_sums(totals, unit, np.where(x > 0, 0, np.multiply(g, x, dtype=np.float64)))
    np.copyto(g, g * weight, where=~(x > 0))


def fold(y, totals, n, units):
    y[...] = totals.sum(axis=0).reshape(y.shape)


def dropout(x, y, threshold, key, scale):
    low, high = (np.uint32(key >> shift & 0xFFFFFFFF) for shift in (0, 32))
    h = np.arange(x.size, dtype=np.uint32, like=x) * np.uint32(0x9E3779B9) + low
    h = (h ^ (h >> 16)) * np.uint32(0x7FEB352D)
    h = (h ^ (h >> 15) ^ high) * np.uint32(0x846CA68B)
    kept = (h ^ (h >> 16)) >= np.uint32(threshold)
    y[...] = np.where(kept.reshape(x.shape), x * x.dtype.type(scale), 0)


# --- Normalisation ----------------------------------------------------------------------------------------------------


def column_sums(x, totals, centre, n, unit, rows):
    x = rows_of(x, n)
    unit_sums(totals, unit, x if centre is None else np.square(x - centre))


def column_products(g, z, totals, products, n, unit, rows):
    g = rows_of(g, n)
    unit_sums(totals, unit, g)
    unit_sums(products, unit, np.multiply(g, rows_of(z, n), dtype=np.float64))


def normalise_columns(x, z, y, centre, factor, scale, shift, n):
    z, y = rows_of(z, n), rows_of(y, n)
    z[...] = (rows_of(x, n) - centre).astype(z.dtype) * factor
    y[...] = z * scale + shift


def unnormalise_columns(g, z, factor, mean, product, n):
    g = rows_of(g, n)
    g[...] = (g - mean - rows_of(z, n) * product).astype(g.dtype) * factor


def normalise_rows(x, z, y, factor, scale, shift, n, epsilon):
    x, z, y = (rows_of(a, n) for a in (x, z, y))
    z[...] = x - x.mean(axis=1, dtype=np.float64, keepdims=True)
    factor[...] = 1 / np.sqrt(np.square(z, dtype=np.float64).mean(axis=1) + epsilon)
    z *= factor[:, None]
    y[...] = z * scale + shift


def unnormalise_rows(g, z, scratch, factor, scale, n):
    g, z = rows_of(g, n), rows_of(z, n)
    g *= scale
    means = (a.mean(axis=1, dtype=np.float64, keepdims=True) for a in (g, g * z))
    g[...] = (g - next(means) - z * next(means)).astype(g.dtype) * factor[:, None]


# --- Images -----------------------------------------------------------------------------------------------------------


def padded_for(places, top, left, stride, windows, x):
    """Zeros that all windows lie in, and the part of them where the images are."""
    rows, columns = ((n - 1) * stride + k for n, k in zip(places, windows))
    shape = len(x), max(rows, top + x.shape[1]), max(columns, left + x.shape[2]), x.shape[3]
    padded = np.zeros(shape, x.dtype, like=x)
    return padded, padded[:, top : top + x.shape[1], left : left + x.shape[2]]


def shifted(images, k, l, places, stride):  # noqa: E741
    """Element (k, l) of every window."""
    return images[:, k : k + places[0] * stride : stride, l : l + places[1] * stride : stride][
        :, : places[0], : places[1]
    ]


def patches(windows, x, H, W, C, K, L, OH, OW, stride, top, left):
    padded, inside = padded_for((OH, OW), top, left, stride, (K, L), x)
    inside[...] = x
    windows = windows.reshape(len(x), OH, OW, K, L, C)
    for k, l in np.ndindex(K, L):  # noqa: E741
        windows[:, :, :, k, l] = shifted(padded, k, l, (OH, OW), stride)


def add_patches(windows, x, H, W, C, K, L, OH, OW, stride, top, left):
    padded, inside = padded_for((OH, OW), top, left, stride, (K, L), x)
    windows = windows.reshape(len(x), OH, OW, K, L, C)
    for k, l in np.ndindex(K, L):  # noqa: E741
        shifted(padded, k, l, (OH, OW), stride)[...] += windows[:, :, :, k, l]
    x[...] = inside


def pool(x, y, winner, H, W, C, K, OH, OW, stride):
    if winner is None:
        y[...] = sum(shifted(x, *place, (OH, OW), stride) for place in np.ndindex(K, K)) * y.dtype.type(1 / K**2)
        return
    y[...] = shifted(x, 0, 0, (OH, OW), stride)
    winner[...] = 0
    for place, (k, l) in enumerate(np.ndindex(K, K)):  # noqa: E741
        candidate = shifted(x, k, l, (OH, OW), stride)
        wins = (candidate > y) | np.isnan(candidate)
        np.copyto(y, candidate, where=wins)
        np.copyto(winner, place, where=wins)


def pool_backward(x, g, winner, H, W, C, K, OH, OW, stride):
    x[...] = 0
    for place, (k, l) in enumerate(np.ndindex(K, K)):  # noqa: E741
        share = g * g.dtype.type(1 / K**2) if winner is None else np.where(winner == place, g, 0)
        shifted(x, k, l, (OH, OW), stride)[...] += share


def scatter(g, y, index, n, rows):
    np.add.at(rows_of(y, n), index.reshape(-1)[:rows], rows_of(g, n)[:rows])


# --- Recurrent cells --------------------------------------------------------------------------------------------------


def gates_of(a, count):
    """Views of the gates, which lie side by side."""
    return np.split(a, count, axis=-1)


def lstm(a, b, before, c, tanh_c, h, n, sigmoid, tanh):
    a += b
    sigmoid(a[..., : 3 * n], out=a[..., : 3 * n])
    tanh(a[..., 3 * n :], out=a[..., 3 * n :])
    i, f, o, g = gates_of(a, 4)
    c[...] = f * before + i * g
    tanh(c, out=tanh_c)
    h[...] = o * tanh_c


def lstm_backward(a, before, tanh_c, dh, dc, n):
    i, f, o, g = gates_of(a.copy(), 4)
    to_i, to_f, to_o, to_g = gates_of(a, 4)
    d = dh * o * (1 - tanh_c) * (1 + tanh_c) + dc
    to_i[...] = d * g * i * (1 - i)
    to_f[...] = d * before * f * (1 - f)
    to_o[...] = dh * tanh_c * o * (1 - o)
    to_g[...] = d * i * (1 - g) * (1 + g)
    dc[...] = d * f


def gru(a, b, bias, before, h, n, sigmoid, tanh):
    a[..., : 2 * n] += b[..., : 2 * n]
    sigmoid(a[..., : 2 * n], out=a[..., : 2 * n])
    reset, update, candidate = gates_of(a, 3)
    b[..., 2 * n :] += bias
    candidate += reset * b[..., 2 * n :]
    tanh(candidate, out=candidate)
    h[...] = update * (before - candidate) + candidate


def gru_backward(a, b, before, dh, n):
    reset, update, candidate = gates_of(a.copy(), 3)
    d = dh * (1 - update) * (1 - candidate) * (1 + candidate)
    a[..., :n] = d * b[..., 2 * n :] * reset * (1 - reset)
    a[..., n : 2 * n] = dh * (before - candidate) * update * (1 - update)
    a[..., 2 * n :] = d
    b[..., : 2 * n] = a[..., : 2 * n]
    b[..., 2 * n :] = d * reset
    dh *= update


# --- Optimizers -------------------------------------------------------------------------------------------------------


def squares(x, totals, size, unit):
    unit_sums(totals[:, None], unit, np.square(x, dtype=np.float64)[:, None])


def step(g, p, scale, limit, weight_decay):
    """The gradient as the optimizers take it; each of these is a pass over memory, so what changes nothing is left out."""
    g = g if scale == 1 else g * scale
    g = g if limit == math.inf else np.clip(g, -limit, limit)
    return g + weight_decay * p if weight_decay else g


def sgd_step(p, g, scale, limit, weight_decay, rate):
    p -= rate * step(g, p, scale, limit, weight_decay)


def momentum_step(p, g, v, scale, limit, weight_decay, rate, momentum):
    v[...] = momentum * v + step(g, p, scale, limit, weight_decay)
    p -= rate * v


def nesterov_step(p, g, v, scale, limit, weight_decay, rate, momentum):
    d = step(g, p, scale, limit, weight_decay)
    v[...] = momentum * v + d
    p -= rate * (momentum * v + d)


def adagrad_step(p, g, s, scale, limit, weight_decay, rate, epsilon):
    d = step(g, p, scale, limit, weight_decay)
    s += d * d
    p -= rate * d / (np.sqrt(s) + epsilon)


def rmsprop_step(p, g, s, scale, limit, weight_decay, rate, epsilon, decay, fresh):
    d = step(g, p, scale, limit, weight_decay)
    s[...] = decay * s + fresh * d * d
    p -= rate * d / (np.sqrt(s) + epsilon)


def adam_step(p, g, m, s, scale, limit, weight_decay, rate, epsilon, decay1, fresh1, decay2, fresh2, shrink):
    d = step(g, p, scale, limit, weight_decay)
    m[...] = decay1 * m + fresh1 * d
    s[...] = decay2 * s + fresh2 * d * d
    p[...] = shrink * p - rate * m / (np.sqrt(s) + epsilon)
