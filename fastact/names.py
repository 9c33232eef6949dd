"""Functions by the names that other libraries have for them."""

from __future__ import annotations

import functools
import importlib
import re

# Beside the names here. A spelling counts without its capitals, underscores and module.
SPELLINGS = {
    "identity": "linear",
    "sigmoid": "expit logistic",
    "tanh": "",
    "relu": "",
    "relu6": "",
    "leaky_relu": "lrelu",
    "prelu": "parametric_relu",
    "rrelu": "randomized_leaky_relu",
    "elu": "",
    "selu": "",
    "celu": "",
    "gelu": "gelu_erf gelu_exact gelu_none gelu_accurate",
    "gelu_tanh": "gelu_new gelu_approx gelu_approximate gelu_fast gelu_pytorch_tanh fast_gelu",
    "gelu_quick": "quick_gelu gelu_sigmoid",
    "silu": "sigmoid_linear_unit",
    "swish": "",
    "mish": "",
    "softplus": "soft_plus",
    "softsign": "soft_sign",
    "softshrink": "soft_shrink",
    "hardshrink": "hard_shrink shrink",
    "tanhshrink": "tanh_shrink",
    "threshold": "",
    "hardtanh": "hard_tanh",
    "hardsigmoid": "hard_sigmoid",
    "hardswish": "hard_swish hard_silu",
    "logsigmoid": "log_sigmoid log_expit",
    "squareplus": "square_plus",
    "relu_squared": "relu2 relu_square squared_relu",
    "glu": "gated_linear_unit",
    "swiglu": "swish_glu silu_and_mul",
    "geglu": "gelu_and_mul",
    "reglu": "relu_and_mul",
    "maxout": "",
    "softmax": "softmax2d",
    "log_softmax": "",
    "softmin": "",
    "logsumexp": "reduce_logsumexp",
    "sparsemax": "",
    "gumbel_softmax": "",
    "softmax_cross_entropy": "cross_entropy softmax_cross_entropy_with_logits softmax_cross_entropy_with_integer_labels "
                             "sparse_softmax_cross_entropy_with_logits",
    "linear_softmax_cross_entropy": "linear_cross_entropy fused_linear_cross_entropy",
    "softmax_focal": "categorical_focal_crossentropy",
    "sigmoid_cross_entropy": "binary_cross_entropy_with_logits bce_with_logits sigmoid_binary_cross_entropy "
                             "sigmoid_cross_entropy_with_logits",
    "sigmoid_focal": "binary_focal_crossentropy",
    "nll_loss": "nll negative_log_likelihood",
    "categorical_cross_entropy": "categorical_crossentropy sparse_categorical_crossentropy",
    "binary_cross_entropy": "binary_crossentropy bce",
    "mse": "mean_squared_error squared_error",
    "mae": "mean_absolute_error absolute_error l1",
    "huber": "",
    "smooth_l1": "",
    "log_cosh": "",
    "kl_div": "kl_divergence kullback_leibler_divergence",
    "hinge": "",
    "squared_hinge": "",
    "poisson_nll": "poisson",
    "gaussian_nll": "",
}  # fmt: skip
"""The names here, each with the spellings of it elsewhere."""

ELSEWHERE = (
    (r"(jax|flax)\..*gelu|keras\.ops\.gelu", "gelu_tanh", {}),
    (r"(.*\.)?keras\.layers\.leakyrelu", "leaky_relu", {"negative_slope": 0.3}),
    (r"(.*\.)?keras\..*leakyrelu|(tf|tensorflow)\.nn\.leakyrelu", "leaky_relu", {"negative_slope": 0.2}),
    (r"onnx\.(.*\.)?hardsigmoid", "hardsigmoid", {"alpha": 0.2}),
    (r"(.*\.)?thresholdedrelu", "threshold", {"threshold": 1.0, "value": 0.0}),
)
"""Names whose module says that they mean something else there: pattern, name here, parameters."""


class Bound(functools.partial):
    """An activation with other parameters than its defaults, and with its derivative and backward."""

    derivative = property(lambda self: functools.partial(self.func.derivative, **self.keywords))
    backward = property(lambda self: functools.partial(self.func.backward, **self.keywords))


def get(name):
    """The function that PyTorch, JAX, Keras, SciPy or ONNX call by a name.

    Parameters
    ----------
    name : str or callable
        Such as "gelu", "LeakyReLU", "hard_sigmoid", "log_expit", "CrossEntropyLoss" or "binary_cross_entropy_with_logits",
        with or without the module: "torch.nn.GELU". A callable comes back as it is.

    Returns
    -------
    callable
        With its own arguments, (input, target) for a loss, and its own defaults.

    Raises
    ------
    ValueError
        If nothing is called that; the message has the nearest names.
    TypeError
        If it is neither.

    Notes
    -----
    Where libraries mean different functions, a name alone means PyTorch's: "gelu" the erf form, "hard_sigmoid" x / 6 + 1/2,
    "leaky_relu" a slope of 0.01. With the module it means that library's: "jax.nn.gelu" is `gelu_tanh`, "onnx.HardSigmoid"
    has alpha 0.2, "keras.layers.LeakyReLU" a slope of 0.3. Keras' cross-entropies are those on probabilities.

    Examples
    --------
    >>> get("nn.LogSigmoid")
    <fastact function 'logsigmoid'>
    >>> get("onnx.HardSigmoid")(1.0)
    np.float64(0.7)
    """
    if callable(name):
        return name
    if not isinstance(name, str):
        raise TypeError(f"a function is given by its name or itself, not by {name!r}")
    package = importlib.import_module(__package__)
    dotted = ".".join(_key(part) for part in name.split("."))
    for pattern, there, parameters in ELSEWHERE:
        if re.fullmatch(pattern, dotted):
            function = getattr(package, there)
            return Bound(function, **parameters) if parameters else function
    known = _known()
    key = dotted.rpartition(".")[2]
    for candidate in (key, key.removesuffix("loss")):
        if candidate in known and hasattr(package, known[candidate]):
            return getattr(package, known[candidate])
    import difflib

    spellings = {_key(spelling): spelling for here, others in SPELLINGS.items() if hasattr(package, here)
                 for spelling in (*others.split(), here)}  # fmt: skip
    near = [spellings[match] for match in difflib.get_close_matches(key, spellings, n=4, cutoff=0.5)]
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(SPELLINGS)}"
    raise ValueError(f"unknown function {name!r}; {hint}")


def _key(spelling):
    return re.sub("[^a-z0-9]", "", spelling.lower())


@functools.cache
def _known():
    """Every spelling's key with the name here, which comes first."""
    known = {_key(spelling): here for here, others in SPELLINGS.items() for spelling in others.split()}
    return known | {_key(here): here for here in SPELLINGS}
