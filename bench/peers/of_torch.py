"""PyTorch: eager, its operators with all memory reused, fused optimizers, and compiled."""

from __future__ import annotations

import functools
import math

import numpy as np

from ..cases import LEARNED
from .optional import optional, version

torch = optional("torch")
# torch.nn.functional has no out=; what it calls has. Backward functions exist as operators only.
F, nn, aten = (torch.nn.functional, torch._C._nn, torch.ops.aten) if torch else (None, None, None)

SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805

FORWARD = {
    "identity": lambda x, y: torch.positive(x).clone() if y is None else y.copy_(x),
    "sigmoid": lambda x, y: torch.sigmoid(x, out=y),
    "tanh": lambda x, y: torch.tanh(x, out=y),
    "relu": lambda x, y: torch.clamp_min(x, 0, out=y),
    "relu6": lambda x, y: nn.hardtanh(x, 0, 6, out=y),
    "leaky_relu": lambda x, y, slope: nn.leaky_relu(x, slope, out=y),
    "prelu": lambda x, y, weight: nn.leaky_relu(x, weight, out=y),
    "rrelu": lambda x, y, lower, upper: nn.leaky_relu(x, (lower + upper) / 2, out=y),
    "elu": lambda x, y, alpha: nn.elu(x, alpha, out=y),
    "selu": lambda x, y: nn.elu(x, SELU_ALPHA, SELU_SCALE, out=y),
    "celu": lambda x, y, alpha: nn.elu(x, alpha, 1, 1 / alpha, out=y),
    "gelu": lambda x, y: nn.gelu(x, out=y),
    "gelu_tanh": lambda x, y: nn.gelu(x, approximate="tanh", out=y),
    "gelu_quick": lambda x, y: torch.mul(torch.sigmoid(torch.mul(x, 1.702, out=y), out=y), x, out=y),
    "silu": lambda x, y: nn.silu(x, out=y),
    "swish": lambda x, y, beta: torch.mul(torch.sigmoid(torch.mul(x, beta, out=y), out=y), x, out=y),
    "mish": lambda x, y: nn.mish(x, out=y),
    "softplus": lambda x, y, beta: nn.softplus(x, beta, out=y),
    "softsign": lambda x, y: torch.div(x, torch.add(torch.abs(x, out=y), 1, out=y), out=y),
    "softshrink": lambda x, y, lambd: nn.softshrink(x, lambd, out=y),
    "hardshrink": lambda x, y, lambd: torch.hardshrink(x, lambd, out=y),
    "tanhshrink": lambda x, y: torch.sub(x, torch.tanh(x, out=y), out=y),
    "threshold": lambda x, y, threshold, value: torch.threshold(x, threshold, value, out=y),
    "hardtanh": lambda x, y, low, high: nn.hardtanh(x, low, high, out=y),
    "hardsigmoid": lambda x, y, a, b: nn.hardsigmoid(x, out=y),
    "hardswish": lambda x, y: nn.hardswish(x, out=y),
    "logsigmoid": lambda x, y: nn.log_sigmoid(x, out=y),
    "squareplus": lambda x, y, b: torch.mul(
        torch.add(torch.sqrt(torch.add(torch.square(x, out=y), b, out=y), out=y), x, out=y), 0.5, out=y
    ),
    "relu_squared": lambda x, y: torch.square(torch.clamp_min(x, 0, out=y), out=y),
    "glu": lambda a, b, y: torch.mul(torch.sigmoid(b, out=y), a, out=y),
    "swiglu": lambda a, b, y: torch.mul(nn.silu(a, out=y), b, out=y),
    "geglu": lambda a, b, y: torch.mul(nn.gelu(a, out=y), b, out=y),
    "reglu": lambda a, b, y: torch.mul(torch.clamp_min(a, 0, out=y), b, out=y),
    "maxout": lambda x, y: torch.amax(x, -1, out=y),
    "softmax": lambda x, y, axis: torch.softmax(x, axis, out=y),
    "log_softmax": lambda x, y, axis: torch.log_softmax(x, axis, out=y),
    "softmin": lambda x, y, axis: torch.softmax(torch.neg(x, out=y), axis, out=y),
    "logsumexp": lambda x, y, axis: torch.logsumexp(x, axis, out=y),
}
"""Functions of the inputs, the output or None, and the parameters."""

