"""Activations are called like NumPy's ufuncs, and give the same bits however they are called.

``fa.tanh`` is held against ``np.tanh`` call by call: the same kind of result, or the same kind of error.
"""

import os
import pickle

import numpy as np
import pytest
from cases import DTYPES, KINDS, NAMES, ROWS, Method, breaking_points, defaults, same_bits

import fastact as fa


def misaligned(x):
    """A copy of x one byte off its natural alignment."""
    buffer = np.zeros(x.nbytes + 1, np.uint8)
    view = buffer[1:].view(x.dtype).reshape(x.shape)
    view[...] = x
    assert not view.flags.aligned
    return view


def read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


x1 = np.linspace(-2, 2, 7)
x2 = np.linspace(-2, 2, 12).reshape(3, 4)
mask = np.array([True, False, True, True])

CALLS = {
    "plain": lambda f: f(x1),
    "two_dimensional": lambda f: f(x2),
    "fortran": lambda f: f(np.asfortranarray(x2)),
    "transposed": lambda f: f(np.ones((2, 3, 4)).transpose(1, 2, 0)),
    "strided": lambda f: f(x1[::2]),
    "negative_stride": lambda f: f(x2[::-1, ::-1]),
    "zero_stride": lambda f: f(np.broadcast_to(x1, (3, 7))),
    "zero_d": lambda f: f(np.array(0.5)),
    "empty": lambda f: f(np.empty((0, 3))),
    "empty_float32": lambda f: f(np.empty(0, "f")),
    "python_float": lambda f: f(0.5),
    "python_int": lambda f: f(1),
    "python_bool": lambda f: f(True),
    "numpy_scalar": lambda f: f(np.float16(0.5)),
    "list": lambda f: f([1, 2.5]),
    "many_dimensions": lambda f: f(np.ones((1, 2) * 8)),
    "out": lambda f: f(x1, out=np.empty(7)),
    "out_by_position": lambda f: f(x1, np.empty(7)),
    "out_tuple": lambda f: f(x1, out=(np.empty(7),)),
    "out_none": lambda f: f(x1, out=None),
    "out_tuple_of_none": lambda f: f(x1, out=(None,)),
    "out_strided": lambda f: f(x1, out=np.empty((7, 2))[:, 1]),
    "out_fortran": lambda f: f(x2, out=np.empty((3, 4), order="F")),
    "out_larger": lambda f: f(x1, out=np.empty((2, 7))),
    "out_zero_d": lambda f: f(0.5, out=np.empty(())),
    "out_misaligned": lambda f: f(x1, out=misaligned(np.empty(7))),
    "out_wider": lambda f: f(x1.astype("f"), out=np.empty(7)),
    "out_narrower": lambda f: f(x1, out=np.empty(7, "f")),
    "out_half": lambda f: f(x1, out=np.empty(7, "e")),
    "out_complex": lambda f: f(x1, out=np.empty(7, complex)),
    "out_integer": lambda f: f(x1, out=np.empty(7, int)),
    "out_integer_unsafe": lambda f: f(x1, out=np.empty(7, int), casting="unsafe"),
    "out_wrong_shape": lambda f: f(x1, out=np.empty(6)),
    "out_smaller": lambda f: f(x2, out=np.empty(4)),
    "out_read_only": lambda f: f(x1, out=read_only(np.empty(7))),
    "out_no_array": lambda f: f(x1, out=[0.0] * 7),
    "out_twice": lambda f: f(x1, np.empty(7), out=np.empty(7)),
    "out_long_tuple": lambda f: f(x1, out=(np.empty(7), np.empty(7))),
    "out_broadcast": lambda f: f(x1, out=np.broadcast_to(np.empty(1), (7,))),
    "where": lambda f: f(x2, out=np.zeros((3, 4)), where=mask),
    "where_false": lambda f: f(x2, out=np.zeros((3, 4)), where=False),
    "where_true": lambda f: f(x2, where=True),
    "where_broadcasts_up": lambda f: f(x1[:4], out=np.zeros((2, 4)), where=np.ones((2, 4), bool)),
    "where_integer": lambda f: f(x2, out=np.zeros((3, 4)), where=mask.astype(int)),
    "where_wrong_shape": lambda f: f(x2, out=np.zeros((3, 4)), where=mask[:3]),
    "dtype_narrower": lambda f: f(x1, dtype="f"),
    "dtype_half": lambda f: f(x1.astype("f"), dtype=np.float16),
    "dtype_wider": lambda f: f(x1.astype("e"), dtype=float),
    "dtype_of_integers": lambda f: f(np.arange(3), dtype=np.float32),
    "dtype_integer": lambda f: f(x1, dtype=int),
    "dtype_nonsense": lambda f: f(x1, dtype="nonsense"),
    "casting_no": lambda f: f(np.arange(3, dtype="i2"), casting="no"),
    "casting_safe": lambda f: f(x1, dtype="f", casting="safe"),
    "casting_unsafe": lambda f: f(x1, dtype="e", casting="unsafe"),
    "casting_nonsense": lambda f: f(x1, casting="nonsense"),
    "order_c": lambda f: f(np.asfortranarray(x2), order="C"),
    "order_f": lambda f: f(x2, order="F"),
    "order_a": lambda f: f(np.asfortranarray(x2), order="A"),
    "order_k": lambda f: f(np.ones((2, 3, 4)).transpose(1, 2, 0), order="K"),
    "order_nonsense": lambda f: f(x1, order="Z"),
    "subclass": lambda f: f(np.matrix([[1.0, 2.0]])) if hasattr(np, "matrix") else None,
    "subclass_not_ok": lambda f: f(np.rec.array([1.0, 2.0]).view(np.recarray), subok=False),
    "masked": lambda f: f(np.ma.array([1.0, 2.0], mask=[False, True])),
    "read_only_input": lambda f: f(read_only(x1)),
    "misaligned_input": lambda f: f(misaligned(x1)),
    "byte_swapped": lambda f: f(x1.astype(">f8")),
    "int8": lambda f: f(np.arange(3, dtype="i1")),
    "uint16": lambda f: f(np.arange(3, dtype="u2")),
    "bool": lambda f: f(np.array([True, False])),
    "datetime": lambda f: f(np.array(["2020"], "M8[Y]")),
    "structured": lambda f: f(np.zeros(2, [("a", "f")])),
    "unknown_keyword": lambda f: f(x1, axis=0),
    "no_arguments": lambda f: f(),
    "too_many_arguments": lambda f: f(x1, np.empty(7), np.empty(7)),
}


