"""Functions of arrays on a GPU: the emulator's everywhere, with ``pytest -m gpu`` those of a real one.

What they compute is compared with what the same function gives for NumPy's arrays, whose promises other tests hold.
"""

import contextlib
import functools
import importlib.metadata
import importlib.util
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from cases import DTYPES, FROM_OUTPUT, HALF_TYPES, NAMES, breaking_points, defaults, parameter_cases, promised_ulp
from emulator import machine
from fake_gpu import CALCULATING, GPUS, Fake, FakeArray, TorchOnEmulator, aligned, part, why_no_gpu
from oracle import SELF_GATED, largest_terms
from ulp import worst

import fastact as fa
from fastact import devices
from fastact import gpu as gpu_functions
from fastact._kernels import cuda_intervals, numba_half, numba_scalar, reference
from fastact._kernels.cuda_kernels import VECTOR, lanes
from fastact.table import ELEMENTWISE_LOSSES


@pytest.fixture(params=GPUS)
def gpu(request, monkeypatch):
    with request.param().running(monkeypatch) as running:
        yield running


@pytest.fixture(params=CALCULATING)
def calculating(request, monkeypatch):
    with request.param().running(monkeypatch) as running:
        yield running


@pytest.fixture
def emulator(monkeypatch):
    with Fake().running(monkeypatch) as running:
        yield running


def agree(found, wanted, ulp=8, near_zero=0.0):
    """Within so many units in the last place, or near_zero of them of 1."""
    wanted = np.asarray(wanted)
    assert found.shape == wanted.shape
    assert found.dtype == wanted.dtype
    dtype = found.dtype
    if dtype.kind in "iu":
        np.testing.assert_array_equal(found, wanted)
        return
    eps = float(np.finfo(dtype).eps) if dtype.kind == "f" else 2.0**-7
    if dtype.itemsize == 2:
        ulp = 1.01
    found, wanted = found.astype(np.float64), wanted.astype(np.float64)
    tiny = {2: 2.0**-24, 4: 2.0**-149, 8: 5e-324}[dtype.itemsize]
    np.testing.assert_allclose(found, wanted, rtol=ulp * eps, atol=max(near_zero * eps, 2 * tiny))


def points(dtype, count=83):
    """Numbers where formulas break, and others."""
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 0.5, -0.5, 3.0, -3.0, 6.0, 20.0, -20.0, 88.0, -88.0, 1e-4, -1e-4]
    others = np.random.default_rng(1).normal(0, 4, count - len(special))
    return np.concatenate([special, others]).astype(dtype)


class TestElementwise:
    @pytest.mark.parametrize("name, parameters", parameter_cases())
    def test_values(self, gpu, name, parameters):
        x = points(np.float32)
        function = getattr(fa, name)
        agree(gpu.numpy(function(gpu.array(x), *parameters)), function(x, *parameters))

    @pytest.mark.parametrize("name, parameters", parameter_cases())
    def test_derivative(self, gpu, name, parameters):
        x = points(np.float32)
        function = getattr(fa, name).derivative
        agree(gpu.numpy(function(gpu.array(x), *parameters)), function(x, *parameters), near_zero=4)

    @pytest.mark.parametrize("name", [name for name in NAMES if name != "prelu"])
    def test_backward(self, gpu, rng, name):
        x = points(np.float32)
        grad = rng.normal(size=x.shape).astype(np.float32)
        backward = getattr(fa, name).backward
        found = backward(gpu.array(grad), gpu.array(x), *defaults(name))
        agree(gpu.numpy(found), backward(grad, x, *defaults(name)), near_zero=8)

    @pytest.mark.parametrize("name", FROM_OUTPUT)
    def test_backward_from_output(self, gpu, rng, name):
        y = getattr(fa, name)(rng.normal(size=83).astype(np.float32), *defaults(name))
        grad = rng.normal(size=y.shape).astype(np.float32)
        backward = getattr(fa, name).backward
        found = backward(gpu.array(grad), output=gpu.array(y))
        agree(gpu.numpy(found), backward(grad, output=y), near_zero=8)

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("name", ["relu", "gelu", "softplus", "hardtanh"])
    def test_dtypes(self, gpu, name, dtype):
        x = points(dtype)
        agree(gpu.numpy(getattr(fa, name)(gpu.array(x))), getattr(fa, name)(x))

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 7, 8, 9, 255, 1024, 1025, 2049])
    def test_sizes(self, gpu, rng, size, dtype):
        x = rng.normal(size=size).astype(dtype)
        agree(gpu.numpy(fa.relu(gpu.array(x))), fa.relu(x))

    @pytest.mark.parametrize("index", [np.s_[:, ::2], np.s_[::-1], np.s_[:, :, 1:], np.s_[0, 0, 0], np.s_[1:1], np.s_[:, None],
                                       np.s_[..., 2]])  # fmt: skip
    def test_strides(self, gpu, rng, index):
        x = rng.normal(size=(5, 6, 7)).astype(np.float32)
        agree(gpu.numpy(fa.silu(part(gpu.array(x), index))), fa.silu(x[index]))

    def test_transposed_arrays_are_one_piece(self, emulator, rng):
        x = rng.normal(size=(8, 16)).astype(np.float32)
        out = aligned((16, 8), np.float32).T
        fa.relu(emulator.array(x), out=FakeArray(out))
        np.testing.assert_array_equal(out, fa.relu(x))
        fa.relu(FakeArray(out.T), out=FakeArray(out.T))
        assert [name for name, _ in emulator.emulator.launches] == ["strided", "contiguous"]

    def test_misaligned_arrays(self, emulator, rng):
        x = aligned(1000, np.float32, offset=1)
        x[...] = rng.normal(size=1000)
        agree(fa.gelu(FakeArray(x)).values, fa.gelu(x))

    def test_parameters_that_vary(self, gpu, rng):
        x = rng.normal(size=(3, 5, 4)).astype(np.float32)
        slopes = rng.uniform(0, 1, size=(5, 1)).astype(np.float32)
        agree(gpu.numpy(fa.leaky_relu(gpu.array(x), gpu.array(slopes))), fa.leaky_relu(x, slopes))
        grad = rng.normal(size=x.shape).astype(np.float32)
        low, high = (np.full(x.shape, value, np.float32) for value in (-0.5, 0.5))
        found = fa.hardtanh.backward(gpu.array(grad), gpu.array(x), gpu.array(low), 0.25)
        agree(gpu.numpy(found), fa.hardtanh.backward(grad, x, low, 0.25))
        found = fa.hardtanh(gpu.array(x), gpu.array(low), max_val=gpu.array(high))
        agree(gpu.numpy(found), fa.hardtanh(x, low, high))

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("shape", [None, (), (1,), (5, 1), (4,), (3, 1, 1), (3, 5, 4)], ids=str)
    def test_prelu_backward(self, gpu, rng, shape, dtype):
        x, grad = rng.normal(size=(2, 3, 5, 4)).astype(dtype)
        weight = 0.25 if shape is None else rng.uniform(0, 1, size=shape).astype(dtype)
        found = fa.prelu.backward(gpu.array(grad), gpu.array(x), weight if shape is None else gpu.array(weight))
        for one, wanted in zip(found, fa.prelu.backward(grad, x, weight), strict=True):
            agree(gpu.numpy(one), np.asarray(wanted), near_zero=16)

    @pytest.mark.parametrize("dtypes", [(np.float32, np.float64), (np.float64, np.float32), (np.float16, np.float32),
                                        (np.float32, np.int64), (np.int32, np.float32), (np.uint8, np.float16)], ids=str)  # fmt: skip
    def test_dtypes_that_differ(self, gpu, rng, dtypes):
        grad, x = (np.asarray(4 * rng.normal(size=50) % 9 if kind().dtype.kind in "iu" else rng.normal(size=50)).astype(kind)
                   for kind in dtypes)  # fmt: skip
        agree(gpu.numpy(fa.gelu.backward(gpu.array(grad), gpu.array(x))), fa.gelu.backward(grad, x), near_zero=4)
        agree(gpu.numpy(fa.swiglu(gpu.array(grad), gpu.array(x))), fa.swiglu(grad, x), near_zero=4)

    @pytest.mark.parametrize("dtype", [bool, np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64])
    def test_integers_become_what_exp_makes_of_them(self, gpu, dtype):
        x = np.arange(0, 60, 7).astype(dtype)
        x[-1] = np.iinfo(dtype).max if dtype is not bool else True
        for call in (fa.silu, fa.elu, lambda x: fa.hardtanh(x, -0.5, 7.5)):  # with parameters that stay numbers
            agree(gpu.numpy(call(gpu.array(x))), call(x))

    @pytest.mark.parametrize("dtype", [bool, np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64])
    @pytest.mark.parametrize("name", ["relu", "identity"])
    def test_integers_that_stay_integers(self, gpu, name, dtype):
        x, function = np.arange(-40, 380).reshape(20, 21).astype(dtype), getattr(fa, name)
        where = x % 3 == 1
        for index in np.s_[:], np.s_[:, ::2]:
            agree(gpu.numpy(function(gpu.array(x)[index])), function(x[index]), ulp=0)
        agree(gpu.numpy(function(gpu.array(x[3, 4]))), np.asarray(function(x[3, 4])), ulp=0)
        out = gpu.array(np.full(x.shape, 7, function(x).dtype))
        assert function(gpu.array(x), out=out, where=gpu.array(where)) is out
        np.testing.assert_array_equal(gpu.numpy(out), np.where(where, function(x), 7))
        agree(gpu.numpy(function(gpu.array(x), dtype=np.float64)), function(x, dtype=np.float64), ulp=0)
        if dtype is np.int16:
            agree(gpu.numpy(function(gpu.array(x), dtype=np.int64)), function(x, dtype=np.int64), ulp=0)
        agree(gpu.numpy(function.derivative(gpu.array(x))), function.derivative(x), ulp=0)

    def test_half_types_with_parameters_that_are_not(self, gpu, rng):
        x = rng.normal(size=(7, 9)).astype(np.float16)
        slopes = rng.uniform(size=(7, 1)).astype(np.float32)
        found, wanted = gpu.numpy(fa.leaky_relu(gpu.array(x), gpu.array(slopes))), fa.leaky_relu(x, slopes)
        assert found.dtype == wanted.dtype == np.float16
        np.testing.assert_array_equal(found, wanted)

    @pytest.mark.parametrize("name", ["sigmoid", "elu"])
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("given", [np.float64, np.float32, np.int64])
    def test_dtype(self, gpu, rng, given, dtype, name):
        x = np.concatenate([rng.normal(0, 5, 60), [0, 1e5, -1e5]]).astype(given)
        function = getattr(fa, name)
        try:
            wanted = function(x, dtype=dtype)
        except TypeError:  # to bfloat16 NumPy casts nothing by itself
            wanted = function(x.astype(dtype))
        agree(gpu.numpy(function(gpu.array(x), dtype=dtype)), wanted)

    def test_numbers_between_two_halves_are_rounded_once(self, gpu):
        between = 1 + 2.0**-11  # of float16
        x = np.array([between, between + 2.0**-40, between - 2.0**-40, 1 + 3 * 2.0**-11 - 2.0**-40, 1e300, -1e-300, np.nan, np.inf, 65519.9999999])
        x = np.concatenate([x, -x])
        with np.errstate(over="ignore"):
            wanted = x.astype(np.float16)
        np.testing.assert_array_equal(gpu.numpy(fa.identity(gpu.array(x), dtype=np.float16)), wanted)

    def test_out_of_another_dtype(self, gpu, rng):
        x = rng.normal(size=(5, 8))
        out = gpu.array(np.zeros((5, 8), np.float16))
        assert fa.tanh(gpu.array(x), out=out) is out
        np.testing.assert_array_equal(gpu.numpy(out), fa.tanh(x).astype(np.float16))

    @pytest.mark.parametrize("mask_shape", [(6, 10), (10,), (6, 1), (3, 6, 10), ()], ids=str)
    def test_where(self, gpu, rng, mask_shape):
        x, where = rng.normal(size=(6, 10)).astype(np.float32), rng.uniform(size=mask_shape) < 0.5
        shape = np.broadcast_shapes(x.shape, mask_shape)
        out = gpu.array(np.full(shape, 7, np.float32))
        assert fa.gelu(gpu.array(x), out=out, where=gpu.array(np.asarray(where))) is out
        wanted = np.full(shape, 7, np.float32)
        fa.gelu(x, out=wanted, where=where)
        agree(gpu.numpy(out), wanted)

    def test_where_in_place_and_of_a_backward_pass(self, gpu, rng):
        x, grad = rng.normal(size=(2, 300)).astype(np.float32)
        where = x > 0
        on_gpu, mask = gpu.array(x), gpu.array(where)
        fa.silu.backward(gpu.array(grad), on_gpu, out=on_gpu, where=mask)
        fa.silu.backward(grad, x, out=x, where=where)
        agree(gpu.numpy(on_gpu), x, near_zero=8)
        found = gpu.numpy(fa.relu(on_gpu, where=mask))
        np.testing.assert_array_equal(found[where], np.maximum(gpu.numpy(on_gpu)[where], 0))

    def test_arrays_broadcast(self, gpu, rng):
        x, grad = rng.normal(size=(4, 1)).astype(np.float32), rng.normal(size=3).astype(np.float32)
        agree(gpu.numpy(fa.silu.backward(gpu.array(grad), gpu.array(x))), fa.silu.backward(grad, x))

    def test_out(self, gpu, rng):
        x = rng.normal(size=100).astype(np.float32)
        on_gpu, out = gpu.array(x), gpu.array(np.zeros_like(x))
        assert fa.tanh(on_gpu, out=out) is out
        agree(gpu.numpy(out), fa.tanh(x))
        assert fa.tanh(on_gpu, on_gpu) is on_gpu
        agree(gpu.numpy(on_gpu), fa.tanh(x))

    def test_out_that_overlaps(self, gpu, rng):
        x = rng.normal(size=3000).astype(np.float32)
        on_gpu = gpu.array(x)
        fa.sigmoid(on_gpu[:-1], out=on_gpu[1:])
        agree(gpu.numpy(on_gpu)[1:], fa.sigmoid(x[:-1]))


