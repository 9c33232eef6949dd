"""The scripts under examples/, in their quick mode; and the long runs that their texts promise, where these are short."""

import copy
import os
import pickle
import re
import runpy
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import fastact as fa
from fastact import nn

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
NEEDS_PROCESSES = {"data_parallel"}
SCRIPTS = sorted(path.stem for path in EXAMPLES.glob("*.py") if path.stem != "common")

pytest.importorskip("matplotlib")
pytest.importorskip("sklearn")


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """What an example prints, after it has saved its picture."""
    from threadpoolctl import threadpool_limits

    def run(name, *arguments):
        monkeypatch.setattr(sys, "argv", [f"{name}.py", "--output", str(tmp_path / "picture.png"), *arguments])
        monkeypatch.syspath_prepend(str(EXAMPLES))
        with threadpool_limits():  # examples change the limits; here they are restored
            runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
        return capsys.readouterr().out

    return run


def test_there_is_an_example_for_each_real_run():
    assert set(SCRIPTS) == {"digits_mlp", "images_cnn", "sequences_rnn", "expressions_tree", "decision_boundaries", "sum_regression",
                            "xor", "vanishing_gradients", "data_parallel"}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in SCRIPTS if name not in NEEDS_PROCESSES])
def test_quick_run(name, run):
    assert re.search(r"\d", run(name, "--quick"))


def test_xor_is_all_right(run):
    assert "accuracy 100%" in run("xor")


def test_the_sum_is_learned_to_a_millionth(run):
    assert float(re.search(r"loss (\S+);", run("sum_regression"))[1]) < 1e-6


def test_the_tree_network_learns(run):
    """Unlike one that cannot: it is right on larger expressions than it was trained on."""
    for accuracy in re.findall(r"right on ([\d.]+)%", run("expressions_tree")):
        assert float(accuracy) > 95


def test_gradients_vanish_and_the_remedy_helps(run):
    ratios = [float(ratio) for ratio in re.findall(r"last (\S+)", run("vanishing_gradients", "--quick"))]
    assert ratios[0] < 1e-4 and all(ratio > 0.1 for ratio in ratios[1:])


# Several processes ------------------------------------------------------------------------------------------------------


class Group:
    """As many threads that speak to each other as MPI's processes do."""

    def __init__(self, size):
        self.size, self.barrier, self.slots = size, threading.Barrier(size, timeout=60), [None] * size

    def member(self, rank):
        group = self

        class Member:
            def Get_rank(self):
                return rank

            def Get_size(self):
                return group.size

            def Allreduce(self, send, receive):
                group.slots[rank] = send
                group.barrier.wait()
                total = sum(group.slots)
                group.barrier.wait()
                receive[...] = total

            def bcast(self, value, root):
                group.slots[rank] = value
                group.barrier.wait()
                found = copy.deepcopy(group.slots[root])
                group.barrier.wait()
                return found

        return Member()

    def run(self, work):
        results = [None] * self.size

        def call(rank):
            try:
                results[rank] = work(self.member(rank))
            except Exception as error:
                results[rank] = error

        threads = [threading.Thread(target=call, args=(rank,)) for rank in range(self.size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return results


def train(comm, x, y, seed=0):
    layers = [nn.Dense(4, 8), nn.Activation("gelu"), nn.Dense(8, 3)]
    trainer = nn.Trainer(
        nn.Sequential(layers, seed=seed, dtype=np.float64),
        "softmax_cross_entropy",
        nn.Adam(0.01),
        clip_norm=0.5,
        comm=comm,
    )
    history = trainer.fit(x, y, 3, 16, validation=(x, y), verbose=False)
    return trainer.model.parameters, history


@pytest.mark.parametrize("size", [2, 3, 7])
def test_several_processes_compute_what_one_does(size, rng):
    """Also with a last batch of two rows, of which most processes have none, and different seeds before the start."""
    x, y = rng.standard_normal((50, 4)), rng.integers(0, 3, 50)
    alone, history = train(None, x, y)
    for rank, (parameters, shared) in enumerate(Group(size).run(lambda comm: train(comm, x, y, seed=comm.Get_rank()))):
        np.testing.assert_allclose(parameters, alone, rtol=1e-9, atol=1e-12)
        for name, values in history.items():
            np.testing.assert_allclose(shared[name], values, rtol=1e-9)


def test_one_process_s_nan_stops_all(rng):
    x, y = rng.standard_normal((32, 4)), rng.integers(0, 3, 32)
    x[5] = np.nan
    results = Group(2).run(lambda comm: train(comm, x, y))
    assert all(isinstance(result, FloatingPointError) for result in results)
    assert sorted("another process" in str(result) for result in results) == [False, True]


def test_mpi_processes(tmp_path):
    pytest.importorskip("mpi4py")
    beside = str(Path(sys.executable).parent)
    mpiexec = shutil.which("mpiexec", path=os.pathsep.join([beside, os.environ.get("PATH", "")]))
    if mpiexec is None:
        pytest.skip("there is no mpiexec: pip install mpich")
    environment = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
                   "OMPI_MCA_rmaps_base_oversubscribe": "1", "FASTACT_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # fmt: skip
    printed = []
    for size in ("1", "2"):
        command = [
            mpiexec,
            "-n",
            size,
            sys.executable,
            EXAMPLES / "data_parallel.py",
            "--quick",
            "--output",
            tmp_path / "picture.png",
        ]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        assert f"{size} processes" in done.stdout
        printed.append([float(number) for number in re.findall(r"(?:loss|weights) (\S+?),?\s", done.stdout)])
    np.testing.assert_allclose(printed[0], printed[1], rtol=1e-9)


# Arrays that come in chunks ---------------------------------------------------------------------------------------------


def test_dask_arrays_larger_than_memory(rng):
    """Activations chunk by chunk, softmax along an axis that is in one chunk; lazily, and of the same kind."""
    da = pytest.importorskip("dask.array")
    x = rng.standard_normal((60, 40)).astype(np.float32)
    chunked = da.from_array(x, chunks=(25, 40))
    for function in (fa.gelu, fa.silu.derivative, fa.softmax, fa.log_softmax):
        result = function(chunked)
        assert isinstance(result, da.Array) and result.dtype == np.float32 and result.chunks == chunked.chunks
        np.testing.assert_array_equal(result.compute(), function(x))
        # What is sent to other processes must be pickled.
        in_processes = pickle.loads(pickle.dumps(chunked.map_blocks(function)))
        np.testing.assert_array_equal(in_processes.compute(scheduler="synchronous"), function(x))
    np.testing.assert_array_equal(chunked.map_blocks(fa.maxout, drop_axis=1).compute(), fa.maxout(x))
    np.testing.assert_array_equal(fa.softmax(chunked.T, axis=0).compute(), fa.softmax(x.T, axis=0))
    model = nn.Sequential([nn.Dense(40, 3)])
    predicted = chunked.map_blocks(model.predict, chunks=(chunked.chunks[0], (3,)), dtype=np.float32)
    np.testing.assert_allclose(predicted.compute(scheduler="synchronous"), model.predict(x), rtol=1e-5, atol=1e-6)
