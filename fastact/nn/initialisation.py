"""Initial weights whose variance suits the activation that follows.

With it the signal neither fades nor grows from layer to layer: He et al. 2015 (arXiv:1502.01852) for rectifiers and their
smooth relatives, LeCun et al. 1998 for selu, Glorot & Bengio 2010 (Xavier) for everything else.
"""

from __future__ import annotations

import math

import numpy as np

from .places import beside

XAVIER = {"identity", "sigmoid", "tanh", "softsign", "softshrink", "hardshrink", "tanhshrink", "hardtanh",
          "hardsigmoid", "logsigmoid", "softmax", "log_softmax", "softmin"}  # fmt: skip
LECUN = {"selu"}
SCHEMES = ("xavier", "he", "lecun")


def scheme_for(layer):
    """The scheme for weights in front of `layer`, and the slope of a leaky rectifier."""
    initial_slope = getattr(layer, "initial", None)
    if initial_slope is not None:
        return "he", initial_slope
    name = getattr(getattr(layer, "function", None), "__name__", "identity")
    return "xavier" if name in XAVIER else "lecun" if name in LECUN else "he", 0.0


def normal(weight, rng, fan_in, fan_out, following, scheme=None):
    """Fill `weight` with normal draws; without a scheme `following`, the layer behind, decides."""
    chosen, slope = scheme_for(following)
    scheme = scheme or chosen
    variance = {"he": 2 / (1 + slope**2) / fan_in, "lecun": 1 / fan_in, "xavier": 2 / (fan_in + fan_out)}[scheme]
    drawn = rng.standard_normal(weight.shape, weight.dtype)
    drawn *= math.sqrt(variance)
    weight[...] = beside(weight, drawn)


def orthogonal(weight, rng):
    """Fill the (n, n) blocks side by side in `weight` with random rotations (Saxe et al. 2014, arXiv:1312.6120)."""
    n = len(weight)
    for begin in range(0, weight.shape[1], n):
        q, r = np.linalg.qr(rng.standard_normal((n, n)))
        weight[:, begin : begin + n] = beside(weight, q * np.where(np.diag(r) < 0, -1, 1))


def check_scheme(scheme):
    """Raise ValueError unless `scheme` is None or the name of one."""
    if scheme is not None and scheme not in SCHEMES:
        raise ValueError(f"initialisation must be one of {', '.join(SCHEMES)} or None, not {scheme!r}")
    return scheme