@pytest.mark.gpu
@pytest.mark.skipif(bool(why_no_gpu()), reason=why_no_gpu())
def test_real_gpus_are_tested():
    assert len(GPUS) > 1, "needs CuPy, PyTorch or Numba"


class TestPyTorchOnEmulator:
    """PyTorch's own tensors, in the CPU's memory."""

    @pytest.fixture
    def torch(self, monkeypatch):
        pytest.importorskip("torch")
        with TorchOnEmulator().running(monkeypatch) as running:
            yield running

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_dtypes(self, torch, dtype):
        x = points(dtype)
        agree(torch.numpy(fa.gelu(torch.array(x))), fa.gelu(x))

    def test_strides_and_out(self, torch, rng):
        x = rng.normal(size=(6, 4)).astype(np.float32)
        tensor = torch.array(x)
        out = torch.array(np.zeros((4, 6), np.float32))
        assert fa.silu(tensor.T, out=out) is out
        agree(torch.numpy(out), fa.silu(x.T.copy()))
        assert fa.silu(tensor.T).stride() == tensor.T.stride()

    def test_derived_types(self, torch):
        import torch as t

        tensor = t.ones(5).as_subclass(type("Special", (t.Tensor,), {"__module__": "somebody"}))
        agree(torch.numpy(fa.gelu(tensor)).copy(), fa.gelu(np.ones(5, np.float32)))

    def test_gradients_are_no_obstacle(self, torch):
        import torch as t

        x = t.ones(5, requires_grad=True)
        assert not fa.relu(x).requires_grad

    def test_a_backward_pass_that_needs_what_was_in_out_says_so(self, torch):
        import torch as t

        x = t.ones(5, requires_grad=True)
        y = x + 1
        loss = (y * y).sum()
        fa.relu(x, out=y)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()

    def test_tensors_that_are_still_to_be_negated(self, torch):
        import torch as t

        x = t.tensor([1 + 2j]).conj().imag
        with pytest.raises(ValueError, match="resolve_neg"):
            fa.relu(x)
        assert fa.relu(x.resolve_neg()).item() == 0

    def test_its_default_stream(self, monkeypatch):
        """By the handle that CUDA has for it PyTorch does not know it."""
        cuda = pytest.importorskip("torch").cuda
        monkeypatch.setattr(cuda, "stream", lambda stream: stream)
        monkeypatch.setattr(cuda, "default_stream", lambda device: ("default", device))
        monkeypatch.setattr(cuda, "ExternalStream", lambda handle, device: (handle, device))
        like = type("Tensor", (), {"device": 3})()
        assert [devices.PyTorch().allocating_on(stream, like) for stream in (1, 2, 4096)] == [("default", 3), (2, 3), (4096, 3)]


BRIEF_FORMULAS = numba_half.brief_formulas(numba_scalar.formulas(np.float32, machine("float16")), machine("float16"))
BRIEF = [case for case in (*parameter_cases(), ("squareplus", (0.0,))) if case[0] in BRIEF_FORMULAS]


class TestBriefFormulas:
    """What takes the place of exact formulas for half types."""

    @staticmethod
    def evaluated(name, kind, dtype, parameters):
        """Half numbers, from zero to infinity and NaN, and what a formula makes of them in float32."""
        x = np.arange(5, 1 << 16, 37, dtype=np.uint16).view(dtype).astype(np.float32)
        formula, numbers = BRIEF_FORMULAS[name + kind], [np.float32(number) for number in parameters]
        with np.errstate(all="ignore"):
            return x.astype(np.float64), np.array([formula(number, *numbers) for number in x])

    @staticmethod
    def check(x, found, wanted, dtype, terms=0.0):
        """Within a hundredth of the last place that a result has, or terms of that size have."""
        digits, smallest = (10, -24) if np.dtype(dtype) == np.float16 else (7, -133)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            wanted = wanted.astype(np.float32).astype(np.float64)
            place = 2.0 ** np.maximum(np.floor(np.log2(np.maximum(np.abs(wanted), terms))) - digits, smallest)
            right = (np.abs(found - wanted) <= 0.01 * place) | (found == wanted) | np.isnan(found) & np.isnan(wanted)
        assert np.all(right), (x[~right], found[~right], wanted[~right])

    @pytest.mark.parametrize("dtype", HALF_TYPES)
    @pytest.mark.parametrize("name, parameters", BRIEF)
    def test_values(self, name, parameters, dtype):
        x, found = self.evaluated(name, "", dtype, parameters)
        self.check(x, found, getattr(fa, name)(x, *parameters), dtype)

    @pytest.mark.parametrize("dtype", HALF_TYPES)
    @pytest.mark.parametrize("name, parameters", BRIEF)
    def test_derivatives(self, name, parameters, dtype):
        """Whose terms are larger than 0.2 where x w(x) has zeros."""
        x, found = self.evaluated(name, "_derivative", dtype, parameters)
        terms = np.where((np.abs(x) < 2) & (name in SELF_GATED), 0.2, 0)
        self.check(x, found, getattr(fa, name).derivative(x, *parameters), dtype, terms)

NEAR, BEYOND = cuda_intervals.formulas(numba_scalar.formulas(np.float32, machine("float32")), machine("float32"))


class TestIntervals:
    """What takes the place of exact formulas for float32 where a table has intervals."""

    @staticmethod
    def evaluated(formula, name):
        """The formula's numbers at points where it is to be used."""
        x = np.unique(np.concatenate([breaking_points(np.float32, 500), np.random.default_rng(2).uniform(-11, 11, 1500).astype(np.float32)]))
        numbers = [np.float32(number) for number in defaults(name)]
        with np.errstate(all="ignore"):
            x = x[[not BEYOND[formula](number, *numbers) for number in x]]
            return x, np.array([NEAR[formula](number, *numbers) for number in x])

    @pytest.mark.parametrize("kind", ["forward", "derivative"])
    @pytest.mark.parametrize("name", [name for name in NAMES if name in NEAR])
    def test_accuracy(self, name, kind):
        x, found = self.evaluated(name + "_derivative" * (kind == "derivative"), name)
        wide, numbers = x.astype(np.float64), defaults(name)
        with np.errstate(all="ignore"):
            values, slopes = reference.FORWARD[name](wide, *numbers), reference.DERIVATIVE[name](wide, *numbers)
            terms = largest_terms(name, wide, numbers, values, slopes)
        of_slope = kind == "derivative"
        error, where = worst(found, (values, slopes)[of_slope], np.float32, x, terms[of_slope])
        assert error <= promised_ulp(name, np.float32, kind), where

    @pytest.mark.parametrize("name", [name for name in NEAR if name in NAMES])
    def test_not_a_number(self, name):
        with np.errstate(all="ignore"):
            assert np.isnan(NEAR[name](np.float32(np.nan), *map(np.float32, defaults(name))))

    @pytest.mark.parametrize("parameter", [0.5, 2.0])
    @pytest.mark.parametrize("name", ["softplus", "swish", "celu", "squareplus"])
    def test_other_parameters_are_left_to_the_exact_formula(self, name, parameter):
        assert BEYOND[name](np.float32(1), np.float32(parameter))

    @pytest.mark.parametrize("kind", ["forward", "derivative"])
    @pytest.mark.parametrize("error", [-(2.0**-22), 2.0**-22])
    def test_estimates_as_bad_as_a_gpu_s(self, monkeypatch, kind, error):
        exact = machine("float32")
        worse = {name: lambda x, f=vars(exact)[name]: f(x) * np.float32(1 + error) for name in ("reciprocal", "reciprocal_root")}
        formulas = cuda_intervals.formulas(numba_scalar.formulas(np.float32, exact), SimpleNamespace(**vars(exact) | worse))[0]
        monkeypatch.setattr(sys.modules[__name__], "NEAR", formulas)
        self.test_accuracy("squareplus", kind)

    def test_elements_beside_those_beyond(self, emulator):
        """Each thread has both."""
        x = np.tile(np.float32([0.3, -300, 2, -9, 40, -1, 12, -12, 0.1, 5, -50, 7]), 3)
        for name in ("gelu", "silu", "mish", "softplus"):
            agree(emulator.numpy(getattr(fa, name)(emulator.array(x))), getattr(fa, name)(x))
            agree(emulator.numpy(getattr(fa, name).backward(emulator.array(x), emulator.array(x))), getattr(fa, name).backward(x, x))


class TestMistakes:
    def test_other_dtypes(self, gpu):
        with pytest.raises(TypeError, match="float16, bfloat16, float32 or float64 on a GPU, not int64"):
            fa.softmax(gpu.array(np.arange(3)))
        with pytest.raises(TypeError, match="gelu"):
            fa.gelu(gpu.array(np.ones(3, np.complex64)))

    def test_dtypes_that_differ(self, gpu):
        x = gpu.array(np.ones((3, 3), np.float32))
        with pytest.raises(TypeError, match="grad_output must be float32 as output is, not float64"):
            fa.softmax.backward(gpu.array(np.ones((3, 3))), output=x)
        with pytest.raises(TypeError, match="out must be of dtype float32, not int64"):
            fa.gelu(x, out=gpu.array(np.ones((3, 3), int)))
        with pytest.raises(TypeError, match="No loop matching"):
            fa.gelu(x, dtype=int)

    def test_arrays_here_and_there(self, gpu):
        x = gpu.array(np.ones(3, np.float32))
        with pytest.raises(TypeError, match="grad_output must be one too, not ndarray"):
            fa.gelu.backward(np.ones(3, np.float32), x)
        with pytest.raises(TypeError, match="out must be an array"):
            fa.gelu(x, out=np.ones(3, np.float32))
        with pytest.raises(TypeError, match="numbers or arrays on the GPU"):
            fa.leaky_relu(x, np.ones(3, np.float32))

    def test_shapes(self, gpu):
        x = gpu.array(np.ones(3, np.float32))
        with pytest.raises(ValueError, match="broadcast"):
            fa.gelu.backward(x, gpu.array(np.ones(4, np.float32)))
        with pytest.raises(ValueError, match=r"out must be a writeable array of shape \(3,\), not \(4,\)"):
            fa.gelu(x, out=gpu.array(np.ones(4, np.float32)))

    @pytest.mark.parametrize("keyword", ["casting", "order", "subok"])
    def test_keywords_of_ufuncs(self, gpu, keyword):
        with pytest.raises(TypeError, match=f"takes no {keyword} where arrays are on a GPU"):
            fa.gelu(gpu.array(np.ones(3, np.float32)), **{keyword: None})

    def test_masks(self, gpu):
        x = gpu.array(np.ones(3, np.float32))
        with pytest.raises(TypeError, match="where must be one too, not ndarray"):
            fa.gelu(x, where=np.ones(3, bool))
        with pytest.raises(TypeError, match="where must be of dtype bool, not float32"):
            fa.gelu(x, where=x)

    def test_stream_is_for_gpus(self):
        with pytest.raises(TypeError, match="unexpected keyword argument 'stream'"):
            fa.gelu([1.0], stream=0)
        calls = (lambda: fa.softmax(np.ones(3), stream=0), lambda: fa.logsumexp(np.ones(3), stream=0),
                 lambda: fa.mse(np.ones(3), 0.0, stream=0), lambda: fa.softmax_cross_entropy(np.ones((1, 3)), [0], stream=0))  # fmt: skip
        for call in calls:
            with pytest.raises(TypeError, match="stream is for arrays on a GPU"):
                call()

    def test_read_only_out(self, emulator):
        values = np.ones(3, np.float32)
        values.flags.writeable = False
        with pytest.raises(ValueError, match="writeable"):
            fa.gelu(emulator.array(np.ones(3, np.float32)), out=FakeArray(values))

    def test_without_numba_cuda_the_extra_is_named(self, monkeypatch):
        devices.launcher.cache_clear()
        monkeypatch.setattr(devices.importlib.util, "find_spec", lambda name: None)
        monkeypatch.setitem(devices.LIBRARIES, "fake_gpu", Fake().library)
        with pytest.raises(ImportError, match=r"fastact\[cuda\]"):
            fa.gelu(FakeArray(np.ones(3, np.float32)))

    @pytest.mark.parametrize("installed, gpu, told", [
        (False, None, "none; pip install 'fastact[cuda]'"), (True, None, "numba-cuda 1.2, but no GPU"), (True, b"A GPU", "numba-cuda 1.2, A GPU (sm_90)"),
    ])  # fmt: skip
    def test_show_config_tells(self, monkeypatch, capsys, installed, gpu, told):
        cuda, find_spec, version = pytest.importorskip("numba.cuda"), importlib.util.find_spec, importlib.metadata.version
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: (installed or None) if name == "numba_cuda" else find_spec(name))
        monkeypatch.setattr(importlib.metadata, "version", lambda name: "1.2" if name == "numba-cuda" else version(name))
        monkeypatch.setattr(cuda, "is_available", lambda: gpu is not None)
        monkeypatch.setattr(cuda, "get_current_device", lambda: SimpleNamespace(name=gpu, compute_capability=(9, 0)))
        fa.show_config()
        assert [line.split(maxsplit=1)[1] for line in capsys.readouterr().out.splitlines() if line.startswith("cuda ")] == [told]

    @pytest.mark.skipif(why_no_gpu() != "needs a GPU", reason="needs numba-cuda and no GPU")
    def test_show_config_tells_that_there_is_no_gpu(self, capsys):
        fa.show_config()
        assert "but no GPU" in capsys.readouterr().out

    @pytest.mark.skipif(why_no_gpu() != "needs a GPU", reason="needs numba-cuda and no GPU")
    def test_without_a_gpu_an_error_says_so(self):
        devices.launcher.cache_clear()
        with pytest.raises(RuntimeError, match=r"^arrays on a GPU need a GPU that fastact\[cuda\] can use: CUDA .*[^\s]$"):  # one line
            fa.gelu(FakeArray(np.ones(3, np.float32)))

    def test_two_libraries(self, emulator):
        x = FakeArray(np.ones(3, np.float32))
        other = type("Other", (), {"__module__": "other_library", "__cuda_array_interface__": x.__cuda_array_interface__})()
        with pytest.raises(TypeError, match="takes arrays of one library, not of fake_gpu and other_library"):
            fa.gelu.backward(emulator.array(np.ones(3, np.float32)), other)