def outcome(call, function):
    """What a user sees of a call: the type, dtype, shape and strides of the result, or the kind of the error."""
    try:
        y = call(function)
    except Exception as error:
        kinds = [kind for kind in (TypeError, ValueError) if isinstance(error, kind)]
        return kinds or type(error), None
    strides = y.strides if isinstance(y, np.ndarray) and y.size else None
    return (type(y), y.dtype, y.shape, strides), y


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_is_called_like_numpy(call):
    ours, y = outcome(call, fa.tanh)
    theirs, wanted = outcome(call, np.tanh)
    assert ours == theirs
    if wanted is not None:
        np.testing.assert_allclose(np.asarray(y, complex), np.asarray(wanted, complex), rtol=2e-3, atol=1e-7)


class TestOut:
    """Nothing is written unless everything is right, and then all of it is."""

    @pytest.mark.parametrize("name", NAMES)
    def test_out_of_every_kind(self, name):
        for kind in ("forward", "derivative"):
            method, parameters = Method(name, kind), defaults(name)
            wanted = method(x2, *parameters)
            for out in (np.empty((3, 4)), np.empty((3, 4), order="F"), np.empty((6, 8))[::2, ::-2],
                        misaligned(np.empty((3, 4)))):  # fmt: skip
                assert method(x2, *parameters, out=out) is out
                assert same_bits(out, wanted)
            assert same_bits(method(x2, *parameters, out=np.empty((3, 4), "f")), wanted.astype("f"))
            assert same_bits(
                method(x2.astype("f"), *parameters, dtype=float), method(x2.astype("f").astype(float), *parameters)
            )

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("name", NAMES)
    def test_dtype_computes_in_that_dtype(self, name, kind):
        method, parameters = Method(name, kind), defaults(name)
        if kind == "backward" and name == "prelu":
            pytest.skip("returns two gradients")
        for given in ("float16", "float32", "float64", "int8"):
            for wanted in ("float16", "float32", "float64"):
                x = x2.astype(given)
                y = method(x, *parameters, dtype=wanted)
                assert same_bits(y, method(x.astype(wanted), *parameters))

    @pytest.mark.parametrize("name", NAMES)
    def test_where_leaves_the_rest_alone(self, name):
        for kind in ("forward", "derivative"):
            method, parameters = Method(name, kind), defaults(name)
            out = np.full((3, 4), 7.0)
            method(x2, *parameters, out=out, where=mask)
            assert np.all(out[:, ~mask] == 7)
            assert same_bits(out[:, mask], method(x2, *parameters)[:, mask])

    @pytest.mark.parametrize("name", NAMES)
    def test_bad_output_is_refused_before_anything_is_written(self, name):
        for method in (Method(name, "forward"), Method(name, "derivative")):
            for bad in (np.full(6, 7.0), np.full((7, 2), 7.0), np.full(7, 7)):
                before = bad.copy()
                with pytest.raises((ValueError, TypeError)):
                    method(x1, *defaults(name), out=bad)
                assert same_bits(bad, before)
            fixed = read_only(np.full(7, 7.0))
            with pytest.raises(ValueError):
                method(x1, *defaults(name), out=fixed)
            assert np.all(fixed == 7)
            with pytest.raises(TypeError):
                method(x1, *defaults(name), out=[0.0] * 7)

    @pytest.mark.parametrize("name", NAMES)
    def test_backward_refuses_bad_shapes(self, name):
        with pytest.raises(ValueError):
            getattr(fa, name).backward(np.ones(3), np.ones(4), *defaults(name))