BACKWARD = {
    "identity": lambda g, x, y, dx: dx.copy_(g),
    "sigmoid": lambda g, x, y, dx: aten.sigmoid_backward.grad_input(g, y, grad_input=dx),
    "tanh": lambda g, x, y, dx: aten.tanh_backward.grad_input(g, y, grad_input=dx),
    "relu": lambda g, x, y, dx: aten.threshold_backward.grad_input(g, y, 0, grad_input=dx),
    "relu6": lambda g, x, y, dx: aten.hardtanh_backward.grad_input(g, x, 0, 6, grad_input=dx),
    "leaky_relu": lambda g, x, y, dx, slope: aten.leaky_relu_backward.grad_input(g, x, slope, False, grad_input=dx),
    "prelu": lambda g, x, y, dx, weight: prelu_backward(g, x, torch.full((1,), weight, dtype=x.dtype))[0],
    "rrelu": lambda g, x, y, dx, lower, upper: aten.leaky_relu_backward.grad_input(
        g, x, (lower + upper) / 2, False, grad_input=dx
    ),
    "elu": lambda g, x, y, dx, alpha: aten.elu_backward.grad_input(g, alpha, 1, 1, True, y, grad_input=dx),
    "selu": lambda g, x, y, dx: aten.elu_backward.grad_input(g, SELU_ALPHA, SELU_SCALE, 1, True, y, grad_input=dx),
    "celu": lambda g, x, y, dx, alpha: aten.elu_backward.grad_input(g, alpha, 1, 1 / alpha, True, y, grad_input=dx),
    "gelu": lambda g, x, y, dx: aten.gelu_backward.grad_input(g, x, grad_input=dx),
    "gelu_tanh": lambda g, x, y, dx: aten.gelu_backward.grad_input(g, x, approximate="tanh", grad_input=dx),
    "silu": lambda g, x, y, dx: aten.silu_backward.grad_input(g, x, grad_input=dx),
    "mish": lambda g, x, y, dx: aten.mish_backward(g, x),
    "softplus": lambda g, x, y, dx, beta: aten.softplus_backward.grad_input(g, x, beta, 20, grad_input=dx),
    "softshrink": lambda g, x, y, dx, lambd: aten.softshrink_backward.grad_input(g, x, lambd, grad_input=dx),
    "hardshrink": lambda g, x, y, dx, lambd: aten.hardshrink_backward.grad_input(g, x, lambd, grad_input=dx),
    "threshold": lambda g, x, y, dx, threshold, value: aten.threshold_backward.grad_input(
        g, x, threshold, grad_input=dx
    ),
    "hardtanh": lambda g, x, y, dx, low, high: aten.hardtanh_backward.grad_input(g, x, low, high, grad_input=dx),
    "hardsigmoid": lambda g, x, y, dx, a, b: aten.hardsigmoid_backward.grad_input(g, x, grad_input=dx),
    "hardswish": lambda g, x, y, dx: aten.hardswish_backward.out(g, x, out=dx),
    "softmax": lambda g, x, y, dx, axis: aten._softmax_backward_data.out(g, y, axis, y.dtype, grad_input=dx),
    "log_softmax": lambda g, x, y, dx, axis: aten._log_softmax_backward_data.out(g, y, axis, y.dtype, out=dx),
}
"""Functions of (grad_output, input, output, grad_input) and the parameters; a few return new memory."""


def prelu_backward(g, x, weight):
    """What autograd makes of it: the operator leaves the terms of the weight's gradient as they are."""
    grad, terms = aten._prelu_kernel_backward(g, x, weight)
    return grad, terms.sum()


FROM_OUTPUT = ("sigmoid", "tanh", "elu", "selu", "celu")
"""Those that look at the output; relu's finds the same in the input."""


def softmax_focal(x, t):
    log_p = F.log_softmax(x, -1).gather(-1, t[:, None])
    return -((1 - log_p.exp()) ** 2 * log_p).mean()


def sigmoid_focal(x, t):
    """As torchvision has it."""
    p = torch.sigmoid(x)
    loss = F.binary_cross_entropy_with_logits(x, t, reduction="none")
    return (loss * (1 - (p * t + (1 - p) * (1 - t))) ** 2).sum()