class TestManyElements:
    """More than 2^31, of which only the last are there: the last blocks run, on memory that nobody touches before those."""

    COUNT, ROWS = 2**31 + 1003, 2**22 + 5

    @pytest.fixture
    def last(self, emulator):
        emulator.emulator.last = 2
        return 400  # elements, which two blocks have for certain

    @pytest.mark.parametrize("name", ["contiguous", "strided"])
    def test_elements(self, emulator, last, rng, name):
        x, out = np.empty(self.COUNT, np.float16), np.empty(self.COUNT, np.float16)
        backwards = x[::-1] if name == "strided" else x
        backwards[-last:] = rng.normal(size=last)
        fa.silu(FakeArray(backwards), out=FakeArray(out))
        assert emulator.emulator.launches[0][0] == name
        np.testing.assert_array_equal(out[-last:], fa.silu(backwards[-last:]))

    def test_rows(self, emulator, last, rng):
        x = np.empty((self.ROWS, 512), np.float16)
        given = x[-4:] = rng.normal(size=(4, 512))
        fa.softmax(FakeArray(x), out=FakeArray(x))
        agree(x[-4:], fa.softmax(given.astype(np.float16)))

    def test_classes(self, emulator, last, rng):
        x, target = np.empty((self.ROWS, 512), np.float16), np.zeros(self.ROWS, np.int16)
        given = x[-4:] = rng.normal(size=(4, 512))
        target[-4:] = wanted = rng.integers(0, 512, 4)
        fa.softmax_cross_entropy.value_and_grad(FakeArray(x), FakeArray(target), grad_out=FakeArray(x), reduction="none")
        agree(x[-4:], fa.softmax_cross_entropy.value_and_grad(given.astype(np.float16), wanted, reduction="none")[1])


class OfSomebody:
    """An array of a library that fastact does not know, which says what ``__cuda_array_interface__`` can say."""

    __module__ = "somebody"

    def __init__(self, values, **about):
        self.values, self.__cuda_array_interface__ = values, FakeArray(values).__cuda_array_interface__ | about


class TestAnyLibrary:
    @pytest.fixture
    def waits(self, emulator, monkeypatch):
        """Where arrays of any library are on the emulator: which stream waited for which other one."""
        waits, operand = [], devices.Interface.operand

        def known(self, array):
            emulator.emulator.memory.add(array.values)
            return operand(self, array)

        monkeypatch.setattr(devices.Interface, "operand", known)
        monkeypatch.setattr(devices.Interface, "device", lambda self, array: 0)
        monkeypatch.setattr(emulator.emulator, "wait", lambda *streams: waits.append(streams))
        return waits

    @pytest.mark.parametrize("streams, stream, on, waited", [
        ((None, None, None), None, 1, []), ((7, 7, 7), None, 7, []), ((7, None, 7), None, 7, []), ((2, 1, None), None, 2, [(2, 1)]),
        ((None, 7, 9), None, 1, [(1, 7), (1, 9)]), ((7, 9, None), 9, 9, [(9, 7)]), ((7, 7, 9), 0, 1, [(1, 7), (1, 7), (1, 9)]),
    ])  # fmt: skip
    def test_work_waits_for_what_is_done_to_arrays_elsewhere(self, emulator, waits, monkeypatch, streams, stream, on, waited):
        seen, launch = [], emulator.emulator.launch
        monkeypatch.setattr(emulator.emulator, "launch", lambda *args: (seen.append((args[-1], list(waits))), launch(*args)))
        grad, x, out = (np.full(5, k, np.float32) for k in (2, 3, 0))
        arrays = [OfSomebody(values, stream=one) for values, one in zip((grad, x, out), streams)]
        assert fa.relu.backward(*arrays[:2], out=arrays[2], stream=stream) is arrays[2]
        assert seen == [(on, waited)]
        np.testing.assert_array_equal(out, grad)

    def test_new_arrays_name_their_stream(self, monkeypatch):
        cuda = pytest.importorskip("numba.cuda", reason="needs Numba")
        monkeypatch.setattr(cuda, "device_array", lambda shape, dtype, stream: (shape, dtype.name, stream))
        monkeypatch.setattr(cuda, "external_stream", lambda handle: f"stream {handle}")
        made = [devices.Interface().empty(None, (2, 3), "float32", stream) for stream in (1, 7)]
        assert made == [((2, 3), "float32", 0), ((2, 3), "float32", "stream 7")]

    def test_numbers_of_another_byte_order(self, waits):
        with pytest.raises(TypeError, match=">f4"):
            fa.softmax(OfSomebody(np.ones(3, ">f4")))
        with pytest.raises(TypeError, match=">f4"):
            fa.relu(OfSomebody(np.ones(3, ">f4")), out=OfSomebody(np.ones(3, np.float32)))

    def test_arrays_that_are_only_to_be_read(self, waits):
        values = np.ones(3, np.float32)
        values.flags.writeable = False
        out = np.zeros(3, np.float32)
        fa.relu(OfSomebody(values), out=OfSomebody(out))
        np.testing.assert_array_equal(out, values)
        with pytest.raises(ValueError, match="must be a writeable array"):
            fa.relu(OfSomebody(out), out=OfSomebody(values))


class TestStreams:
    def test_new_arrays_belong_to_the_stream(self, emulator, monkeypatch):
        contexts, made, empty = [], [], emulator.library.empty

        @contextlib.contextmanager
        def allocating_on(stream, like):
            contexts.append(stream)
            yield

        monkeypatch.setattr(emulator.library, "allocating_on", allocating_on)
        monkeypatch.setattr(emulator.library, "empty", lambda *about: (made.append(about[-1]), empty(*about))[1])
        x = emulator.array(np.ones((2, 4), np.float32))
        fa.gelu(x)
        assert (contexts, made) == ([], [1])
        for call in (lambda: fa.gelu(x, stream=7), lambda: fa.glu.backward(x[:, :2], x, stream=7)):
            contexts.clear(), made.clear()
            call()
            assert contexts == made == [7]

    def test_of_the_caller(self, emulator, monkeypatch):
        seen = []
        launch = emulator.emulator.launch
        monkeypatch.setattr(emulator.emulator, "launch", lambda *args: (seen.append(args[-1]), launch(*args)))
        x = emulator.array(np.ones(3, np.float32))
        fa.gelu(x)
        fa.gelu(x, stream=7)
        fa.gelu(x, stream=type("Stream", (), {"ptr": 9})())
        fa.gelu(x, stream=type("Stream", (), {"cuda_stream": 0})())
        fa.gelu(x, stream=type("Stream", (), {"handle": type("Handle", (), {"__int__": lambda self: 0})()})())
        assert seen == [1, 7, 9, 1, 1]
        seen.clear()
        rows, classes = emulator.array(np.ones((2, 3), np.float32)), emulator.array(np.zeros(2, int))
        y = fa.softmax(rows, stream=5)
        fa.softmax.backward(rows, output=y, stream=5)
        fa.logsumexp(rows, stream=5, keepdims=True)
        fa.softmax_cross_entropy.value_and_grad(rows, classes, stream=5)
        fa.mse(rows, 0.0, stream=5)
        fa.prelu.backward(x, x, x, stream=5)
        fa.gelu(emulator.array(np.ones(3, int)), where=emulator.array(np.ones(3, bool)), stream=5)
        fa.nll_loss(rows, classes, stream=5)
        fa.kl_div.value_and_grad(rows, rows, stream=5)
        fa.sparsemax(rows, stream=5)
        fa.gumbel_softmax(rows, stream=5)
        fa.maxout.backward(x[:2], rows, stream=5)
        fa.softmax.jacobian(rows, stream=5)
        fa.rrelu(rows, training=True, stream=5)
        assert set(seen) == {5}
        with pytest.raises(TypeError, match="stream must be"):
            fa.gelu(x, stream="main")


WEIGHTS = np.linspace(0.5, 2, 30).astype(np.float32)
OF_CLASSES = ["nll_loss", "categorical_cross_entropy", "softmax_focal"]
SOFTMAXES = ["softmax", "log_softmax", "softmin", "logsumexp"]


