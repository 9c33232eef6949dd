"""Threads: how many, from several Python threads at once, and after a fork."""

import concurrent.futures
import itertools
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from cases import NAMES, Method, defaults, same_bits

import fastact as fa
from fastact import backends, threads


def possible(n):
    """As many threads as a build without threads has: one."""
    return n if backends.config()["threading"] else 1


def run(program, **environment):
    """Standard output of a program in a fresh interpreter, which must end well and soon."""
    environment = {**os.environ, **environment}
    result = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


class TestNumber:
    @pytest.mark.parametrize("bad", [0, -1, 1.5, "2", None, True])
    def test_must_be_a_positive_integer(self, bad, set_num_threads):
        before = fa.get_num_threads()
        with pytest.raises(ValueError):
            set_num_threads(bad)
        assert fa.get_num_threads() == before

    def test_is_kept(self, set_num_threads):
        for n in (1, 3, np.int64(2)):
            set_num_threads(n)
            assert fa.get_num_threads() == possible(n)
        set_num_threads(10**12)
        assert fa.get_num_threads() == possible(threads.MOST)

    @pytest.mark.parametrize("environment, wanted", [
        ({"FASTACT_NUM_THREADS": "3", "OMP_NUM_THREADS": "2"}, 3), ({"OMP_NUM_THREADS": "2"}, 2),
        ({"OMP_NUM_THREADS": "3,2"}, 3),
    ])  # fmt: skip
    def test_from_the_environment(self, environment, wanted):
        environment = {"FASTACT_NUM_THREADS": "", **environment}
        assert run("import fastact as fa; print(fa.get_num_threads())", **environment) == [str(possible(wanted))]

    @pytest.mark.parametrize("wanted", ["0", "-1", "all"])
    def test_a_wrong_request_says_so(self, wanted):
        program = """if True:
            try:
                import fastact
            except ImportError as error:
                print(error)
            """
        assert " ".join(run(program, FASTACT_NUM_THREADS=wanted)) == (
            f"FASTACT_NUM_THREADS must be a positive integer, not {wanted!r}")

    def test_default_is_what_the_process_may_use(self):
        program = "import fastact as fa; print(fa.get_num_threads())"
        available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        assert run(program, FASTACT_NUM_THREADS="", OMP_NUM_THREADS="") == [str(possible(available))]


def test_many_python_threads_at_once(set_num_threads, rng):
    """... over large and small arrays, while one of them keeps changing the number of threads."""
    set_num_threads(2)
    x = rng.normal(size=(300, 1000)).astype("f")
    target = rng.integers(0, 1000, 300)
    work = [lambda name=name: Method(name, "forward")(x, *defaults(name)) for name in NAMES]
    work += [lambda name=name: Method(name, "derivative")(x[:2], *defaults(name)) for name in NAMES]
    work += [
        lambda: fa.softmax(x),
        lambda: fa.log_softmax(x, 0),
        lambda: fa.softmax_cross_entropy.value_and_grad(x, target)[1],
    ]
    wanted = [call() for call in work]
    done = threading.Event()

    def keep_changing():
        for n in itertools.cycle([1, 2, 4]):
            fa.set_num_threads(n)
            if done.wait(1e-3):
                return

    def shuffled(seed):
        for i in np.random.default_rng(seed).permutation(len(work)):
            assert same_bits(work[i](), wanted[i])

    with concurrent.futures.ThreadPoolExecutor(9) as pool:
        changing = pool.submit(keep_changing)
        try:
            list(pool.map(shuffled, range(8)))
        finally:
            done.set()
        changing.result()


def test_first_calls_from_many_threads():
    """No state is set up twice or by halves."""
    program = """if True:
        import concurrent.futures, numpy as np, fastact as fa
        x = np.linspace(-4, 4, 200_000).astype("f")
        def work(i):
            return fa.gelu(x).sum() + fa.softmax(x).sum() + fa.sigmoid(x.astype("e")).astype("f").sum()
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            print(len(set(pool.map(work, range(32)))))
        """
    assert run(program) == ["1"]


@pytest.mark.skipif(len(backends.available()) < 2, reason="there is but one backend")
def test_choices_of_a_backend_that_overlap():
    """The last to begin decides; whatever the order in which they end, the first backend is back in the end."""
    before = fa.get_backend()
    for order in itertools.permutations(range(3)):
        with fa.use_backend(before):
            blocks = [fa.use_backend(name) for name in ("numba", "cython", "numba")]
            for block in blocks:
                block.__enter__()
            left = ["numba", "cython", "numba"]
            for i in order:
                blocks[i].__exit__(None, None, None)
                left[i] = None
                assert fa.get_backend() == next(filter(None, left[::-1]), before)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
class TestFork:
    def test_after_a_parallel_call(self):
        """Threads do not survive a fork; waiting for them would hang the child. It can have its own."""
        program = """if True:
            import os, warnings, numpy as np, fastact as fa
            warnings.simplefilter("ignore")
            fa.set_num_threads(2)
            x = np.linspace(-4, 4, 3_000_000).astype("f").reshape(-1, 1000)
            target = np.arange(len(x)) % 1000
            work = [lambda: fa.gelu(x), lambda: fa.relu(x), lambda: fa.softmax(x), lambda: fa.softmax(x, 0),
                    lambda: fa.softmax_cross_entropy.value_and_grad(x, target)[1]]
            wanted = [call() for call in work]
            child = os.fork()
            if child == 0:
                equal = all(np.array_equal(call(), y) for call, y in zip(work, wanted))
                alone = fa.get_num_threads() == 1
                fa.set_num_threads(2)
                equal = equal and all(np.array_equal(call(), y) for call, y in zip(work, wanted))
                os._exit(0 if equal and alone else 1)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            print(status, fa.get_num_threads(), np.array_equal(fa.gelu(x), wanted[0]))
            """
        assert run(program) == ["0", str(possible(2)), "True"]

    def test_pool_of_processes(self):
        program = """if True:
            import multiprocessing, warnings, numpy as np, fastact as fa
            warnings.simplefilter("ignore")
            x = np.linspace(-4, 4, 3_000_000).astype("f")
            whole = fa.mish(x)
            with multiprocessing.get_context("fork").Pool(2) as pool:
                parts = pool.map(fa.mish, np.split(x, 4))
            print(np.array_equal(np.concatenate(parts), whole))
            """
        assert run(program) == ["True"]