class TestOverlap:
    """The result is as if input and output did not overlap."""

    @pytest.mark.parametrize("kind", ["forward", "derivative"])
    @pytest.mark.parametrize("name", ["relu", "sigmoid", "gelu", "leaky_relu"])
    @pytest.mark.parametrize("size", [10, 1000, 300_000])
    @pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
    def test_shifted(self, name, kind, size, dtype):
        method = Method(name, kind)
        source = np.linspace(-4, 4, size + 9).astype(dtype)
        wanted = method(source[1:-8])
        for start in (0, 1, 2, 9):
            x = source.copy()
            method(x[1:-8], out=x[start : start + size])
            assert same_bits(x[start : start + size], wanted)

    @pytest.mark.parametrize("kind", ["forward", "derivative"])
    def test_reversed_and_transposed(self, kind):
        method = Method("gelu", kind)
        x = np.linspace(-4, 4, 2500).reshape(50, 50)
        for view in (lambda a: a[::-1], lambda a: a.T, lambda a: a[:, ::-1]):
            y = x.copy()
            method(y, out=view(y))
            assert same_bits(view(y).copy(), method(x))

    def test_backward_into_either_input(self):
        x, g = np.linspace(-4, 4, 1000), np.linspace(1, 2, 1000)
        wanted = fa.gelu.backward(g, x)
        for target in (0, 1):
            arguments = [g.copy(), x.copy()]
            fa.gelu.backward(*arguments, out=arguments[target])
            assert same_bits(arguments[target], wanted)
        y = np.concatenate([x, [0.0]])
        fa.gelu.backward(g, y[:-1], out=y[1:])
        assert same_bits(y[1:], wanted)

    def test_views_of_other_types(self):
        """The same memory seen as another dtype."""
        x = np.linspace(-4, 4, 1000)
        wanted = fa.sigmoid(x).astype("f")
        fa.sigmoid(x, out=x.view("f")[:1000])
        assert same_bits(x.view("f")[:1000], wanted)


def some_points(dtype, size):
    points = breaking_points("float32", 2000)
    return np.random.default_rng(3).choice(points[np.abs(points) < 1e4], size).astype(dtype)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [name for name in NAMES if ROWS[name].parameters])