class TestRows:
    @pytest.mark.parametrize("n", [1, 2, 7, 31, 32, 33, 64, 100, 257, 1000, 1025, 4100, 4101])
    @pytest.mark.parametrize("name", SOFTMAXES)
    def test_widths(self, gpu, rng, name, n):
        x = (5 * rng.normal(size=(3, n))).astype(np.float32)
        agree(gpu.numpy(getattr(fa, name)(gpu.array(x))), getattr(fa, name)(x), ulp=4, near_zero=1)

    @pytest.mark.parametrize("n", [1, 5, 40, 129, 1026, 2049])
    @pytest.mark.parametrize("name", SOFTMAXES)
    def test_backward(self, gpu, rng, name, n):
        x = rng.normal(size=(3, n)).astype(np.float32)
        function = getattr(fa, name)
        y = x if name == "logsumexp" else function(x)
        grad = rng.normal(size=x.shape[: 1 if name == "logsumexp" else 2]).astype(np.float32)
        if name == "logsumexp":
            found, wanted = function.backward(gpu.array(grad), gpu.array(x)), function.backward(grad, x)
        else:
            found, wanted = function.backward(gpu.array(grad), output=gpu.array(y)), function.backward(grad, output=y)
        agree(gpu.numpy(found), wanted, ulp=8, near_zero=4)

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("n", [5, 8, 200, 257, 2201])
    @pytest.mark.parametrize("name", SOFTMAXES)
    def test_dtypes(self, gpu, rng, name, n, dtype):
        x = rng.normal(size=(2, n)).astype(dtype)
        agree(gpu.numpy(getattr(fa, name)(gpu.array(x))), getattr(fa, name)(x), ulp=6, near_zero=2)
        if name != "logsumexp":
            y, grad = getattr(fa, name)(x), rng.normal(size=x.shape).astype(dtype)
            found = getattr(fa, name).backward(gpu.array(grad), output=gpu.array(y))
            agree(gpu.numpy(found), getattr(fa, name).backward(grad, output=y), ulp=8, near_zero=4)

    @pytest.mark.parametrize("axis", [0, 1, 2, 3])
    @pytest.mark.parametrize("name", SOFTMAXES)
    def test_axes(self, gpu, rng, name, axis):
        x = rng.normal(size=(3, 4, 5, 6)).astype(np.float32)
        function = getattr(fa, name)
        agree(gpu.numpy(function(gpu.array(x), axis)), function(x, axis), near_zero=1)
        agree(gpu.numpy(function(gpu.array(x)[:, 1:, ::2], axis)), function(x[:, 1:, ::2], axis), near_zero=1)
        if name != "logsumexp":
            y, grad = function(x, axis), rng.normal(size=x.shape).astype(np.float32)
            found = function.backward(gpu.array(grad), output=gpu.array(y), axis=axis)
            agree(gpu.numpy(found), function.backward(grad, output=y, axis=axis), near_zero=4)

    def test_wide_rows_along_the_first_axis(self, gpu, rng):
        x = rng.normal(size=(300, 3)).astype(np.float32)
        agree(gpu.numpy(fa.softmax(gpu.array(x), 0)), fa.softmax(x, 0))

    def test_a_row_that_registers_do_not_hold(self, gpu, rng):
        x = rng.normal(size=(1, 40000)).astype(np.float32)
        x[0, 35000] = 9
        agree(gpu.numpy(fa.softmax(gpu.array(x))), fa.softmax(x))

    @pytest.mark.parametrize("name", SOFTMAXES)
    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
    def test_infinities_and_nan(self, gpu, name, dtype):
        inf, nan = np.inf, np.nan
        x = np.array([[0, -inf, 1, 2], [-inf] * 4, [0, inf, 1, 2], [inf, inf, 1, 2], [0, nan, 1, 2], [nan, inf, 1, 2],
                      [-inf, -inf, -inf, 3], [1000, 1001, -1000, 0]], dtype)  # fmt: skip
        wide = np.concatenate([np.full((8, 90), -1 if name == "softmin" else -inf, dtype), x], 1)
        for rows in (x, wide):
            agree(gpu.numpy(getattr(fa, name)(gpu.array(rows))), getattr(fa, name)(rows), near_zero=1)

    def test_a_dominant_class_keeps_its_digits(self, gpu):
        for dtype in (np.float16, np.float32, np.float64):
            x = np.array([[12.0, 0.0], [0.0, 9.0]], dtype)
            agree(gpu.numpy(fa.log_softmax(gpu.array(x))), fa.log_softmax(x))

    @pytest.mark.parametrize("temperature", [0.3, 2.0, 7.0])
    @pytest.mark.parametrize("name", SOFTMAXES)
    def test_temperature(self, gpu, rng, name, temperature):
        x = (5 * rng.normal(size=(3, 70))).astype(np.float32)
        found = getattr(fa, name)(gpu.array(x), temperature=temperature)
        agree(gpu.numpy(found), getattr(fa, name)(x, temperature=temperature), ulp=4, near_zero=1)
        if name != "logsumexp":
            y = getattr(fa, name)(x, temperature=temperature)
            found = getattr(fa, name).backward(gpu.array(x), output=gpu.array(y), temperature=temperature)
            agree(gpu.numpy(found), getattr(fa, name).backward(x, output=y, temperature=temperature), near_zero=64)

    @pytest.mark.parametrize("name", ["softmax", "sparsemax"])
    def test_where_of_rows_that_registers_do_not_hold(self, gpu, rng, name):
        self.test_where(gpu, rng, name, 9000, np.float32)

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("n", [1, 7, 8, 70, 257, 515])
    @pytest.mark.parametrize("name", [*SOFTMAXES, "sparsemax"])
    def test_where(self, gpu, rng, name, n, dtype):
        x, where = rng.normal(size=(4, n)).astype(dtype), rng.uniform(size=(4, n)) < 0.7
        where[1], where[2, -1] = False, True
        x[2, where[2]] = -np.inf if name != "softmin" else np.inf  # of which none counts less than those that are left out
        x[~where] = np.inf
        function = getattr(fa, name)
        agree(gpu.numpy(function(gpu.array(x), where=gpu.array(where))), function(x, where=where), near_zero=2)
        if name == "logsumexp":
            grad = rng.normal(size=4).astype(dtype)
            found = function.backward(gpu.array(grad), gpu.array(x), where=gpu.array(where))
            agree(gpu.numpy(found), function.backward(grad, x, where=where), near_zero=4)

    @pytest.mark.parametrize("mask_shape", [(), (6,), (5, 1), (4, 1, 6), (3, 4, 5, 6)], ids=str)
    @pytest.mark.parametrize("axis", [0, 1, 2, 3])
    @pytest.mark.parametrize("name", ["softmax", "logsumexp", "sparsemax"])
    def test_masks_that_broadcast(self, gpu, rng, name, axis, mask_shape):
        x, where = rng.normal(size=(3, 4, 5, 6)).astype(np.float32), np.asarray(rng.uniform(size=mask_shape) < 0.6)
        function = getattr(fa, name)
        agree(gpu.numpy(function(gpu.array(x), axis, where=gpu.array(where))), function(x, axis, where=where), near_zero=2)

    @pytest.mark.parametrize("axis", [0, 1, 2])
    def test_masks_of_arrays_with_gaps(self, gpu, rng, axis):
        x, where, index = rng.normal(size=(6, 8, 9)).astype(np.float32), rng.uniform(size=(8, 9)) < 0.6, np.s_[..., 1:, ::2]
        found = fa.softmax(gpu.array(x)[::2][index], axis, where=gpu.array(where)[index])
        agree(gpu.numpy(found), fa.softmax(x[::2][index], axis, where=where[index]), near_zero=2)

    def test_where_in_place_and_with_other_options(self, gpu, rng):
        x, where = rng.normal(size=(4, 50)).astype(np.float32), rng.uniform(size=50) < 0.5
        wanted = fa.softmax(x, where=where, temperature=0.3)
        on_gpu = gpu.array(x)
        assert fa.softmax(on_gpu, where=gpu.array(where), temperature=0.3, out=on_gpu) is on_gpu
        agree(gpu.numpy(on_gpu), wanted)
        found = fa.logsumexp(gpu.array(x), 0, keepdims=True, where=gpu.array(where))
        agree(gpu.numpy(found), fa.logsumexp(x, 0, keepdims=True, where=where))
        agree(gpu.numpy(fa.softmax(gpu.array(x), where=True)), fa.softmax(x))
        number = np.float32(3)
        agree(gpu.numpy(fa.softmax(gpu.array(number), where=gpu.array(np.asarray(False)))), fa.softmax(np.asarray(number), where=False))

    def test_out_and_in_place(self, gpu, rng):
        x = rng.normal(size=(4, 50)).astype(np.float32)
        on_gpu = gpu.array(x)
        assert fa.softmax(on_gpu, out=on_gpu) is on_gpu
        agree(gpu.numpy(on_gpu), fa.softmax(x))

    def test_keepdims(self, gpu, rng):
        x = rng.normal(size=(4, 5, 6)).astype(np.float32)
        wanted = fa.logsumexp(x, 1, keepdims=True)
        agree(gpu.numpy(fa.logsumexp(gpu.array(x), 1, keepdims=True)), wanted)
        found = fa.logsumexp.backward(gpu.array(wanted), gpu.array(x), 1)
        agree(gpu.numpy(found), fa.logsumexp.backward(wanted, x, 1))

    @pytest.mark.parametrize("shape", [(), (0,), (3, 0), (0, 3)])
    @pytest.mark.parametrize("name", SOFTMAXES)
    def test_nothing_and_single_numbers(self, gpu, name, shape):
        x = np.ones(shape, np.float32)
        agree(gpu.numpy(getattr(fa, name)(gpu.array(x))), np.asarray(getattr(fa, name)(x)))

    def test_misaligned_rows(self, emulator, rng):
        values = aligned((5, 36), np.float32, offset=3)
        values[...] = rng.normal(size=values.shape)
        agree(fa.softmax(FakeArray(values)).values, fa.softmax(values))

    def test_mistakes(self, gpu):
        x = gpu.array(np.ones((2, 3), np.float32))
        with pytest.raises(np.exceptions.AxisError):
            fa.softmax(x, 2)
        with pytest.raises(ValueError, match="positive"):
            fa.softmax(x, temperature=0)
        with pytest.raises(TypeError, match="where must be of dtype bool, not float32"):
            fa.softmax(x, where=x)
        with pytest.raises(TypeError, match="where must be one too, not ndarray"):
            fa.sparsemax(x, where=np.ones(3, bool))
        with pytest.raises(ValueError, match=r"where has shape \(2, 2, 3\), which does not broadcast to \(2, 3\)"):
            fa.logsumexp(x, where=gpu.array(np.ones((2, 2, 3), bool)))
        with pytest.raises(ValueError, match="grad_output has shape"):
            fa.softmax.backward(gpu.array(np.ones(3, np.float32)), output=x)


@contextlib.contextmanager
def small_blocks(gpu, monkeypatch, processors):
    """A GPU with so many multiprocessors, on whose blocks rows of a thousand elements are long."""
    plans = gpu_functions._plan_of_rows, gpu_functions.parts_of_rows
    for name, value in {"LONG_ROW": 1000, "TEAMS": (8, 32), "LOOPED": {2: 64, 4: 64, 8: 64}}.items():
        monkeypatch.setattr(gpu_functions, name, value)
    for plan in plans:
        plan.cache_clear()
    if not gpu.real:
        monkeypatch.setattr(gpu.emulator, "processors", lambda device: processors)
    yield
    for plan in plans:
        plan.cache_clear()


class TestRowsBesideMultiplesOf16Bytes:
    """Of all but their ends 16 bytes are read and written at once, wherever they begin, and what they hold is right."""

    N = 1023  # which some blocks hold, but not together with what lies before the row

    @staticmethod
    def placed(values, offset):
        memory = aligned(values.shape, values.dtype, offset)
        memory[...] = values
        return FakeArray(memory)

    @staticmethod
    def calls(rng, n, dtype):
        """(function, its arrays, by which name it takes the array for a result as large as the first of them)"""
        x, g = (rng.normal(size=(2, n)).astype(dtype) for _ in range(2))
        p, q = (fa.softmax(rng.normal(size=(2, n))).astype(dtype) for _ in range(2))
        log_p, classes = fa.log_softmax(rng.normal(size=(2, n))).astype(dtype), np.array([n - 1, 0])
        for function in (fa.softmax, fa.log_softmax, fa.sparsemax):
            yield function, [x], "out"
            yield lambda g, y, back=function.backward, **out: back(g, output=y, **out), [g, function(x)], "out"
        yield lambda x, where, **out: fa.softmax(x, where=where, **out), [x, rng.uniform(size=x.shape) < 0.7], "out"
        for function in (fa.logsumexp, fa.maxout):
            yield function, [x], None
            yield lambda x, g, back=function.backward, **out: back(g, x, **out), [x, g[:, 0].copy()], "out"
        for loss, *arrays in ((fa.softmax_cross_entropy, x, classes), (fa.softmax_cross_entropy, x, p),
                              (fa.nll_loss, log_p, classes), (fa.kl_div, log_p, q)):  # fmt: skip
            yield loss.value_and_grad, arrays, "grad_out"
        smoothed = functools.partial(fa.softmax_cross_entropy.value_and_grad, label_smoothing=0.1)
        weight = np.linspace(0.5, 2, n).astype(dtype)
        yield lambda x, classes, weight, **out: smoothed(x, classes, weight=weight, **out), [x, classes, weight], "grad_out"

    @staticmethod
    def check(found, wanted, dtype):
        eps = float(np.finfo(dtype).eps) if dtype.kind == "f" else 2.0**-7
        for one, there in zip(found, wanted) if type(found) is tuple else [(found, wanted)]:
            assert one.values.dtype == dtype
            np.testing.assert_allclose(one.values.astype(np.float64), there, rtol=8 * eps, atol=eps * np.abs(there).max())

    def test_rows_that_registers_hold(self, emulator, rng, monkeypatch):
        self.check_all(emulator, rng, monkeypatch, 1, np.float32)

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("processors, offset", [(1, 0), (6, 3)])
    def test_rows_that_they_do_not_hold(self, emulator, rng, monkeypatch, processors, offset, dtype):
        with small_blocks(emulator, monkeypatch, processors):
            self.check_all(emulator, rng, monkeypatch, offset, dtype)

    def check_all(self, emulator, rng, monkeypatch, offset, dtype):
        """In place, or into new arrays, which begin at multiples."""
        dtype = np.dtype(dtype)
        sizes, memory = [], emulator.emulator.memory
        bytes_at = memory.bytes_at
        monkeypatch.setattr(memory, "bytes_at", lambda address, size, *writing: sizes.append(size) or bytes_at(address, size, *writing))
        for function, arrays, out in self.calls(rng, self.N, dtype):
            wide = [array.astype(np.float64) if array.dtype == dtype else array for array in arrays]
            on_gpu = [self.placed(array, offset if array.ndim == 2 else 0) for array in arrays]
            del sizes[:]
            self.check(function(*on_gpu, **({out: on_gpu[0]} if out and offset else {})), function(*wide), dtype)
            assert sizes.count(VECTOR) * lanes(dtype.name) > 2 * self.N - 60

    def test_a_class_that_does_not_exist_is_not_beside_the_row(self, emulator):
        x = self.placed(np.ones((1, self.N), np.float32), 1)
        for loss in (fa.softmax_cross_entropy, fa.nll_loss):
            value, grad = loss.value_and_grad(x, emulator.array(np.array([-1])), grad_out=x)
            assert np.isnan(value.values) and np.isnan(grad.values).all()

    def test_sums(self, emulator, rng):
        arrays = [rng.normal(size=shape).astype(np.float32) for shape in ((2, self.N), (2, self.N), (2, 1))]
        wide = [array.astype(np.float64) for array in arrays]
        self.check(fa.prelu.backward(*(self.placed(array, 1) for array in arrays)), fa.prelu.backward(*wide), np.dtype(np.float32))

    @pytest.mark.parametrize("dtype", [np.float32, np.float16])
    def test_results_that_begin_elsewhere(self, emulator, rng, dtype):
        x = rng.normal(size=(2, 515)).astype(dtype)
        self.check(fa.softmax(self.placed(x, 1), out=self.placed(x, 2)), fa.softmax(x.astype(np.float64)), x.dtype)


