"""The trainer: gradients, reproducibility, memory, and that it learns."""

import copy
import math
import pickle

import numpy as np
import pytest

import fastact as fa
from fastact import nn

REQUIRED = {"threshold": {"threshold": 0.1, "value": -0.2}}


def mean_squared_error(prediction, target):
    error = prediction - target
    return np.mean(error**2), 2 * error / error.size


def half_sum_of_squares(prediction, target):
    """Its gradient is the prediction itself, where target is 0: the trainer must not trip over the shared array."""
    return 0.5 * np.sum(prediction**2), prediction


def mlp(*sizes, activation="tanh", seed=0):
    layers = []
    for inputs, outputs in zip(sizes, sizes[1:]):
        layers += [nn.Dense(inputs, outputs), nn.Activation(activation)]
    return nn.Sequential(layers[:-1], seed=seed)


def trainer_for(model, loss=mean_squared_error, **options):
    return nn.Trainer(model, loss, options.pop("optimizer", nn.Adam(0.01)), **options)


def fit(trainer, x, y, epochs, batch_size=32, **options):
    return trainer.fit(x, y, epochs, batch_size, verbose=False, **options)


def classes_and_points(rng, n=200):
    y = rng.integers(0, 3, n)
    return (rng.standard_normal((n, 4)) + 3 * np.eye(3, 4)[y]).astype(np.float32), y


# Gradients ------------------------------------------------------------------------------------------------------------


def forward_in_float64(model, parameters, x):
    """The same model from its definition, in float64, with the given vector of parameters."""
    x = x.astype(np.float64)
    for layer in model.layers:
        values = {}
        for name, shape in layer.shapes.items():
            count = math.prod(shape)
            values[name], parameters = parameters[:count].reshape(shape), parameters[count:]
        if isinstance(layer, nn.Dense):
            x = x @ values["weight"] + values["bias"]
        elif isinstance(layer, nn.PReLU):
            x = np.where(x > 0, x, values["weight"] * x)
        else:
            options = {name: np.asarray(value, np.float64)[()] for name, value in layer.options.items()}
            x = layer.function(x, **options)
    return x


