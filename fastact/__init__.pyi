from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, Literal, TypedDict, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray
from typing_extensions import Unpack

from . import nn as nn
from . import plot as plot

__version__: str
__all__: list[str]

_Out = NDArray[Any] | tuple[NDArray[Any]] | None

class _Keywords(TypedDict, total=False):
    where: ArrayLike
    dtype: DTypeLike
    casting: Literal["no", "equiv", "safe", "same_kind", "unsafe"]
    order: Literal["K", "A", "C", "F"]
    subok: bool
    stream: Any

class _Function:
    ufunc: np.ufunc
    __name__: str
    @property
    def nin(self) -> int: ...
    @property
    def types(self) -> list[str]: ...
    @property
    def name(self) -> str: ...
    @property
    def parameters(self) -> dict[str, float | None]: ...
    def __call__(self, x: ArrayLike, /, *args: Any, out: _Out = None, **kwargs: Any) -> Any: ...

class _Backward:
    def __call__(
        self, grad_output: ArrayLike, x: ArrayLike | None = None, /, *args: Any, out: _Out = None, output: ArrayLike | None = None, **kwargs: Any
    ) -> Any: ...

class Activation(_Function):
    derivative: _Function
    backward: _Backward
    backward_needs: Literal["input", "output"]
    max_ulp: dict[str, float]

class _GatedBackward(_Function):
    def __call__(
        self, grad_output: ArrayLike, gate: ArrayLike, up: ArrayLike | None = None, /, *args: Any, out: Any = None, axis: int = -1, **ufunc: Unpack[_Keywords]
    ) -> Any: ...

class _Gated(_Function):
    backward: _GatedBackward
    max_ulp: dict[str, float]
    def __call__(
        self, gate: ArrayLike, up: ArrayLike | None = None, /, out: _Out = None, *, axis: int = -1, **ufunc: Unpack[_Keywords]
    ) -> Any: ...

class _GluBackward(_Function):
    def __call__(self, grad_output: ArrayLike, x: ArrayLike, /, axis: int = -1, *, out: _Out = None, **ufunc: Unpack[_Keywords]) -> Any: ...

class _Glu(_Function):
    backward: _GluBackward
    max_ulp: dict[str, float]
    def __call__(self, x: ArrayLike, /, axis: int = -1, *, out: _Out = None, **ufunc: Unpack[_Keywords]) -> Any: ...

# table: python -m bench.docs
identity: Activation
sigmoid: Activation
tanh: Activation
relu: Activation
relu6: Activation
class _LeakyRelu(Activation):
    def __call__(self, x: ArrayLike, /, negative_slope: ArrayLike = 0.01, out: _Out = None, **ufunc: Unpack[_Keywords]) -> Any: ...
leaky_relu: _LeakyRelu
class _Prelu(Activation):
    def __call__(self, x: ArrayLike, /, weight: ArrayLike, out: _Out = None, **ufunc: Unpack[_Keywords]) -> Any: ...
prelu: _Prelu
class _Rrelu(Activation):
    def __call__(self, x: ArrayLike, /, lower: ArrayLike = 0.125, upper: ArrayLike = 0.3333333333333333, out: _Out = None, *, training: bool = False, rng: Any = None, return_slopes: bool = False, **ufunc: Unpack[_Keywords]) -> Any: ...
rrelu: _Rrelu
class _Elu(Activation):
    def __call__(self, x: ArrayLike, /, alpha: ArrayLike = 1.0, out: _Out = None, **ufunc: Unpack[_Keywords]) -> Any: ...
elu: _Elu
selu: Activation
class _Celu(Activation):
    def __call__(self, x: ArrayLike, /, alpha: ArrayLike = 1.0, out: _Out = None, **ufunc: Unpack[_Keywords]) -> Any: ...
celu: _Celu
gelu: Activation
gelu_tanh: Activation
gelu_quick: Activation
silu: Activation
class _Swish(Activation):
    def __call__(self, x: ArrayLike, /, beta: ArrayLike = 1.0, out: _Out = None, **ufunc: Unpack[_Keywords]) -> Any: ...
swish: _Swish
mish: Activation
class _Softplus(Activation):
    def __call__(self, x: ArrayLike, /, beta: ArrayLike = 1.0, out: _Out = None, **ufunc: Unpack[_Keywords]) -> Any: ...
softplus: _Softplus
softsign: Activation
class _Softshrink(Activation):
    def __call__(self, x: ArrayLike, /, lambd: ArrayLike = 0.5, out: _Out = None, **ufunc: Unpack[_Keywords]) -> Any: ...