class TestRowsOfSeveralBlocks:
    """Rows that are few and long, of which each block has a part."""

    N = 1301  # of which rows that follow each other begin anywhere

    @pytest.fixture
    def many(self, gpu, monkeypatch):
        """A GPU with more multiprocessors than there are rows."""
        with small_blocks(gpu, monkeypatch, 6):
            yield gpu
        if not gpu.real:
            assert any(grid > 2 and name in ("forward", "backward", "cross_entropy") for name, grid in gpu.emulator.launches)

    @pytest.mark.parametrize("rows, n, layout, processors, wanted", [
        (8, 1 << 20, (4, 2, 512, True, False), 132, (32, 1 << 15)), (1, 1 << 20, (4, 2, 512, True, False), 132, (256, 4096)),
        (1, 50257, (8, 1, 512, True, False), 132, (13, 4096)), (66, 1 << 20, (4, 2, 512, True, False), 132, (4, 1 << 18)),
        (132, 1 << 20, (4, 2, 512, True, False), 132, (2, 1 << 19)), (133, 1 << 20, (4, 2, 512, True, False), 132, (1, 1 << 20)),
        (1, 20000, (4, 2, 512, True, False), 132, (1, 20000)), (1, 1 << 30, (2, 2, 256, True, False), 400, (256, 1 << 22)),
    ])  # fmt: skip
    def test_parts(self, rows, n, layout, processors, wanted):
        parts, size = gpu_functions.parts_of_rows(rows, n, layout, processors)
        assert (parts, size) == wanted
        assert (parts - 1) * size < n <= parts * size

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("name", SOFTMAXES)
    def test_values_and_backward(self, many, rng, name, dtype):
        x = rng.normal(size=(1, self.N)).astype(dtype)
        x[0, 1290] = 9
        function = getattr(fa, name)
        y = function(x)
        agree(many.numpy(function(many.array(x))), y, near_zero=1)
        grad = rng.normal(size=y.shape).astype(dtype)
        if name == "logsumexp":
            found, wanted = function.backward(many.array(grad), many.array(x)), function.backward(grad, x)
        else:
            found, wanted = function.backward(many.array(grad), output=many.array(y)), function.backward(grad, output=y)
        agree(many.numpy(found), wanted, near_zero=4)

    @pytest.mark.parametrize("axis", [0, 1])
    def test_several_rows_in_place(self, many, rng, axis):
        x = rng.normal(size=(self.N, 2) if axis == 0 else (2, self.N)).astype(np.float32)
        x[(700, 1) if axis == 0 else (1, 700)] = np.nan
        on_gpu = many.array(x)
        assert fa.softmax(on_gpu, axis, out=on_gpu) is on_gpu
        agree(many.numpy(on_gpu), fa.softmax(x, axis))

    def test_where(self, many, rng):
        x, where = rng.normal(size=(1, self.N)).astype(np.float32), rng.uniform(size=self.N) < 0.1
        where[:600] = False  # a part of which nothing counts
        x[0, ~where] = np.inf
        agree(many.numpy(fa.softmax(many.array(x), where=many.array(where))), fa.softmax(x, where=where))

    @pytest.mark.parametrize("label", [0, 511, 512, 1025, 1299, -100])
    def test_cross_entropy_in_place(self, many, rng, label):
        x, target = rng.normal(size=(2, self.N)).astype(np.float32), np.array([label, 500])
        logits = many.array(x)
        value, grad = fa.softmax_cross_entropy.value_and_grad(logits, many.array(target), grad_out=logits, reduction="none")
        wanted_value, wanted = fa.softmax_cross_entropy.value_and_grad(x, target, reduction="none")
        assert grad is logits
        agree(many.numpy(value), wanted_value)
        agree(many.numpy(grad), wanted, near_zero=1)

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_cross_entropy(self, many, rng, dtype):
        x = rng.normal(size=(1, self.N)).astype(dtype)
        check_row_loss(many, x, np.array([600]), 16, 8)
        check_row_loss(many, x, fa.softmax(x[:, ::-1].copy()), 16, 8)

    def test_options(self, many, rng):
        x, weight = rng.normal(size=(1, self.N)).astype(np.float32), np.linspace(0.5, 2, self.N).astype(np.float32)
        for target in (np.array([600]), fa.softmax(x[:, ::-1].copy())):
            check_row_loss(many, x, target, 16, 8, label_smoothing=0.1, z_loss=0.01, weight=weight)
        check_row_loss(many, x, np.array([600]), 32, 8, loss=fa.softmax_focal, weight=weight)

    def test_a_class_that_does_not_exist_is_nan(self, many):
        x = np.ones((1, self.N), np.float32)
        value, grad = fa.softmax_cross_entropy.value_and_grad(many.array(x), many.array(np.array([self.N])))
        assert np.isnan(many.numpy(value)) and np.isnan(many.numpy(grad)).all()


class TestAMillionColumns:
    """Of float16, with which the emulator needs seconds and not minutes."""

    N = 10**6

    @pytest.fixture
    def x(self, rng):
        return rng.normal(size=(1, self.N)).astype(np.float16)

    def test_softmax(self, gpu, x):
        agree(gpu.numpy(fa.softmax(gpu.array(x))), fa.softmax(x))

    def test_cross_entropy(self, gpu, x):
        target = np.array([777_777])
        value, grad = fa.softmax_cross_entropy.value_and_grad(gpu.array(x), gpu.array(target))
        wanted_value, wanted = fa.softmax_cross_entropy.value_and_grad(x, target)
        agree(gpu.numpy(value), np.asarray(wanted_value))
        agree(gpu.numpy(grad), wanted)


class TestSparsemax:
    @staticmethod
    def check(found, wanted):
        """Within 3 units in the last place of the largest of the row, or a rounding of a half type."""
        assert found.dtype == wanted.dtype and found.shape == wanted.shape
        eps = float(np.finfo(found.dtype).eps) if found.dtype.kind == "f" else 2.0**-7
        found, wanted = found.astype(np.float64), wanted.astype(np.float64)
        np.testing.assert_array_equal(np.isnan(found), np.isnan(wanted))
        error = np.nan_to_num(np.abs(found - wanted)).max(-1)
        assert np.all(error <= (3 if eps < 1e-5 else 1.01) * eps * np.nan_to_num(wanted.max(-1)))

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("n", [1, 2, 7, 33, 100, 1000, 4100])
    def test_widths(self, gpu, rng, n, dtype):
        x = rng.normal(size=(5, n)).astype(dtype)
        x[1] = x[1, 0]
        x[2] = (x[2].astype(np.float64) / 20).astype(dtype)  # of which more elements are kept
        self.check(gpu.numpy(fa.sparsemax(gpu.array(x))), fa.sparsemax(x))

    def test_rows_that_take_long(self, gpu):
        rows = [1 - 0.5 ** np.arange(200), -(2.0 ** -np.arange(200)), np.linspace(0, -1, 200) ** 3, 100 + np.geomspace(1e-7, 1, 200)]
        x = np.array(rows, np.float32)
        self.check(gpu.numpy(fa.sparsemax(gpu.array(x))), fa.sparsemax(x))
        self.check(gpu.numpy(fa.sparsemax(gpu.array(x.T), 0)).T, fa.sparsemax(x))
        self.check(gpu.numpy(fa.sparsemax(gpu.array(x[:, :7]))), fa.sparsemax(x[:, :7]))

    def test_many_short_columns(self, gpu, rng):
        """For each of which there is a thread, that comes to its end at another time than its neighbours."""
        x = rng.normal(size=(6, 5000)).astype(np.float32)
        self.check(gpu.numpy(fa.sparsemax(gpu.array(x), 0)).T, fa.sparsemax(x, 0).T)

    def test_infinities_and_nan(self, gpu):
        inf, nan = np.inf, np.nan
        x = np.array([[0, -inf, 1, 0.5], [-inf] * 4, [0, inf, 1, 2], [0, nan, 1, 2], [nan, 5, 1, 2], [-inf, -inf, -inf, 3],
                      [1000, 1001, -1000, 0]], np.float32)  # fmt: skip
        for rows in (x, np.concatenate([np.full((7, 90), -inf, np.float32), x], 1)):
            self.check(gpu.numpy(fa.sparsemax(gpu.array(rows))), fa.sparsemax(rows))

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("n", [1, 5, 40, 1026, 4100])
    def test_backward(self, gpu, rng, n, dtype):
        y, grad = fa.sparsemax((rng.normal(size=(3, n)) / 3).astype(dtype)), rng.normal(size=(3, n)).astype(dtype)
        on_gpu = gpu.array(grad)
        found = fa.sparsemax.backward(on_gpu, output=gpu.array(y), out=on_gpu)
        assert found is on_gpu
        agree(gpu.numpy(found), fa.sparsemax.backward(grad, output=y), ulp=4, near_zero=4)


class TestMaxout:
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("shape, axis", [((5, 3), -1), ((4, 2, 6), 1), ((2, 300), 1), ((2, 1100), 1), ((2, 9002), 1), ((3, 5000), 0)])
    def test_values_and_backward(self, gpu, rng, shape, axis, dtype):
        x = rng.integers(-3, 4, shape).astype(dtype)  # so that some are equal
        x[0, 0] = np.nan
        x[-1, -1] = -np.inf
        wanted = fa.maxout(x, axis)
        agree(gpu.numpy(fa.maxout(gpu.array(x), axis)), wanted, ulp=0)
        grad = rng.normal(size=wanted.shape).astype(dtype)
        agree(gpu.numpy(fa.maxout.backward(gpu.array(grad), gpu.array(x), axis)), fa.maxout.backward(grad, x, axis), ulp=0)

    def test_in_place_and_out(self, gpu, rng):
        x, grad = rng.normal(size=(4, 9)).astype(np.float32), rng.normal(size=4).astype(np.float32)
        on_gpu, out = gpu.array(x), gpu.array(np.zeros(4, np.float32))
        assert fa.maxout(on_gpu, out=out) is out
        np.testing.assert_array_equal(gpu.numpy(out), x.max(1))
        assert fa.maxout.backward(gpu.array(grad), on_gpu, out=on_gpu) is on_gpu
        np.testing.assert_array_equal(gpu.numpy(on_gpu), fa.maxout.backward(grad, x))

    def test_mistakes(self, gpu):
        with pytest.raises(ValueError, match="no pieces"):
            fa.maxout(gpu.array(np.ones((2, 0), np.float32)))
        with pytest.raises(np.exceptions.AxisError):
            fa.maxout(gpu.array(np.ones(3, np.float32)), 1)
        with pytest.raises(TypeError, match="not int64"):
            fa.maxout(gpu.array(np.ones(3, int)))
        with pytest.raises(TypeError, match="stream is for"):
            fa.maxout(np.ones(3), stream=0)


class TestJacobian:
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("shape, axis", [((5,), 0), ((), -1), ((3, 4), -1), ((3, 4), 0), ((2, 3, 4), 1), ((2, 70), 1), ((3, 1), 1),
                                             ((0, 3), 1)])  # fmt: skip
    def test_shapes(self, gpu, rng, shape, axis, dtype):
        x = np.asarray(rng.normal(size=shape), dtype)
        found = fa.softmax.jacobian(gpu.array(x), axis, temperature=0.5)
        agree(gpu.numpy(found), fa.softmax.jacobian(x, axis, temperature=0.5), ulp=8)

    def test_a_dominant_class_keeps_its_digits(self, gpu):
        x = np.array([20.0, 0.0, 1.0], np.float32)
        agree(gpu.numpy(fa.softmax.jacobian(gpu.array(x))), fa.softmax.jacobian(x))


def philox(counter, key):
    """Philox4x32-10, as Salmon et al. 2011 describe it."""
    a, b, c, d = counter
    first, second = key
    for _ in range(10):
        high, low = divmod(0xD2511F53 * a, 1 << 32)
        other_high, other_low = divmod(0xCD9E8D57 * c, 1 << 32)
        a, b, c, d = other_high ^ b ^ first, other_low, high ^ d ^ second, low
        first, second = (first + 0x9E3779B9) % (1 << 32), (second + 0xBB67AE85) % (1 << 32)
    return [a, b, c, d]


