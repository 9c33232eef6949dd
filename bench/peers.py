"""How each library is asked for the functions of ``cases.py``: with reused output memory and equal threads.

Every call takes the arrays of its case in order, then the parameters, and writes the last array. Functions are equal
by definition, not in every digit. A library that is not installed is left out.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import scipy
from scipy import special
from threadpoolctl import threadpool_limits

import fastact as fa
from bench.cases import BATCH, ELEMENTWISE, ELEMENTWISE_LOSSES, GATED, LAYERS, LOSSES, ROWWISE, training_rows


def optional(name):
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


torch, onnx, onnxruntime = (optional(name) for name in ("torch", "onnx", "onnxruntime"))
MODULES = (np, scipy, torch, onnxruntime)
# torch.nn.functional has no out=; what it calls has. Backward functions exist as operators only.
nn, aten = (torch._C._nn, torch.ops.aten) if torch else (None, None)


@dataclass(frozen=True)
class Node:
    """An ONNX model of one node: its inputs beside x, and its attributes."""

    operator: str
    inputs: tuple = ()
    domain: str = ""
    attributes: dict = field(default_factory=dict)


def node(operator, *inputs, domain="", **attributes):
    return Node(operator, inputs, domain, attributes)


# One row a function -------------------------------------------------------------------------------------------------


def numpy_expm1(x, y, inner, outer):
    np.multiply(np.expm1(np.multiply(np.minimum(x, 0, out=y), inner, out=y), out=y), outer, out=y)


@dataclass(frozen=True)
class Row:
    """The calls for one function. ``torch_out``: the same as ``torch``, spelled to write to given memory."""

    numpy: Callable | None = None
    scipy: Callable | None = None
    torch: Callable | None = None
    torch_out: Callable | None = None
    torch_backward: Callable | None = None
    onnx: Node | None = None

    def calls(self, case):
        if case.kind == "derivative":
            return {}
        if case.name.endswith(".backward"):
            return {"PyTorch": self.torch_backward}
        return {
            "NumPy": self.numpy,
            "SciPy": self.scipy,
            "PyTorch": self.torch,
            "PyTorch out": self.torch_out,
            "ONNX Runtime": self.onnx,
        }


@functools.lru_cache(1)
def workspace(shape):
    return torch.empty(shape), torch.empty(shape), torch.ones(())


def torch_cross_entropy_out(logits, target, grad):
    """The same operators, each writing to memory kept from call to call."""
    log_p, d_log_p, one = workspace(logits.shape)
    aten._log_softmax.out(logits, -1, False, out=log_p)
    _, total = aten.nll_loss_forward(log_p, target, None, 1, -100)
    aten.nll_loss_backward.grad_input(one, log_p, target, None, 1, -100, total, grad_input=d_log_p)
    aten._log_softmax_backward_data.out(d_log_p, log_p, -1, torch.float32, out=grad)


def numpy_linear_cross_entropy(x, weight, target, dx):
    """What a call in chunks must not take much longer than: the matrix products at once, and the fused loss between them."""
    logits = x @ weight.T
    fa.softmax_cross_entropy.value_and_grad(logits, target, grad_out=logits)
    np.matmul(logits, weight, out=dx)
    logits.T @ x  # noqa: B018


def torch_linear_cross_entropy(x, weight, target, _):
    x, weight = x.detach().requires_grad_(), weight.detach().requires_grad_()
    return torch.autograd.grad(torch.nn.functional.cross_entropy(x @ weight.T, target), (x, weight))[0]


def numpy_sparsemax(x, y):
    """By sorting, as the paper does."""
    ordered = -np.sort(-x, axis=-1)
    sums = np.cumsum(ordered, axis=-1) - 1
    size = np.count_nonzero(ordered * np.arange(1, x.shape[-1] + 1) > sums, axis=-1, keepdims=True)
    np.maximum(np.subtract(x, np.take_along_axis(sums, size - 1, -1) / size, out=y, casting="same_kind"), 0, out=y)


def torch_gated(function):
    """Forward and both gradients, as users write it."""

    def call(grad_output, a, b, y, grad_a, grad_b):
        a, b = a.detach().requires_grad_(), b.detach().requires_grad_()
        return torch.autograd.grad(function(a, b), (a, b), grad_output)[1]

    return call


def torch_gradient(loss):
    """Forward and backward of a loss, which is called with PyTorch's functions before its arrays."""

    def gradient(x, *arrays):
        *sources, _ = arrays
        x = x.detach().requires_grad_()
        return torch.autograd.grad(loss(torch.nn.functional, x, *sources), x)[0]

    return gradient


