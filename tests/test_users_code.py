"""fastact inside users' own Numba code, and activations of their own."""

import math
import pickle

import numpy as np
import pytest
from cases import NAMES, ROWS, defaults

import fastact as fa

numba = pytest.importorskip("numba")
numba_extending = pytest.importorskip("fastact._kernels.numba_extending")
numba_extending.init()  # as the entry point does where the package is installed

SAMPLE = np.array([-30, -3.5, -1, -0.25, -0.0, 0.0, 0.7, 2, 9])


@numba.njit
def both(v):
    return fa.silu(v), fa.silu.derivative(v)


@numba.njit
def slopes(v):
    return fa.leaky_relu(v), fa.leaky_relu(v, 0.5), fa.leaky_relu(v, negative_slope=0.25), fa.hardtanh(v, max_val=2.0)


@numba.njit
def rectified(v):
    return fa.relu(v)


class TestInsideCompiledCode:
    @pytest.mark.parametrize("name", NAMES)
    def test_every_function_of_a_number(self, name):
        function, parameters = getattr(fa, name), tuple(map(float, defaults(name)))

        @numba.njit
        def use(v):
            return function(v, *parameters), function.derivative(v, *parameters)

        for v in SAMPLE[[1, 6]]:
            np.testing.assert_allclose(use(v), (function(v, *parameters), function.derivative(v, *parameters)), 1e-14)

    def test_numbers_keep_their_type(self):
        both(np.float32(0.5)), both(0.5), both(1)
        returned = {str(kinds[0]): str(overload.signature.return_type) for kinds, overload in both.overloads.items()}
        assert returned == {
            "float32": "UniTuple(float32 x 2)",
            "float64": "UniTuple(float64 x 2)",
            "int64": "UniTuple(float64 x 2)",
        }

    def test_the_same_digits_as_outside(self):
        with fa.use_backend("numba"):
            for v in SAMPLE:
                assert both(v) == (fa.silu(v), fa.silu.derivative(v))
                # Loops over float32 may be others than those of one number, to the same accuracy.
                np.testing.assert_array_max_ulp(np.float32(both(np.float32(v))[0]), fa.silu(np.float32(v)), 3)

    def test_parameters_by_position_by_name_and_by_default(self):
        assert slopes(-2.0) == (-0.02, -1.0, -0.5, -1.0)
        assert slopes(3.0) == (3.0, 3.0, 3.0, 2.0)

    @pytest.mark.parametrize("layout", [lambda x: x, lambda x: x.T, lambda x: x[::2, ::-1], lambda x: x[0, 0]])
    def test_arrays(self, layout, rng):
        x = layout(rng.normal(size=(6, 4)))
        y, slope = both(x)
        np.testing.assert_allclose(y, fa.silu(x), 1e-14)
        np.testing.assert_allclose(slope, fa.silu.derivative(x), 1e-14, 1e-15)
        assert both(np.asarray(x, "f"))[0].dtype == np.float32

    def test_integers_stay_integers_where_they_do_outside(self):
        assert rectified(-3) == 0 and rectified(4) == 4
        y = rectified(np.array([-1, 2], np.int16))
        assert y.dtype == np.int16 and y.tolist() == [0, 2]
        assert rectified(np.array([1, 2], np.uint8)).dtype == np.uint8

    def test_what_is_no_number_is_a_typing_error(self):
        with pytest.raises(numba.TypingError):
            both(1j)


@fa.activation
def logistic_slope(x, beta=1.0):
    """x s(beta x), as text books have it."""
    return x / (1 + math.exp(-beta * x))


@fa.activation(derivative=lambda x: 3 * x * x)
def cube(x):
    return x**3


@fa.activation
def pieces(x, bend, size=2.0):
    y = np.sqrt(x * x + size)
    if x > bend:
        z = y - 1
    else:
        z = -np.expm1(y) if y < 1 else math.pi * y
    z += max(x, 0.1 * x) - min(x, bend) / (2 + math.cos(x))
    return abs(z) ** 1.5 + fa.silu(x) * math.erf(z)


def branches(x, slope=0.25):
    """Arguments that one branch assigns to, and another does not."""
    if x < 0:
        x = slope * x
        y = x
    else:
        slope = slope * x
        y = 3 * x
    return slope * x * x + y