class TestRandomNumbers:
    def test_philox(self):
        """Beside the published answers."""
        from emulator import Emulator

        from fastact._kernels import cuda_simplex

        words, random = [0] * 4, cuda_simplex.philox(Emulator().target)
        random(words, 0, 0)
        assert words == philox([0] * 4, [0] * 2) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
        random(words, 0x1_2345_6789, 0x7EDC_BA98_7654_3210)
        assert words == philox([0x23456789, 1, 0, 0], [0x76543210, 0x7EDCBA98])

    @staticmethod
    def noise(rng, count, dtype):
        """What a GPU draws."""
        seed = int(np.random.default_rng(rng).integers(1 << 63))
        words = np.array([philox([k, 0, 0, 0], [seed % (1 << 32), seed >> 32]) for k in range(count)], np.uint64)
        if np.dtype(dtype) == np.float64:
            return (words[:, 0] << np.uint64(21) | words[:, 1] >> np.uint64(11)) * 2.0**-53, 2.0**-54
        return words[:, 0] * 2.0**-32, 2.0**-33

    @pytest.mark.parametrize("hard", [False, True])
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_gumbel_softmax(self, gpu, rng, dtype, hard):
        x = rng.normal(size=(7, 9)).astype(dtype)
        x[0, 3], x[1, 2], x[2] = np.nan, np.inf, -np.inf
        u, half = self.noise(5, x.size, dtype)
        noisy = x.astype(np.float64) - np.log(-np.log1p(-(u + half))).reshape(x.shape)
        with np.errstate(invalid="ignore"):
            wanted = fa.softmax(noisy, temperature=0.7)
        if hard:
            wanted = np.where(np.isnan(wanted), np.nan, np.eye(9)[np.argmax(noisy, -1)])
        found = gpu.numpy(fa.gumbel_softmax(gpu.array(x), 0.7, hard, rng=5))
        agree(found, wanted.astype(dtype), ulp=32, near_zero=1)
        along = gpu.numpy(fa.gumbel_softmax(gpu.array(x[3:]), 0.7, hard, axis=0, rng=5))
        np.testing.assert_allclose(along.astype(float).sum(0), 1, atol=0.02)

    def test_gumbel_softmax_draws_by_the_probabilities(self, gpu):
        x = np.log(np.broadcast_to(np.array([0.7, 0.2, 0.1], np.float32), (4000, 3)))
        found = gpu.numpy(fa.gumbel_softmax(gpu.array(x), hard=True, rng=1)).mean(0)
        np.testing.assert_allclose(found, [0.7, 0.2, 0.1], atol=0.035)

    def test_gradient_of_gumbel_softmax(self, gpu, rng):
        y, grad = fa.gumbel_softmax(rng.normal(size=(4, 9)).astype(np.float32), 0.5, rng=1), rng.normal(size=(4, 9)).astype(np.float32)
        found = fa.gumbel_softmax.backward(gpu.array(grad), output=gpu.array(y), tau=0.5)
        agree(gpu.numpy(found), fa.gumbel_softmax.backward(grad, output=y, tau=0.5), near_zero=4)

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_rrelu(self, gpu, rng, dtype):
        x = rng.normal(size=(5, 40)).astype(dtype)
        y, slopes = fa.rrelu(gpu.array(x), 0.1, 0.4, training=True, rng=3, return_slopes=True)
        u, _ = self.noise(3, x.size, dtype)
        drawn = gpu.numpy(slopes)
        assert drawn.dtype == (np.float64 if x.dtype == np.float64 else np.float32)
        u = u if x.dtype == np.float64 else np.floor(u * 2**24) / 2**24
        np.testing.assert_allclose(drawn, 0.1 + 0.3 * u.reshape(x.shape), rtol=1e-6)
        agree(gpu.numpy(y), fa.leaky_relu(x, drawn))
        grad = rng.normal(size=x.shape).astype(dtype)
        agree(gpu.numpy(fa.rrelu.backward(gpu.array(grad), gpu.array(x), slopes=slopes)), fa.rrelu.backward(grad, x, slopes=drawn))
        y, slope = fa.rrelu(gpu.array(x), return_slopes=True)
        agree(gpu.numpy(y), fa.rrelu(x))

    def test_seeds(self, gpu):
        x = gpu.array(np.zeros((3, 50), np.float32))
        one, same, other = (gpu.numpy(fa.gumbel_softmax(x, rng=seed)) for seed in (1, 1, 2))
        np.testing.assert_array_equal(one, same)
        assert not np.array_equal(one, other)
        generator = np.random.default_rng(1)
        assert not np.array_equal(*(gpu.numpy(fa.gumbel_softmax(x, rng=generator)) for _ in range(2)))

    def test_mistakes(self, gpu):
        x = gpu.array(np.ones((2, 3), np.float32))
        with pytest.raises(TypeError, match="between two numbers"):
            fa.rrelu(x, gpu.array(np.full(3, 0.1, np.float32)), 0.3, training=True)
        with pytest.raises(ValueError, match="slopes cannot be drawn"):
            fa.rrelu(x, 0.4, 0.3, training=True)
        with pytest.raises(ValueError, match="tau must be positive"):
            fa.gumbel_softmax(x, tau=0)
        with pytest.raises(TypeError, match="stream is for"):
            fa.gumbel_softmax(np.ones(3), stream=0)


class TestGated:
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("name", ["swiglu", "geglu", "reglu"])
    def test_two_arrays(self, gpu, rng, name, dtype):
        gate, up, grad = points(dtype), *rng.normal(size=(2, 83)).astype(dtype)
        function = getattr(fa, name)
        agree(gpu.numpy(function(gpu.array(gate), gpu.array(up))), function(gate, up))
        found = function.backward(gpu.array(grad), gpu.array(gate), gpu.array(up))
        for one, wanted in zip(found, function.backward(grad, gate, up), strict=True):
            agree(gpu.numpy(one), wanted, ulp=16, near_zero=8)

    @pytest.mark.parametrize("axis", [-1, 0])
    @pytest.mark.parametrize("name", ["glu", "swiglu", "geglu", "reglu"])
    def test_halves_of_one(self, gpu, rng, name, axis):
        x = rng.normal(size=(6, 4)).astype(np.float32)
        function = getattr(fa, name)
        wanted = function(x, axis=axis)
        agree(gpu.numpy(function(gpu.array(x), axis=axis)), wanted)
        grad = rng.normal(size=wanted.shape).astype(np.float32)
        found = function.backward(gpu.array(grad), gpu.array(x), axis=axis)
        agree(gpu.numpy(found), function.backward(grad, x, axis=axis), ulp=16, near_zero=8)
        on_gpu = gpu.array(x)
        assert function.backward(gpu.array(grad), on_gpu, axis=axis, out=on_gpu) is on_gpu
        agree(gpu.numpy(on_gpu), function.backward(grad, x, axis=axis), ulp=16, near_zero=8)

    def test_out(self, gpu, rng):
        gate, up, grad = rng.normal(size=(3, 50)).astype(np.float32)
        arrays = [gpu.array(a) for a in (grad, gate, up)]
        found = fa.swiglu.backward(*arrays, out=(arrays[1], arrays[2]))
        assert found[0] is arrays[1] and found[1] is arrays[2]
        for one, wanted in zip(found, fa.swiglu.backward(grad, gate, up), strict=True):
            agree(gpu.numpy(one), wanted, ulp=16, near_zero=8)


def check_row_loss(gpu, x, target, ulp=8, near_zero=4, loss=fa.softmax_cross_entropy, **options):
    """A loss and its gradient beside NumPy's; next to zeros ``agree`` counts in units of the gradient's largest element."""
    on_gpu, there = gpu.array(x), gpu.array(target)
    gpu_options = {key: gpu.array(value) if isinstance(value, np.ndarray) else value for key, value in options.items()}
    agree(gpu.numpy(loss(on_gpu, there, **gpu_options)), np.asarray(loss(x, target, **options)), ulp)
    value, grad = loss.value_and_grad(on_gpu, there, **gpu_options)
    wanted_value, wanted = loss.value_and_grad(x, target, **options)
    agree(gpu.numpy(value), np.asarray(wanted_value), ulp)
    scale = float(np.abs(wanted.astype(np.float64)).max(initial=1e-30))
    found = gpu.numpy(grad)
    if np.isfinite(scale) and x.dtype.itemsize > 2:
        agree((found / scale).astype(x.dtype), (wanted / scale).astype(x.dtype), 32, near_zero)
    else:
        agree(found, wanted, near_zero=near_zero)