def torch_softmax_focal(functional, x, t):
    log_p = functional.log_softmax(x, -1).gather(-1, t[:, None])
    return -((1 - log_p.exp()) ** 2 * log_p).mean()


def torch_sigmoid_focal(functional, x, t):
    """As torchvision has it."""
    p = torch.sigmoid(x)
    loss = functional.binary_cross_entropy_with_logits(x, t, reduction="none")
    return (loss * (1 - (p * t + (1 - p) * (1 - t))) ** 2).sum()


SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805

ROWS = {
    "identity": Row(
        numpy=lambda x, y: np.copyto(y, x),
        torch=lambda x, y: y.copy_(x),
        torch_backward=lambda g, x, y, dx: dx.copy_(g),
        onnx=node("Identity"),
    ),
    "sigmoid": Row(
        numpy=lambda x, y: np.reciprocal(np.add(np.exp(np.negative(x, out=y), out=y), 1, out=y), out=y),
        scipy=special.expit,
        torch=lambda x, y: torch.sigmoid(x, out=y),
        torch_backward=lambda g, x, y, dx: aten.sigmoid_backward.grad_input(g, y, grad_input=dx),
        onnx=node("Sigmoid"),
    ),
    "tanh": Row(
        numpy=np.tanh,
        torch=lambda x, y: torch.tanh(x, out=y),
        torch_backward=lambda g, x, y, dx: aten.tanh_backward.grad_input(g, y, grad_input=dx),
        onnx=node("Tanh"),
    ),
    "relu": Row(
        numpy=lambda x, y: np.maximum(x, 0, out=y),
        torch=lambda x, y: torch.clamp_min(x, 0, out=y),
        torch_backward=lambda g, x, y, dx: aten.threshold_backward.grad_input(g, y, 0, grad_input=dx),
        onnx=node("Relu"),
    ),
    "relu6": Row(
        numpy=lambda x, y: np.clip(x, 0, 6, out=y),
        torch=lambda x, y: nn.hardtanh(x, 0, 6, out=y),
        torch_backward=lambda g, x, y, dx: aten.hardtanh_backward.grad_input(g, x, 0, 6, grad_input=dx),
        onnx=node("Clip", np.float32(0), np.float32(6)),
    ),
    "leaky_relu": Row(
        numpy=lambda x, y, slope: np.maximum(np.multiply(x, slope, out=y), x, out=y),
        torch=lambda x, y, slope: nn.leaky_relu(x, slope, out=y),
        torch_backward=lambda g, x, y, dx, slope: aten.leaky_relu_backward.grad_input(
            g, x, slope, False, grad_input=dx),
        onnx=node("LeakyRelu", alpha=0.01),
    ),
    "prelu": Row(
        numpy=lambda x, y, weight: np.maximum(np.multiply(x, weight, out=y), x, out=y),
        torch=lambda x, y, weight: nn.leaky_relu(x, weight, out=y),
        torch_backward=lambda g, x, y, dx, weight: aten._prelu_kernel_backward(g, x, torch.full((1,), weight))[0],
        onnx=node("PRelu", np.float32([0.25])),
    ),
    "rrelu": Row(
        numpy=lambda x, y, lower, upper: np.maximum(np.multiply(x, (lower + upper) / 2, out=y), x, out=y),
        torch=lambda x, y, lower, upper: nn.leaky_relu(x, (lower + upper) / 2, out=y),
        torch_backward=lambda g, x, y, dx, lower, upper: aten.leaky_relu_backward.grad_input(
            g, x, (lower + upper) / 2, False, grad_input=dx),
        onnx=node("LeakyRelu", alpha=11 / 48),
    ),
    "elu": Row(
        numpy=lambda x, y, alpha: (numpy_expm1(x, y, 1, alpha), np.maximum(x, y, out=y)),
        torch=lambda x, y, alpha: nn.elu(x, alpha, out=y),
        torch_backward=lambda g, x, y, dx, a: aten.elu_backward.grad_input(g, a, 1, 1, True, y, grad_input=dx),
        onnx=node("Elu", alpha=1.0),
    ),
    "selu": Row(
        torch=lambda x, y: nn.elu(x, SELU_ALPHA, SELU_SCALE, out=y),
        torch_backward=lambda g, x, y, dx: aten.elu_backward.grad_input(
            g, SELU_ALPHA, SELU_SCALE, 1, True, y, grad_input=dx),
        onnx=node("Selu"),
    ),
    "celu": Row(
        numpy=lambda x, y, alpha: (numpy_expm1(x, y, 1 / alpha, alpha), np.maximum(x, y, out=y)),
        torch=lambda x, y, alpha: nn.elu(x, alpha, 1, 1 / alpha, out=y),
        torch_backward=lambda g, x, y, dx, a: aten.elu_backward.grad_input(g, a, 1, 1 / a, True, y, grad_input=dx),
        onnx=node("Celu", alpha=1.0),
    ),
    "gelu": Row(
        scipy=lambda x, y: np.multiply(x, special.ndtr(x, out=y), out=y),
        torch=lambda x, y: nn.gelu(x, out=y),
        torch_backward=lambda g, x, y, dx: aten.gelu_backward.grad_input(g, x, grad_input=dx),
        onnx=node("Gelu"),
    ),
    "gelu_tanh": Row(
        torch=lambda x, y: nn.gelu(x, approximate="tanh", out=y),
        torch_backward=lambda g, x, y, dx: aten.gelu_backward.grad_input(g, x, approximate="tanh", grad_input=dx),
        onnx=node("Gelu", approximate="tanh"),
    ),
    "gelu_quick": Row(
        scipy=lambda x, y: np.multiply(x, special.expit(np.multiply(x, 1.702, out=y), out=y), out=y),
        torch=lambda x, y: torch.mul(x, 1.702, out=y).sigmoid_().mul_(x),
        onnx=node("QuickGelu", domain="com.microsoft", alpha=1.702),
    ),
    "silu": Row(
        scipy=lambda x, y: np.multiply(x, special.expit(x, out=y), out=y),
        torch=lambda x, y: nn.silu(x, out=y),
        torch_backward=lambda g, x, y, dx: aten.silu_backward.grad_input(g, x, grad_input=dx),
        onnx=node("QuickGelu", domain="com.microsoft", alpha=1.0),
    ),
    "swish": Row(
        scipy=lambda x, y, beta: np.multiply(x, special.expit(np.multiply(x, beta, out=y), out=y), out=y),
        torch=lambda x, y, beta: torch.mul(x, beta, out=y).sigmoid_().mul_(x),
        onnx=node("QuickGelu", domain="com.microsoft", alpha=1.0),
    ),
    "mish": Row(
        numpy=lambda x, y: np.multiply(x, np.tanh(np.logaddexp(x, 0, out=y), out=y), out=y),
        torch=lambda x, y: nn.mish(x, out=y),
        torch_backward=lambda g, x, y, dx: aten.mish_backward(g, x),
        onnx=node("Mish"),
    ),
    "softplus": Row(
        numpy=lambda x, y, beta: np.logaddexp(x, 0, out=y),
        torch=lambda x, y, beta: nn.softplus(x, beta, out=y),
        torch_backward=lambda g, x, y, dx, beta: aten.softplus_backward.grad_input(g, x, beta, 20, grad_input=dx),
        onnx=node("Softplus"),
    ),
    "softsign": Row(
        numpy=lambda x, y: np.divide(x, np.add(np.abs(x, out=y), 1, out=y), out=y),
        torch=lambda x, y: torch.div(x, torch.abs(x, out=y).add_(1), out=y),
        onnx=node("Softsign"),
    ),
    "softshrink": Row(
        numpy=lambda x, y, lambd: np.subtract(x, np.clip(x, -lambd, lambd, out=y), out=y),
        torch=lambda x, y, lambd: nn.softshrink(x, lambd, out=y),
        torch_backward=lambda g, x, y, dx, lambd: aten.softshrink_backward.grad_input(g, x, lambd, grad_input=dx),
        onnx=node("Shrink", lambd=0.5, bias=0.5),
    ),
    "hardshrink": Row(
        numpy=lambda x, y, lambd: np.multiply(x, np.greater(np.abs(x, out=y), lambd), out=y),
        torch=lambda x, y, lambd: torch.hardshrink(x, lambd, out=y),
        torch_backward=lambda g, x, y, dx, lambd: aten.hardshrink_backward.grad_input(g, x, lambd, grad_input=dx),
        onnx=node("Shrink", lambd=0.5),
    ),
    "tanhshrink": Row(
        numpy=lambda x, y: np.subtract(x, np.tanh(x, out=y), out=y),
        torch=lambda x, y: torch.sub(x, torch.tanh(x, out=y), out=y),
    ),
    "threshold": Row(
        numpy=lambda x, y, threshold, value: (np.copyto(y, value), np.copyto(y, x, where=x > threshold)),
        torch=lambda x, y, threshold, value: torch.threshold(x, threshold, value, out=y),
        torch_backward=lambda g, x, y, dx, t, v: aten.threshold_backward.grad_input(g, x, t, grad_input=dx),
    ),
    "hardtanh": Row(
        numpy=lambda x, y, low, high: np.clip(x, low, high, out=y),
        torch=lambda x, y, low, high: nn.hardtanh(x, low, high, out=y),
        torch_backward=lambda g, x, y, dx, low, high: aten.hardtanh_backward.grad_input(g, x, low, high, grad_input=dx),
        onnx=node("Clip", np.float32(-1), np.float32(1)),
    ),
    "hardsigmoid": Row(
        numpy=lambda x, y, a, b: np.clip(np.add(np.multiply(x, a, out=y), b, out=y), 0, 1, out=y),
        torch=lambda x, y, a, b: nn.hardsigmoid(x, out=y),
        torch_backward=lambda g, x, y, dx, a, b: aten.hardsigmoid_backward.grad_input(g, x, grad_input=dx),
        onnx=node("HardSigmoid", alpha=1 / 6, beta=0.5),
    ),
    "hardswish": Row(
        numpy=lambda x, y: np.multiply(x, np.clip(np.add(np.divide(x, 6, out=y), 0.5, out=y), 0, 1, out=y), out=y),
        torch=lambda x, y: nn.hardswish(x, out=y),
        torch_backward=lambda g, x, y, dx: aten.hardswish_backward.out(g, x, out=dx),
        onnx=node("HardSwish"),
    ),
    "logsigmoid": Row(
        scipy=special.log_expit,
        torch=lambda x, y: nn.log_sigmoid(x, out=y),
    ),
    "squareplus": Row(
        numpy=lambda x, y, b: np.multiply(
            np.add(np.sqrt(np.add(np.square(x, out=y), b, out=y), out=y), x, out=y), 0.5, out=y),
        torch=lambda x, y, b: torch.square(x, out=y).add_(b).sqrt_().add_(x).mul_(0.5),
    ),
    "relu_squared": Row(
        numpy=lambda x, y: np.square(np.maximum(x, 0, out=y), out=y),
        torch=lambda x, y: torch.clamp_min(x, 0, out=y).square_(),
    ),
    "softmax": Row(
        scipy=lambda x, y: np.copyto(y, special.softmax(x, axis=-1)),
        torch=lambda x, y: torch.softmax(x, -1, out=y),
        torch_backward=lambda g, x, y, dx: aten._softmax_backward_data.out(g, y, -1, torch.float32, grad_input=dx),
        onnx=node("Softmax", axis=-1),
    ),
    "log_softmax": Row(
        scipy=lambda x, y: np.copyto(y, special.log_softmax(x, axis=-1)),
        torch=lambda x, y: torch.log_softmax(x, -1, out=y),
        torch_backward=lambda g, x, y, dx: aten._log_softmax_backward_data.out(g, y, -1, torch.float32, out=dx),
        onnx=node("LogSoftmax", axis=-1),
    ),
    "softmin": Row(torch=lambda x, y: torch.softmax(torch.neg(x, out=y), -1, out=y)),
    "logsumexp": Row(
        scipy=lambda x, y: np.copyto(y, special.logsumexp(x, axis=-1)),
        torch=lambda x, y: torch.logsumexp(x, -1, out=y),
        onnx=node("ReduceLogSumExp", np.array([-1]), keepdims=0),
    ),
    "sparsemax": Row(numpy=numpy_sparsemax),
    "glu": Row(
        scipy=lambda a, b, y: np.multiply(a, special.expit(b, out=y), out=y),
        torch=lambda a, b, y: torch.sigmoid(b, out=y).mul_(a),
        torch_backward=torch_gated(lambda a, b: a * torch.sigmoid(b)),
    ),
    "swiglu": Row(
        scipy=lambda a, b, y: np.multiply(np.multiply(a, special.expit(a, out=y), out=y), b, out=y),
        torch=lambda a, b, y: nn.silu(a, out=y).mul_(b),
        torch_backward=torch_gated(lambda a, b: torch.nn.functional.silu(a) * b),
    ),
    "geglu": Row(
        scipy=lambda a, b, y: np.multiply(np.multiply(a, special.ndtr(a, out=y), out=y), b, out=y),
        torch=lambda a, b, y: nn.gelu(a, out=y).mul_(b),
        torch_backward=torch_gated(lambda a, b: torch.nn.functional.gelu(a) * b),
    ),
    "reglu": Row(
        numpy=lambda a, b, y: np.multiply(np.maximum(a, 0, out=y), b, out=y),
        torch=lambda a, b, y: torch.clamp_min(a, 0, out=y).mul_(b),
        torch_backward=torch_gated(lambda a, b: torch.relu(a) * b),
    ),
    "maxout": Row(
        numpy=lambda x, y: np.max(x, axis=-1, out=y),
        torch=lambda x, y: torch.amax(x, -1, out=y),
    ),
    "softmax_cross_entropy": Row(
        torch=torch_gradient(lambda F, x, t: F.cross_entropy(x, t)),
        torch_out=torch_cross_entropy_out,
    ),
    "softmax_focal": Row(torch=torch_gradient(torch_softmax_focal)),
    "sigmoid_cross_entropy": Row(
        torch=torch_gradient(lambda F, x, t: F.binary_cross_entropy_with_logits(x, t, reduction="sum")),
    ),
    "binary_cross_entropy": Row(torch=torch_gradient(lambda F, x, t: F.binary_cross_entropy(x, t, reduction="sum"))),
    "mse": Row(torch=torch_gradient(lambda F, x, t: F.mse_loss(x, t, reduction="sum"))),
    "mae": Row(torch=torch_gradient(lambda F, x, t: F.l1_loss(x, t, reduction="sum"))),
    "huber": Row(torch=torch_gradient(lambda F, x, t: F.huber_loss(x, t, reduction="sum"))),
    "smooth_l1": Row(torch=torch_gradient(lambda F, x, t: F.smooth_l1_loss(x, t, reduction="sum"))),
    "log_cosh": Row(torch=torch_gradient(lambda F, x, t: (torch.logaddexp(x - t, t - x) - np.log(2)).sum())),
    "hinge": Row(torch=torch_gradient(lambda F, x, t: torch.clamp_min(1 - x * t, 0).sum())),
    "squared_hinge": Row(torch=torch_gradient(lambda F, x, t: torch.clamp_min(1 - x * t, 0).square().sum())),
    "sigmoid_focal": Row(torch=torch_gradient(torch_sigmoid_focal)),
    "poisson_nll": Row(torch=torch_gradient(lambda F, x, t: F.poisson_nll_loss(x, t, reduction="sum"))),
    "gaussian_nll": Row(torch=torch_gradient(lambda F, x, t, var: F.gaussian_nll_loss(x, t, var, reduction="sum"))),
    "nll_loss": Row(torch=torch_gradient(lambda F, x, t: F.nll_loss(x, t))),
    "categorical_cross_entropy": Row(torch=torch_gradient(lambda F, x, t: F.nll_loss(torch.log(x), t))),
    "kl_div": Row(torch=torch_gradient(lambda F, x, t: F.kl_div(x, t, reduction="batchmean"))),
    "linear_softmax_cross_entropy": Row(numpy=numpy_linear_cross_entropy, torch=torch_linear_cross_entropy),
}
"""What the other libraries call each function, or how it is made of a few of theirs."""