def test_a_parameter_for_each_element(name, dtype, kind, request):
    """The same bits, whether it is one number for all, an array of equal ones, or others are beside it, past the cache too."""
    method, parameters = Method(name, kind), defaults(name)
    x = some_points(dtype, 220)
    one, other = method(x, *parameters), method(x, *(2 * p for p in parameters))
    of = np.float32 if np.dtype(dtype).itemsize == 2 else dtype
    single, mixed = np.arange(x.size) == 99, np.random.default_rng(4).integers(0, 2, x.size).astype(bool)
    for fixture in (None, "no_cache"):
        if fixture:
            request.getfixturevalue(fixture)
        for where in (np.zeros(x.shape, bool), single, mixed):
            varied = (np.where(where, 2 * p, p).astype(of) for p in parameters)
            assert same_bits(method(x, *varied), np.where(where, other, one))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
class TestSameBits:
    """Of every element, whatever surrounds it in memory and however it is reached."""

    def test_every_length_and_offset(self, name, dtype, kind):
        method, parameters = Method(name, kind), defaults(name)
        x = some_points(dtype, 220)
        whole = method(x, *parameters)
        for length in range(201):
            start = length * 7 % 20
            assert same_bits(method(x[start : start + length], *parameters), whole[start : start + length])
        for i in range(0, 220, 11):
            assert same_bits(method(x[i], *parameters), whole[i])

    def test_every_layout(self, name, dtype, kind):
        method, parameters = Method(name, kind), defaults(name)
        x = some_points(dtype, 2 * 3 * 5 * 70).reshape(6, 5, 70)
        whole = method(x, *parameters)
        for view in (
            np.s_[::2], np.s_[:, ::-1], np.s_[..., ::2], np.s_[..., 1::2], np.s_[..., ::3], np.s_[..., ::-1],
            np.s_[::-2, ::2, 5:-3:-7], np.s_[:, :, 0], np.s_[:, 1:, 1:], np.s_[0], np.s_[..., None],
        ):  # fmt: skip
            assert same_bits(method(x[view], *parameters), whole[view])
        assert same_bits(method(x.T, *parameters), whole.T)
        assert same_bits(method(np.asfortranarray(x), *parameters), whole)
        assert same_bits(method(np.broadcast_to(x[0, 0], (4, 70)), *parameters), np.broadcast_to(whole[0, 0], (4, 70)))
        assert same_bits(method(np.broadcast_to(x[:, :1, :1], x.shape), *parameters),
                         np.broadcast_to(whole[:, :1, :1], x.shape))  # fmt: skip
        assert same_bits(method(misaligned(x), *parameters), whole)

    def test_in_place_and_into_any_output(self, name, dtype, kind):
        method, parameters = Method(name, kind), defaults(name)
        if kind == "backward" and name == "prelu":
            pytest.skip("returns two gradients")
        x = some_points(dtype, 333)
        whole = method(x, *parameters)
        y = x.copy()
        method(y, *parameters, out=y)
        assert same_bits(y, whole)
        for out in (np.empty(666, dtype)[::2], np.empty(333, dtype)[::-1], misaligned(np.zeros(333, dtype)),
                    np.empty(334, dtype)[1:]):  # fmt: skip
            method(x, *parameters, out=out)
            assert same_bits(out, whole)
        memory = np.full(666, 7, dtype)
        method(np.repeat(x, 2)[:-1:2], *parameters, out=memory[1::2])
        assert same_bits(memory[1::2], whole) and np.all(memory[::2] == 7)
        memory[::2] = x
        method(memory[::2], *parameters, out=memory[1::2])
        assert same_bits(memory[1::2], whole) and same_bits(memory[::2], x)

    def test_past_the_cache(self, name, dtype, kind, request):
        method, parameters = Method(name, kind), defaults(name)
        x = some_points(dtype, 1200)
        whole = method(x, *parameters)
        request.getfixturevalue("no_cache")
        for start, stop in ((0, 1200), (3, 1200), (16, 1111), (1, 40)):
            assert same_bits(method(x[start:stop], *parameters), whole[start:stop])
            if kind == "backward" and name == "prelu":  # returns two gradients
                continue
            memory = np.zeros_like(x)
            method(x[start:stop], *parameters, out=memory[start:stop])
            assert same_bits(memory[start:stop], whole[start:stop])
            assert not memory[:start].any() and not memory[stop:].any()

    def test_the_ufunc_lane(self, name, dtype, kind):
        """where= and the bare ufunc take the other way through the code."""
        method, parameters = Method(name, kind), defaults(name)
        if kind == "backward" and name == "prelu":
            pytest.skip("returns two gradients")
        x = some_points(dtype, 333)
        whole = method(x, *parameters)
        masked = method(x, *parameters, out=np.zeros_like(x), where=np.arange(333) % 3 > 0)
        assert same_bits(masked, np.where(np.arange(333) % 3 > 0, whole, np.zeros_like(whole)))
        if kind == "forward":
            held = [np.asarray(p).astype(dtype) for p in parameters]
            if all(float(h) == float(np.float32(p)) for h, p in zip(held, parameters)):
                assert same_bits(method.activation.ufunc(x, *held), whole)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_large_and_threaded_results_have_the_same_bits(name, dtype, kind, set_num_threads):
    """A size at which threads share the work, and one that gets its stores past the cache."""
    method, parameters = Method(name, kind), defaults(name)
    piece = some_points(dtype, 1009)
    x = np.tile(piece, 400)
    wanted = np.tile(method(piece, *parameters), 400)
    for threads in (1, 2, 5):
        set_num_threads(threads)
        assert same_bits(method(x, *parameters), wanted)
        assert same_bits(method(x[3:], *parameters), wanted[3:])
    assert same_bits(method(x[::-1], *parameters), wanted[::-1])


