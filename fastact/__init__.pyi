from typing import Any, Literal, TypedDict

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

# table: python -m bench.docs
# end

class _Rowwise:
    gufunc: np.ufunc
    def __call__(
        self, x: ArrayLike, axis: int = -1, *, where: ArrayLike | None = None, temperature: float = 1.0, out: _Out = None
    ) -> Any: ...
    def backward(
        self, grad_output: ArrayLike, *, output: ArrayLike, axis: int = -1, temperature: float = 1.0, out: _Out = None
    ) -> Any: ...

class _LogSumExp:
    gufunc: np.ufunc
    def __call__(
        self, x: ArrayLike, axis: int = -1, *, keepdims: bool = False, where: ArrayLike | None = None, temperature: float = 1.0, out: _Out = None
    ) -> Any: ...
    def backward(
        self, grad_output: ArrayLike, x: ArrayLike, axis: int = -1, *, temperature: float = 1.0, out: _Out = None
    ) -> Any: ...

softmax: _Rowwise
log_softmax: _Rowwise
softmin: _Rowwise
logsumexp: _LogSumExp

class _SoftmaxCrossEntropy:
    def __call__(
        self,
        logits: ArrayLike,
        target: ArrayLike,
        *,
        axis: int = -1,
        weight: ArrayLike | None = None,
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
        z_loss: float = 0.0,
        reduction: Literal["mean", "sum", "none"] = "mean",
    ) -> Any: ...
    def value_and_grad(
        self,
        logits: ArrayLike,
        target: ArrayLike,
        *,
        axis: int = -1,
        weight: ArrayLike | None = None,
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
        z_loss: float = 0.0,
        reduction: Literal["mean", "sum", "none"] = "mean",
        grad_out: NDArray[Any] | None = None,
    ) -> tuple[Any, NDArray[Any]]: ...

softmax_cross_entropy: _SoftmaxCrossEntropy

def list_activations() -> list[str]: ...
def list_losses() -> list[str]: ...
def get_num_threads() -> int: ...
def set_num_threads(n: int) -> None: ...
def show_config() -> None: ...