CASES = ELEMENTWISE + GATED + ROWWISE + LOSSES + ELEMENTWISE_LOSSES
if missing := {case.function for case in CASES}.union(fa.list_losses()) - ROWS.keys():
    raise LookupError(f"no row in bench/peers.py for {', '.join(sorted(missing))}")


# How each library is called -----------------------------------------------------------------------------------------


def bind_fastact(case, arrays):
    function = getattr(fa, case.function)
    *inputs, out = arrays
    if case.kind == "gated":
        return bind_gated(case, function, arrays)
    if case.function == "linear_softmax_cross_entropy":
        return functools.partial(function.value_and_grad, *inputs, grad_out=(out, None, None))
    if case.kind == "elementwise loss":
        return functools.partial(function.value_and_grad, *inputs, reduction="sum", grad_out=out)
    if case.kind == "loss":
        return functools.partial(function.value_and_grad, *inputs, grad_out=out)
    if case.name.endswith(".backward"):
        grad_output, x, output = inputs
        if case.kind == "rows" or function.backward_needs == "output":
            return functools.partial(function.backward, grad_output, output=output, out=out)
        return functools.partial(function.backward, grad_output, x, *case.parameters, out=out)
    method = function.derivative if case.kind == "derivative" else function
    return functools.partial(method, *inputs, *case.parameters, out=out)