class TestActivationsOfOnesOwn:
    def test_are_activations(self):
        assert isinstance(logistic_slope, fa.Activation)
        assert logistic_slope.__name__ == "logistic_slope" and logistic_slope.__doc__.startswith("x s(beta x)")
        assert str(logistic_slope.__signature__).startswith("(x, /, beta=1.0, out=None")
        assert logistic_slope.parameters == {"beta": 1.0} and logistic_slope.backward_needs == "input"
        assert isinstance(logistic_slope.ufunc, np.ufunc)
        assert "logistic_slope" not in fa.list_activations()

    @pytest.mark.parametrize("dtype", ["e", "f", "d"])
    def test_compute_what_they_say(self, dtype):
        x = SAMPLE.astype(dtype)
        tolerance = max(1e-6, np.finfo(dtype).eps)
        for beta in (1.0, 0.3):
            for mine, known in ((logistic_slope, fa.swish), (logistic_slope.derivative, fa.swish.derivative)):
                y = mine(x, beta)
                assert y.dtype == dtype
                np.testing.assert_allclose(y, known(x, beta), tolerance)
        np.testing.assert_allclose(logistic_slope.backward(x, x), fa.swish.backward(x, x), 4 * tolerance)

    def test_take_what_ufuncs_take(self):
        x, y = SAMPLE.copy(), np.full(SAMPLE.shape, 7.0)
        assert cube(x, out=y) is y and np.array_equal(y, x**3)
        cube(x, out=y, where=x > 0)
        assert cube(x[:, None], out=np.empty((9, 1)))[3, 0] == x[3] ** 3
        assert cube(2) == 8 and cube(np.float32(2), dtype="d").dtype == np.float64
        assert cube(np.arange(4)).tolist() == [0, 1, 8, 27]
        with pytest.raises(TypeError):
            cube(x, 1, 2)
        with pytest.raises(TypeError, match="needs bend"):
            pieces(x)

    def test_large_arrays_on_threads(self, set_num_threads, rng):
        x = rng.normal(size=300_000)
        set_num_threads(1)
        alone = cube(x)
        set_num_threads(2)
        assert np.array_equal(cube(x), alone)

    def test_derivatives_are_found(self):
        x, h = np.linspace(-4.1, 4.2, 200), 1e-6
        for bend in (-1.0, 0.5):
            difference = (pieces(x + h, bend) - pieces(x - h, bend)) / (2 * h)
            np.testing.assert_allclose(pieces.derivative(x, bend), difference, 1e-6, 1e-6)

    def test_derivatives_of_arguments_that_a_branch_changes(self):
        x, h = np.array([-1.3, -0.4, 0.6, 2.1]), 1e-6
        differences = [(branches(v + h) - branches(v - h)) / (2 * h) for v in x]
        np.testing.assert_allclose(fa.activation(branches).derivative(x), differences, 1e-6)

    def test_every_known_function_has_the_right_derivative(self):
        from fastact.differentiate import DERIVATIVES, derivative_of

        h = 1e-6
        for name in DERIVATIVES:
            if not hasattr(math, name):
                continue
            function = getattr(math, name)

            def f(x):
                return function(0.5 * x)  # noqa: B023

            slope, x = derivative_of(f), 0.43
            assert abs(slope(x) - (f(x + h) - f(x - h)) / (2 * h)) < 1e-8, name

    def test_promise_no_accuracy(self):
        assert set(cube.max_ulp) == set(fa.gelu.max_ulp) and set(cube.max_ulp.values()) == {math.inf}

    def test_pickle_by_name(self):
        for function in (logistic_slope, logistic_slope.derivative, cube.backward):
            assert pickle.loads(pickle.dumps(function)) is function

    def test_one_of_the_name_of_ours_does_not_take_its_place(self):
        def gelu(x):
            return x

        assert fa.activation(gelu, derivative=lambda x: 1.0).__name__ == "gelu"
        assert pickle.loads(pickle.dumps(fa.gelu.ufunc)) is fa.gelu.ufunc

    def test_work_inside_compiled_code(self):
        @numba.njit
        def use(v):
            return cube(v) + cube.derivative(v), pieces(v, 0.5)

        assert use(2.0) == (20.0, pieces(2.0, 0.5))

    @pytest.mark.parametrize("function, match", [
        (lambda x: x.real, "no derivative"), (lambda x: math.gamma(x), "no derivative"),
        (print, "Python function"), ("gelu", "Python function"),
    ])  # fmt: skip
    def test_say_what_is_wrong(self, function, match):
        with pytest.raises(TypeError, match=match):
            fa.activation(function)

    def test_say_how_to_give_a_derivative(self):
        def looping(x):
            for _ in range(3):
                x = x * x
            return x

        with pytest.raises(TypeError, match=r"'for _ in range\(3\):'.*@activation\(derivative=...\)"):
            fa.activation(looping)
        made = fa.activation(looping, derivative=lambda x: 8 * x**7)
        assert made(2.0) == 256 and made.derivative(1.0) == 8

    def test_say_what_numba_cannot_compile(self):
        def strange(x):
            return open(x)

        with pytest.raises(TypeError, match="Numba cannot compile strange"):
            fa.activation(strange, derivative=lambda x: 0.0)

    def test_too_many_parameters(self):
        with pytest.raises(TypeError, match="at most 2 parameters"):
            fa.activation(lambda x, a, b, c: x, derivative=lambda x, a, b, c: 1.0)

    def test_in_the_trainer(self, rng):
        nn = pytest.importorskip("fastact.nn")
        x = rng.normal(size=(64, 3)).astype("f")
        model = nn.Sequential([nn.Dense(3, 8), nn.Activation(logistic_slope), nn.Dense(8, 2)])
        trainer = nn.Trainer(model, loss="softmax_cross_entropy", optimizer=nn.Adam(3e-2))
        trainer.fit(x, (x[:, 0] > 0).astype(int), epochs=40, batch_size=16)
        assert np.mean(model.predict(x).argmax(1) == (x[:, 0] > 0)) > 0.9


def test_rows_know_that_they_are_not_custom():
    assert not any(row.custom for row in ROWS.values())
