"""Arrays of JAX on a GPU: real ones on the CPU, which the emulator works on; and DLPack, by which they come and go."""

import gc
import weakref
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest
from cases import DTYPES
from emulator import XLA_ALIGNMENT
from fake_gpu import JAX, JAXOnEmulator

import fastact as fa
from fastact import devices, dlpack

jax = pytest.importorskip("jax", reason="needs JAX")
CPU = (1, 0)


@pytest.fixture(params=JAX)
def gpu(request, monkeypatch):
    with request.param().running(monkeypatch) as running:
        yield running


@pytest.fixture
def emulator(monkeypatch):
    with JAXOnEmulator().running(monkeypatch) as running:
        yield running


def agree(gpu, found, wanted):
    found = gpu.numpy(found)
    assert found.shape == np.shape(wanted)
    assert found.dtype == wanted.dtype
    eps = float(ml_dtypes.finfo(found.dtype).eps)
    np.testing.assert_allclose(found.astype(np.float64), np.asarray(wanted, np.float64), rtol=8 * eps, atol=4 * eps)


class TestFunctions:
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 0), (7, 33)], ids=str)
    def test_elementwise(self, gpu, rng, dtype, shape):
        x, grad = (rng.normal(size=shape).astype(dtype) for _ in range(2))
        agree(gpu, fa.gelu(gpu.array(x)), fa.gelu(x))
        agree(gpu, fa.gelu.backward(gpu.array(grad), gpu.array(x)), fa.gelu.backward(grad, x))

    def test_integers(self, gpu):
        x = np.arange(-3, 4, dtype=np.int32)
        found = gpu.numpy(fa.relu(gpu.array(x)))
        assert found.dtype == x.dtype
        np.testing.assert_array_equal(found, fa.relu(x))

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("axis", [0, 1, -1])
    def test_rows(self, gpu, rng, dtype, axis):
        x = rng.normal(size=(5, 6, 7)).astype(dtype)
        where = rng.random(x.shape) < 0.8
        agree(gpu, fa.softmax(gpu.array(x), axis), fa.softmax(x, axis))
        agree(gpu, fa.softmax(gpu.array(x), axis, where=gpu.array(where)), fa.softmax(x, axis, where=where))
        agree(gpu, fa.logsumexp(gpu.array(x), axis), fa.logsumexp(x, axis))

    def test_several_results(self, gpu, rng):
        x, grad, weight = (rng.normal(size=shape).astype(np.float32) for shape in ((4, 6), (4, 6), (6,)))
        found = fa.prelu.backward(gpu.array(grad), gpu.array(x), gpu.array(weight))
        for one, wanted in zip(found, fa.prelu.backward(grad, x, weight), strict=True):
            agree(gpu, one, wanted)
        found = fa.swiglu.backward(gpu.array(grad), gpu.array(x), gpu.array(grad))
        for one, wanted in zip(found, fa.swiglu.backward(grad, x, grad), strict=True):
            agree(gpu, one, wanted)

    @pytest.mark.parametrize("axis", [0, -1])
    def test_halves(self, gpu, rng, axis):
        x = rng.normal(size=(4, 6)).astype(np.float32)
        y = fa.glu(x, axis)
        agree(gpu, fa.glu(gpu.array(x), axis), y)
        agree(gpu, fa.glu.backward(gpu.array(y), gpu.array(x), axis), fa.glu.backward(y, x, axis))

    @pytest.mark.parametrize("reduction", ["mean", "none"])
    def test_losses(self, gpu, rng, reduction):
        logits, classes, target = rng.normal(size=(9, 5)), rng.integers(5, size=9), rng.normal(size=(9, 5))
        pairs = ((fa.softmax_cross_entropy, classes), (fa.huber, target))
        for loss, wanted in pairs:
            found = loss.value_and_grad(gpu.array(logits), gpu.array(wanted), reduction=reduction)
            for one, other in zip(found, loss.value_and_grad(logits, wanted, reduction=reduction), strict=True):
                agree(gpu, one, other)

    def test_results_are_jax_arrays_like_others(self, gpu, rng):
        x = rng.normal(size=(4, 6)).astype(np.float32)
        y = fa.silu(gpu.array(x))
        agree(gpu, jax.jit(lambda y: y @ y.T)(y), fa.silu(x) @ fa.silu(x).T)
        agree(gpu, fa.silu(y), fa.silu(fa.silu(x)))

    def test_operands_stay_as_they_are(self, emulator, rng):
        """Of the emulator, that lets nobody write there."""
        x = emulator.array(rng.normal(size=100).astype(np.float32))
        before = np.array(x)
        fa.relu.backward(x, x)
        np.testing.assert_array_equal(x, before)


