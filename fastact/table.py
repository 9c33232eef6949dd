"""The tables: one row per elementwise activation, one per gated function, one per elementwise loss.

Pure data with no imports from the package, so that ``setup.py`` can read it before anything is built.
The build stamps kernels from it, ``activations.py`` makes the public objects from it, and the tests, the
benchmarks, the documentation and the type stubs iterate over it.

To add an activation: its formula and derivative in ``_kernels/scalar.pxd`` and a row here. To add a loss: its formula in
``_kernels/loss_formulas.pxd`` and a row here.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, eq=False)
class Row:
    """What everything else needs to know about one activation. A row is equal to itself alone, which is quick to hash.

    ``parameters`` holds (name, default) pairs, default ``None`` meaning that the caller must give it.
    ``from_output`` says that ``backward(grad_output, output=y)`` is possible, i.e. that ``scalar.pxd`` has a
    ``NAME_derivative_from_output``. ``max_ulp`` and ``max_ulp_derivative`` are the promised maxima for
    (float32, float64) over the whole real line, subnormal results included, measured as ``tests/ulp.py`` says;
    for a derivative next to one of its zeros the error is counted in units of its largest term.
    ``integers``: "keep" or "clamp" (at 0) integer arrays, which else follow the rule of ``np.exp``.
    ``by_hand``: the types for which ``by_hand_loops.h`` has loops, for the default parameters.
    ``cheap``: bound by memory rather than by arithmetic, which decides from what size threads pay.
    """

    name: str
    summary: str
    formula: str
    derivative: str
    max_ulp: tuple[float, float] = (0.5, 0.5)
    max_ulp_derivative: tuple[float, float] = (0.5, 0.5)
    parameters: tuple[tuple[str, float | None], ...] = ()
    from_output: bool = False
    integers: str | None = None
    cheap: bool = False
    by_hand: str = ""
    source: str = ""

    custom = False


@dataclass(frozen=True, eq=False)
class GatedRow:
    """The same about a function of two arrays, or of the two halves of one.

    ``inputs`` names them in their order. ``gradients`` are formulas for theirs, g being grad_output. The promised maxima
    hold where the activation of the gate alone, the result and the product of grad_output with the other factor are
    normal numbers; those of the backward pass are for either gradient, next to a zero in units of the largest term.
    """

    name: str
    summary: str
    formula: str
    gradients: tuple[str, str]
    max_ulp: tuple[float, float]
    max_ulp_backward: tuple[float, float]
    inputs: tuple[str, str] = ("gate", "up")
    cheap: bool = False
    by_hand: str = ""
    source: str = ""

    parameters = ()
    integers = None
    custom = False


HALF_ULP = 0.51
"""Promised maximum for float16 and bfloat16: computed in float32, rounded once."""

ACTIVATIONS = (
    Row("identity", "Identity function.", "x", "1", integers="keep", from_output=True, cheap=True),
    Row("sigmoid", "Logistic sigmoid.", "1 / (1 + exp(-x))", "s(x) s(-x)", (1, 1), (1.25, 1.25), from_output=True, by_hand="float double"),
    Row("tanh", "Hyperbolic tangent.", "(exp(2x) - 1) / (exp(2x) + 1)", "4 exp(2x) / (exp(2x) + 1)^2", (1, 1), (1.25, 1.25),
        from_output=True, by_hand="float double"),
    Row("relu", "Rectified linear unit.", "max(x, 0)", "1 if x > 0 else 0", from_output=True, integers="clamp",
        cheap=True, source="Nair & Hinton 2010"),
    Row("relu6", "Rectified linear unit capped at 6.", "min(max(x, 0), 6)", "1 if 0 < x < 6 else 0", from_output=True,
        cheap=True, source="Krizhevsky 2010"),
    Row("leaky_relu", "Leaky rectified linear unit.", "x if x > 0 else negative_slope x",
        "1 if x > 0 else negative_slope", parameters=(("negative_slope", 0.01),), from_output=True, cheap=True,
        source="Maas et al. 2013"),
    Row("prelu", "Leaky rectified linear unit whose slope is learned.", "x if x > 0 else weight x",
        "1 if x > 0 else weight", parameters=(("weight", None),), cheap=True, source="He et al. 2015, arXiv:1502.01852"),
    Row("rrelu", "Leaky rectified linear unit whose slopes are drawn at random in training; else their mean.",
        "x if x > 0 else (lower + upper) / 2 x", "1 if x > 0 else (lower + upper) / 2", (1.5, 1.5),
        parameters=(("lower", 1 / 8), ("upper", 1 / 3)), from_output=True, cheap=True, source="Xu et al. 2015, arXiv:1505.00853"),
    Row("elu", "Exponential linear unit.", "x if x > 0 else alpha (exp(x) - 1)", "1 if x > 0 else alpha exp(x)",
        (1, 1.5), (2, 2), parameters=(("alpha", 1.0),), from_output=True, by_hand="float double",
        source="Clevert et al. 2015, arXiv:1511.07289"),
    Row("selu", "Scaled exponential linear unit, self-normalising.",
        "scale (x if x > 0 else alpha (exp(x) - 1)), alpha = 1.6732632423543772, scale = 1.0507009873554805",
        "scale (1 if x > 0 else alpha exp(x))", (1.25, 1.5), (2, 2), from_output=True, by_hand="float double",
        source="Klambauer et al. 2017, arXiv:1706.02515"),
    Row("celu", "Continuously differentiable exponential linear unit.", "x if x > 0 else alpha (exp(x / alpha) - 1)",
        "1 if x > 0 else exp(x / alpha)", (1.5, 1.5), (1, 1.25), parameters=(("alpha", 1.0),), from_output=True,
        by_hand="float double", source="Barron 2017, arXiv:1704.07483"),
    Row("gelu", "Gaussian error linear unit, exact (the erf form).", "x Phi(x) = x erfc(-x / sqrt(2)) / 2",
        "Phi(x) + x phi(x)", (2.5, 2), (4, 4), source="Hendrycks & Gimpel 2016, arXiv:1606.08415", by_hand="float"),
    Row("gelu_tanh", "GELU in its tanh approximation.", "x (1 + tanh(u)) / 2, u = sqrt(2/pi) (x + 0.044715 x^3)",
        "s(2u) + 2 x u' s(2u) s(-2u)", (1.5, 1.25), (2, 1.25), source="Hendrycks & Gimpel 2016, arXiv:1606.08415", by_hand="float double"),
    Row("gelu_quick", "GELU in its sigmoid approximation.", "x s(1.702 x)", "s(z) (1 + z s(-z)), z = 1.702 x",
        (1.5, 1.25), (1.25, 1.25), source="Hendrycks & Gimpel 2016, arXiv:1606.08415", by_hand="float double"),
    Row("silu", "Sigmoid linear unit.", "x s(x)", "s(x) (1 + x s(-x))", (1.25, 1.25), (2, 1.25),
        source="Elfwing et al. 2017, arXiv:1702.03118", by_hand="float double"),
    Row("swish", "Sigmoid linear unit with a slope.", "x s(beta x)", "s(z) (1 + z s(-z)), z = beta x", (1.25, 1.25), (1.25, 1.25),
        parameters=(("beta", 1.0),), by_hand="float double", source="Ramachandran et al. 2017, arXiv:1710.05941"),
    Row("mish", "Mish.", "x tanh(log(1 + exp(x)))", "w + x (1 - w^2) s(x), w = tanh(log(1 + exp(x)))", (1, 1.25), (1, 1.25),
        by_hand="float", source="Misra 2019, arXiv:1908.08681"),
    Row("softplus", "Smooth rectifier, exact, without a threshold.", "log(1 + exp(beta x)) / beta", "s(beta x)",
        (2.5, 2.5), (1.25, 1.25), parameters=(("beta", 1.0),), from_output=True, source="Dugas et al. 2000", by_hand="float double"),
    Row("softsign", "Softsign.", "x / (1 + |x|)", "1 / (1 + |x|)^2", (0.6, 1), (1, 1.5), by_hand="float double", source="Bergstra et al. 2009"),
    Row("softshrink", "Soft shrinkage.", "sign(x) max(|x| - lambd, 0)", "1 if |x| > lambd else 0",
        parameters=(("lambd", 0.5),), cheap=True, source="Donoho 1995"),
    Row("hardshrink", "Hard shrinkage.", "x if |x| > lambd else 0", "1 if |x| > lambd else 0",
        parameters=(("lambd", 0.5),), cheap=True, source="Donoho & Johnstone 1994"),
    Row("tanhshrink", "Tanh shrinkage.", "x - tanh(x)", "tanh(x)^2", (1.75, 1.5), (1.75, 2), by_hand="float double"),
    Row("threshold", "Keeps what exceeds a threshold.", "x if x > threshold else value", "1 if x > threshold else 0",
        parameters=(("threshold", None), ("value", None)), cheap=True),
    Row("hardtanh", "Clips to an interval.", "min(max(x, min_val), max_val)", "1 if min_val < x < max_val else 0",
        parameters=(("min_val", -1.0), ("max_val", 1.0)), from_output=True, cheap=True, source="Collobert 2004"),
    Row("hardsigmoid", "Piecewise linear sigmoid.", "min(max(alpha x + beta, 0), 1)",
        "alpha if 0 < alpha x + beta < 1 else 0", (1, 1), (0.5, 0.5),
        parameters=(("alpha", 1 / 6), ("beta", 0.5)), cheap=True, source="Courbariaux et al. 2015, arXiv:1511.00363"),
    Row("hardswish", "Piecewise quadratic approximation of silu.", "x min(max(x + 3, 0), 6) / 6",
        "0 if x <= -3, 1 if x >= 3, else x / 3 + 1/2", (1.1, 1.75), (1.1, 1.1), cheap=True, source="Howard et al. 2019, arXiv:1905.02244"),
    Row("logsigmoid", "Logarithm of the logistic sigmoid.", "-log(1 + exp(-x))", "s(-x)", (2, 1.75), (1, 1.25),
        from_output=True, by_hand="float double"),
    Row("squareplus", "Algebraic smooth rectifier.", "(x + sqrt(x^2 + b)) / 2", "(1 + x / sqrt(x^2 + b)) / 2",
        (1, 1), (1.5, 1.5), parameters=(("b", 4.0),), by_hand="float double", source="Barron 2021, arXiv:2112.11687"),
    Row("relu_squared", "Squared rectifier.", "max(x, 0)^2", "2 max(x, 0)", cheap=True,
        source="So et al. 2021, arXiv:2109.08668"),
)

GATED = (
    GatedRow("glu", "Gated linear unit.", "value s(gate)", ("g s(gate)", "g value s(gate) s(-gate)"), (2, 2), (2.5, 2.5),
             inputs=("value", "gate"), by_hand="float double", source="Dauphin et al. 2016, arXiv:1612.08083"),
    GatedRow("swiglu", "Gated linear unit with silu.", "silu(gate) up", ("g up silu'(gate)", "g silu(gate)"), (2, 2), (3, 2.5),
             by_hand="float double", source="Shazeer 2020, arXiv:2002.05202"),
    GatedRow("geglu", "Gated linear unit with gelu, exact (the erf form).", "gelu(gate) up", ("g up gelu'(gate)", "g gelu(gate)"),
             (4, 2.5), (5, 5), by_hand="float", source="Shazeer 2020, arXiv:2002.05202"),
    GatedRow("reglu", "Gated linear unit with relu.", "max(gate, 0) up", ("g up if gate > 0 else 0", "g max(gate, 0)"),
             (0.5, 0.5), (0.5, 0.5), cheap=True, source="Shazeer 2020, arXiv:2002.05202"),
)


@dataclass(frozen=True)
class LossRow:
    """What everything else needs to know about one elementwise loss.

    In ``formula`` and ``gradient`` a semicolon ends a line. ``inputs`` are the names of its arrays; a third one is part of
    the formula and, where ``third_gradient`` says so, has a gradient too. ``parameters`` holds (name, default) pairs of
    keyword arguments. ``kernels`` are the formulas in ``_kernels/loss_formulas.pxd``, each of which takes ``numbers``
    numbers after its arrays; ``elementwise_losses.py`` knows which kernel and what numbers the parameters stand for.
    ``max_ulp`` and ``max_ulp_gradient`` are the promised maxima for (float32, float64) of the loss and of the gradient of
    one element, with the default parameters and for targets as ``target`` says; next to a zero counted in units of the
    largest term, as for activations.
    """

    name: str
    summary: str
    formula: str
    gradient: str
    max_ulp: tuple[float, float]
    max_ulp_gradient: tuple[float, float]
    inputs: tuple[str, ...] = ("input", "target")
    target: str = "Any numbers."
    third_gradient: bool = False
    parameters: tuple[tuple[str, float | bool | None], ...] = ()
    kernels: tuple[str, ...] = ()
    numbers: int = 0
    cheap: bool = False
    by_hand: str = ""
    source: str = ""

    def __post_init__(self):
        object.__setattr__(self, "kernels", self.kernels or (self.name,))


ELEMENTWISE_LOSSES = (
    LossRow("sigmoid_cross_entropy", "Binary cross-entropy from logits: between a target and the sigmoid of a logit.",
            "pos_weight target softplus(-logits) + (1 - target) softplus(logits)",
            "(1 - target) s(logits) - pos_weight target s(-logits)", (2, 2), (2.5, 2.5), ("logits", "target", "pos_weight"),
            "Usually from 0 to 1.", by_hand="float", source="Good 1952"),
    LossRow("binary_cross_entropy", "Binary cross-entropy of probabilities.",
            "-target log(input) - (1 - target) log(1 - input)", "(input - target) / (input (1 - input))", (2.5, 2.5), (2.5, 2.5),
            target="From 0 to 1.", source="Good 1952"),
    LossRow("mse", "Squared error.", "(input - target)^2", "2 (input - target)", (2, 2), (0.5, 0.5), cheap=True,
            source="Gauss 1809"),
    LossRow("mae", "Absolute error.", "|input - target|", "sign(input - target)", (0.5, 0.5), (0.5, 0.5), cheap=True,
            source="Laplace 1774"),
    LossRow("huber", "Huber loss: squared near 0, absolute further out.",
            "d^2 / 2 if |d| <= delta else delta (|d| - delta / 2), d = input - target", "min(max(d, -delta), delta)",
            (2, 2), (0.5, 0.5), parameters=(("delta", 1.0),), numbers=1, cheap=True, source="Huber 1964"),
    LossRow("smooth_l1", "Smooth L1 loss: huber with delta = beta, divided by beta; the absolute error for a beta of 0.",
            "d^2 / (2 beta) if |d| < beta else |d| - beta / 2, d = input - target", "min(max(d / beta, -1), 1)",
            (2, 2), (0.5, 0.5), parameters=(("beta", 1.0),), numbers=1, kernels=("smooth_l1", "smooth_l1_of_one"), cheap=True,
            source="Girshick 2015, arXiv:1504.08083"),
    LossRow("log_cosh", "Logarithm of the hyperbolic cosine of the error.", "log(cosh(input - target))",
            "tanh(input - target)", (3, 3), (1.5, 1.5), source="Green 1990"),
    LossRow("hinge", "Hinge loss.", "max(0, 1 - input target)", "-target if input target < 1 else 0", (0.5, 0.5), (0.5, 0.5),
            target="-1 or 1.", cheap=True, source="Cortes & Vapnik 1995"),
    LossRow("squared_hinge", "Squared hinge loss.", "max(0, 1 - input target)^2", "-2 target max(0, 1 - input target)",
            (2, 2), (0.5, 0.5), target="-1 or 1.", cheap=True, source="Lee & Mangasarian 2001"),
    LossRow("sigmoid_focal", "Focal loss from logits: binary cross-entropy that counts less where the prediction is right.",
            "w u^gamma c; w = alpha target + (1 - alpha) (1 - target); u = target s(-logits) + (1 - target) s(logits); "
            "c = sigmoid_cross_entropy(logits, target)", "w u^gamma (c' + gamma c u' / u)", (7, 6), (8, 7), ("logits", "target"),
            "From 0 to 1.", parameters=(("alpha", None), ("gamma", 2.0)), numbers=3, source="Lin et al. 2017, arXiv:1708.02002"),
    LossRow("poisson_nll", "Poisson negative log-likelihood, without the term log(target!).",
            "exp(input) - target input; for log_input=False: input - target log(input + eps)",
            "exp(input) - target; for log_input=False: 1 - target / (input + eps)", (1.5, 1.5), (1.25, 1.25), target="Counts.",
            parameters=(("log_input", True), ("full", False), ("eps", 1e-8)), numbers=1,
            kernels=("poisson_nll", "poisson_nll_full", "poisson_nll_of_rate", "poisson_nll_of_rate_full"),
            source="McCullagh & Nelder 1989"),
    LossRow("gaussian_nll", "Gaussian negative log-likelihood, without the constant log(2 pi) / 2.",
            "(log(v) + (input - target)^2 / v) / 2, v = max(var, eps)", "(input - target) / v", (5, 5), (2, 2),
            ("input", "target", "var"), third_gradient=True, parameters=(("full", False), ("eps", 1e-6)), numbers=2,
            source="Nix & Weigend 1994"),
)