class TestCrossEntropy:
    @pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
    @pytest.mark.parametrize("n", [1, 2, 10, 33, 100, 1000, 1003])
    def test_widths(self, gpu, rng, n, reduction):
        check_row_loss(gpu, (3 * rng.normal(size=(5, n))).astype(np.float32), rng.integers(0, n, 5), reduction=reduction)

    @pytest.mark.parametrize("n", [4200, 9001])
    def test_rows_that_registers_do_not_hold(self, gpu, rng, n):
        x = rng.normal(size=(2, n)).astype(np.float32)
        check_row_loss(gpu, x, np.array([n - 1, 77]))

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_dtypes(self, gpu, rng, dtype):
        x = rng.normal(size=(4, 40)).astype(dtype)
        for reduction in ("mean", "none"):
            check_row_loss(gpu, x, rng.integers(0, 40, 4), reduction=reduction)

    @pytest.mark.parametrize("kind", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"])
    def test_types_of_classes(self, gpu, rng, kind):
        if type(gpu).__name__ == "TorchOnGPU" and kind in ("uint16", "uint32", "uint64"):
            pytest.skip("PyTorch does little with them")
        check_row_loss(gpu, rng.normal(size=(4, 9)).astype(np.float32), np.array([0, 8, 3, 3], kind))

    @pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
    def test_ignored_rows(self, gpu, rng, reduction):
        x = rng.normal(size=(40, 12)).astype(np.float32)
        x[3] = np.nan
        target = rng.integers(0, 12, 40)
        target[[0, 3, 9]] = -100
        check_row_loss(gpu, x, target, reduction=reduction)
        check_row_loss(gpu, x, np.where(target == -100, 5, target), ignore_index=np.int32(5), reduction=reduction)

    def test_no_row_counts(self, gpu):
        check_row_loss(gpu, np.ones((3, 4), np.float32), np.full(3, -100))
        check_row_loss(gpu, np.ones((0, 4), np.float32), np.zeros(0, int))

    @pytest.mark.parametrize("options", [{"label_smoothing": 0.1}, {"z_loss": 0.01}, {"label_smoothing": 0.3, "z_loss": 0.1},
                                         {"weight": WEIGHTS}, {"weight": WEIGHTS, "label_smoothing": 0.2}], ids=",".join)  # fmt: skip
    @pytest.mark.parametrize("reduction", ["mean", "none"])
    def test_options(self, gpu, rng, options, reduction):
        x = (4 * rng.normal(size=(6, 30))).astype(np.float32)
        target = np.array([3, 29, -100, 0, 7, 3])
        check_row_loss(gpu, x, target, reduction=reduction, ulp=16, **options)

    @pytest.mark.parametrize("smoothing", [0.0, 0.2])
    @pytest.mark.parametrize("n", [10, 300, 1001])
    def test_probabilities(self, gpu, rng, n, smoothing):
        x = rng.normal(size=(4, n)).astype(np.float32)
        target = fa.softmax(rng.normal(size=(4, n)).astype(np.float32))
        target[1] = 0
        target[1, 3] = 1
        for reduction in ("mean", "none"):
            check_row_loss(gpu, x, target, reduction=reduction, label_smoothing=smoothing, ulp=16, near_zero=8)

    def test_masked_logits(self, gpu, rng):
        x = rng.normal(size=(4, 50)).astype(np.float32)
        x[:, 7:30] = -np.inf
        target = np.array([3, 49, 10, 31])  # the third is masked: it costs infinitely much
        check_row_loss(gpu, x, target, reduction="none")
        one_hot = np.eye(50, dtype=np.float32)[[3, 49, 1, 31]]
        check_row_loss(gpu, x, one_hot, reduction="none")

    def test_rows_without_a_distribution_are_nan(self, gpu):
        x = np.zeros((4, 6), np.float32)
        x[0], x[1, 2], x[2, 3] = -np.inf, np.inf, np.nan
        check_row_loss(gpu, x, np.array([1, 1, 1, 1]), reduction="none")

    @pytest.mark.parametrize("target", [np.array([0, 1]), np.eye(2, 3, dtype=np.float32)], ids=["classes", "probabilities"])
    def test_a_sure_prediction_keeps_its_digits(self, gpu, target):
        x = np.array([[30.0, 0.0, 0.0], [0.0, 14.0, 1.0]], np.float32)
        value, grad = fa.softmax_cross_entropy.value_and_grad(gpu.array(x), gpu.array(target), reduction="none")
        wanted_value, wanted = fa.softmax_cross_entropy.value_and_grad(x, target, reduction="none")
        agree(gpu.numpy(value), wanted_value)
        agree(gpu.numpy(grad), wanted)

    @pytest.mark.parametrize("smoothing", [0.1, 0.6, 1.0])
    @pytest.mark.parametrize("dtype, wide", [(np.float32, np.float64), (np.float64, np.longdouble)])
    def test_the_gradient_to_the_last_digits(self, gpu, rng, dtype, wide, smoothing):
        """Also where the largest logit is that of the class, most of whose target lies elsewhere."""
        x, n = rng.normal(0, 2, size=(6, 300)).astype(dtype), 300
        target = np.where(np.arange(6) < 4, x.argmax(1), 7)
        terms = np.exp(x.astype(wide) - x.max(1, keepdims=True))
        p, t = terms / terms.sum(1, keepdims=True), np.full((6, n), wide(smoothing) / n)
        t[np.arange(6), target] += 1 - wide(smoothing)
        _, found = fa.softmax_cross_entropy.value_and_grad(gpu.array(x), gpu.array(target), label_smoothing=smoothing, reduction="none")
        assert np.all(np.abs(gpu.numpy(found) - (p - t)) <= 3 * np.finfo(dtype).eps * np.maximum(p, t))

    @pytest.mark.parametrize("axis", [0, 1])
    def test_axes(self, gpu, rng, axis):
        x = rng.normal(size=(5, 6, 7)).astype(np.float32)
        shape = x.shape[:axis] + x.shape[axis + 1 :]
        check_row_loss(gpu, x, rng.integers(0, x.shape[axis], shape), axis=axis)

    def test_in_place(self, gpu, rng):
        for n in (10, 50, 200, 1001, 9001):
            x, target = rng.normal(size=(3, n)).astype(np.float32), np.array([0, n // 2, n - 1])
            logits = gpu.array(x)
            _, grad = fa.softmax_cross_entropy.value_and_grad(logits, gpu.array(target), grad_out=logits)
            assert grad is logits
            agree(gpu.numpy(grad), fa.softmax_cross_entropy.value_and_grad(x, target)[1], near_zero=1)

    def test_classes_that_do_not_exist_are_nan(self, gpu, rng):
        x = rng.normal(size=(4, 5)).astype(np.float32)
        value, grad = fa.softmax_cross_entropy.value_and_grad(gpu.array(x), gpu.array(np.array([0, 5, -1, 4])), reduction="none")
        assert np.isnan(gpu.numpy(value)).tolist() == [False, True, True, False]
        assert np.isnan(gpu.numpy(grad)).all(axis=1).tolist() == [False, True, True, False]

    def test_many_rows(self, gpu, rng):
        x, target = rng.normal(size=(1500, 3)).astype(np.float32), rng.integers(0, 3, 1500)
        check_row_loss(gpu, x, target)

    def test_mistakes(self, gpu):
        x, loss = gpu.array(np.ones((2, 3), np.float32)), fa.softmax_cross_entropy
        with pytest.raises(ValueError, match=r"which is neither \(2,\) for classes nor \(2, 3\) for probabilities"):
            loss(x, gpu.array(np.zeros(3, int)))
        with pytest.raises(TypeError, match="classes must be integers, not float32"):
            loss(x, gpu.array(np.zeros(2, np.float32)))
        with pytest.raises(TypeError, match="so target must be one too"):
            loss(x, np.zeros(2, int))
        with pytest.raises(ValueError, match="reduction must be"):
            loss(x, gpu.array(np.zeros(2, int)), reduction="batchmean")
        with pytest.raises(ValueError, match="label_smoothing must be"):
            loss(x, gpu.array(np.zeros(2, int)), label_smoothing=2)


class TestOtherRowLosses:
    """Those of classes, and those that compare probabilities, element by element."""

    @staticmethod
    def arrays(rng, name, shape, dtype=np.float32):
        """What the loss takes, and classes."""
        x = fa.softmax(2 * rng.normal(size=shape))
        x = np.log(x) if name in ("nll_loss", "kl_div") else x if name == "categorical_cross_entropy" else 3 * rng.normal(size=shape)
        return x.astype(dtype), rng.integers(0, shape[-1], shape[:-1])

    @staticmethod
    def probabilities(rng, shape, dtype=np.float32):
        """Of which one row has none but one."""
        target = fa.softmax(2 * rng.normal(size=shape)).astype(dtype)
        target[1] = 0
        target[1, -1] = 1
        return target

    @pytest.mark.parametrize("n, reduction", [(1, "mean"), (2, "sum"), (10, "mean"), (33, "none"), (100, "sum"), (1000, "none"), (9000, "mean")])
    @pytest.mark.parametrize("name", OF_CLASSES)
    def test_classes(self, gpu, rng, name, n, reduction):
        x, target = self.arrays(rng, name, (2 if n == 9000 else 4, n))
        check_row_loss(gpu, x, target, 16, loss=getattr(fa, name), reduction=reduction)

    @pytest.mark.parametrize("reduction", ["mean", "none"])
    @pytest.mark.parametrize("name", OF_CLASSES)
    def test_ignored_rows_and_weights(self, gpu, rng, name, reduction):
        x, _ = self.arrays(rng, name, (6, 30))
        x[2] = np.nan
        target = np.array([3, 29, -100, 0, 7, 3])
        weight = WEIGHTS.copy()
        weight[7] = 0
        for options in ({}, {"weight": WEIGHTS}, {"weight": weight}):
            check_row_loss(gpu, x, target, 16, loss=getattr(fa, name), reduction=reduction, **options)
        x[4, 7] = 0 if name == "categorical_cross_entropy" else -np.inf
        if name != "softmax_focal":  # which looks at more than the element of the class
            check_row_loss(gpu, x, target, 16, loss=getattr(fa, name), reduction=reduction, weight=weight)

    @pytest.mark.parametrize("options", [{"gamma": 0.5}, {"gamma": 5.0}, {"gamma": 0.0}, {"alpha": 0.25}, {"alpha": WEIGHTS},
                                         {"alpha": WEIGHTS, "weight": WEIGHTS[::-1].copy()}], ids=",".join)  # fmt: skip
    @pytest.mark.parametrize("reduction", ["mean", "none"])
    def test_focal(self, gpu, rng, options, reduction):
        x = (4 * rng.normal(size=(8, 30))).astype(np.float32)
        x[0, 3], x[1, 29], x[3, 0] = 60, 20, -60  # sure, quite sure, and as wrong
        x[4, 7], x[5, :3] = -np.inf, -np.inf
        target = np.array([3, 29, -100, 0, 7, 3, 11, 12])
        for rows in ([0, 1, 2, 3, 5, 6, 7], [4]):
            check_row_loss(gpu, x[rows], target[rows], 32, loss=fa.softmax_focal, reduction=reduction, **options)

    @pytest.mark.parametrize("name, options", [("categorical_cross_entropy", {}), ("categorical_cross_entropy", {"weight": True}),
                                               ("kl_div", {}), ("kl_div", {"log_target": True})], ids=str)  # fmt: skip
    @pytest.mark.parametrize("n", [2, 7, 100, 1000, 9000])
    def test_probabilities(self, gpu, rng, name, n, options):
        x, _ = self.arrays(rng, name, (3, n))
        target = self.probabilities(rng, (3, n))
        x[1, 0] = 0 if name == "categorical_cross_entropy" else -np.inf  # which the target does not care for
        if "log_target" in options:
            with np.errstate(divide="ignore"):
                target = np.log(target)
        if "weight" in options:
            options = {"weight": rng.uniform(0, 2, n).astype(np.float32)}
        for reduction in ("mean",) if n == 9000 else ("mean", "sum", "none"):
            check_row_loss(gpu, x, target, 64, 8, loss=getattr(fa, name), reduction=reduction, **options)

    @pytest.mark.parametrize("reduction", ["mean", "none"])
    @pytest.mark.parametrize("smoothing", [0.0, 0.2])
    def test_weights_of_probabilities(self, gpu, rng, smoothing, reduction):
        x, target = rng.normal(size=(4, 300)).astype(np.float32), self.probabilities(rng, (4, 300))
        weight = rng.uniform(0, 2, 300).astype(np.float32)
        check_row_loss(gpu, x, target, 16, 8, label_smoothing=smoothing, weight=weight, reduction=reduction)

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("name", [*OF_CLASSES, "kl_div"])
    def test_dtypes(self, gpu, rng, name, dtype):
        x, target = self.arrays(rng, name, (5, 40), dtype)
        if name == "kl_div":
            target = self.probabilities(rng, (5, 40), dtype)
        for reduction in ("mean", "none"):
            check_row_loss(gpu, x, target, 16, loss=getattr(fa, name), reduction=reduction)

    @pytest.mark.parametrize("axis", [0, 1])
    @pytest.mark.parametrize("name", [*OF_CLASSES, "kl_div"])
    def test_axes(self, gpu, rng, name, axis):
        x, _ = self.arrays(rng, name, (5, 6, 7))
        target = rng.integers(0, x.shape[axis], x.shape[:axis] + x.shape[axis + 1 :])
        if name == "kl_div":
            target = fa.softmax(x[::-1], axis)
        check_row_loss(gpu, x, target, 32, loss=getattr(fa, name), axis=axis)

    @pytest.mark.parametrize("n", [10, 50, 200, 1001, 9001])
    @pytest.mark.parametrize("name", [*OF_CLASSES, "kl_div"])
    def test_in_place(self, gpu, rng, name, n):
        x, target = self.arrays(rng, name, (2, n))
        if name == "kl_div":
            target = self.probabilities(rng, (2, n))
        loss, on_gpu = getattr(fa, name), gpu.array(x)
        value, grad = loss.value_and_grad(on_gpu, gpu.array(target), grad_out=on_gpu, reduction="none")
        assert grad is on_gpu
        wanted_value, wanted = loss.value_and_grad(x, target, reduction="none")
        agree(gpu.numpy(value), wanted_value, ulp=64)
        agree(gpu.numpy(grad), wanted, ulp=16, near_zero=1)

    @pytest.mark.parametrize("name", OF_CLASSES)
    def test_classes_that_do_not_exist_are_nan(self, gpu, rng, name):
        x, _ = self.arrays(rng, name, (4, 5))
        value, grad = getattr(fa, name).value_and_grad(gpu.array(x), gpu.array(np.array([0, 5, -1, 4])), reduction="none")
        assert np.isnan(gpu.numpy(value)).tolist() == [False, True, True, False]
        assert np.isnan(gpu.numpy(grad)).all(axis=1).tolist() == [False, True, True, False]

    @pytest.mark.parametrize("dtype", [np.float16, np.float32])
    def test_targets_and_weights_of_other_dtypes(self, gpu, rng, dtype):
        x, target = rng.normal(size=(4, 30)).astype(dtype), self.probabilities(rng, (4, 30), np.float64)
        for reduction in ("mean", "none"):
            check_row_loss(gpu, x, target, 16, 8, reduction=reduction, weight=np.arange(30))
        check_row_loss(gpu, x, rng.integers(0, 30, 4), 16, 8, weight=WEIGHTS.astype(np.float64)[::-1])

    def test_rows_that_lie_far_apart(self, emulator, rng):
        x, target = rng.normal(size=(6, 8, 5, 10)).astype(np.float32), rng.integers(0, 5, (6, 8, 10))
        index = np.s_[::2, 1::3, :, ::2], np.s_[::2, 1::3, ::2]
        found = fa.nll_loss.value_and_grad(emulator.array(x)[index[0]], emulator.array(target)[index[1]], axis=2)
        for one, wanted in zip(found, fa.nll_loss.value_and_grad(x[index[0]], target[index[1]], axis=2)):
            agree(one.values, np.asarray(wanted))

    @pytest.mark.parametrize("name", ["nll_loss", "softmax_cross_entropy"])
    def test_more_rows_than_a_block_sums_up(self, gpu, rng, name, monkeypatch):
        if not gpu.real:
            monkeypatch.setattr("fastact._kernels.cuda_losses.PART", 50)
        x, target = self.arrays(rng, name, (40000 if gpu.real else 130, 2))
        target[::3] = -100
        check_row_loss(gpu, x, target, 64, loss=getattr(fa, name))
        check_row_loss(gpu, x, target, 64, loss=getattr(fa, name), weight=WEIGHTS[:2])
        check_row_loss(gpu, x, np.full_like(target, -100), 64, loss=getattr(fa, name))

    def test_no_rows(self, gpu):
        check_row_loss(gpu, np.ones((0, 4), np.float32), np.zeros(0, int), loss=fa.nll_loss)
        check_row_loss(gpu, np.ones((0, 4), np.float32), np.ones((0, 4), np.float32), loss=fa.kl_div)

    def test_mistakes(self, gpu):
        x, classes = gpu.array(np.ones((2, 3), np.float32)), gpu.array(np.zeros(2, int))
        with pytest.raises(ValueError, match=r"target has shape \(2, 3\), which is not \(2,\) for classes"):
            fa.nll_loss(x, x)
        with pytest.raises(ValueError, match=r"which is not \(2, 3\) for probabilities"):
            fa.kl_div(x, gpu.array(np.ones(2, np.float32)))
        with pytest.raises(ValueError, match=r"alpha has shape \(4,\), not \(3,\)"):
            fa.softmax_focal(x, classes, alpha=gpu.array(np.ones(4, np.float32)))
        with pytest.raises(TypeError, match="so weight must be one too, not ndarray"):
            fa.nll_loss(x, classes, weight=np.ones(3))
        with pytest.raises(ValueError, match="gamma must be"):
            fa.softmax_focal(x, classes, gamma=-1)
        with pytest.raises(TypeError, match="stream is for arrays on a GPU"):
            fa.nll_loss(np.zeros((1, 2)), [0], stream=0)


class TestLinearCrossEntropy:
    @staticmethod
    def check(gpu, x, weight, target, bias=None, tolerance=1e-5, **options):
        there = [None if a is None else gpu.array(a) for a in (x, weight, target, bias)]
        gpu_options = {key: gpu.array(value) if isinstance(value, np.ndarray) else value for key, value in options.items()}
        loss = fa.linear_softmax_cross_entropy
        value, grads = loss.value_and_grad(*there, chunk=3, **gpu_options)
        wanted_value, wanted = loss.value_and_grad(x, weight, target, bias, **options)
        for found in (value, loss(*there, chunk=2, **gpu_options)):
            found = gpu.numpy(found)
            assert found.dtype == wanted_value.dtype
            np.testing.assert_allclose(found.astype(float), np.asarray(wanted_value, float), rtol=tolerance, atol=tolerance)
        assert (grads[2] is None) == (bias is None)
        for grad, other in zip(grads[: 2 + (bias is not None)], wanted):
            grad = gpu.numpy(grad)
            assert grad.dtype == other.dtype and grad.shape == other.shape
            scale = max(np.abs(other.astype(float)).max(initial=0), 1e-30)
            np.testing.assert_allclose(grad.astype(float), other.astype(float), atol=tolerance * scale, rtol=0)

    @pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_dtypes(self, calculating, rng, dtype, reduction):
        x, weight, bias = (rng.normal(size=shape).astype(dtype) for shape in ((2, 4, 6), (9, 6), (9,)))
        tolerance = {2: 0.01, 4: 1e-5, 8: 1e-13}[x.dtype.itemsize]
        self.check(calculating, x, weight, rng.integers(0, 9, (2, 4)), bias, tolerance, reduction=reduction)

    @pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.2}, {"z_loss": 0.1}, {"class_weight": WEIGHTS[:9].astype(np.float64)},
                                         {"ignore_index": 3}], ids=",".join)  # fmt: skip
    @pytest.mark.parametrize("reduction", ["mean", "none"])
    def test_options_and_ignored_rows(self, calculating, rng, options, reduction):
        x, weight = rng.normal(size=(8, 6)).astype(np.float32), rng.normal(size=(9, 6)).astype(np.float32)
        target = rng.integers(4, 9, 8)
        target[[1, 5]] = options.get("ignore_index", -100)
        x[1] = np.nan
        self.check(calculating, x, weight, target, reduction=reduction, **options)

    def test_probabilities(self, calculating, rng):
        x, weight = rng.normal(size=(8, 6)).astype(np.float32), rng.normal(size=(9, 6)).astype(np.float32)
        self.check(calculating, x, weight, fa.softmax(rng.normal(size=(8, 9)).astype(np.float32)))
        self.check(calculating, x[:0], weight, np.zeros((0, 9), np.float32))
        self.check(calculating, x[:0], weight, np.zeros(0, int))

    def test_blocks_of_classes(self, calculating, rng, monkeypatch):
        monkeypatch.setattr("fastact.linear.GPU_CLASSES", 4)
        x, weight = rng.normal(size=(5, 6)).astype(np.float32), rng.normal(size=(9, 6)).astype(np.float32)
        self.check(calculating, x, weight, rng.integers(0, 9, 5))

    @pytest.mark.parametrize("dtype", [np.float16, np.float32])
    def test_results_that_are_given(self, calculating, rng, dtype):
        x, weight, bias = (rng.normal(size=shape).astype(dtype) for shape in ((5, 6), (9, 6), (9,)))
        target = rng.integers(0, 9, 5)
        _, wanted = fa.linear_softmax_cross_entropy.value_and_grad(x, weight, target, bias)
        there = [calculating.array(a) for a in (x, weight, target, bias)]
        dweight = calculating.array(np.zeros_like(weight))
        _, grads = fa.linear_softmax_cross_entropy.value_and_grad(*there, grad_out=(there[0], dweight, None), chunk=2)
        assert grads[0] is there[0] and grads[1] is dweight
        for grad, other in zip(grads, wanted):
            np.testing.assert_allclose(calculating.numpy(grad).astype(float), other.astype(float), atol=2e-3 if dtype == np.float16 else 1e-6)

    def test_stream(self, calculating, monkeypatch):
        if calculating.real:
            pytest.skip("looks at what is launched")
        seen, working = [], []
        launch = calculating.emulator.launch

        @contextlib.contextmanager
        def allocating_on(stream, like):
            working.append(stream)
            yield

        monkeypatch.setattr(calculating.emulator, "launch", lambda *args: (seen.append(args[-1]), launch(*args)))
        monkeypatch.setattr(type(devices.library_of(calculating.array(np.ones(3)))), "allocating_on", lambda self, *args: allocating_on(*args))
        x, classes = calculating.array(np.ones((2, 3), np.float32)), calculating.array(np.zeros(2, int))
        fa.linear_softmax_cross_entropy.value_and_grad(x, x, classes, stream=7)
        assert set(seen) == set(working) == {7}

    def test_mistakes(self, calculating):
        x, weight = calculating.array(np.ones((2, 3), np.float32)), calculating.array(np.ones((4, 3), np.float32))
        target, loss = calculating.array(np.zeros(2, int)), fa.linear_softmax_cross_entropy
        with pytest.raises(ValueError, match="chunk must be positive"):
            loss(x, weight, target, chunk=0)
        with pytest.raises(ValueError, match=r"bias has shape \(2, 3\), not \(4,\)"):
            loss(x, weight, target, x)
        with pytest.raises(TypeError, match="weight must be float32 as x is, not int64"):
            loss(x, calculating.array(np.ones((4, 3), int)), target)
        with pytest.raises(ValueError, match="dweight must be a writeable array of shape"):
            loss.value_and_grad(x, weight, target, grad_out=(None, x, None))

    def test_arrays_without_operators(self, emulator):
        x, classes = emulator.array(np.ones((2, 3), np.float32)), emulator.array(np.zeros(2, int))
        with pytest.raises(TypeError, match="needs arrays that can be multiplied, of CuPy or PyTorch, not FakeArray"):
            fa.linear_softmax_cross_entropy(x, x, classes)
        with pytest.raises(TypeError, match="stream is for arrays on a GPU"):
            fa.linear_softmax_cross_entropy(np.ones((1, 2)), np.ones((3, 2)), [0], stream=0)