def check_gradient(model, x, y, loss, reference):
    """The trainer's gradient against central differences in float64 of `reference`, the value of the loss."""
    taken = []

    class Recorder(nn.SGD):
        def step(self, parameters, gradients, state):
            taken.append(gradients.copy())

    parameters = model.parameters.astype(np.float64)
    fit(nn.Trainer(model, loss, Recorder()), x, y, 1, len(x))
    expected = []
    for step in 1e-6 * np.eye(parameters.size):
        high, low = (reference(forward_in_float64(model, p, x)) for p in (parameters + step, parameters - step))
        expected.append((high - low) / 2e-6)
    assert max(np.abs(expected)) > 1e-3
    np.testing.assert_allclose(taken[0], expected, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", [name for name in fa.list_activations() if name != "prelu"])
def test_gradient_of_every_activation(name, rng):
    options = REQUIRED.get(name, {})
    first, second = (nn.Activation(name, **options) for _ in range(2))
    model = nn.Sequential([nn.Dense(3, 5), first, nn.Dense(5, 4), second, nn.Dense(4, 2)], seed=1)
    x, y = rng.standard_normal((7, 3)).astype(np.float32), rng.integers(0, 2, 7)
    check_gradient(model, x, y, "softmax_cross_entropy", lambda z: fa.softmax_cross_entropy(z, y))


@pytest.mark.parametrize("layers", [
    [nn.Activation("tanh"), nn.Activation("sigmoid"), nn.Activation("gelu")],  # two in a row that need their output
    [nn.Activation("silu"), nn.Activation("tanh")],  # the last one needs its output
    [nn.Activation("tanh"), nn.Activation("log_softmax")],
    [nn.Activation("softmax")],
    [nn.Activation("leaky_relu", negative_slope=-0.5), nn.Dense(4, 4)],  # its output does not tell its derivative
    [nn.Activation("elu", alpha=[0.5, 1, 1.5, 2]), nn.Dense(4, 4)],  # an array as a parameter
    [nn.PReLU(0.1), nn.Dense(4, 4), nn.PReLU()],
    [nn.Dense(4, 4), nn.Dense(4, 4)],
], ids=str)  # fmt: skip
def test_gradient_of_combinations(layers, rng):
    model = nn.Sequential([nn.Dense(3, 4), *copy.deepcopy(layers)], seed=1)
    x, y = rng.standard_normal((6, 3)).astype(np.float32), rng.standard_normal((6, 4)).astype(np.float32)
    check_gradient(model, x, y, mean_squared_error, lambda z: np.mean((z - y.astype(np.float64)) ** 2))


@pytest.mark.parametrize("last", ["identity", "tanh", "gelu"])
def test_loss_whose_gradient_is_the_prediction(last, rng):
    model = nn.Sequential([nn.Dense(3, 2), nn.Activation(last)])
    x = rng.standard_normal((5, 3)).astype(np.float32)
    check_gradient(model, x, np.zeros(5), half_sum_of_squares, lambda z: 0.5 * np.sum(z**2))


def test_weight_of_a_row_does_not_depend_on_the_batch(rng):
    """The last, smaller mini-batch is a batch like any other: every row is visited once in an epoch."""
    x, seen = np.arange(10, dtype=np.float32)[:, None], []

    def record(prediction, target):
        seen.append(target.copy())
        return 0.0, np.zeros_like(prediction)

    fit(trainer_for(mlp(1, 1), record), x, x[:, 0], 2, batch_size=4)
    assert [len(batch) for batch in seen] == [4, 4, 2] * 2
    first, second = np.concatenate(seen[:3]), np.concatenate(seen[3:])
    assert sorted(first) == sorted(second) == list(range(10))
    assert list(first) != list(second)


# Initialisation -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer, variance", [
    (nn.Activation("relu"), 2 / 400), (nn.Activation("gelu"), 2 / 400), (nn.Activation("selu"), 1 / 400),
    (nn.Activation("tanh"), 2 / 1000), (nn.Activation("sigmoid"), 2 / 1000), (nn.PReLU(0.25), 2 / 400 / (1 + 0.25**2)),
], ids=str)  # fmt: skip
def test_initialisation_suits_what_follows(layer, variance):
    model = nn.Sequential([nn.Dense(400, 600), copy.deepcopy(layer), nn.Dense(600, 200)])
    weight, last = model.layers[0].parameters["weight"], model.layers[2].parameters["weight"]
    assert weight.var() == pytest.approx(variance, rel=0.02)
    assert last.var() == pytest.approx(2 / 800, rel=0.02)
    assert not model.layers[0].parameters["bias"].any()


# Learning -------------------------------------------------------------------------------------------------------------


def test_learns_xor():
    x, y = np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), np.array([0, 1, 1, 0])
    trainer = trainer_for(mlp(2, 8, 2), "softmax_cross_entropy", optimizer=nn.Adam(0.05))
    fit(trainer, x, y, 200, 4)
    assert trainer.evaluate(x, y)["accuracy"] == 1
    assert list(trainer.predict(x).argmax(axis=1)) == list(y)


def test_learns_to_add():
    """A 2-8-1 network on four rows, batches of two."""
    x = np.array([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6], [0.7, 0.8]])
    y = x.sum(axis=1, keepdims=True)
    trainer = trainer_for(mlp(2, 8, 1, activation="relu"), optimizer=nn.SGD(0.1, momentum=0.9))
    history = fit(trainer, x, y, 400, 2)
    assert trainer.evaluate(x, y)["loss"] < 1e-6
    assert set(history) == {"loss"}
    assert history["loss"][-1] < history["loss"][0]


@pytest.mark.parametrize("optimizer", [nn.SGD(0.5), nn.SGD(0.1, momentum=0.9), nn.Adam(0.01)],
                         ids=["gradient descent", "momentum", "Adam"])  # fmt: skip
def test_every_optimizer_learns(optimizer, rng):
    x, y = classes_and_points(rng)
    trainer = trainer_for(mlp(4, 16, 3), "softmax_cross_entropy", optimizer=optimizer)
    history = fit(trainer, x, y, 20, validation=(x, y))
    assert set(history) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert all(len(values) == 20 for values in history.values())
    assert history["val_accuracy"][-1] > 0.97