@pytest.mark.parametrize("name", ["relu", "sigmoid", "leaky_relu"])
def test_outputs_beyond_the_cache(name, set_num_threads):
    piece = some_points("float32", 100_003)
    x = np.tile(piece, 170)
    wanted = np.tile(getattr(fa, name)(piece), 170)
    for threads in (1, 2):
        set_num_threads(threads)
        out = np.empty(x.size + 1, "f")
        assert same_bits(getattr(fa, name)(x, out=out[1:]), wanted)


def available_memory():
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 0


@pytest.mark.skipif(available_memory() < 8 << 30, reason="needs 8 GB of memory")
def test_more_than_two_to_the_31_elements():
    x = np.zeros(2**31 + 100, np.float16)
    x[-3:] = [-1, 2, -3]
    fa.leaky_relu(x, 0.5, out=x)
    assert list(x[-4:]) == [0, -0.5, 2, -1.5]
    fa.relu(x[::-1], out=x[::-1])
    assert list(x[-4:]) == [0, 0, 2, 0]


class Quiet(np.ndarray):
    """A plain subclass."""


class Logged(np.ndarray):
    """A subclass that takes part in the protocol."""

    def __array_ufunc__(self, ufunc, method, *inputs, **keywords):
        return ufunc, method, len(inputs), sorted(keywords)


class Refuses:
    __array_ufunc__ = None


class Duck:
    """No array at all, but it knows what to do with a ufunc."""

    def __array_ufunc__(self, ufunc, method, *inputs, **keywords):
        return "duck", ufunc