LOSSES = {
    "softmax_cross_entropy": lambda x, t: F.cross_entropy(x, t),
    "softmax_focal": softmax_focal,
    "nll_loss": lambda x, t: F.nll_loss(x, t),
    "categorical_cross_entropy": lambda x, t: F.nll_loss(torch.log(x), t),
    "kl_div": lambda x, t: F.kl_div(x, t, reduction="batchmean"),
    "linear_softmax_cross_entropy": lambda x, weight, t: F.cross_entropy(x @ weight.T, t),
    "sigmoid_cross_entropy": lambda x, t: F.binary_cross_entropy_with_logits(x, t, reduction="sum"),
    "binary_cross_entropy": lambda x, t: F.binary_cross_entropy(x, t, reduction="sum"),
    "mse": lambda x, t: F.mse_loss(x, t, reduction="sum"),
    "mae": lambda x, t: F.l1_loss(x, t, reduction="sum"),
    "huber": lambda x, t: F.huber_loss(x, t, reduction="sum"),
    "smooth_l1": lambda x, t: F.smooth_l1_loss(x, t, reduction="sum"),
    "log_cosh": lambda x, t: (torch.logaddexp(x - t, t - x) - math.log(2)).sum(),
    "hinge": lambda x, t: torch.clamp_min(1 - x * t, 0).sum(),
    "squared_hinge": lambda x, t: torch.clamp_min(1 - x * t, 0).square().sum(),
    "sigmoid_focal": sigmoid_focal,
    "poisson_nll": lambda x, t: F.poisson_nll_loss(x, t, reduction="sum"),
    "gaussian_nll": lambda x, t, var: F.gaussian_nll_loss(x, t, var, reduction="sum"),
}
"""Functions of the inputs; gradients are theirs by autograd."""

OPTIMIZERS = {
    "SGD": lambda p, **options: torch.optim.SGD(p, 0.01, **options),
    "Momentum": lambda p, **options: torch.optim.SGD(p, 0.01, momentum=0.9, **options),
    "Nesterov": lambda p, **options: torch.optim.SGD(p, 0.01, momentum=0.9, nesterov=True, **options),
    "AdaGrad": lambda p, **options: torch.optim.Adagrad(p, 0.01, **options),
    "RMSProp": lambda p: torch.optim.RMSprop(p, 0.001, alpha=0.9),
    "Adam": lambda p, **options: torch.optim.Adam(p, 0.001, **options),
    "AdamW": lambda p, **options: torch.optim.AdamW(p, 0.001, weight_decay=0.01, **options),
}


def tensor(array):
    """One that shares the array's memory."""
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def widest(case):
    """How many of the first inputs have a gradient."""
    return 2 if case.function == "linear_softmax_cross_entropy" else 1


# Eager --------------------------------------------------------------------------------------------------------------


def eager_gradient(function, inputs, others, *grad_output):
    """The gradients as users ask for them."""
    inputs = [x.detach().requires_grad_() for x in inputs]
    return torch.autograd.grad(function(*inputs, *others), inputs, *grad_output)


def bind_eager(case, setting, arrays):
    if case.name in OPTIMIZERS:
        return bind_optimizer(OPTIMIZERS[case.name], arrays)
    tensors, parameters = list(map(tensor, arrays)), case.parameters(setting)
    if case.name in LOSSES:
        *inputs, _ = tensors
        count = widest(case)
        return lambda: eager_gradient(LOSSES[case.name], inputs[:count], inputs[count:])[0]
    if case.kind == "gated" and case.name.endswith(".backward"):
        g, a, b, *_ = tensors
        return lambda: eager_gradient(lambda a, b: FORWARD[case.function](a, b, None), (a, b), (), g)[1]
    if case.name.endswith(".backward"):
        function = BACKWARD.get(case.function)
    elif case.kind == "derivative":
        function, tensors = derivative(case.function), [torch.ones_like(tensors[0]), *tensors]
    else:
        *inputs, out = tensors
        function, tensors = FORWARD.get(case.function), [*inputs, out if setting.out else None]
    return function and functools.partial(function, *tensors, *parameters)


def derivative(name):
    """Of (ones, input, result) and the parameters: the backward pass of ones, after the forward pass where it is needed."""
    forward, backward = FORWARD[name], BACKWARD.get(name)
    if name not in FROM_OUTPUT:
        return backward and (lambda ones, x, dx, *parameters: backward(ones, x, x, dx, *parameters))

    def both(ones, x, dx, *parameters):
        forward(x, dx, *parameters)
        return backward(ones, x, dx, dx, *parameters)

    return both


