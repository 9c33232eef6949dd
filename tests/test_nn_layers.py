"""Layers: every gradient against central differences in float64, every forward pass against its definition or PyTorch."""

import math

import numpy as np
import pytest

import fastact as fa
from fastact import nn
from fastact.nn import kernels

IMAGE = (7, 6, 3)
SEQUENCE = (5, 3)

# (layers, input_shape): the first layer is met as the first and, behind another one, in place.
CASES = {
    "Dense": ([nn.Dense(3, 4)], (3,)),
    "Dense over steps": ([nn.Dense(3, 4)], SEQUENCE),
    "Dense, tanh": ([nn.Dense(3, 4), nn.Activation("tanh")], (3,)),
    "Dense, gelu": ([nn.Dense(3, 4), nn.Activation("gelu")], (3,)),
    "Dense, leaky_relu": ([nn.Dense(3, 4), nn.Activation("leaky_relu", negative_slope=0.2)], (3,)),
    "Dense, elu with an alpha each": ([nn.Dense(3, 4), nn.Activation("elu", alpha=[0.5, 1, 1.5, 2])], (3,)),
    "Dense, softmax": ([nn.Dense(3, 4), nn.Activation("softmax")], (3,)),
    "PReLU": ([nn.Dense(3, 4), nn.PReLU()], (3,)),
    "PReLU over images": ([nn.PReLU()], IMAGE),
    "Maxout": ([nn.Maxout(3, 4, 3), nn.Activation("tanh")], (3,)),
    "Maxout over steps": ([nn.Maxout(3, 4)], SEQUENCE),
    "Flatten": ([nn.Flatten()], IMAGE),
    "BatchNorm": ([nn.BatchNorm()], (3,)),
    "BatchNorm over images": ([nn.BatchNorm(), nn.Activation("tanh")], IMAGE),
    "LayerNorm": ([nn.LayerNorm()], (3,)),
    "LayerNorm over steps": ([nn.LayerNorm(), nn.Dense(3, 3)], SEQUENCE),
    "Conv2D": ([nn.Conv2D(3, 4, 3)], IMAGE),
    "Conv2D, relu": ([nn.Conv2D(3, 4, 3), nn.Activation("relu")], IMAGE),
    "Conv2D, strided": ([nn.Conv2D(3, 4, 2, 2), nn.Activation("silu")], IMAGE),
    "Conv2D, padded": ([nn.Conv2D(3, 4, 3, 1, "same"), nn.Activation("tanh")], IMAGE),
    "Conv2D, padded and strided": ([nn.Conv2D(3, 2, 4, 3, "same")], IMAGE),
    "Conv2D, wide": ([nn.Conv2D(3, 2, 5, 1, "same")], (2, 3, 3)),
    "Conv2D, one place": ([nn.Conv2D(3, 2, 1)], IMAGE),
    "MaxPool2D": ([nn.MaxPool2D()], IMAGE),
    "MaxPool2D, overlapping": ([nn.MaxPool2D(3, 2)], IMAGE),
    "MaxPool2D, gaps": ([nn.MaxPool2D(2, 3)], IMAGE),
    "AvgPool2D": ([nn.AvgPool2D()], IMAGE),
    "AvgPool2D, overlapping": ([nn.AvgPool2D(3, 2)], IMAGE),
    "SimpleRNN": ([nn.SimpleRNN(3, 4)], SEQUENCE),
    "SimpleRNN, sigmoid, sequences": ([nn.SimpleRNN(3, 4, activation="sigmoid", return_sequences=True)], SEQUENCE),
    "SimpleRNN, gelu": ([nn.SimpleRNN(3, 4, activation="gelu")], SEQUENCE),
    "LSTM": ([nn.LSTM(3, 4)], SEQUENCE),
    "LSTM, sequences": ([nn.LSTM(3, 4, return_sequences=True), nn.LSTM(4, 2)], SEQUENCE),
    "GRU": ([nn.GRU(3, 4)], SEQUENCE),
    "GRU, sequences": ([nn.GRU(3, 4, return_sequences=True), nn.GRU(4, 2)], SEQUENCE),
    "Attention": ([nn.Attention(3)], SEQUENCE),
    "Attention, heads, causal": ([nn.Dense(3, 4), nn.Attention(4, 2, causal=True)], SEQUENCE),
    "Embedding": ([nn.Embedding(6, 3)], (5,)),
    "Embedding, padded, Attention": ([nn.Embedding(6, 4, padding=0), nn.Attention(4, 2)], (5,)),
    "Tree": ([nn.Tree(6, 3)], None),
}


