"""The benchmarks: what they call computes what it should, and what they say follows from what they measured."""

import argparse
import contextlib
import functools
import math
import subprocess
import sys
import types
import warnings
from dataclasses import replace

import numpy as np
import pytest

import fastact as fa
from fastact import nn
from fastact.bench import cases, compare, results
from fastact.bench.cases import Memory, Setting
from fastact.bench.results import Cell, Result

for needed in ("scipy", "tqdm", "threadpoolctl", "ml_dtypes"):
    pytest.importorskip(needed)

from fastact.bench import measure, peers, render  # noqa: E402

VECTOR, MATRIX = (300,), (12, 30)


@functools.cache
def calls(dtype="float32", layout=cases.CONTIGUOUS, out=True):
    """(what is left out of every library by case, what has a call) for small arrays."""
    libraries = [name for name in peers.LIBRARIES if name not in ("JAX", peers.COMPILED)]
    runs, left_out = {}, {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for cell in measure.cells_of_cases(
            [], [VECTOR[0]], [MATRIX], [{"dtype": dtype, "layout": layout, "out": out}], 1
        ):
            case = measure.CASES[cell.name]
            runs[case.name], left_out[case.name] = measure.ready(
                case, cell.setting, case.arrays(Memory(cell.setting)), libraries
            )
    return runs, left_out


class TestCases:
    def test_cover_every_public_function(self):
        names = {case.function for case in peers.CASES}
        assert names >= {
            *fa.list_activations(),
            *fa.list_losses(),
            "softmax",
            "log_softmax",
            "softmin",
            "logsumexp",
            "sparsemax",
        }

    def test_cover_every_optimizer(self):
        optimizers = {
            name
            for name, value in vars(nn).items()
            if isinstance(value, type) and issubclass(value, nn.optimizers.Optimizer)
        }
        assert optimizers - {"Optimizer"} == {case.name for case in cases.OPTIMIZERS}

    def test_names_are_unique(self):
        names = [case.name for case in peers.CASES]
        assert len(names) == len(set(names))

    @pytest.mark.parametrize("layout", cases.LAYOUTS)
    def test_arrays_are_as_the_setting_says(self, layout):
        for case in peers.CASES:
            setting = Setting(VECTOR if case in cases.VECTORS else MATRIX, "float64", layout)
            if case.suits(setting):
                x = case.arrays(Memory(setting))[0]
                assert x.dtype == np.float64 and x.flags.c_contiguous == (layout != cases.STRIDED)
                assert x.shape[: x.ndim] == (setting.shape[::-1] if layout == cases.AXIS_0 else x.shape)


class TestCalls:
    """What is timed gives the expected results: ``ready`` raises where ours do not, and leaves others out."""

    def test_are_right(self):
        runs, left_out = calls()
        assert all(runs[case.name].get("fastact") for case in peers.CASES)
        assert not {name: why for name, why in left_out.items() if why}

    @pytest.mark.parametrize("choice", [
        {"layout": cases.STRIDED}, {"layout": cases.AXIS_0}, {"out": False}, {"dtype": "float64"}, {"dtype": "float16"},
        {"dtype": "bfloat16"},
    ], ids=str)  # fmt: skip
    def test_of_ours_are_right_in_every_setting(self, choice):
        runs, _ = calls(**choice)
        assert runs and all("fastact" in found for found in runs.values())

    @pytest.mark.parametrize("library", [name for name in peers.LIBRARIES if name in ("NumPy", "PyTorch")])
    def test_write_where_they_are_told(self, library):
        for case in cases.ELEMENTWISE:
            if case.kind == "forward":
                x, out = case.arrays(Memory(Setting(VECTOR)))
                run = peers.LIBRARIES[library](case, Setting(VECTOR), (x, out))
                if run:
                    out.fill(np.nan)
                    run()
                    assert not np.isnan(out).any(), case.name

    @pytest.mark.parametrize("library", [name for name in ("JAX", peers.COMPILED) if name in peers.LIBRARIES])
    def test_compiled_libraries_find_what_ours_cannot_leave_out(self, library):
        """The gradient of prelu's weight, which a compiler takes away if nobody asks for it."""
        case, setting = measure.CASES["prelu.backward"], Setting(VECTOR)
        arrays = case.arrays(Memory(setting))
        if library == "JAX":
            function, inputs = peers.of_jax.program(case, case.parameters(setting), arrays[:-1])
            found = function(*inputs)
        else:
            function, inputs = peers.of_torch.program(case, setting, list(map(peers.of_torch.tensor, arrays)))
            found = inputs[-1], function(*inputs)
        wanted = fa.prelu.backward(*arrays[:2], *case.parameters(setting))[::-1]
        for got, gradient in zip(found, wanted):
            np.testing.assert_allclose(np.asarray(got).reshape(gradient.shape), gradient, rtol=1e-5)

    def test_wrong_results_are_left_out(self, monkeypatch):
        case, setting = measure.CASES["relu"], Setting(VECTOR)
        monkeypatch.setitem(peers.LIBRARIES, "NumPy", lambda *_: lambda: np.zeros(VECTOR))
        runs, left_out = measure.ready(case, setting, case.arrays(Memory(setting)), ["fastact", "NumPy"])
        assert list(runs) == ["fastact"] and left_out["NumPy"].startswith("wrong by")

    def test_a_wrong_result_of_ours_is_an_error(self, monkeypatch):
        case, setting = measure.CASES["relu"], Setting(VECTOR)
        monkeypatch.setitem(peers.LIBRARIES, "fastact", lambda *_: lambda: np.zeros(VECTOR))
        with pytest.raises(AssertionError, match="relu.*wrong"):
            measure.ready(case, setting, case.arrays(Memory(setting)), ["fastact"])

    def test_errors_in_ulp(self):
        """Of ours, over a sample of all float32 values, as promised."""
        promised = {row.name: row.max_ulp[0] for row in cases.ACTIVATIONS}
        for name in ("sigmoid", "gelu", "hardswish", "hardsigmoid"):
            found = measure.largest_errors(measure.CASES[name], Setting((measure.SAMPLE,)), ["fastact"])
            assert 0.4 < found["fastact"] <= promised[name]


def result(name="relu", kind="forward", ours=1.0, shape=(100,), threads=2, **peers):
    return Result(Cell(kind, name, Setting(shape), threads), 2, {"fastact": ours, **peers}, False)


class TestResults:
    def test_ratios(self):
        r = result(ours=2.0, NumPy=6.0, SciPy=3.0, copy=1.0)
        assert r.best == "SciPy" and r.ratio("SciPy") == 1.5 and r.ratio("PyTorch") is None
        assert r.share_of_copy() == 0.5
        assert r.figure("fastact") == 100 / 2 / 1e9

    def test_nobody_to_compare_with(self):
        assert result().best is None and result().share_of_copy() is None

    def test_files_bring_back_what_was_saved(self, tmp_path):
        found = [result(ours=1.5, NumPy=2.0), replace(result("gelu"), left_out={"JAX": "why"}, ulp={"fastact": 0.75})]
        results.save(tmp_path / "r.json", {"cpu": "one"}, found)
        assert results.load(tmp_path / "r.json") == ({"cpu": "one"}, found)

    def test_summary_has_the_mean_and_the_losses(self):
        machine = {"cpu": "one", "cpus": 2, "instruction_set": "avx2", "versions": {"numpy": "2"}, "missing": ["jax"]}
        found = [result(NumPy=4.0), result("gelu", NumPy=0.25, SciPy=0.5), result("mse", "elementwise loss", NumPy=0.5)]
        text = render.page(machine, found, render.as_text)
        assert "1.00 times as fast" in text and "of 2 cells" in text
        assert "in 2 of 3 cells" in text and text.index("- 0.25 gelu") < text.index("- 0.50 mse")
        assert "Not installed: jax" in text and "numpy 2" in text

    def test_summary_keeps_calls_apart_from_throughput(self):
        found = [
            result(NumPy=4.0),
            result("gelu", shape=(2**16,), NumPy=2.0),
            result(threads=1, shape=(2**20,), NumPy=9.0),
        ]
        large, small, losses = render.summary(found)
        assert "from 2^16 elements on: 2.00 times" in large and "on fewer elements: 4.00 times" in small
        assert "in 0 of 3 cells." in losses

    def test_geometric_mean(self):
        assert math.isclose(results.geometric_mean([2.0, 8.0]), 4.0) and results.geometric_mean([]) is None

    def test_markdown_tables_have_a_row_a_function(self):
        text = "\n".join(
            render.as_markdown(*table) for table in render.tables([result(NumPy=2.0), result("gelu", NumPy=2.0)])
        )
        assert text.count("\n| relu | ") == text.count("\n| gelu | ") == 1 and "|---|--:|" in text


class TestReport:
    """From a file to documents."""

    @pytest.fixture
    def found(self):
        functions, sizes = ("relu", "gelu"), (2**12, 2**16, 2**20)
        return [
            replace(
                result(name, kind, 1e-3, (size,), NumPy=2e-3, PyTorch=5e-4), ulp={"fastact": 0.5, "NumPy": math.inf}
            )
            for name in functions
            for kind in results.ELEMENTWISE
            for size in sizes
        ]

    @pytest.fixture
    def machine(self):
        return {"cpu": "a CPU", "cpus": 2, "instruction_set": "avx2", "versions": {"numpy": "2"}, "missing": []}

    def test_writes_page_figures_and_the_readme(self, tmp_path, found, machine):
        report = pytest.importorskip("fastact.bench.report")
        docs = tmp_path / "docs"
        (tmp_path / "README.md").write_text(
            "before\n<!-- speed: python -m bench.report -->\nold\n<!-- end -->\nafter\n"
        )
        report.write_documents(machine, found, docs)
        readme = (tmp_path / "README.md").read_text()
        assert readme.startswith("before\n") and readme.endswith("<!-- end -->\nafter\n") and "old" not in readme
        assert "0.50 times as fast" in readme and "a CPU" in readme
        assert "| forward | 6 | 0.50 | 6 | 0.50: relu, 4,096 elements |" in readme
        page = (docs / "benchmarks.md").read_text()
        assert "Slower than the fastest other library in 18 of 18 cells" in page and "a CPU" in page
        for name in ("throughput", "ratios", "accuracy"):
            assert (docs / f"bench-{name}.png").read_bytes().startswith(
                b"\x89PNG"
            ) and f"docs/bench-{name}.png" in readme

    def test_plan_names_kinds_that_there_are(self):
        report = pytest.importorskip("fastact.bench.report")
        kinds = {case.kind for case in peers.CASES} | {measure.CALL, measure.TRAINING}
        assert kinds == {kind for part in report.SLICES.values() for kind in part.kinds}
        assert all(report.cells_of(part, 2) for part in report.SLICES.values())

    @pytest.fixture
    def report(self, monkeypatch):
        """The module, which measures nothing, in this process, and has one small slice."""
        report = pytest.importorskip("fastact.bench.report")

        class Here:
            def __init__(self, target, args):
                self.start, self.exitcode = functools.partial(target, *args), 0

            def join(self):
                pass

        def fake(cell, libraries, **turns):
            self.asked.append(cell)
            return Result(cell, 2, {"fastact": 2.0}, False)

        self.asked = []
        monkeypatch.setattr(measure, "measure_case", fake)
        monkeypatch.setattr(peers, "set_num_threads", lambda n: None)
        monkeypatch.setattr(report.multiprocessing, "get_context", lambda _: types.SimpleNamespace(Process=Here))
        monkeypatch.setattr(report, "SLICES", {"some": report.Slice(("optimizer",), (16, 32))})
        return report

    def test_continues_a_file(self, tmp_path, report):
        """What is there is kept, what is missing is measured, then what was disturbed."""
        file, cells = tmp_path / "r.json", report.cells_of(report.SLICES["some"], 2)
        there = [Result(cell, 2, {"fastact": 1.0}, disturbed) for cell, disturbed in zip(cells, (False, True))]
        results.save(file, measure.machine(), there)
        assert report.measure_slices(["some"], None, 2, file, False, math.inf) == 0
        assert self.asked == [*cells[2:], cells[1]]
        seconds = {r.cell: r.seconds["fastact"] for r in results.load(file)[1]}
        assert [seconds[cell] for cell in cells] == [1.0] + [2.0] * (len(cells) - 1)
        report.measure_slices(["some"], (64,), 2, file, False, math.inf)
        assert {cell.setting.shape for cell in self.asked[len(cells) - 1 :]} == {(64,)}

    def test_refuses_another_machine_s_file(self, tmp_path, report):
        cells = report.cells_of(report.SLICES["some"], 2)
        results.save(tmp_path / "r.json", {"cpu": "another"}, [Result(cells[0], 2, {"fastact": 1.0}, False)])
        with pytest.raises(SystemExit, match="another machine"):
            report.measure_slices(["some"], None, 2, tmp_path / "r.json", False, math.inf)

    def test_stops_when_time_is_up(self, tmp_path, report):
        with pytest.raises(SystemExit, match="goes on from here"):
            report.measure_slices(["some"], None, 2, tmp_path / "r.json", False, 0)
        assert len(results.load(tmp_path / "r.json")[1]) == 1


class TestSizes:
    @pytest.mark.parametrize(("text", "value"), [("1000", 1000), ("2^20", 2**20)])
    def test_are_numbers_or_powers(self, text, value):
        assert compare.size(text) == value

    def test_shapes(self):
        assert compare.shape("2^10x64") == (1024, 64)


class TestCommand:
    def test_looks_at_large_arrays_and_calls_too(self):
        parser = argparse.ArgumentParser()
        compare.add_options(parser)
        cells = compare.cells_for(parser.parse_args([]))
        assert {cell.setting.shape for cell in cells if cell.kind == "forward"} == {(2**20,), (2**24,)}
        assert {cell.kind for cell in cells} == {"forward", "backward", "rows", "loss", "call"} and len(cells) < 100

    def test_prints_ratios(self, tmp_path):
        file = tmp_path / "r.json"
        command = [sys.executable, "-m", "fastact", "bench", "relu", "softmax", "--sizes", "2^10", "--shapes", "8x16"]
        options = ["--peers", "NumPy", "SciPy", "--threads", "1", "--json", str(file)]
        done = subprocess.run(command + options, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "forward, 1,024 elements, float32, 1 thread: Gelem/s" in done.stdout
        assert "vs best" in done.stdout and "geometric mean" in done.stdout
        _, found = results.load(file)
        assert {r.cell.name for r in found} == {
            "relu",
            "relu.derivative",
            "relu.backward",
            "softmax",
            "softmax.backward",
        }
        assert all(set(r.seconds) <= {"fastact", "NumPy", "SciPy", "np.tanh"} for r in found)

    @pytest.mark.parametrize(("arguments", "message"), [
        (["gleu"], "nothing to measure: gleu"),
        (["relu", "--peers", "Foo"], "no Foo here; there are fastact, NumPy"),
        (["relu", "--sizes", "many"], "'many' is not like 1000 or 2^20"),
    ])  # fmt: skip
    def test_errors_have_status_2(self, arguments, message, capsys):
        parser = argparse.ArgumentParser()
        parser.set_defaults(parser=parser)
        compare.add_options(parser)
        with pytest.raises(SystemExit) as stopped:
            compare.run(parser.parse_args(arguments))
        assert stopped.value.code == 2 and message in capsys.readouterr().err


class TestOnGPUs:
    """What bench.gpu measures, on the emulator, for which PyTorch's tensors lie in the CPU's memory."""

    @pytest.fixture
    def torch(self, monkeypatch):
        torch = pytest.importorskip("torch")
        pytest.importorskip("greenlet")
        from fake_gpu import TorchOnEmulator

        from fastact.bench import gpu

        monkeypatch.setattr(gpu, "DEVICE", "cpu")
        with TorchOnEmulator().running(monkeypatch):
            yield torch

    @pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
    def test_cases_compute_what_they_should(self, torch, dtype):
        from fastact.bench import gpu

        clock = types.SimpleNamespace(
            warm=lambda *call: 1e-3, in_turn=lambda *call: 2e-6, cold=lambda *call: 4e-6, python=lambda *call: 8e-6
        )
        shapes = [(4, 40)], [dtype], {}
        for case in (
            *gpu.elementwise_cases(torch, [70], [dtype], {}),
            *gpu.softmax_cases(torch, *shapes),
            *gpu.loss_cases(torch, *shapes),
        ):
            found = gpu.measured(torch, clock, case, cache=1)
            assert found.keys() >= {"fastact", "fastact again", "PyTorch"}
            for result in found.values():
                assert result["error"] < (1e-2 if dtype == "bfloat16" else 1e-6), (case.key, found)
            text = gpu.described(case, found, copy=1e12)
            assert case.key in text and "2.0 us" in text and "cold 4.0 us" in text and "Python 8.0 us" in text

    @pytest.mark.parametrize("waits", [False, True])
    def test_functions_that_wait_for_the_gpu_are_in_no_graph(self, waits):
        from fastact.bench import gpu

        called, replayed = [], []
        event = types.SimpleNamespace(record=lambda: None, synchronize=lambda: None, elapsed_time=lambda end: 3.0)
        cuda = types.SimpleNamespace(Event=lambda enable_timing: event, graph=contextlib.nullcontext,
                                     CUDAGraph=lambda: types.SimpleNamespace(replay=lambda: replayed.append(1)))  # fmt: skip
        clock = gpu.Clock(types.SimpleNamespace(cuda=cuda, empty=lambda *size, **options: None, uint8=None), 1)

        def function(x):
            called.append(x)

        function.waits = waits
        assert clock.in_turn(function, [("one",), ("other",)], launches=3) == 1e-3
        assert called[:4] == (["one", "other", "one", "other"] if waits else ["one", "other", "one"])
        assert bool(replayed) != waits