def test_learned_slope_moves(rng):
    model = nn.Sequential([nn.Dense(1, 4), nn.PReLU(), nn.Dense(4, 1)])
    x = rng.uniform(-1, 1, (64, 1))
    trainer = trainer_for(model, optimizer=nn.Adam(0.02))
    fit(trainer, x, np.abs(x), 200)
    assert trainer.evaluate(x, np.abs(x))["loss"] < 1e-3
    assert np.abs(model.layers[1].parameters["weight"] - 0.25).max() > 0.1


def test_probabilities_as_targets(rng):
    x, y = classes_and_points(rng)
    by_class, by_probability = (trainer_for(mlp(4, 8, 3), "softmax_cross_entropy") for _ in range(2))
    fit(by_class, x, y, 3)
    fit(by_probability, x, np.eye(3)[y], 3)
    np.testing.assert_allclose(by_class.model.parameters, by_probability.model.parameters, atol=1e-5)


# Optimizers -----------------------------------------------------------------------------------------------------------


def test_sgd_by_hand():
    optimizer, parameters = nn.SGD(0.1, momentum=0.5), np.array([1, 2], np.float32)
    state = optimizer.start(parameters)
    optimizer.step(parameters, np.array([1, -1], np.float32), state)
    np.testing.assert_allclose(parameters, [0.9, 2.1], rtol=1e-6)
    optimizer.step(parameters, np.array([1, -1], np.float32), state)
    np.testing.assert_allclose(parameters, [0.75, 2.25], rtol=1e-6)


def test_adam_against_its_definition(rng):
    optimizer, parameters = nn.Adam(0.01, 0.8, 0.9, 1e-3), rng.standard_normal(5).astype(np.float32)
    expected, mean, square = parameters.astype(np.float64), np.zeros(5), np.zeros(5)
    state = optimizer.start(parameters)
    for step in range(1, 6):
        gradient = rng.standard_normal(5).astype(np.float32)
        mean = 0.8 * mean + 0.2 * gradient
        square = 0.9 * square + 0.1 * gradient.astype(np.float64) ** 2
        expected -= 0.01 * mean / (1 - 0.8**step) / (np.sqrt(square / (1 - 0.9**step)) + 1e-3)
        optimizer.step(parameters, gradient, state)
        np.testing.assert_allclose(parameters, expected, rtol=1e-5)


def test_one_optimizer_serves_two_trainers(rng):
    x, y = classes_and_points(rng)
    optimizer = nn.Adam(0.01)
    first, second = (trainer_for(mlp(4, 8, 3), "softmax_cross_entropy", optimizer=optimizer) for _ in range(2))
    fit(first, x, y, 3)
    fit(second, x, y, 3)
    assert first.model.parameters.tobytes() == second.model.parameters.tobytes()


@pytest.mark.parametrize("make", [
    lambda: nn.SGD(0), lambda: nn.SGD(-1), lambda: nn.SGD(math.nan), lambda: nn.SGD(0.1, momentum=1),
    lambda: nn.Adam(math.inf), lambda: nn.Adam(0.1, beta1=-0.1), lambda: nn.Adam(0.1, epsilon=0),
])  # fmt: skip
def test_bad_settings(make):
    with pytest.raises(ValueError, match="must"):
        make()


def test_clip_norm(rng):
    x, y = rng.standard_normal((8, 3)).astype(np.float32), rng.standard_normal((8, 2)).astype(np.float32)

    def step(clip_norm):
        model = mlp(3, 4, 2)
        before = model.parameters.copy()
        fit(trainer_for(model, optimizer=nn.SGD(1.0), clip_norm=clip_norm), x, y, 1)
        return before - model.parameters

    free = step(None)
    length = np.linalg.norm(free)
    np.testing.assert_allclose(step(length / 8), free / 8, atol=1e-6)
    np.testing.assert_array_equal(step(length * 8), free)


# Reproducibility, saving, copying -------------------------------------------------------------------------------------


def test_seeds_reproduce_the_bits(rng):
    x, y = classes_and_points(rng)

    def run(model_seed, seed):
        trainer = trainer_for(mlp(4, 8, 3, seed=model_seed), "softmax_cross_entropy", seed=seed)
        fit(trainer, x, y, 3)
        return trainer.model.parameters.tobytes()

    assert run(0, 0) == run(0, 0)
    assert len({run(0, 0), run(0, 1), run(1, 0)}) == 3