def fresh(layers):
    """Layers of their own for every model."""
    return [type(layer)(*layer.arguments()[0], **layer.arguments()[1]) for layer in layers]


def behind_another(layers, shape):
    """The same behind a layer whose output may be overwritten, and one that needs its own."""
    first = nn.Dense(shape[-1], shape[-1])
    return [[first, *layers], [nn.Dense(shape[-1], shape[-1]), nn.Activation("tanh"), *fresh(layers)]]


def inputs(model, rows, rng):
    if isinstance(model.layers[0], nn.Tree):
        return nn.encode_trees([(0, 1), ((2, 3), (1, (5, 5))), 4, (((1, 1), 2), 0)])
    shape = (rows, *model.input_shape)
    return rng.integers(0, 6, shape) if model.layers[0].takes_integers else rng.standard_normal(shape)


def check_gradients(model, rng, rows=4, step=1e-6):
    """Of a sum of the outputs with random weights, with respect to all parameters and to the input."""
    model.parameters += 0.1 * rng.standard_normal(model.parameters.size)
    x = inputs(model, rows, rng)
    weights = rng.standard_normal(model.forward(model.as_input(x), training=True).shape)

    def value():
        return float((model.forward(model.as_input(x), training=True) * weights).sum())

    value()
    model.backward(weights.copy())
    taken = model.gradients.copy()
    expected = np.empty_like(taken)
    for k in range(len(taken)):
        kept = model.parameters[k]
        model.parameters[k] = kept + step
        high = value()
        model.parameters[k] = kept - step
        expected[k] = (high - value()) / (2 * step)
        model.parameters[k] = kept
    assert expected.size == 0 or abs(expected).max() > 1e-3
    np.testing.assert_allclose(taken, expected, rtol=1e-6, atol=2e-8 * max(1, abs(expected).max(initial=0)))


@pytest.mark.parametrize("case", CASES)
def test_gradients(case, rng):
    layers, shape = CASES[case]
    check_gradients(nn.Sequential(fresh(layers), input_shape=shape or (None, 3), dtype=np.float64), rng)


@pytest.mark.parametrize(
    "case", [name for name, (layers, shape) in CASES.items() if shape and not layers[0].takes_integers]
)
def test_gradients_behind_other_layers(case, rng):
    """The gradient of the input, which is the layer's in front, also where the layer works in place."""
    layers, shape = CASES[case]
    for chain in behind_another(fresh(layers), shape):
        check_gradients(nn.Sequential(chain, input_shape=shape, dtype=np.float64), rng)