def bind_optimizer(make, arrays, **options):
    gradient, start, _ = arrays
    parameter = torch.nn.Parameter(tensor(start.copy()))
    parameter.grad = tensor(gradient)
    optimizer = make([parameter], **options)

    def step():
        optimizer.step()
        return parameter.detach()

    return step


# With memory reused and kernels fused ---------------------------------------------------------------------------------


def bind_best(case, setting, arrays):
    """Where there is something better than the usual way."""
    if case.name in OPTIMIZERS and case.name != "RMSProp":
        return bind_optimizer(OPTIMIZERS[case.name], arrays, fused=True)
    if case.name == "softmax_cross_entropy":
        return functools.partial(
            cross_entropy_out, *map(tensor, arrays), *workspace(setting.shape, tensor(arrays[0]).dtype)
        )
    return None


def workspace(shape, dtype):
    return torch.empty(shape, dtype=dtype), torch.empty(shape, dtype=dtype), torch.ones((), dtype=dtype)


def cross_entropy_out(logits, target, grad, log_p, d_log_p, one):
    """Its operators, each writing to memory kept from call to call."""
    aten._log_softmax.out(logits, -1, False, out=log_p)
    _, total = aten.nll_loss_forward(log_p, target, None, 1, -100)
    aten.nll_loss_backward.grad_input(one, log_p, target, None, 1, -100, total, grad_input=d_log_p)
    aten._log_softmax_backward_data.out(d_log_p, log_p, -1, logits.dtype, out=grad)


# Compiled -------------------------------------------------------------------------------------------------------------


def reverse(function, g, *inputs):
    return torch.func.vjp(function, *inputs)[1](g)


def program(case, setting, tensors):
    """A function, and what it is given, that returns what belongs into the last of the tensors."""
    parameters, (*inputs, _) = case.parameters(setting), tensors
    if case.name in LOSSES:
        count, loss = widest(case), LOSSES[case.name]
        others = [torch.empty_like(x) for x in (inputs[0].sum(), *inputs[1:count])]  # else nothing would compute them

        def value_and_gradients(*arguments):
            gradients, value = torch.func.grad_and_value(loss, tuple(range(count)))(*arguments[count:])
            for kept, found in zip(arguments, (value, *gradients[1:])):
                kept.copy_(found)
            return gradients[0]

        return value_and_gradients, (*others, *inputs)
    if case.function not in FORWARD:
        return None

    def forward(*inputs):
        return FORWARD[case.function](*inputs, None, *parameters)

    if case.kind == "derivative":
        return lambda x: reverse(forward, torch.ones_like(x), x)[0], inputs
    if not case.name.endswith(".backward"):
        return forward, inputs
    if case.kind == "gated":
        g, a, b, y, grad_a, _ = tensors

        def both(g, a, b, y, grad_a):
            da, db = reverse(forward, g, a, b)
            y.copy_(forward(a, b))
            grad_a.copy_(da)
            return db

        return both, (g, a, b, y, grad_a)
    if case.function in LEARNED:
        weight = torch.tensor(parameters, dtype=inputs[1].dtype)

        def with_weight(g, x, weight, kept):
            grad, grad_weight = reverse(F.prelu, g, x, weight)
            kept.copy_(grad_weight)
            return grad

        return with_weight, (*inputs[:2], weight, torch.empty_like(weight))
    return lambda g, x: reverse(forward, g, x)[0], inputs[:2]


def bind_compiled(case, setting, arrays):
    if case.kind == "optimizer":
        return None
    tensors = list(map(tensor, arrays))
    found = program(case, setting, tensors)
    if found is None:
        return None
    function, inputs = found
    # Else every compiled function would stay, and each call would look for its own among them.
    torch._dynamo.reset()
    if not setting.out:
        return functools.partial(torch.compile(function, dynamic=False, fullgraph=True), *inputs)

    def into(out, *inputs):
        out.copy_(function(*inputs))

    return functools.partial(torch.compile(into, dynamic=False, fullgraph=True), tensors[-1], *inputs)


COMPILED = "PyTorch compiled"
LIBRARIES = {"PyTorch": bind_eager, "PyTorch fused": bind_best, COMPILED: bind_compiled} if torch else {}
NAMES = (*FORWARD, *LOSSES, *OPTIMIZERS)
VERSIONS = version("torch") if torch else {}


def set_num_threads(n):
    if torch:
        torch.set_num_threads(n)
