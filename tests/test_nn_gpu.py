"""The trainer on arrays of CuPy: everywhere on a stand-in for CuPy, with ``pytest -m gpu`` on a real GPU.

What it computes is compared with the same model on NumPy's arrays.
"""

import copy
import importlib
import importlib.util
import math

import fake_cupy
import numpy as np
import pytest
from fake_gpu import FakeArray, why_no_gpu
from test_nn_layers import CASES, fresh, inputs

from fastact import nn
from fastact.nn import kernels

KINDS = ["stand-in"]
if not why_no_gpu() and importlib.util.find_spec("cupy"):
    KINDS.append(pytest.param("real", marks=pytest.mark.gpu))


@pytest.fixture(params=KINDS)
def cupy(request, monkeypatch):
    if request.param == "real":
        yield importlib.import_module("cupy")
    else:
        with fake_cupy.installed(monkeypatch) as module:
            yield module


@pytest.fixture
def stand_in(monkeypatch):
    with fake_cupy.installed(monkeypatch) as module:
        yield module


def pair(layers, like, **options):
    """The same model with NumPy and beside `like`."""
    return nn.Sequential(fresh(layers), **options), nn.Sequential(fresh(layers), like=like, **options)


def agree(found, wanted, dtype):
    """States of models, one of them from a GPU."""
    tolerance = 1e-12 if dtype == np.float64 else 1e-6
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        np.testing.assert_allclose(nn.places.on_host(found[name]), array, rtol=tolerance, atol=tolerance, err_msg=name)


def digits(rng, rows=12, classes=3):
    x = rng.standard_normal((rows, 4)).astype(np.float32)
    return x, rng.integers(0, classes, rows)


def small(like=None, *extra, **options):
    return nn.Sequential([nn.Dense(4, 6), nn.Activation("tanh"), *extra, nn.Dense(6, 3)], like=like, **options)


class TestLayers:
    @pytest.mark.parametrize("dtype", [np.float64, np.float32])
    @pytest.mark.parametrize("case", CASES)
    def test_two_steps(self, cupy, rng, case, dtype):
        layers, shape = CASES[case]
        host, device = pair(layers, cupy.empty(0), input_shape=shape or (None, 3), dtype=dtype)
        assert type(device.parameters) is cupy.ndarray
        np.testing.assert_array_equal(device.parameters.get(), host.parameters)
        x = inputs(host, 4, rng)
        target = np.zeros_like(host.predict(x))
        values = []
        for model in (host, device):
            trainer = nn.Trainer(model, "mse", nn.SGD(0.1))
            history = trainer.fit(x, target, epochs=1, batch_size=2, verbose=False)
            values.append([*history["loss"], *history.gradient_norms[0].values(), *history.dead_units[0].values()])
        np.testing.assert_allclose(values[1], values[0], rtol=1e-12 if dtype == np.float64 else 1e-6)
        agree(device.state(), host.state(), dtype)

    def test_dropout_drops_the_same(self, cupy, rng):
        host, device = pair([nn.Dense(4, 4), nn.Dropout(0.4)], cupy.empty(0), seed=3)
        x = rng.standard_normal((50, 4)).astype(np.float32)
        for _ in range(2):
            dropped = [nn.places.on_host(model.forward(model.as_input(x), True)) == 0 for model in (host, device)]
            np.testing.assert_array_equal(*dropped)
            assert 0.2 < dropped[0].mean() < 0.6

    @pytest.mark.parametrize("case", ["Conv2D, relu", "LSTM, sequences", "BatchNorm", "Embedding"])
    def test_buffers_are_made_once(self, cupy, rng, case):
        layers, shape = CASES[case]
        model = nn.Sequential(fresh(layers), input_shape=shape, like=cupy.empty(0))
        x = inputs(model, 4, rng)
        trainer = nn.Trainer(model, "mse", nn.Adam())
        target = np.zeros(model.predict(x).shape, np.float32)
        stores = []
        for _ in range(2):
            trainer.fit(x, target, batch_size=2, verbose=False)
            stores.append([id(store) for layer in model.layers for store in layer.stores.values()])
        assert stores[0] == stores[1]

    @pytest.mark.parametrize("layer", ["Embedding", "Tree"])
    def test_numbers_are_checked(self, cupy, layer):
        model = nn.Sequential([nn.Embedding(5, 2) if layer == "Embedding" else nn.Tree(5, 2)], like=cupy.empty(0))
        x = np.array([[1, 5]]) if layer == "Embedding" else nn.encode_trees([(1, 5)])
        with pytest.raises(IndexError, match="number 5"):
            model.predict(cupy.asarray(x))