@pytest.mark.parametrize("case", CASES)
def test_float32_agrees_with_float64(case, rng):
    layers, shape = CASES[case]
    single, double = (
        nn.Sequential(fresh(layers), input_shape=shape or (None, 3), dtype=dtype) for dtype in (np.float32, np.float64)
    )
    double.parameters[...] = single.parameters
    x = inputs(single, 6, rng)
    outputs = [model.forward(model.as_input(x), training=True) for model in (single, double)]
    assert outputs[0].dtype == np.float32
    np.testing.assert_allclose(*outputs, rtol=1e-4, atol=1e-5)
    gradient = rng.standard_normal(outputs[0].shape)
    for model in (single, double):
        model.backward(gradient.astype(model.dtype))
    np.testing.assert_allclose(single.gradients, double.gradients, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_same_bits_on_any_number_of_threads(case, rng, set_num_threads):
    layers, shape = CASES[case]
    model = nn.Sequential(fresh(layers), input_shape=shape or (None, 3))
    x = inputs(model, 300, rng)
    seen = []
    for threads in (1, 3):
        set_num_threads(threads)
        y = model.forward(model.as_input(x), training=True)
        model.backward(np.ones_like(y))
        seen.append((model.forward(model.as_input(x), training=True).tobytes(), model.gradients.tobytes()))
    assert seen[0] == seen[1]


@pytest.mark.parametrize("case", CASES)
def test_batches_of_changing_size_share_their_buffers(case, rng):
    layers, shape = CASES[case]
    model = nn.Sequential(fresh(layers), input_shape=shape or (None, 3))
    x = model.as_input(inputs(model, 4, rng))

    def run(rows):
        y = model.forward(x[:rows], training=True).copy()
        model.backward(y.copy())
        return y

    whole = run(4)
    stores = {name: id(store) for layer in model.layers for name, store in layer.stores.items()}
    run(3)
    assert run(4).tobytes() == whole.tobytes()
    assert stores == {name: id(store) for layer in model.layers for name, store in layer.stores.items()}


# Against definitions ----------------------------------------------------------------------------------------------------


def only(layer, shape=None, dtype=np.float64):
    return nn.Sequential([layer], input_shape=shape, dtype=dtype)


def test_batch_norm_by_its_definition(rng):
    model = only(nn.BatchNorm(momentum=0.25), (3,))
    layer = model.layers[0]
    layer.parameters["gamma"][...], layer.parameters["beta"][...] = [1, 2, 3], [0, 1, -1]
    mean, variance = np.zeros(3), np.ones(3)
    for _ in range(3):
        x = 5 + 2 * rng.standard_normal((20, 3))
        y = model.forward(x, training=True)
        np.testing.assert_allclose(y, (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5) * [1, 2, 3] + [0, 1, -1], rtol=1e-10)
        mean += 0.25 * (x.mean(0) - mean)
        variance += 0.25 * (x.var(0, ddof=1) - variance)
    np.testing.assert_allclose(layer.states["mean"], mean)
    np.testing.assert_allclose(layer.states["variance"], variance)
    np.testing.assert_allclose(
        model.predict(x), (x - mean) / np.sqrt(variance + 1e-5) * [1, 2, 3] + [0, 1, -1], rtol=1e-10
    )


def test_batch_norm_keeps_its_digits(rng):
    """Where the mean is large beside the deviation, and where a feature is constant."""
    x = (1000 + rng.standard_normal((5000, 2))).astype(np.float32)
    x[:, 1] = 7
    y = only(nn.BatchNorm(), (2,), np.float32).forward(x, training=True)
    exact = (x[:, 0] - x[:, 0].mean(dtype=np.float64)) / np.sqrt(x[:, 0].var(dtype=np.float64) + 1e-5)
    np.testing.assert_allclose(y[:, 0], exact, rtol=1e-5, atol=1e-6)
    assert not y[:, 1].any()


def test_batch_norm_needs_two_rows():
    with pytest.raises(ValueError, match="two rows"):
        only(nn.BatchNorm(), (2,)).forward(np.ones((1, 2)), training=True)


def test_dropout(rng):
    model = nn.Sequential([nn.Dropout(0.3)], input_shape=(1000,), dtype=np.float64, seed=3)
    x = np.ones((200, 1000))
    y = model.forward(x, training=True).copy()
    dropped = y == 0
    assert dropped.mean() == pytest.approx(0.3, abs=0.005)
    assert abs(dropped.mean(axis=0) - 0.3).max() < 0.2 and abs(dropped.mean(axis=1) - 0.3).max() < 0.1
    np.testing.assert_allclose(y[~dropped], 1 / 0.7)
    np.testing.assert_array_equal(model.layers[0].backward(np.ones_like(x)), y)
    assert 0.05 < (dropped & (model.forward(x, training=True) == 0)).mean() < 0.13  # another mask for the next batch
    np.testing.assert_array_equal(model.predict(x), x)
    again = nn.Sequential([nn.Dropout(0.3)], input_shape=(1000,), dtype=np.float64, seed=3)
    np.testing.assert_array_equal(again.forward(x, training=True), y)


def test_embedding(rng):
    model = nn.Sequential([nn.Embedding(5, 2)])
    table = model.layers[0].parameters["weight"]
    np.testing.assert_array_equal(model.predict(np.array([[1, 1, 4]], np.uint8)), table[[[1, 1, 4]]])
    for wrong in (5, -1):
        with pytest.raises(IndexError, match=f"number {wrong}"):
            model.predict([[0, wrong]])
    with pytest.raises(TypeError, match="integers"):
        model.predict([[0.0]])


def test_attention_by_its_definition(rng):
    model = nn.Sequential([nn.Attention(4, 2, causal=True)], dtype=np.float64)
    x = rng.standard_normal((3, 5, 4))
    p = model.layers[0].parameters
    q, k, v = np.split(x @ p["weight"] + p["bias"], 3, axis=-1)
    heads = []
    for head in (slice(0, 2), slice(2, 4)):
        scores = q[..., head] @ k[..., head].swapaxes(1, 2) / math.sqrt(2)
        scores[:, np.triu_indices(5, 1)[0], np.triu_indices(5, 1)[1]] = -np.inf
        heads.append(np.exp(scores) / np.exp(scores).sum(-1, keepdims=True) @ v[..., head])
    np.testing.assert_allclose(model.predict(x), np.concatenate(heads, -1) @ p["output"] + p["output_bias"], rtol=1e-12)


def test_attention_does_not_look_at_padding(rng):
    model = nn.Sequential([nn.Embedding(6, 4, padding=0), nn.Attention(4, 2)], dtype=np.float64)
    short = model.predict([[3, 1, 2]])
    long = model.predict([[3, 1, 2, 0, 0]])
    np.testing.assert_allclose(long[:, :3], short, rtol=1e-12)
    only_padding = model.predict([[0, 0]])
    assert np.isfinite(only_padding).all()


def test_tree_by_its_definition(rng):
    model = nn.Sequential([nn.Tree(6, 3)], dtype=np.float64)
    p = model.layers[0].parameters

    def vector(tree):
        if isinstance(tree, int):
            return p["leaves"][tree]
        return np.tanh(np.concatenate([vector(tree[0]), vector(tree[1])]) @ p["weight"] + p["bias"])

    trees = [(0, (1, 2)), 5, ((3, 4), (0, 0)), (1, (2, (3, (4, 5))))]
    np.testing.assert_allclose(model.predict(nn.encode_trees(trees)), [vector(tree) for tree in trees], rtol=1e-12)


def test_trees_as_integers():
    np.testing.assert_array_equal(nn.encode_trees([(7, 8), 9])[0], [[7, -1, -1], [8, -1, -1], [-1, 0, 1]])
    np.testing.assert_array_equal(nn.encode_trees([(7, 8), 9])[1], [[9, -1, -1], [-1, -1, -1], [-1, -1, -1]])
    deep = 0
    for _ in range(5000):
        deep = (deep, 1)
    assert nn.encode_trees([deep]).shape == (1, 10001, 3)
    for wrong in ((1, 2, 3), "a", -1, (1, 2.5)):
        with pytest.raises(ValueError, match="pair of trees"):
            nn.encode_trees([wrong])


def test_tree_reads_only_what_is_there():
    model = nn.Sequential([nn.Tree(6, 3)])
    for wrong in ([[-1, 0, 1], [0, -1, -1]], [[0, -1, -1], [-1, 0, 5]], [[-1, -1, -1]], [[1, 0, -1]]):
        with pytest.raises(ValueError, match="no trees"):
            model.predict([wrong])
    with pytest.raises(IndexError):
        model.predict([[[6, -1, -1]]])


def test_rnn_uses_its_state(rng):
    """h = s(x W + h U + b), step by step; the derivative is that of the sum, and the sigmoid is not thrown away."""
    model = nn.Sequential([nn.SimpleRNN(2, 3, activation="sigmoid", return_sequences=True)], dtype=np.float64)
    x, p, h = rng.standard_normal((4, 6, 2)), model.layers[0].parameters, np.zeros((4, 3))
    y = model.predict(x)
    for t in range(6):
        h = 1 / (1 + np.exp(-(x[:, t] @ p["weight"] + h @ p["recurrent"] + p["bias"])))
        np.testing.assert_allclose(y[:, t], h, rtol=1e-12)


def test_sequences_of_any_length(rng):
    model = nn.Sequential([nn.LSTM(2, 3), nn.Dense(3, 1)])
    for steps in (3, 7, 1):
        assert model.predict(rng.standard_normal((4, steps, 2))).shape == (4, 1)
    with pytest.raises(ValueError, match="without a step"):
        model.predict(np.empty((4, 0, 2)))


# Against PyTorch --------------------------------------------------------------------------------------------------------


def in_torch_order(values, order):
    """Gates of our order, along the last axis, in PyTorch's and along its first."""
    parts = np.split(values, len(order), axis=-1)
    return np.concatenate([parts[k] for k in order], axis=-1).T.copy()


@pytest.mark.parametrize("name, order", [("LSTM", (0, 1, 3, 2)), ("GRU", (0, 1, 2)), ("RNN", (0,))])
def test_recurrent_layers_as_pytorch_s(name, order, rng):
    torch = pytest.importorskip("torch")
    layer = (nn.SimpleRNN if name == "RNN" else getattr(nn, name))(3, 4, return_sequences=True)
    model = nn.Sequential([nn.Dense(3, 3), layer], input_shape=(5, 3), dtype=np.float64)
    p = layer.parameters
    p["bias"][...] = rng.standard_normal(p["bias"].shape)
    peer = getattr(torch.nn, name)(3, 4, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        for ours, theirs in (
            ("weight", peer.weight_ih_l0),
            ("recurrent", peer.weight_hh_l0),
            ("bias", peer.bias_ih_l0),
        ):
            theirs.copy_(torch.from_numpy(in_torch_order(p[ours], order)))
        peer.bias_hh_l0.zero_()
        if name == "GRU":
            p["recurrent_bias"][...] = rng.standard_normal(4)
            peer.bias_hh_l0[8:] = torch.from_numpy(p["recurrent_bias"])
    model.layers[0].parameters["weight"][...] = np.eye(3)
    x, g = rng.standard_normal((2, 5, 3)), rng.standard_normal((2, 5, 4))
    x_torch = torch.from_numpy(x).requires_grad_()
    y = peer(x_torch)[0]
    np.testing.assert_allclose(model.forward(x, training=True), y.detach(), rtol=1e-12, atol=1e-12)
    y.backward(torch.from_numpy(g))
    model.backward(g)
    np.testing.assert_allclose(
        in_torch_order(layer.gradients["weight"], order), peer.weight_ih_l0.grad, rtol=1e-10, atol=1e-12
    )
    np.testing.assert_allclose(
        in_torch_order(layer.gradients["recurrent"], order), peer.weight_hh_l0.grad, rtol=1e-10, atol=1e-12
    )
    np.testing.assert_allclose(model.layers[0].gradients["bias"], x_torch.grad.sum((0, 1)), rtol=1e-10)


@pytest.mark.parametrize("stride, padding", [(1, 0), (2, 0), (1, "same")])
def test_convolution_and_pooling_as_pytorch_s(stride, padding, rng):
    torch = pytest.importorskip("torch")
    model = nn.Sequential(
        [nn.Conv2D(3, 4, 3, stride, padding or "valid"), nn.MaxPool2D(2)], input_shape=(9, 8, 3), dtype=np.float64
    )
    p = model.layers[0].parameters
    p["bias"][...] = rng.standard_normal(4)
    x = rng.standard_normal((2, 9, 8, 3))
    weight = torch.from_numpy(p["weight"].transpose(3, 2, 0, 1).copy()).requires_grad_()
    y = torch.nn.functional.conv2d(
        torch.from_numpy(x.transpose(0, 3, 1, 2).copy()), weight, torch.from_numpy(p["bias"]), stride, padding
    )
    y = torch.nn.functional.max_pool2d(y, 2)
    np.testing.assert_allclose(
        model.forward(x, training=True), y.detach().numpy().transpose(0, 2, 3, 1), rtol=1e-11, atol=1e-12
    )
    g = rng.standard_normal(y.shape)
    y.backward(torch.from_numpy(g))
    model.backward(g.transpose(0, 2, 3, 1).copy())
    np.testing.assert_allclose(
        model.layers[0].gradients["weight"].transpose(3, 2, 0, 1), weight.grad, rtol=1e-10, atol=1e-12
    )


# NaN --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [name for name, (layers, _) in CASES.items() if not layers[0].takes_integers])
def test_nan_passes_and_warns_of_nothing(case, rng):
    layers, shape = CASES[case]
    model = nn.Sequential(fresh(layers), input_shape=shape)
    x = inputs(model, 4, rng).astype(np.float32)
    x[1] = np.nan
    with np.errstate(all="raise", invalid="ignore"):  # matrix products of NumPy's warn by themselves
        y = model.forward(x)
    assert np.isnan(y[1]).any() and np.isfinite(y[0]).all()


# Refusals ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make, message", [
    (lambda: nn.Sequential([nn.Conv2D(3, 4)], input_shape=(8, 8, 1)), "1 features"),
    (lambda: nn.Sequential([nn.Conv2D(3, 4, 5)], input_shape=(4, 8, 3)), "does not fit into images of 4 x 8"),
    (lambda: nn.Sequential([nn.MaxPool2D(5)], input_shape=(4, 8, 3)), "does not fit"),
    (lambda: nn.Sequential([nn.Conv2D(3, 4)], input_shape=(3,)), "height, width, channels"),
    (lambda: nn.Sequential([nn.Conv2D(3, 4)]), "input_shape="),
    (lambda: nn.Sequential([nn.Flatten()], input_shape=(None, 3)), "known shape"),
    (lambda: nn.Sequential([nn.LSTM(3, 4)], input_shape=(3,)), "steps, 3"),
    (lambda: nn.Sequential([nn.LSTM(3, 4), nn.GRU(4, 2)]), "steps, 4"),
    (lambda: nn.Sequential([nn.Dense(2, 2), nn.Embedding(3, 2)]), "first layer"),
    (lambda: nn.Conv2D(3, 4, padding="full"), "padding"),
    (lambda: nn.Conv2D(3, 0), "outputs"),
    (lambda: nn.Attention(5, 2), "shared out"),
    (lambda: nn.Dropout(1), "rate"),
    (lambda: nn.BatchNorm(momentum=0), "momentum"),
    (lambda: nn.LayerNorm(0), "epsilon"),
    (lambda: nn.SimpleRNN(2, 2, activation="threshold"), "defaults"),
    (lambda: nn.Dense(2, 2, initialisation="zeros"), "xavier, he, lecun"),
    (lambda: nn.Sequential([nn.Dense(2, 2)], dtype=np.float16), "float32 or float64"),
])  # fmt: skip
def test_refusals(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.skipif(fa.backends.dispatch is None, reason="NumPy's kernels read everything")
def test_kernels_refuse_what_they_cannot_read():
    """Arrays of another type or layout raise before anything is written."""
    x = np.zeros((4, 6), np.float32)
    for wrong in (x.astype(np.float64), x[:, ::2], x.T):
        with pytest.raises(ValueError, match="contiguous"):
            kernels.dropout(24, (x, wrong), (0, 0), (1.0,))
    with pytest.raises(TypeError, match="float32 and float64"):
        kernels.dropout(24, (x.astype(np.int32), x), (0, 0), (1.0,))
    with pytest.raises(TypeError, match="2 arrays"):
        kernels.dropout(24, (x,), (0, 0), (1.0,))


# Initialisation ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("behind, variance", [
    ([nn.Activation("relu")], 2 / 900), ([nn.BatchNorm(), nn.Activation("relu")], 2 / 900),
    ([nn.MaxPool2D(), nn.Flatten(), nn.Activation("selu")], 1 / 900), ([nn.Activation("tanh")], 2 / (900 + 9 * 64)), ([], 2 / (900 + 9 * 64)),
], ids=str)  # fmt: skip
def test_initialisation_looks_through_layers_without_one(behind, variance):
    model = nn.Sequential([nn.Conv2D(100, 64), *fresh(behind)], input_shape=(6, 6, 100))
    assert model.layers[0].parameters["weight"].var() == pytest.approx(variance, rel=0.03)