@pytest.mark.parametrize("reproduce", [
    "file", copy.deepcopy, copy.copy, lambda model: pickle.loads(pickle.dumps(model)),
], ids=["file", "deepcopy", "copy", "pickle"])  # fmt: skip
def test_round_trip(reproduce, rng, tmp_path):
    leaky, elu = nn.Activation("leaky_relu", negative_slope=0.03), nn.Activation("elu", alpha=[1, 2])
    model = nn.Sequential([nn.Dense(4, 6), leaky, nn.Dense(6, 2), nn.PReLU(0.1), nn.Dense(2, 2), elu, nn.Dense(2, 3)])
    x, y = classes_and_points(rng)
    fit(trainer_for(model, "softmax_cross_entropy"), x, y, 1)
    if reproduce == "file":
        model.save(tmp_path / "model.npz")
        other = nn.load(tmp_path / "model.npz")
    else:
        other = reproduce(model)
    expected = model.predict(x)
    assert repr(other) == repr(model)
    assert other.predict(x).tobytes() == expected.tobytes()
    fit(trainer_for(other, "softmax_cross_entropy"), x, y, 1)
    assert other.predict(x).tobytes() != expected.tobytes()
    assert model.predict(x).tobytes() == expected.tobytes()


@pytest.mark.parametrize("layers", [
    lambda f: [nn.Dense(4, 3), nn.Activation(f, scale=0.25)], lambda f: [nn.SimpleRNN(4, 3, activation=f)],
], ids=["Activation", "SimpleRNN"])  # fmt: skip
def test_round_trip_with_an_activation_of_one_s_own(layers, rng, tmp_path):
    pytest.importorskip("numba")

    def gelu(x, scale=1.0):  # fastact's own must not be taken for it
        return scale * abs(x)

    own = fa.activation(gelu)
    model = nn.Sequential(layers(own))
    x = rng.standard_normal((5, *(2 if n is None else n for n in model.input_shape)))
    trainer_for(model).save(tmp_path / "model.npz")
    with pytest.raises(ValueError, match=r"model.npz.*activations=\[gelu\]"):
        nn.load(tmp_path / "model.npz")
    with pytest.raises(ValueError, match="the same name"):
        nn.load(tmp_path / "model.npz", activations=[own, fa.gelu])
    resumed = nn.Sequential(layers(own), seed=1)
    trainer_for(resumed).resume(tmp_path / "model.npz")
    for other in (nn.load(tmp_path / "model.npz", activations=[own]), copy.deepcopy(model), resumed):
        assert repr(other) == repr(model)
        assert other.predict(x).tobytes() == model.predict(x).tobytes()


def test_load_executes_nothing(tmp_path):
    class Trap:
        def __reduce__(self):
            return exec, ("raise SystemExit('executed')",)

    np.savez(tmp_path / "trap.npz", layers=np.array(Trap(), object), parameters=np.zeros(3, np.float32))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        nn.load(tmp_path / "trap.npz")
    np.savez(tmp_path / "other.npz", parameters=np.zeros(3))
    with pytest.raises(ValueError, match="lacks layers"):
        nn.load(tmp_path / "other.npz")
    np.savez(tmp_path / "code.npz", layers='[["exec", ["raise SystemExit"], {}]]', parameters=np.zeros(3))
    with pytest.raises(ValueError, match="unknown layers"):
        nn.load(tmp_path / "code.npz")


# Callbacks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("restore_best", [True, False])
def test_early_stopping(restore_best, rng):
    """Validation data that contradict the training data: the first epoch is the best."""
    x, y = classes_and_points(rng)
    trainer = trainer_for(mlp(4, 8, 3), "softmax_cross_entropy")
    stopping = nn.EarlyStopping(patience=2, restore_best=restore_best)
    history = fit(trainer, x, y, 50, validation=(x, (y + 1) % 3), callbacks=[stopping])
    best = np.argmin(history["val_loss"]) + 1
    assert len(history["loss"]) == best + 2 == stopping.best_epoch + 2
    final = trainer.evaluate(x, (y + 1) % 3)["loss"]
    assert final == pytest.approx(min(history["val_loss"]) if restore_best else history["val_loss"][-1], rel=1e-6)


def test_early_stopping_needs_validation(rng):
    x, y = classes_and_points(rng)
    with pytest.raises(ValueError, match="validation"):
        fit(trainer_for(mlp(4, 3), "softmax_cross_entropy"), x, y, 1, callbacks=[nn.EarlyStopping(1)])