@pytest.mark.parametrize("optimizer", [
    nn.SGD(0.1, weight_decay=0.1), nn.Momentum(0.1), nn.Nesterov(0.1), nn.AdaGrad(), nn.RMSProp(), nn.Adam(weight_decay=0.1), nn.AdamW(),
], ids=repr)  # fmt: skip
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_optimizers(cupy, rng, optimizer, dtype):
    p, g = rng.standard_normal((2, 1000)).astype(dtype)
    spans = [(0, 300, True), (300, 1000, False)]
    vectors, states = [(p, g), (cupy.asarray(p), cupy.asarray(g))], []
    for parameters, gradients in vectors:
        states.append(optimizer.start(parameters))
        for _ in range(3):
            optimizer.step(parameters, gradients, states[-1], scale=0.5, limit=0.7, spans=spans)
    host, device = (
        {"parameters": p, **{name: state[name] for name in optimizer.memory}} for (p, _), state in zip(vectors, states)
    )
    agree(device, host, dtype)
    assert kernels.sum_of_squares(cupy.asarray(g)) == pytest.approx(kernels.sum_of_squares(g), rel=1e-12)


class TestTraining:
    """Of a small network in several ways, on the same data, beside the same network with NumPy."""

    def fit(self, like, x, y, *, loss="softmax_cross_entropy", model=None, epochs=2, **options):
        trainer = nn.Trainer(model or small(like), loss, nn.AdamW(0.01), clip_norm=0.5)
        history = trainer.fit(x, y, epochs, 5, verbose=False, **options)
        return trainer, history

    def both(self, cupy, x, y, like_of=None, **options):
        like_of = like_of or cupy.asarray
        host, wanted = self.fit(None, x, y, **options)
        device, found = self.fit(cupy.empty(0), like_of(x), like_of(y), **options)
        agree(device.model.state(), host.model.state(), np.float32)
        assert found.keys() == wanted.keys()
        for name, values in wanted.items():
            assert found[name] == pytest.approx(values, rel=1e-5), name
        return host, device

    def test_data_on_the_gpu(self, cupy, rng):
        host, device = self.both(cupy, *digits(rng), validation_split=0.25, callbacks=[nn.EarlyStopping(1)])
        assert "val_accuracy" in device.history
        assert device.history.dead_units == host.history.dead_units
        x, y = digits(rng)
        found, wanted = device.evaluate(cupy.asarray(x), cupy.asarray(y)), host.evaluate(x, y)
        assert found == pytest.approx(wanted, rel=1e-5)
        prediction = device.predict(cupy.asarray(x))
        assert type(prediction) is cupy.ndarray
        np.testing.assert_allclose(prediction.get(), host.predict(x), rtol=1e-5, atol=1e-6)

    def test_data_with_numpy(self, cupy, rng):
        host, device = self.both(cupy, *digits(rng), like_of=lambda x: x)
        assert type(device.predict(np.zeros((0, 4)))) is cupy.ndarray
        assert device.predict(np.zeros((0, 4))).shape == (0, 3)

    def test_data_that_others_have_on_the_gpu(self, stand_in, rng):
        self.both(stand_in, *digits(rng), like_of=FakeArray, validation_split=0.25)
        embedding = nn.Sequential([nn.Embedding(5, 2)], like=stand_in.empty(0))
        x = rng.integers(0, 5, (3, 4))
        np.testing.assert_array_equal(embedding.as_input(FakeArray(x)), x)

    @pytest.mark.parametrize("on_gpu", [False, True])
    def test_loaders(self, cupy, rng, on_gpu):
        x, y = digits(rng)
        validation = digits(rng)
        _, wanted = self.fit(None, x, y, validation=validation)
        if on_gpu:
            x, y, *validation = map(cupy.asarray, (x, y, *validation))
        loader = nn.DataLoader(nn.Dataset(x, y), 5, shuffle=True)
        _, found = self.fit(cupy.empty(0), loader, None, validation=nn.Dataset(*validation))
        assert found["val_loss"] == pytest.approx(wanted["val_loss"], rel=1e-5)

    @pytest.mark.parametrize("loss", ["mse", "huber", "sigmoid_cross_entropy", "log_cosh"])
    def test_losses(self, cupy, rng, loss):
        x, y = digits(rng)
        self.both(cupy, x, np.eye(3)[y], loss=loss, epochs=1)

    def test_a_loss_and_a_metric_of_ones_own(self, cupy, rng):
        def squares(prediction, target):
            difference = prediction - target
            return (difference * difference).sum() / len(target), 2 / len(target) * difference

        x, y = digits(rng)
        self.both(cupy, x, np.eye(3)[y], loss=squares, epochs=1)
        for metric in ("mean_squared_error", "mean_absolute_error"):
            values = []
            for model, array in ((small(), np.asarray), (small(cupy.empty(0)), cupy.asarray)):
                values.append(
                    nn.Trainer(model, "mse", nn.SGD(), metrics=[metric]).evaluate(array(x), array(np.eye(3)[y]))
                )
            assert values[0] == pytest.approx(values[1], rel=1e-6)

    def test_a_scaler_learns_where_the_data_are(self, cupy, rng):
        x, _ = digits(rng)
        for scaler in (nn.ZScore, nn.MinMax):
            found, wanted = scaler().fit_transform(cupy.asarray(x)), scaler().fit_transform(x)
            np.testing.assert_allclose(found.get(), wanted, rtol=1e-12, atol=1e-12)

    def test_nan_names_the_layer(self, cupy, rng):
        x, y = digits(rng)
        model = small(cupy.empty(0))
        model.layers[2].parameters["weight"][...] = math.nan
        before = model.layers[0].parameters["weight"].get()
        with pytest.raises(FloatingPointError, match="the weight of layer 2"):
            self.fit(None, x, y, model=model)
        np.testing.assert_array_equal(model.layers[0].parameters["weight"].get(), before)
        with pytest.raises(FloatingPointError, match="the input has NaN"):
            self.fit(cupy.empty(0), np.full_like(x, math.nan), y)

    @pytest.mark.parametrize("clip_norm, waits", [(None, 1), (1.0, 2)])
    def test_a_step_waits_once_for_the_loss(self, stand_in, rng, clip_norm, waits):
        x, y = map(stand_in.asarray, digits(rng))
        extra = [nn.BatchNorm(), nn.Dropout(0.3), nn.LayerNorm(), nn.PReLU()]
        model = small(stand_in.empty(0), *extra)
        counts = []

        class Count(nn.Callback):
            def on_batch_end(self, trainer):
                counts.append(fake_cupy.Waits.count)

        trainer = nn.Trainer(model, "softmax_cross_entropy", nn.Adam(), clip_norm=clip_norm)
        trainer.fit(x, y, batch_size=3, callbacks=[Count()], verbose=False)
        assert np.diff(counts).tolist() == [waits] * 3


