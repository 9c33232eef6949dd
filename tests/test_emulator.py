"""The emulator finds what a GPU would not forgive: each of these kernels has one mistake, or none."""

import numpy as np
import pytest
from emulator import Emulator, Fault
from fake_gpu import aligned

from fastact._kernels.cuda_kernels import Kernel

pytest.importorskip("greenlet", reason="needs greenlet")

THREADS = 64


def run(make, source, result, seed=0, grid=2):
    """What a kernel of (address of the source, that of the result) leaves in the result."""
    emulator = Emulator(seed)
    emulator.memory.add(source)
    emulator.memory.add(result)
    emulator.launch(make, (), grid, (source.ctypes.data, result.ctypes.data))
    return result


def reversal(target, barrier=True, reach=THREADS):
    """Each block reverses its numbers through shared memory."""
    cuda, word, load, store = target.cuda, target.word, target.load, target.store

    def kernel(source, result):
        shared = cuda.shared.array(THREADS, np.float32)
        t, first = word(cuda.threadIdx.x), word(cuda.blockIdx.x) * THREADS
        shared[t] = load(np.float32, source + 4 * (first + t))
        if barrier:
            cuda.syncthreads()
        store(np.float32, result + 4 * (first + t), shared[reach - 1 - t])

    return Kernel(kernel, (None, None), THREADS)


@pytest.fixture
def arrays(rng):
    source = aligned(2 * THREADS, np.float32)
    source[...] = rng.normal(size=source.shape)
    return source, aligned(2 * THREADS, np.float32)


@pytest.mark.parametrize("seed", range(3))
def test_a_right_kernel_runs_in_any_order(arrays, seed):
    source, result = arrays
    run(reversal, *arrays, seed)
    np.testing.assert_array_equal(result, source.reshape(2, -1)[:, ::-1].ravel())


def test_a_missing_barrier_is_a_race(arrays):
    with pytest.raises(Fault, match="race between threads"):
        run(lambda target: reversal(target, barrier=False), *arrays)


def test_shared_memory_has_bounds(arrays):
    with pytest.raises(Fault, match="in shared memory"):
        run(lambda target: reversal(target, reach=THREADS + 1), *arrays)


def test_memory_has_bounds(arrays):
    with pytest.raises(Fault, match="read of 4 bytes out of bounds"):
        run(reversal, *arrays, grid=3)


def test_memory_that_is_only_to_be_read():
    source, result = aligned(2 * THREADS, np.float32), aligned(2 * THREADS, np.float32)
    emulator = Emulator()
    emulator.memory.add(source)
    emulator.memory.add(result, writeable=False)
    with pytest.raises(Fault, match="only to be read"):
        emulator.launch(reversal, (), 2, (source.ctypes.data, result.ctypes.data))


def test_memory_that_nobody_has_written_is_nan():
    assert np.isnan(run(reversal, aligned(2 * THREADS, np.float32), aligned(2 * THREADS, np.float32))).all()


def test_a_vector_must_be_aligned():
    def make(target):
        access = target.access("float32", 4)
        cuda, read, write = target.cuda, access.read, access.write

        def kernel(source, result):
            values = cuda.local.array(4, np.float32)
            read(values, 0, source + 4)
            write(result, values, 0)

        return Kernel(kernel, (None, None), 32)

    with pytest.raises(Fault, match="16 bytes at the misaligned address"):
        run(make, aligned(8, np.float32), aligned(8, np.float32))


def sum_of_warp(target, leave_early=False, split=False):
    cuda, word, load, store = target.cuda, target.word, target.load, target.store

    def kernel(source, result):
        t = word(cuda.threadIdx.x)
        if leave_early and t == 7:
            return
        x = load(np.float32, source + 4 * t)
        for k in range(5):
            x = x + cuda.shfl_xor_sync(0xFFFFFFFF, x, 1 << (k ^ 1 if split and t == 9 else k))
        store(np.float32, result + 4 * t, x)

    return Kernel(kernel, (None, None), 32)


def test_shuffles(arrays):
    source, result = arrays
    run(sum_of_warp, source, result, grid=1)
    np.testing.assert_allclose(result[:32], source[:32].sum(dtype=np.float64), rtol=1e-5)
    assert len(set(result[:32])) == 1


@pytest.mark.parametrize("mistake", [{"leave_early": True}, {"split": True}])
def test_shuffles_need_the_whole_warp(arrays, mistake):
    with pytest.raises(Fault, match="do not come to one shuffle"):
        run(lambda target: sum_of_warp(target, **mistake), *arrays, grid=1)


def test_barriers_need_the_whole_block(arrays):
    def make(target):
        def kernel(source, result):
            if target.cuda.threadIdx.x < 32:
                target.cuda.syncthreads()

        return Kernel(kernel, (None, None), THREADS)

    with pytest.raises(Fault, match="only 32 of 64 threads come to a barrier"):
        run(make, *arrays)


def test_too_much_shared_memory(arrays):
    def make(target):
        return Kernel(lambda source, result: target.cuda.shared.array(1 << 14, np.float32) and None, (None, None), 32)

    with pytest.raises(Fault, match="bytes of shared memory"):
        run(make, *arrays)