LOSSES = [row.name for row in ELEMENTWISE_LOSSES]


class TestElementwiseLosses:
    @staticmethod
    def arrays(rng, name, shape, dtype=np.float32):
        x, target = rng.normal(size=(2, *shape))
        if name == "binary_cross_entropy":
            x = rng.uniform(0.01, 0.99, shape)
        if "cross_entropy" in name or "focal" in name:
            target = rng.uniform(size=shape)
        if "hinge" in name:
            target = np.sign(target)
        if name == "poisson_nll":
            target = rng.integers(0, 5, shape)
        third = {"var": rng.uniform(0.5, 2, shape).astype(dtype)} if name == "gaussian_nll" else {}
        return x.astype(dtype), target.astype(dtype), third

    @staticmethod
    def check(gpu, name, x, target, **options):
        loss = getattr(fa, name)
        given = {key: gpu.array(value) if isinstance(value, np.ndarray) else value for key, value in options.items()}
        value = loss(gpu.array(x), gpu.array(target), **given)
        agree(gpu.numpy(value), np.asarray(loss(x, target, **options)), ulp=16, near_zero=16)
        value, grad = loss.value_and_grad(gpu.array(x), gpu.array(target), **given)
        wanted_value, wanted = loss.value_and_grad(x, target, **options)
        agree(gpu.numpy(value), np.asarray(wanted_value), ulp=16, near_zero=16)
        agree(gpu.numpy(grad), wanted, ulp=16, near_zero=16)

    @pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
    @pytest.mark.parametrize("name", LOSSES)
    def test_reductions(self, gpu, rng, name, reduction):
        x, target, third = self.arrays(rng, name, (7, 43))
        self.check(gpu, name, x, target, reduction=reduction, **third)

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("name", ["mse", "sigmoid_cross_entropy", "gaussian_nll"])
    def test_dtypes(self, gpu, rng, name, dtype):
        x, target, third = self.arrays(rng, name, (101,), dtype)
        self.check(gpu, name, x, target, reduction="none", **third)
        self.check(gpu, name, x, target, **third)

    @pytest.mark.parametrize("name, options", [("huber", {"delta": 0.3}), ("smooth_l1", {"beta": 0.0}), ("sigmoid_focal", {"alpha": 0.3}),
                                               ("poisson_nll", {"full": True}), ("sigmoid_cross_entropy", {"pos_weight": 3.0}),
                                               ("gaussian_nll", {"full": True, "var": 0.7})])  # fmt: skip
    def test_options(self, gpu, rng, name, options):
        x, target, third = self.arrays(rng, name, (50,))
        self.check(gpu, name, x, target, **third | options)

    def test_many_elements(self, gpu, rng, monkeypatch):
        x, target, _ = self.arrays(rng, "mse", (20001,))
        self.check(gpu, "mse", x, target)
        if not gpu.real:
            monkeypatch.setattr("fastact._kernels.cuda_losses.PART", 2)  # sums of blocks, and sums of those
            self.check(gpu, "mse", x, target)

    def test_weights_and_what_broadcasts(self, gpu, rng):
        x, target, _ = self.arrays(rng, "sigmoid_cross_entropy", (6, 5))
        weight = np.array([0, 1, 2, 0.5, 3], np.float32)
        x[:, 0] = np.inf
        target[:, 0] = 0  # an infinite loss of weight 0 is 0
        self.check(gpu, "sigmoid_cross_entropy", x, target, weight=weight, pos_weight=np.full((6, 1), 2, np.float32))

    @pytest.mark.parametrize("dtype", [np.float16, np.float32])
    @pytest.mark.parametrize("other", [np.float64, np.int64, bool])
    def test_targets_and_weights_of_other_dtypes(self, gpu, rng, dtype, other):
        x, target = rng.normal(size=60).astype(dtype), (rng.uniform(size=60) * 1.9).astype(other).clip(0, 1)
        weight = (3 * rng.uniform(size=60)).astype(other)
        for reduction in ("mean", "none"):
            self.check(gpu, "sigmoid_cross_entropy", x, target, weight=weight, reduction=reduction)

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("reduction", ["mean", "none"])
    @pytest.mark.parametrize("shape", [None, (), (4,), (5, 1), (3, 5, 4), (1, 5, 4)], ids=str)
    def test_gradient_of_the_variance(self, gpu, rng, shape, reduction, dtype):
        x, target = rng.normal(size=(2, 3, 5, 4)).astype(dtype)
        var, weight = 0.7 if shape is None else rng.uniform(0.5, 2, shape).astype(dtype), rng.uniform(size=4).astype(dtype)
        there = [gpu.array(x), gpu.array(target), 0.7 if shape is None else gpu.array(var)]
        options = {"reduction": reduction, "weight": gpu.array(weight), "var_grad": True}
        wanted_value, wanted = fa.gaussian_nll.value_and_grad(x, target, var, **options | {"weight": weight})
        value, found = fa.gaussian_nll.value_and_grad(*there, **options)
        agree(gpu.numpy(value), np.asarray(wanted_value), ulp=16, near_zero=16)
        for one, other in zip(found, wanted, strict=True):
            agree(gpu.numpy(one), np.asarray(other), ulp=32, near_zero=16)

    def test_gradient_of_the_variance_in_its_place(self, gpu, rng):
        x, target, third = self.arrays(rng, "gaussian_nll", (70,))
        _, wanted = fa.gaussian_nll.value_and_grad(x, target, **third, var_grad=True)
        there, var = gpu.array(x), gpu.array(third["var"])
        _, found = fa.gaussian_nll.value_and_grad(there, gpu.array(target), var, grad_out=there, var_grad=var)
        assert found[0] is there and found[1] is var
        for one, other in zip(found, wanted):
            agree(gpu.numpy(one), other, ulp=16, near_zero=16)

    def test_strides(self, emulator, rng):
        x, target = rng.normal(size=(2, 6, 10)).astype(np.float32)
        found = fa.mse(emulator.array(x)[:, ::2], emulator.array(target)[:, ::2], reduction="none")
        agree(found.values, fa.mse(x[:, ::2], target[:, ::2], reduction="none"))

    def test_a_number_for_target_and_in_place(self, gpu, rng):
        x = rng.normal(size=30).astype(np.float32)
        on_gpu = gpu.array(x)
        value, grad = fa.mse.value_and_grad(on_gpu, 0.5, grad_out=on_gpu)
        assert grad is on_gpu
        wanted_value, wanted = fa.mse.value_and_grad(x, 0.5)
        agree(gpu.numpy(value), np.asarray(wanted_value))
        agree(gpu.numpy(grad), wanted)

    def test_no_elements(self, gpu):
        x = gpu.array(np.ones((0, 3), np.float32))
        assert gpu.numpy(fa.mse(x, x)) == 0

    def test_mistakes(self, gpu):
        x = gpu.array(np.ones((2, 3), np.float32))
        with pytest.raises(ValueError, match="they must be equal"):
            fa.mse(x, gpu.array(np.ones(3, np.float32)))
        with pytest.raises(TypeError, match="target must be a number or an array on the GPU"):
            fa.mse(x, np.ones((2, 3), np.float32))
        with pytest.raises(ValueError, match="out receives"):
            fa.mse(x, 0.0, out=x)
        with pytest.raises(ValueError, match=r"var_grad must be a writeable array of shape \(3,\), not \(2, 3\)"):
            fa.gaussian_nll.value_and_grad(x, x, gpu.array(np.ones(3, np.float32)), var_grad=x)
        with pytest.raises(ValueError, match="share memory"):
            fa.gaussian_nll.value_and_grad(x, x, x, var_grad=x, grad_out=x)