class TestFiles:
    def test_models_move(self, cupy, rng, tmp_path):
        layers = [
            nn.Dense(4, 6),
            nn.BatchNorm(),
            nn.Dropout(0.3),
            nn.Activation("elu", alpha=[1, 2, 3, 4, 5, 6]),
            nn.Dense(6, 3),
        ]
        x, y = digits(rng)
        host, device = pair(layers, cupy.empty(0))
        nn.Trainer(device, "softmax_cross_entropy", nn.Adam()).fit(x, y, batch_size=6, verbose=False)
        device.save(tmp_path / "gpu.npz")
        with np.load(tmp_path / "gpu.npz") as file:
            assert file["parameters"].dtype == np.float32
        back = nn.load(tmp_path / "gpu.npz")
        assert type(back.parameters) is np.ndarray
        np.testing.assert_allclose(back.predict(x), device.predict(x).get(), rtol=1e-5, atol=1e-6)
        back.save(tmp_path / "cpu.npz")
        again = nn.load(tmp_path / "cpu.npz", like=cupy.empty(0))
        assert type(again.parameters) is cupy.ndarray
        for name, array in device.state().items():
            np.testing.assert_array_equal(nn.places.on_host(again.state()[name]), nn.places.on_host(array))
        host.set_state(back.state())
        device.set_state(host.state())

    def test_copies_have_memory_of_their_own(self, cupy, rng):
        model = small(cupy.empty(0))
        other = copy.deepcopy(model)
        assert type(other.parameters) is cupy.ndarray
        other.parameters[...] = 0
        x, _ = digits(rng)
        assert not other.predict(x).get().any()
        assert model.predict(x).get().any()

    @pytest.mark.parametrize("places", ["gpu to gpu", "gpu to cpu", "cpu to gpu"])
    def test_runs_go_on(self, cupy, rng, tmp_path, places):
        x, y = digits(rng)
        likes = [cupy.empty(0) if place == "gpu" else None for place in places.split(" to ")]

        def trainer(like):
            return nn.Trainer(small(like, nn.Dropout(0.2)), "softmax_cross_entropy", nn.Adam(0.01), seed=1)

        whole = trainer(likes[0])
        wanted = whole.fit(x, y, 2, 6, verbose=False, callbacks=[nn.ModelCheckpoint(tmp_path / "run{epoch}.npz")])
        resumed = trainer(likes[1])
        resumed.resume(tmp_path / "run1.npz")
        found = resumed.fit(x, y, 1, 6, verbose=False)
        assert found["loss"][0] == pytest.approx(wanted["loss"][1], rel=1e-6)
        agree(resumed.model.state(), {n: nn.places.on_host(a) for n, a in whole.model.state().items()}, np.float32)
        if places == "gpu to gpu":
            np.testing.assert_array_equal(resumed.model.parameters.get(), whole.model.parameters.get())