@pytest.mark.parametrize("scheme, variance", [("he", 2 / 400), ("lecun", 1 / 400), ("xavier", 2 / 1000)])
def test_initialisation_by_name(scheme, variance):
    model = nn.Sequential([nn.Dense(400, 600, initialisation=scheme)])
    assert model.layers[0].parameters["weight"].var() == pytest.approx(variance, rel=0.02)


@pytest.mark.parametrize("name", ["relu", "tanh", "selu"])
def test_signal_neither_fades_nor_grows(name, rng):
    """Ten layers deep, the outputs still have about the size of the inputs."""
    model = nn.Sequential([layer for _ in range(10) for layer in (nn.Dense(256, 256), nn.Activation(name))])
    y = model.predict(rng.standard_normal((200, 256)))
    assert 0.2 < np.sqrt(np.mean(np.square(y))) < 2


def test_recurrent_weights_are_rotations():
    for layer in (nn.LSTM(3, 8), nn.GRU(3, 8), nn.SimpleRNN(3, 8)):
        nn.Sequential([layer], dtype=np.float64)
        for block in np.split(layer.parameters["recurrent"], layer.gates, axis=1):
            np.testing.assert_allclose(block @ block.T, np.eye(8), atol=1e-12)
    lstm = nn.LSTM(3, 8)
    nn.Sequential([lstm])
    assert lstm.parameters["bias"].sum() == 8


def test_every_layer_is_tested():
    tested = {type(layer).__name__ for layers, _ in CASES.values() for layer in layers} | {"Dropout"}
    assert tested == {
        name for name, value in vars(nn).items() if isinstance(value, type) and issubclass(value, nn.Layer)
    } - {"Layer"}
    assert fa.nn is nn