softshrink: _Softshrink
class _Hardshrink(Activation):
    def __call__(self, x: ArrayLike, /, lambd: ArrayLike = 0.5, out: _Out = None, **ufunc: Unpack[_Keywords]) -> Any: ...
hardshrink: _Hardshrink
tanhshrink: Activation
class _Threshold(Activation):
    def __call__(self, x: ArrayLike, /, threshold: ArrayLike, value: ArrayLike, out: _Out = None, **ufunc: Unpack[_Keywords]) -> Any: ...
threshold: _Threshold
class _Hardtanh(Activation):
    def __call__(self, x: ArrayLike, /, min_val: ArrayLike = -1.0, max_val: ArrayLike = 1.0, out: _Out = None, **ufunc: Unpack[_Keywords]) -> Any: ...
hardtanh: _Hardtanh
class _Hardsigmoid(Activation):
    def __call__(self, x: ArrayLike, /, alpha: ArrayLike = 0.16666666666666666, beta: ArrayLike = 0.5, out: _Out = None, **ufunc: Unpack[_Keywords]) -> Any: ...
hardsigmoid: _Hardsigmoid
hardswish: Activation
logsigmoid: Activation
class _Squareplus(Activation):
    def __call__(self, x: ArrayLike, /, b: ArrayLike = 4.0, out: _Out = None, **ufunc: Unpack[_Keywords]) -> Any: ...
squareplus: _Squareplus
relu_squared: Activation
glu: _Glu
swiglu: _Gated
geglu: _Gated
reglu: _Gated
# end

class _Maxout:
    def __call__(self, x: ArrayLike, axis: int = -1, *, out: NDArray[Any] | None = None, stream: Any = None) -> Any: ...
    def backward(self, grad_output: ArrayLike, x: ArrayLike, axis: int = -1, *, out: NDArray[Any] | None = None, stream: Any = None) -> NDArray[Any]: ...

maxout: _Maxout

class _Rowwise:
    gufunc: np.ufunc
    def __call__(
        self, x: ArrayLike, axis: int = -1, *, where: ArrayLike | None = None, temperature: float = 1.0, out: _Out = None, stream: Any = None
    ) -> Any: ...
    def backward(
        self, grad_output: ArrayLike, *, output: ArrayLike, axis: int = -1, temperature: float = 1.0, out: _Out = None, stream: Any = None
    ) -> Any: ...

class _Softmax(_Rowwise):
    def jacobian(self, x: ArrayLike, axis: int = -1, *, temperature: float = 1.0, stream: Any = None) -> NDArray[Any]: ...

class _Sparsemax:
    gufunc: np.ufunc
    def __call__(self, x: ArrayLike, axis: int = -1, *, where: ArrayLike | None = None, out: _Out = None, stream: Any = None) -> Any: ...
    def backward(self, grad_output: ArrayLike, *, output: ArrayLike, axis: int = -1, out: _Out = None, stream: Any = None) -> Any: ...

class _GumbelSoftmax:
    def __call__(
        self,
        x: ArrayLike,
        tau: float = 1.0,
        hard: bool = False,
        axis: int = -1,
        rng: np.random.Generator | int | None = None,
        *,
        stream: Any = None,
    ) -> Any: ...
    def backward(
        self, grad_output: ArrayLike, *, output: ArrayLike, tau: float = 1.0, axis: int = -1, out: _Out = None, stream: Any = None
    ) -> Any: ...

class _LogSumExp:
    gufunc: np.ufunc
    def __call__(
        self, x: ArrayLike, axis: int = -1, *, keepdims: bool = False, where: ArrayLike | None = None, temperature: float = 1.0, out: _Out = None, stream: Any = None
    ) -> Any: ...
    def backward(
        self, grad_output: ArrayLike, x: ArrayLike, axis: int = -1, *, temperature: float = 1.0, out: _Out = None, stream: Any = None
    ) -> Any: ...

softmax: _Softmax
log_softmax: _Rowwise
softmin: _Rowwise
logsumexp: _LogSumExp
sparsemax: _Sparsemax
gumbel_softmax: _GumbelSoftmax

_Reduction = Literal["mean", "sum", "none"]

class _OfRows(TypedDict, total=False):
    axis: int
    weight: ArrayLike | None
    ignore_index: int
    reduction: _Reduction
    stream: Any

class _CrossEntropy(TypedDict, total=False):
    ignore_index: int
    label_smoothing: float
    z_loss: float
    reduction: _Reduction
    stream: Any