class TestRefusals:
    def test_places_that_are_none(self):
        class Tensor:
            __cuda_array_interface__ = {}

        for like in (Tensor(), [1.0], "cuda"):
            with pytest.raises(TypeError, match="like must be an array of NumPy or CuPy"):
                small(like)
            with pytest.raises(TypeError, match="like must be"):
                nn.load("never read", like=like)

    def test_data_on_the_gpu_for_a_model_with_numpy(self, cupy, rng):
        x, y = digits(rng)
        for attempt in (lambda: small().predict(cupy.asarray(x)), lambda: TestTraining().fit(None, x, cupy.asarray(y))):
            with pytest.raises(TypeError, match="the model is in NumPy's memory and cupy.*like=x"):
                attempt()
        embedding = nn.Sequential([nn.Embedding(3, 2)])
        with pytest.raises(TypeError, match="the model is in NumPy's memory"):
            embedding.predict(cupy.asarray(y[:, None]))

    def test_several_processes(self, cupy):
        with pytest.raises(TypeError, match="comm is not for a model on a GPU"):
            nn.Trainer(small(cupy.empty(0)), "mse", nn.SGD(), comm=object())


class TestStandIn:
    """Is as strict as CuPy."""

    @pytest.mark.parametrize("mistake", [
        lambda a, b: np.asarray(a), lambda a, b: np.ascontiguousarray(a), lambda a, b: a + b, lambda a, b: b + a,
        lambda a, b: np.where(b > 0, a, 0), lambda a, b: a.__setitem__(..., b), lambda a, b: b.__setitem__(..., a),
        lambda a, b: np.take(a, 0, axis=0, mode="clip"), lambda a, b: np.add(a, 1, where=a > 0), lambda a, b: np.add(a, 1, out=b),
        lambda a, b: a * np.float64(2), lambda a, b: a.max(initial=0), lambda a, b: np.linalg.qr(a), lambda a, b: np.exp2(a),
    ])  # fmt: skip
    def test_refuses(self, stand_in, mistake):
        b = np.ones((2, 2), np.float32)
        with pytest.raises(TypeError):
            mistake(stand_in.asarray(b), b)