def test_callbacks_are_called(rng):
    calls = []

    class Spy(nn.Callback):
        def on_fit_begin(self, trainer, epochs, batches):
            calls.append((epochs, batches))

        def on_batch_end(self, trainer):
            calls.append("batch")

        def on_epoch_end(self, trainer, history):
            calls.append(sorted(history))
            return len(history["loss"]) == 2

        def on_fit_end(self, trainer):
            calls.append("end")

    x, y = classes_and_points(rng, 10)
    fit(trainer_for(mlp(4, 3), "softmax_cross_entropy"), x, y, 5, 8, callbacks=[Spy()])
    assert calls == [(5, 2), *["batch", "batch", ["accuracy", "loss"]] * 2, "end"]


def test_progress_bar(rng, capsys):
    x, y = classes_and_points(rng)
    trainer_for(mlp(4, 3), "softmax_cross_entropy").fit(x, y, 2, 50)
    shown = capsys.readouterr().err
    assert "epoch 2/2" in shown and "8/8" in shown and "accuracy=" in shown


# Memory ---------------------------------------------------------------------------------------------------------------


def test_in_place_where_the_output_is_enough():
    tanh, gelu = nn.Activation("tanh"), nn.Activation("gelu")
    model = nn.Sequential([nn.Dense(4, 5), tanh, nn.Dense(5, 5), gelu, nn.Dense(5, 2)])
    model.forward(np.ones((3, 4), np.float32))
    assert np.shares_memory(model.layers[0].buffers["output"], tanh.kept) and not tanh.buffers
    assert np.shares_memory(model.layers[2].buffers["output"], gelu.kept)
    assert not np.shares_memory(gelu.buffers["output"], gelu.kept)


def test_buffers_grow_and_stay(rng):
    model = mlp(4, 8, 3)
    model.predict(rng.standard_normal((10, 4)))
    store = model.layers[0].stores["output"]
    model.predict(rng.standard_normal((5, 4)))
    assert model.layers[0].stores["output"] is store
    assert len(model.predict(rng.standard_normal((600, 4)))) == 600
    assert model.layers[0].stores["output"].size == 256 * 8


def test_prediction_is_the_callers(rng):
    model = mlp(4, 3)
    x = rng.standard_normal((2, 4))
    first = model.predict(x)
    before = first.copy()
    model.predict(x + 1)
    assert first.tobytes() == before.tobytes() and first.dtype == np.float32
    assert model.predict(np.empty((0, 4))).shape == (0, 3)


def test_inputs_are_left_alone(rng):
    x, y = classes_and_points(rng)
    x.flags.writeable = y.flags.writeable = False
    fit(trainer_for(mlp(4, 8, 3), "softmax_cross_entropy"), x, y, 2)
    fit(trainer_for(mlp(4, 8, 3), "softmax_cross_entropy"), np.asfortranarray(x)[::2], y[::2], 1)


# Refusals -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["softmax", "softmin"])
@pytest.mark.parametrize("loss", ["softmax_cross_entropy", fa.softmax_cross_entropy], ids=["name", "object"])
def test_double_softmax_is_refused(name, loss):
    model = nn.Sequential([nn.Dense(4, 10), nn.Activation(name)])
    with pytest.raises(ValueError, match="logits.*1.461"):
        trainer_for(model, loss)
    trainer_for(model, mean_squared_error)


def test_bad_models():
    with pytest.raises(ValueError, match="at least one layer"):
        nn.Sequential([])
    with pytest.raises(ValueError, match="starts with Dense"):
        nn.Sequential([nn.Activation("relu"), nn.Dense(2, 2)])
    with pytest.raises(ValueError, match="gives 3 features"):
        nn.Sequential([nn.Dense(2, 3), nn.Activation("relu"), nn.Dense(2, 1)])
    with pytest.raises(ValueError, match="at least one input"):
        nn.Dense(0, 3)
    layer = nn.Dense(2, 2)
    with pytest.raises(ValueError, match="one place"):
        nn.Sequential([layer, layer])
    nn.Sequential([layer])
    with pytest.raises(ValueError, match="one place"):
        nn.Sequential([layer])
    for wrong in ("gelu", fa.gelu, nn.Dense):
        with pytest.raises(TypeError, match="made of layers"):
            nn.Sequential([nn.Dense(2, 2), wrong])