class _SoftmaxCrossEntropy:
    def __call__(
        self,
        logits: ArrayLike,
        target: ArrayLike,
        *,
        axis: int = -1,
        weight: ArrayLike | None = None,
        **options: Unpack[_CrossEntropy],
    ) -> Any: ...
    def value_and_grad(
        self,
        logits: ArrayLike,
        target: ArrayLike,
        *,
        axis: int = -1,
        weight: ArrayLike | None = None,
        grad_out: NDArray[Any] | None = None,
        **options: Unpack[_CrossEntropy],
    ) -> tuple[Any, NDArray[Any]]: ...

class _SoftmaxFocal:
    def __call__(
        self, logits: ArrayLike, target: ArrayLike, *, alpha: ArrayLike | None = None, gamma: float = 2.0, **options: Unpack[_OfRows]
    ) -> Any: ...
    def value_and_grad(
        self,
        logits: ArrayLike,
        target: ArrayLike,
        *,
        alpha: ArrayLike | None = None,
        gamma: float = 2.0,
        grad_out: NDArray[Any] | None = None,
        **options: Unpack[_OfRows],
    ) -> tuple[Any, NDArray[Any]]: ...

class _LinearSoftmaxCrossEntropy:
    def __call__(
        self,
        x: ArrayLike,
        weight: ArrayLike,
        target: ArrayLike,
        bias: ArrayLike | None = None,
        *,
        class_weight: ArrayLike | None = None,
        chunk: int | None = None,
        **options: Unpack[_CrossEntropy],
    ) -> Any: ...
    def value_and_grad(
        self,
        x: ArrayLike,
        weight: ArrayLike,
        target: ArrayLike,
        bias: ArrayLike | None = None,
        *,
        class_weight: ArrayLike | None = None,
        chunk: int | None = None,
        grad_out: tuple[NDArray[Any] | None, ...] | None = None,
        **options: Unpack[_CrossEntropy],
    ) -> tuple[Any, tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None]]: ...

class _OfElements(TypedDict, total=False):
    weight: ArrayLike | None
    reduction: _Reduction
    stream: Any
    out: NDArray[Any] | None

class _ElementwiseLoss:
    def __call__(self, input: ArrayLike, target: ArrayLike, **options: Unpack[_OfElements]) -> Any: ...
    def value_and_grad(
        self, input: ArrayLike, target: ArrayLike, *, grad_out: NDArray[Any] | None = None, **options: Unpack[_OfElements]
    ) -> tuple[Any, Any]: ...

# losses: python -m bench.docs
class _SigmoidCrossEntropy:
    def __call__(self, logits: ArrayLike, target: ArrayLike, *, pos_weight: ArrayLike | None = None, **options: Unpack[_OfElements]) -> Any: ...
    def value_and_grad(self, logits: ArrayLike, target: ArrayLike, *, pos_weight: ArrayLike | None = None, grad_out: NDArray[Any] | None = None, **options: Unpack[_OfElements]) -> tuple[Any, Any]: ...
sigmoid_cross_entropy: _SigmoidCrossEntropy
binary_cross_entropy: _ElementwiseLoss
mse: _ElementwiseLoss
mae: _ElementwiseLoss
class _Huber:
    def __call__(self, input: ArrayLike, target: ArrayLike, *, delta: float = 1.0, **options: Unpack[_OfElements]) -> Any: ...
    def value_and_grad(self, input: ArrayLike, target: ArrayLike, *, delta: float = 1.0, grad_out: NDArray[Any] | None = None, **options: Unpack[_OfElements]) -> tuple[Any, Any]: ...
huber: _Huber
class _SmoothL1:
    def __call__(self, input: ArrayLike, target: ArrayLike, *, beta: float = 1.0, **options: Unpack[_OfElements]) -> Any: ...
    def value_and_grad(self, input: ArrayLike, target: ArrayLike, *, beta: float = 1.0, grad_out: NDArray[Any] | None = None, **options: Unpack[_OfElements]) -> tuple[Any, Any]: ...
smooth_l1: _SmoothL1
log_cosh: _ElementwiseLoss
hinge: _ElementwiseLoss
squared_hinge: _ElementwiseLoss
class _SigmoidFocal:
    def __call__(self, logits: ArrayLike, target: ArrayLike, *, alpha: float | None = None, gamma: float = 2.0, **options: Unpack[_OfElements]) -> Any: ...
    def value_and_grad(self, logits: ArrayLike, target: ArrayLike, *, alpha: float | None = None, gamma: float = 2.0, grad_out: NDArray[Any] | None = None, **options: Unpack[_OfElements]) -> tuple[Any, Any]: ...