class TestProtocol:
    def test_subclasses_are_kept(self):
        x = x1.view(Quiet)
        for method in (fa.gelu, fa.gelu.derivative):
            assert type(method(x)) is Quiet
            assert type(method(x, subok=False)) is np.ndarray
        assert type(fa.leaky_relu(x, 0.2)) is Quiet
        assert type(fa.gelu(x1, out=np.empty(7).view(Quiet))) is Quiet

    def test_array_ufunc_is_called(self):
        ufunc, method, inputs, keywords = fa.gelu(x1.view(Logged))
        assert (ufunc, method, inputs, keywords) == (fa.gelu.ufunc, "__call__", 1, [])
        assert fa.gelu(x1, out=x1.copy().view(Logged))[3] == ["out"]
        assert fa.gelu(Duck()) == ("duck", fa.gelu.ufunc)
        with pytest.raises(TypeError):
            fa.gelu(Refuses())

    def test_masked_arrays_stay_masked(self):
        y = fa.gelu(np.ma.array(x1, mask=x1 < 0))
        assert isinstance(y, np.ma.MaskedArray)
        assert list(y.mask) == list(x1 < 0)

    def test_ufunc_methods(self):
        y = x1.copy()
        fa.gelu.ufunc.at(y, [0, 2])
        assert same_bits(y[[0, 2]], fa.gelu(x1)[[0, 2]]) and same_bits(y[3:], x1[3:])
        assert fa.gelu.ufunc.resolve_dtypes((np.dtype("f"), None)) == (np.dtype("f"), np.dtype("f"))
        assert same_bits(fa.leaky_relu.ufunc.outer(x1, [0.1, 0.2]), fa.leaky_relu(x1[:, None], np.array([0.1, 0.2])))

    @pytest.mark.parametrize("name", NAMES)
    def test_dask(self, name):
        array = pytest.importorskip("dask.array", reason="needs dask")
        parameters = defaults(name)
        x = array.from_array(x2, chunks=(2, 2))
        for kind in KINDS[:2]:
            y = Method(name, kind)(x, *parameters)
            assert isinstance(y, array.Array)
            assert same_bits(y.compute(), Method(name, kind)(x2, *parameters))

    @pytest.mark.parametrize("name", NAMES)
    def test_pickles_by_name(self, name):
        """As Dask does to send its tasks to other processes."""
        activation = getattr(fa, name)
        functions = [activation, activation.derivative] + [activation.backward] * (name != "prelu")  # which is no ufunc
        for ufunc in (function.ufunc for function in functions):
            assert pickle.loads(pickle.dumps(ufunc)) is ufunc

    @pytest.mark.parametrize("name", NAMES)
    def test_xarray(self, name):
        xarray = pytest.importorskip("xarray", reason="needs xarray")
        x = xarray.DataArray(x2, dims=("row", "column"), coords={"row": [1, 2, 3]})
        for kind in KINDS[:2]:
            y = Method(name, kind)(x, *defaults(name))
            assert isinstance(y, xarray.DataArray) and y.dims == x.dims
            assert same_bits(y.values, Method(name, kind)(x2, *defaults(name)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_never_a_floating_point_warning(name, kind):
    """On any input of any dtype, on the casting ways too."""
    method, parameters = Method(name, kind), defaults(name)
    inputs = [np.concatenate([np.array([np.nan, np.inf, -np.inf], dtype), breaking_points(dtype, 400)])
              for dtype in ("float16", "float32", "float64")]  # fmt: skip
    integers = [np.array([0, 1, np.iinfo(code).max], code) for code in "bBhHiIlLqQ"]
    with np.errstate(all="raise"):
        for x in [*inputs, *integers, np.array([True, False])]:
            method(x, *parameters)
            method(x[::-1], *parameters)
            for value in x[:40]:
                method(value, *parameters)
        if kind == "backward" and name == "prelu":
            return
        for x in inputs:
            method(x, *parameters, out=np.empty_like(x), where=np.arange(x.size) % 2 > 0)
            for narrower in ("float16", "float32"):
                method(x, *parameters, dtype=narrower, casting="unsafe")
                method(x, *parameters, out=np.empty(x.shape, narrower))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_one_result_goes_into_the_next(dtype):
    """By NumPy's methods of functions of two arrays."""
    x = np.array([-1, 2, 3, 0.5] + 600 * [1], dtype)
    assert fa.prelu.ufunc.reduce(x) == -3
    assert fa.prelu.ufunc.accumulate(x)[:5].tolist() == [-1, -2, -6, -3, -3]
    assert (fa.prelu.ufunc.accumulate(x)[4:] == -3).all()


def test_no_floating_point_warning_from_large_arrays():
    """Worker threads have a status of their own."""
    x = np.tile(np.array([np.nan, -np.inf, 1e38, -1e-40, -100], "f"), 200_000)
    with np.errstate(all="raise"):
        for name in NAMES:
            getattr(fa, name)(x, *defaults(name))