class TestMistakes:
    def test_out(self, gpu):
        x = gpu.array(np.ones((2, 4), np.float32))
        calls = (lambda: fa.gelu(x, out=x), lambda: fa.softmax(x, out=x), lambda: fa.glu.backward(x[:, :2], x, out=x),
                 lambda: fa.mse.value_and_grad(x, x, grad_out=x))  # fmt: skip
        for call in calls:
            with pytest.raises(TypeError, match="out cannot be an array of jaxlib, which never changes"):
                call()

    def test_linear_losses(self, gpu):
        x = gpu.array(np.ones((2, 4), np.float32))
        with pytest.raises(TypeError, match="needs arrays that can be multiplied, of CuPy or PyTorch"):
            fa.linear_softmax_cross_entropy(x, x, gpu.array(np.zeros(2, np.int32)))

    def test_memory_of_other_kinds(self, emulator, monkeypatch):
        monkeypatch.setattr(devices.LIBRARIES["jaxlib"], "device_type", dlpack.CUDA)
        with pytest.raises(TypeError, match="must be in the memory of a GPU of CUDA, not on DLPack's device 1"):
            fa.gelu(emulator.array(np.ones(3, np.float32)))

    def test_inside_jit(self, gpu):
        with pytest.raises(TypeError, match="traced array"):
            jax.jit(fa.gelu)(gpu.array(np.ones(3, np.float32)))


class TestOnTheCPU:
    def test_arrays_are_numpys(self, rng):
        x = rng.normal(size=9).astype(np.float32)
        assert devices.library_of(jax.numpy.asarray(x)) is None
        np.testing.assert_array_equal(fa.gelu(jax.numpy.asarray(x)), fa.gelu(x))

    def test_traced_arrays(self):
        with pytest.raises(TypeError, match="traced array"):
            jax.jit(fa.gelu)(np.ones(3, np.float32))


class Memory:
    """What a parcel holds, of NumPy's."""

    def __init__(self, values):
        raw = np.zeros(values.nbytes + XLA_ALIGNMENT, np.uint8)
        start = -raw.ctypes.data % XLA_ALIGNMENT
        self.bytes = raw[start : start + values.nbytes]
        self.bytes.view(values.dtype)[...] = values.ravel()
        self.address = raw.ctypes.data + start


class TestParcels:
    NAMES = ["float16", "float32", "float64", "int8", "int32", "int64", "uint8", "uint16", "bool"]

    @staticmethod
    def parcel(values):
        memory = Memory(values)
        return dlpack.Parcel(memory, values.shape, values.dtype.name, CPU), weakref.ref(memory)

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("shape", [(), (5,), (2, 3), (2, 0)], ids=str)
    def test_numpy_takes_them(self, name, shape):
        values = np.arange(np.prod(shape, dtype=int)).astype(name).reshape(shape)
        parcel, memory = self.parcel(values)
        taken = np.from_dlpack(parcel)
        assert taken.dtype == values.dtype
        np.testing.assert_array_equal(taken, values)
        if values.size:
            assert taken.ctypes.data == memory().address

    @pytest.mark.parametrize("name", [*NAMES, "bfloat16"])
    def test_jax_takes_them(self, name):
        values = np.arange(6).astype(name).reshape(2, 3)
        with jax.enable_x64(True):
            parcel, memory = self.parcel(values)
            taken = jax.dlpack.from_dlpack(parcel)
        assert taken.dtype == values.dtype
        np.testing.assert_array_equal(taken, values)
        assert taken.unsafe_buffer_pointer() == memory().address

    @pytest.mark.parametrize("take", [np.from_dlpack, jax.dlpack.from_dlpack, lambda parcel: parcel.__dlpack__()],
                             ids=["NumPy", "JAX", "nobody"])  # fmt: skip
    def test_memory_is_freed_with_what_was_taken(self, take):
        parcel, memory = self.parcel(np.ones(1000, np.float32))
        taken = [take(parcel), take(parcel)]
        del parcel
        for _ in range(2):
            assert memory() is not None
            taken.pop()
            gc.collect()
        assert memory() is None

    def test_a_capsule_tells_of_gpus(self):
        memory = SimpleNamespace(address=0xABCDE0)  # which nobody reads
        capsule = dlpack.Parcel(memory, (2, 3), "bfloat16", (dlpack.CUDA, 5)).__dlpack__(stream=1)
        tensor = dlpack.tensor_in(capsule)
        assert (tensor.device_type, tensor.device_id, tensor.data + tensor.byte_offset) == (2, 5, 0xABCDE0)
        assert (tensor.dtype.code, tensor.dtype.bits, tensor.dtype.lanes, tensor.shape[:2]) == (4, 16, 1, [2, 3])

    def test_capsules_that_were_taken(self):
        capsule = self.parcel(np.ones(3))[0].__dlpack__()
        np.from_dlpack(Capsule(capsule))
        with pytest.raises(ValueError, match="incorrect name"):
            dlpack.tensor_in(capsule)


class Capsule:
    """An array that is this capsule."""

    def __init__(self, capsule):
        self.capsule = capsule

    def __dlpack_device__(self):
        return CPU

    def __dlpack__(self, **options):
        return self.capsule