sigmoid_focal: _SigmoidFocal
class _PoissonNll:
    def __call__(self, input: ArrayLike, target: ArrayLike, *, log_input: bool = True, full: bool = False, eps: float = 1e-08, **options: Unpack[_OfElements]) -> Any: ...
    def value_and_grad(self, input: ArrayLike, target: ArrayLike, *, log_input: bool = True, full: bool = False, eps: float = 1e-08, grad_out: NDArray[Any] | None = None, **options: Unpack[_OfElements]) -> tuple[Any, Any]: ...
poisson_nll: _PoissonNll
class _GaussianNll:
    def __call__(self, input: ArrayLike, target: ArrayLike, var: ArrayLike, *, full: bool = False, eps: float = 1e-06, **options: Unpack[_OfElements]) -> Any: ...
    def value_and_grad(self, input: ArrayLike, target: ArrayLike, var: ArrayLike, *, full: bool = False, eps: float = 1e-06, grad_out: NDArray[Any] | None = None, var_grad: bool | NDArray[Any] = False, **options: Unpack[_OfElements]) -> tuple[Any, Any]: ...
gaussian_nll: _GaussianNll
# end

class _KlDiv:
    def __call__(
        self,
        log_probs: ArrayLike,
        probs: ArrayLike,
        *,
        log_target: bool = False,
        axis: int = -1,
        reduction: _Reduction = "mean",
        stream: Any = None,
    ) -> Any: ...
    def value_and_grad(
        self,
        log_probs: ArrayLike,
        probs: ArrayLike,
        *,
        log_target: bool = False,
        axis: int = -1,
        reduction: _Reduction = "mean",
        grad_out: NDArray[Any] | None = None,
        stream: Any = None,
    ) -> tuple[Any, NDArray[Any]]: ...

class _NllLoss:
    def __call__(self, log_probs: ArrayLike, target: ArrayLike, **options: Unpack[_OfRows]) -> Any: ...
    def value_and_grad(
        self, log_probs: ArrayLike, target: ArrayLike, *, grad_out: NDArray[Any] | None = None, **options: Unpack[_OfRows]
    ) -> tuple[Any, NDArray[Any]]: ...

class _CategoricalCrossEntropy:
    def __call__(self, probs: ArrayLike, target: ArrayLike, **options: Unpack[_OfRows]) -> Any: ...
    def value_and_grad(
        self, probs: ArrayLike, target: ArrayLike, *, grad_out: NDArray[Any] | None = None, **options: Unpack[_OfRows]
    ) -> tuple[Any, NDArray[Any]]: ...

nll_loss: _NllLoss
categorical_cross_entropy: _CategoricalCrossEntropy
kl_div: _KlDiv
softmax_cross_entropy: _SoftmaxCrossEntropy
softmax_focal: _SoftmaxFocal
linear_softmax_cross_entropy: _LinearSoftmaxCrossEntropy

class GradientCheck:
    passed: bool
    what: str
    index: tuple[int, ...]
    analytic: float
    numeric: float
    error: float
    tolerance: float
    judged: int
    unjudged: int
    def __bool__(self) -> bool: ...

class GradientError(AssertionError):
    result: GradientCheck

def check_grad(
    function: str | Callable[..., Any], x: ArrayLike, *args: Any, tolerance: float = 1e-6, places: int = 200, seed: int = 0, **kwargs: Any
) -> GradientCheck: ...
def get(name: str | Callable[..., Any]) -> Callable[..., Any]: ...
def list_activations() -> list[str]: ...
def list_losses() -> list[str]: ...
def get_num_threads() -> int: ...
def set_num_threads(n: int) -> None: ...
@overload
def activation(function: Callable[..., float], *, derivative: Callable[..., float] | None = None) -> Activation: ...
@overload
def activation(function: None = None, *, derivative: Callable[..., float] | None = None) -> Callable[[Callable[..., float]], Activation]: ...
def get_backend() -> Literal["cython", "numba"]: ...
def set_backend(name: Literal["auto", "cython", "numba"]) -> None: ...
def use_backend(name: Literal["auto", "cython", "numba"]) -> AbstractContextManager[None]: ...
def warmup(*functions: str | Callable[..., Any], dtypes: DTypeLike | Iterable[DTypeLike] = ...) -> None: ...
def show_config() -> None: ...
