"""Every kernel for GPUs compiles, without a GPU: to PTX and to machine code, of which registers and instructions are looked at.

By default those that differ, for sm_90. FASTACT_CUDA_ARCHS=75,80,90,100 asks for all of them, for these architectures;
FASTACT_CUDA_REGISTERS=write writes the file that holds how many registers a kernel may take on sm_90.
"""

import functools
import itertools
import json
import os
import re
import weakref
from pathlib import Path
from types import SimpleNamespace

import pytest
from cases import FROM_OUTPUT, NAMES, ROWS

import fastact as fa
from fastact import gpu
from fastact._kernels import cuda_elementwise, cuda_losses, cuda_rows, cuda_simplex
from fastact._kernels.cuda_kernels import SIZES, lanes
from fastact.table import ELEMENTWISE_LOSSES, GATED

numba = pytest.importorskip("numba", reason="needs Numba")
pytest.importorskip("numba_cuda", reason="needs numba-cuda")
pytest.importorskip("cuda.core", reason="needs cuda-core")
cuda_launch = pytest.importorskip("fastact._kernels.cuda_launch", reason="needs what fastact[cuda] brings")

ARCHS = [(int(arch) // 10, int(arch) % 10) for arch in os.environ.get("FASTACT_CUDA_ARCHS", "90").split(",")]
EVERYTHING = "FASTACT_CUDA_ARCHS" in os.environ
BUDGET_FILE = Path(__file__).with_name("cuda_registers.json")
BUDGET = json.loads(BUDGET_FILE.read_text())
MOST = 255
GROWTH = 1.15
"""By which another version of the compiler may differ."""
STORAGES = ["float32", "float64", "float16", "bfloat16"]
REGISTERS = 65536
"""Those of a multiprocessor, which a block must not exceed."""


on_every_arch = pytest.mark.parametrize("arch", ARCHS, indirect=True, ids=lambda arch: f"sm_{arch[0]}{arch[1]}")
"""The topmost decorator, so that a case meets them one after the other, having been lowered once."""


@pytest.fixture
def arch(request, monkeypatch):
    import numba.cuda.dispatcher

    # Functions that kernels call are compiled for "the current GPU".
    monkeypatch.setattr(numba.cuda.dispatcher, "get_current_device", lambda: SimpleNamespace(compute_capability=request.param))
    return request.param


def elementwise_cases():
    """(name, factory, storage, specification)"""
    for name in NAMES:
        kinds = ["backward"] + ["forward"] * (EVERYTHING or not ROWS[name].cheap)
        kinds += EVERYTHING * ["derivative", *["backward_from_output"] * (name in FROM_OUTPUT)]
        for kind in kinds:
            for storage in STORAGES if EVERYTHING or name == "gelu" else ["float32"]:
                varying = (False,) * len(ROWS[name].parameters)
                yield f"{name}_{kind}", cuda_elementwise.contiguous, storage, (ROWS[name], kind, storage, varying, lanes(storage))
    for row, kind in itertools.product(GATED, ("gated", "gated_backward")):
        for storage in STORAGES if EVERYTHING else ["bfloat16"] if row.name == "swiglu" else []:
            yield f"{row.name}_{kind}", cuda_elementwise.contiguous, storage, (row, kind, storage, (), lanes(storage))
    for name, varying in (("gelu", ()), ("hardtanh", (False, True)), ("hardtanh", (True, True))):
        specification = (ROWS[name], "backward", "float32", varying, 3)
        yield f"{name}_strided_{sum(varying)}", cuda_elementwise.strided, "float32", specification
    for source, result, masked in (("float64", "float16", False), ("float32", "bfloat16", True), ("bool", "float16", True),
                                   ("uint64", "float32", False), ("int16", "int64", True), ("bool", "bool", False)):  # fmt: skip
        name = f"convert_{source}_to_{result}"
        yield name, cuda_elementwise.convert, "float64" if source == "float64" else "float32", (source, result, masked, 2)
    for name, kind in (("relu", "int8"), ("relu", "uint64"), ("identity", "int32")):
        yield f"{name}_of_{kind}", cuda_elementwise.of_integers, kind, (ROWS[name], kind, 2)
    yield "gelu_narrow", cuda_elementwise.contiguous, "bfloat16", (ROWS["gelu"], "forward", "bfloat16", (), 1)


WIDTHS = {"short": 20, "warp": 400, "block": 2000, "long": 8000, "looped": 100000, "apart": 30}
WITH_PARTS = (*WIDTHS, *cuda_rows.PHASES)
"""Shapes of those kernels of which several blocks may have a row."""


def layout(shape, storage, sources=1):
    """How rows of such a width are gone over."""
    apart = shape == "apart"
    width = 1 if apart else lanes(storage)
    team, vectors, looped = gpu.team_for(1000, WIDTHS.get(shape, 100000), SIZES[storage], width, apart, sources)
    return width, vectors, team, shape if shape in cuda_rows.PHASES else looped, apart


MASKED = [(cuda_rows.forward, name) for name in ("softmax", "log_softmax", "logsumexp", "logsumexp_backward")] + [(cuda_simplex.sparsemax, None)]


def row_cases():
    """(name, factory, storage, specification)"""
    for factory, names in ((cuda_rows.forward, ("softmax", "log_softmax", "logsumexp", "logsumexp_backward")),
                           (cuda_rows.backward, ("softmax_backward", "log_softmax_backward"))):  # fmt: skip
        for name, shape, storage in itertools.product(names, WITH_PARTS, STORAGES):
            if EVERYTHING or storage == "float32" and shape == "warp" or name == "softmax" and storage in ("float32", "bfloat16"):
                sources = 1 + (factory is cuda_rows.backward)
                yield f"{name}_{shape}", factory, storage, (name, storage, *layout(shape, storage, sources))
    for (factory, function), shape, storage in itertools.product(MASKED, WITH_PARTS, STORAGES):
        if factory is cuda_simplex.sparsemax and shape in cuda_rows.PHASES:
            continue
        name = function or "sparsemax"
        if EVERYTHING or storage == "float32" and shape == "warp" or name == "softmax" and storage == "bfloat16" and shape == "looped":
            yield f"{name}_{shape}_masked", factory, storage, (function, storage, *layout(shape, storage, 2), True)
    for name, factory, function, sources in (
        ("sparsemax", cuda_simplex.sparsemax, None, 1), ("sparsemax_backward", cuda_simplex.sparsemax_backward, None, 2),
        ("maxout", cuda_simplex.largest, "maxout", 1), ("maxout_backward", cuda_simplex.largest, "maxout_backward", 2),
        ("one_hot", cuda_simplex.largest, "one_hot", 1), ("jacobian", cuda_simplex.jacobian, None, 2),
    ):  # fmt: skip
        for shape, storage in itertools.product(WIDTHS, STORAGES):
            if EVERYTHING or storage == "float32" and (shape == "looped" or name == "sparsemax"):
                yield f"{name}_{shape}", factory, storage, (function, storage, *layout(shape, storage, sources))
    for kind, storage in (("gumbel", "float32"), ("uniform", "float32"), ("gumbel", "float64")):
        yield f"noise_{kind}", cuda_simplex.noise, storage, (kind, storage)
    yield "sums_slopes", cuda_rows.sums, "bfloat16", (("slopes", "bfloat16"), "bfloat16", *layout("looped", "bfloat16", 2))


def loss_cases():
    """(name, factory, storage, specification)"""
    for shape, labels, with_grad, weighted, storage in itertools.product(WITH_PARTS, ("int64", None), (True, False), (False, True), STORAGES):
        both = storage in ("float32", "bfloat16")
        tags = "_weighted" * weighted + "_grad" * with_grad
        for smooth, focal in ((False, False), (True, False), (False, True)) if labels else ((True, False),):
            plain = with_grad and not weighted and smooth == (labels is None) and not focal and shape in ("long", "looped", *cuda_rows.PHASES)
            rich = with_grad and weighted and (smooth or focal) and shape == "looped"
            if EVERYTHING or both and (plain or rich):
                name = f"cross_entropy_{shape}_{labels or 'probabilities'}" + "_smooth" * smooth * bool(labels) + "_focal" * focal + tags
                how = layout(shape, storage, 1 + (labels is None) + (smooth and weighted))
                yield name, cuda_losses.cross_entropy, storage, (storage, labels, storage, *how, with_grad, weighted, smooth, focal)
        if shape in cuda_rows.PHASES:
            continue
        for loss in ("nll_loss", "categorical_cross_entropy") if labels else ("categorical_cross_entropy", "kl_div", "kl_div_of_logs"):
            if EVERYTHING or both and with_grad and not weighted and shape == "looped":
                how = layout(shape, storage, 1 if labels else 2 + weighted)
                name = f"{loss}_{shape}_{labels or 'probabilities'}{tags}"
                yield name, cuda_losses.comparison, storage, (storage, loss, labels, storage, *how, with_grad, weighted)
    chosen = [row for row in ELEMENTWISE_LOSSES if EVERYTHING or row.name in ("mse", "gaussian_nll", "sigmoid_cross_entropy")]
    for kernel, row in ((kernel, row) for row in chosen for kernel in row.kernels):
        for storage, losses, weighted in (("float32", None, False), ("bfloat16", "bfloat16", True)):
            varying = (True,) * (len(row.inputs) - 1) + (False,) * row.numbers + (True,) * weighted
            for gradients in (1, 2) if row.third_gradient else (1,):
                specification = storage, kernel, varying, weighted, losses, lanes(storage), gradients
                yield f"{kernel}_grad" + "_both" * (gradients > 1), cuda_losses.elementwise, storage, specification
    yield "total_weight", cuda_losses.total_weight, "float32", ("bfloat16", "int32", True, True, True)
    yield "add_up", cuda_losses.add_up, "float32", ("float32", False)
    yield "add_up_inverse", cuda_losses.add_up, "float64", ("float64", True)


@functools.lru_cache(len(ARCHS))
def lowered(factory, specification, target):
    """The kernel, and what Numba makes of it, for all architectures that share a target: that takes longer than all else."""
    kernel = factory(target, *specification)
    return kernel, cuda_launch.lowered(kernel, ARCHS[0])


def compiled(factory, specification, arch):
    differs = "bfloat16" in specification  # nothing else depends on the target
    try:
        kernel, library = lowered(factory, specification, cuda_launch.target(arch if differs else ARCHS[-1]))
        ptx = library.get_asm_str(cc=arch)
    except Exception as error:  # pytest would be minutes at showing what Numba has on the stack
        message = f"{type(error).__name__}: {error}"
    else:
        message = None
    if message:
        pytest.fail(message, pytrace=False)
    _, log = cuda_launch.link(ptx, arch)
    registers = int(re.search(r"Used (\d+) registers", log).group(1))
    stack, stores, loads = (int(n) for n in re.search(
        r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", log).groups())  # fmt: skip
    return SimpleNamespace(threads=kernel.threads, arguments=kernel.arguments, ptx=ptx, registers=registers, stack=stack, spilled=stores + loads)


def check(name, storage, result, arch):
    entry = result.ptx[result.ptx.index(".visible .entry") :]
    words = sum(1 if count is None else count for count in result.arguments)
    assert len(re.findall(r"\.param \.[su]64", entry[: entry.index(")")])) == words
    assert result.spilled == 0
    assert result.registers * result.threads <= REGISTERS
    if storage != "float64":
        assert result.stack == 0
        assert not re.findall(r"\S+\.f64", result.ptx)
    if arch == (9, 0):
        key = f"{name} {storage}"
        if os.environ.get("FASTACT_CUDA_REGISTERS") == "write":
            BUDGET[key] = result.registers
            BUDGET_FILE.write_text(json.dumps(dict(sorted(BUDGET.items())), indent=0) + "\n")
        assert EVERYTHING or key in BUDGET, "FASTACT_CUDA_REGISTERS=write enters it"
        assert result.registers <= BUDGET.get(key, MOST) * GROWTH


def parametrized(*cases):
    """A test for each of them: (name, factory, storage, specification)."""
    cases = [pytest.param(*case, id=f"{case[0]}-{case[2]}") for case in cases]
    return pytest.mark.parametrize("name, factory, storage, specification", cases)


@on_every_arch
@parametrized(*elementwise_cases())
def test_elementwise(arch, name, factory, storage, specification):
    result = compiled(factory, specification, arch)
    check(name, storage, result, arch)
    if factory is cuda_elementwise.contiguous and specification[-1] > 1:
        _, sources, results, _ = result.arguments
        tables = cuda_elementwise.tables_of(*specification[:3])
        assert len(re.findall(r"ld\.global\S*\.v[24]", result.ptx)) == sources + len(tables)
        assert len(re.findall(r"st\.global\S*\.v[24]", result.ptx)) == results


@on_every_arch
@parametrized(*row_cases(), *loss_cases())
def test_rows(arch, name, factory, storage, specification):
    result = compiled(factory, specification, arch)
    check(name, storage, result, arch)
    wide = lanes(storage) in specification and "_apart" not in name
    looks_at_one = factory is cuda_losses.comparison and specification[2] is not None
    reads_elements = "_whole" not in name or "softmax" in name or name.endswith(("_grad", "_backward_whole", "_backward_whole_masked"))
    if wide and reads_elements and not looks_at_one:
        assert re.search(r"ld\.global\S*\.v[24]", result.ptx)
    if wide and "_parts" not in name and (name.startswith("softmax") or name.endswith("_grad")):
        assert re.search(r"st\.global\S*\.v[24]", result.ptx)


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("shape, n", [("block", 1999), ("long", 7999), ("looped", 50257)])
def test_rows_of_odd_width_take_the_same_kernels(shape, n, storage):
    """Of which it has just been seen that they read and write 16 bytes at once."""
    size = SIZES[storage]
    _, found, _ = gpu._plan_of_rows((1000, n), 1, ((n * size, size),) * 2, (True, True), (0, 0), storage, 1)
    assert found == layout(shape, storage)


class TestLauncher:
    """With a driver that has two GPUs and launches nothing."""

    @pytest.fixture
    def machine(self, monkeypatch):
        """The number of the GPU that the thread works on, and what is launched: (that number, grid, threads, words)"""
        machine = SimpleNamespace(current=0, launched=[])

        class Device:
            compute_capability = 9, 0
            properties = SimpleNamespace(multiprocessor_count=132)

            def __init__(self, number):
                self.number = number

            def set_current(self):
                machine.current = self.number

        driver = SimpleNamespace(
            CUresult=SimpleNamespace(CUDA_SUCCESS=0), cuCtxGetDevice=lambda: (201 * (machine.current is None), machine.current),
            cuCtxGetCurrent=lambda: (0, machine.current), cuCtxSetCurrent=lambda before: setattr(machine, "current", before),
        )  # fmt: skip

        def launch(stream, config, loaded, *words):
            machine.launched.append((machine.current, config.grid[0], config.block[0], words))

        for name, value in {"Device": Device, "driver": driver, "launch": launch, "stream_of": lambda handle: handle}.items():
            monkeypatch.setattr(cuda_launch, name, value)
        monkeypatch.setattr(cuda_launch.Launcher, "_load", lambda self, *about: (SimpleNamespace(threads=128), None))
        return machine

    def test_words_on_the_gpu_of_the_arrays(self, machine):
        launcher = cuda_launch.Launcher()
        for _ in range(2):
            launcher.launch(None, (), 3, (1, (2, 3), (), 4), device=1)
        assert machine.launched == [(1, 3, 128, (1, 2, 3, 4))] * 2

    def test_processors(self, machine):
        assert cuda_launch.Launcher().processors(1) == 132

    def test_streams_that_wait(self, monkeypatch):
        waits = []
        monkeypatch.setattr(cuda_launch, "stream_of", lambda handle: SimpleNamespace(handle=handle, wait=lambda other: waits.append((handle, other.handle))))
        cuda_launch.Launcher().wait(7, 9)
        assert waits == [(7, 9)]

    def test_waiting_for_a_stream(self, machine, monkeypatch):
        waits = []
        monkeypatch.setattr(cuda_launch, "stream_of", lambda handle: SimpleNamespace(sync=lambda: waits.append((handle, machine.current))))
        cuda_launch.Launcher().finish(7, 1)
        assert waits == [(7, 1)]
        assert machine.current == 0

    def test_memory_goes_back_with_the_next(self, machine, monkeypatch):
        """And not before, since whoever let go of it may be where CUDA must not be called."""
        made = []

        class Array:
            __cuda_array_interface__ = {"data": (4096, False)}

            def __init__(self, size, dtype):
                made.append((size, machine.current, weakref.ref(self)))

        monkeypatch.setattr(cuda_launch, "cuda", SimpleNamespace(device_array=Array))
        launcher = cuda_launch.Launcher()
        memory = launcher.allocate(0, 1)
        assert memory.address == 4096
        del memory
        others = launcher.allocate(5, 0)
        assert made[0][2]() is not None
        again = launcher.allocate(7, 1)
        assert made[0][2]() is None
        assert [about[:2] for about in made] == [(1, 1), (5, 0), (7, 1)]
        assert machine.current == 0
        del others, again

    def test_the_thread_goes_on_where_it_was(self, machine):
        cuda_launch.Launcher().launch(None, (), 1, (), device=1)
        assert machine.current == 0

    def test_a_thread_that_has_chosen_none_yet(self, machine):
        machine.current = None
        cuda_launch.Launcher().launch(None, (), 1, (), device=1)
        assert machine.current == 1 == machine.launched[0][0]

    def test_without_the_compiler_the_extra_is_named(self, monkeypatch):
        def lowered(kernel, capability):
            raise cuda_launch.DynamicLibNotFoundError("libnvvm.so")

        monkeypatch.setattr(cuda_launch, "lowered", lowered)
        with pytest.raises(ImportError, match=r"which fastact\[cuda\] brings: libnvvm.so"):
            cuda_launch.Launcher()._load(cuda_losses.add_up, ("float32", False), (9, 0))

    def test_gpus_that_are_too_old(self):
        with pytest.raises(RuntimeError, match="7.0 is too old, the least is 7.5"):
            cuda_launch.Launcher()._load(cuda_losses.add_up, ("float32", False), (7, 0))


def slope_of_gated(x, sharpness, size=2.0):
    return fa.swish.derivative(x, sharpness) + size * fa.tanh.derivative(x)


@fa.activation(derivative=slope_of_gated)
def gated(x, sharpness, size=2.0):
    return x * fa.sigmoid(sharpness * x) + size * fa.tanh(x)


@on_every_arch
class TestUsersKernels:
    """What users write, compiled as numba-cuda compiles it."""

    @pytest.fixture
    def ptx(self, arch):
        """ptx(kind, what): the code of a kernel that computes ``what`` of every number of an array."""
        from numba import cuda

        from fastact._kernels import cuda_extending

        cuda_extending.init()  # as the entry point does where the package is installed

        def compile_for(kind, what):
            what = cuda.jit(device=True)(what)

            def kernel(x, y):
                i = cuda.grid(1)
                if i < x.size:
                    y[i] = what(x[i])

            return cuda.compile_ptx(kernel, (kind[::1], kind[::1]), cc=arch)[0]

        return compile_for

    @pytest.mark.parametrize("function", [*(getattr(fa, name) for name in NAMES), gated], ids=lambda f: f.__name__)
    def test_every_function_of_a_number(self, ptx, function):
        needed = (0.5,) * list(function.parameters.values()).count(None)
        derivative = function.derivative
        for what in (lambda v: function(v, *needed)), (lambda v: derivative(v, *needed)), (lambda v: function.derivative(v, *needed)):
            single, double = ptx(numba.float32, what), ptx(numba.float64, what)
            assert not re.search(r"\S+\.f64", single)
            assert re.search(r"\S+\.(f64|b64)", double)
            assert ".entry" in single and "call" not in single + double  # of anything that is not inlined

    def test_activations_of_ones_own_on_arrays(self, arch):
        specification = gated.row, "backward", "float32", (False, True), 4
        assert compiled(cuda_elementwise.contiguous, specification, arch).spilled == 0

    def test_parameters_by_position_and_by_name(self, ptx):
        written = "0f3E800000", "0f40A00000"  # 0.25 and 5, as PTX has them
        assert written[0] in ptx(numba.float32, lambda v: fa.leaky_relu(v, 0.25))
        assert written[1] in ptx(numba.float32, lambda v: fa.hardtanh(v, max_val=5.0))
        assert not any(number in ptx(numba.float32, lambda v: fa.hardtanh(v)) for number in written)

    def test_integers_stay_integers_where_they_do_outside(self, ptx):
        assert not re.search(r"\S+\.f(32|64)", ptx(numba.int32, lambda v: fa.relu(v)))
        assert re.search(r"\S+\.f64", ptx(numba.int32, lambda v: fa.gelu(v)))

    def test_what_is_no_number_is_a_typing_error(self, ptx):
        with pytest.raises(Exception, match="complex64"):
            ptx(numba.complex64, lambda v: fa.gelu(v))