def test_bad_activations():
    with pytest.raises(ValueError, match="'gleu'; did you mean gelu"):
        nn.Activation("gleu")
    with pytest.raises(ValueError, match="PReLU"):
        nn.Activation("prelu")
    with pytest.raises(TypeError, match="slope"):
        nn.Activation("relu", slope=1)
    with pytest.raises(TypeError, match="threshold"):
        nn.Activation("threshold")
    with pytest.raises(TypeError, match="takes an activation"):
        nn.Activation(np.tanh)
    with pytest.raises(TypeError, match="takes lower and upper, not training"):
        nn.Activation("rrelu", training=True)
    with pytest.raises(TypeError, match="takes temperature, not axis"):
        nn.Activation("softmax", axis=-1)


def test_bad_losses():
    with pytest.raises(ValueError, match="unknown loss 'softmax_crossentropy'; did you mean softmax_cross_entropy"):
        trainer_for(mlp(2, 2), "softmax_crossentropy")
    with pytest.raises(TypeError, match="must be a name or a function"):
        trainer_for(mlp(2, 2), 3)
    with pytest.raises(ValueError, match="clip_norm"):
        trainer_for(mlp(2, 2), clip_norm=0)
    for function in (fa.gelu, fa.softmax, fa.swiglu, fa.gelu.derivative, nn.Dense):
        with pytest.raises(TypeError, match="must be a name or a function"):
            trainer_for(mlp(2, 2), function)
    with pytest.raises(TypeError, match="must return .value, gradient., and half does not"):
        fit(trainer_for(mlp(2, 2), half), np.ones((4, 2)), np.ones((4, 2)), 1)


def half(prediction, target):
    return np.mean((prediction - target) ** 2) / 2


@pytest.mark.parametrize("optimizer", ["adam", nn.Adam, 0.1], ids=repr)
def test_bad_optimizers(optimizer):
    with pytest.raises(TypeError, match="such as nn.Adam"):
        trainer_for(mlp(2, 2), optimizer=optimizer)


def test_bad_data(rng):
    trainer = trainer_for(mlp(4, 3), "softmax_cross_entropy")
    x, y = classes_and_points(rng)
    for wrong in (x[:, :3], x[0], x[None]):
        with pytest.raises(ValueError, match=r"shape \(rows, 4\)"):
            fit(trainer, wrong, y, 1)
    with pytest.raises(ValueError, match="200 rows of x and 199 of y"):
        fit(trainer, x, y[1:], 1)
    with pytest.raises(ValueError, match="0 rows"):
        fit(trainer, x[:0], y[:0], 1)
    with pytest.raises(ValueError, match="batch_size"):
        fit(trainer, x, y, 1, 0)
    with pytest.raises(IndexError):
        fit(trainer, x, y + 1, 1)
    for wrong in (x, (x,), (x, y, y)):
        with pytest.raises(TypeError, match="validation must be a pair"):
            fit(trainer, x, y, 1, validation=wrong)
    for wrong in (x.astype("M8[s]"), x * 1j, x.astype(object), x.astype(str)):
        with pytest.raises(TypeError, match="must be real numbers"):
            trainer.predict(wrong)
    for wrong in (-1, 0, 2.5):
        with pytest.raises(ValueError, match="batch_size"):
            trainer.model.predict(x, wrong)


def test_gradient_of_the_wrong_shape(rng):
    """A target of shape (n,) against a prediction of shape (n, 1) broadcasts to (n, n) in a careless loss."""
    x = rng.standard_normal((5, 2))
    with pytest.raises(ValueError, match=r"\(5, 5\).*\(5, 1\)"):
        fit(trainer_for(mlp(2, 1)), x, x[:, 0], 1)


def test_float32_throughout(rng):
    x, y = classes_and_points(rng)
    model = mlp(4, 8, 3)
    fit(trainer_for(model, "softmax_cross_entropy"), x.astype(np.float64), y, 1)
    arrays = [model.parameters, model.gradients, model.layers[0].x, model.layers[0].buffers["output"], model.predict(x)]
    assert {array.dtype for array in arrays} == {np.dtype(np.float32)}