def bind_gated(case, function, arrays):
    """Forward alone, or with both gradients. glu itself takes its two arrays in one, its ufuncs do not."""
    forward, backward = (function.ufunc, function.backward.ufunc) if function is fa.glu else (function, function.backward)
    if not case.name.endswith(".backward"):
        *inputs, out = arrays
        return functools.partial(forward, *inputs, out=out)
    grad_output, a, b, y, *gradients = arrays

    def both():
        forward(a, b, out=y)
        backward(grad_output, a, b, out=tuple(gradients))

    return both


def bind_arrays(call, case, arrays, threads):
    return functools.partial(call, *arrays, *case.parameters)


def bind_tensors(call, case, arrays, threads):
    return bind_arrays(call, case, [torch.from_numpy(a) for a in arrays], threads)


def bind_session(call, case, arrays, threads):
    """ONNX Runtime writes where it is told, as the others do; its memory arena is on, as is its default."""
    x, y = arrays
    constants = [onnx.numpy_helper.from_array(value, f"constant{i}") for i, value in enumerate(call.inputs)]
    names = ["x", *(constant.name for constant in constants)]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(call.operator, names, ["y"], domain=call.domain, **call.attributes)],
        call.operator,
        *([onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, a.shape)] for name, a in zip("xy", arrays)),
        constants,
    )
    versions = [onnx.helper.make_opsetid("", 20), onnx.helper.make_opsetid("com.microsoft", 1)]
    model = onnx.helper.make_model(graph, opset_imports=versions, ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    binding.bind_ortvalue_input("x", onnxruntime.OrtValue.ortvalue_from_numpy(x))
    binding.bind_ortvalue_output("y", onnxruntime.OrtValue.ortvalue_from_numpy(y))
    return functools.partial(session.run_with_iobinding, binding)


def set_num_threads(n):
    """For fastact, NumPy's matrix products and PyTorch; an ONNX session has its own number."""
    fa.set_num_threads(n)
    threadpool_limits(n, user_api="blas")
    if torch:
        torch.set_num_threads(n)


BINDERS = {"NumPy": bind_arrays, "SciPy": bind_arrays}
if torch:
    BINDERS |= {"PyTorch": bind_tensors, "PyTorch out": bind_tensors}
if onnx and onnxruntime:
    BINDERS["ONNX Runtime"] = bind_session


def libraries(case):
    """Names of the installed libraries that have the case, fastact first."""
    return ["fastact", *(name for name, call in ROWS[case.function].calls(case).items() if call and name in BINDERS)]


def bind(library, case, arrays, threads):
    """A function of no arguments that computes the case."""
    if library == "fastact":
        return bind_fastact(case, arrays)
    return BINDERS[library](ROWS[case.function].calls(case)[library], case, arrays, threads)


# Training -----------------------------------------------------------------------------------------------------------


def fastact_training():
    model = fa.nn.Sequential([fa.nn.Dense(*LAYERS[:2]), fa.nn.Activation("gelu"), fa.nn.Dense(*LAYERS[1:])])
    trainer = fa.nn.Trainer(model, "softmax_cross_entropy", fa.nn.Adam())
    x, y = training_rows()
    return functools.partial(trainer.fit, x, y, epochs=1, batch_size=BATCH, verbose=False)


def torch_training():
    model = torch.nn.Sequential(torch.nn.Linear(*LAYERS[:2]), torch.nn.GELU(), torch.nn.Linear(*LAYERS[1:]))
    optimizer = torch.optim.Adam(model.parameters())
    x, y = map(torch.from_numpy, training_rows())

    def epoch():
        for rows in torch.randperm(len(x)).split(BATCH):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()

    return epoch


TRAINING = {"fastact": fastact_training} | ({"PyTorch": torch_training} if torch else {})
"""Name of the library -> what makes a function of no arguments that trains for an epoch."""
