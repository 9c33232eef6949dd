"""The trainer: optimizers, data, history, checkpoints, what it refuses and where it stops."""

import io
import json
import math
import subprocess
import sys
import tracemalloc
import zipfile

import numpy as np
import pytest

import fastact as fa
from fastact import nn


def mean_squared_error(prediction, target):
    error = prediction - target
    return np.mean(error**2), 2 * error / error.size


def classifier(seed=0, dtype=np.float32):
    layers = [nn.Dense(4, 8), nn.BatchNorm(), nn.PReLU(), nn.Dropout(0.2), nn.Dense(8, 3)]
    return nn.Sequential(layers, seed=seed, dtype=dtype)


def dense(activation):
    return [nn.Dense(256, 512), nn.Activation(activation), nn.Dense(512, 256), nn.Activation(activation), nn.Dense(256, 10)]


def trainer_for(model, loss="softmax_cross_entropy", **options):
    return nn.Trainer(model, loss, options.pop("optimizer", nn.Adam(0.01)), **options)


def fit(trainer, x, y=None, epochs=1, batch_size=32, **options):
    return trainer.fit(x, y, epochs, batch_size, verbose=False, **options)


@pytest.fixture
def data(rng):
    y = rng.integers(0, 3, 200)
    return (rng.standard_normal((200, 4)) + 3 * np.eye(3, 4)[y]).astype(np.float32), y


# Optimizers -------------------------------------------------------------------------------------------------------------

PEERS = {
    "SGD": (nn.SGD(0.1), lambda torch, p: torch.optim.SGD(p, 0.1)),
    "SGD, decay": (nn.SGD(0.1, weight_decay=0.2), lambda torch, p: torch.optim.SGD(p, 0.1, weight_decay=0.2)),
    "Momentum": (nn.Momentum(0.1, 0.8), lambda torch, p: torch.optim.SGD(p, 0.1, 0.8)),
    "Nesterov": (nn.Nesterov(0.1, 0.8), lambda torch, p: torch.optim.SGD(p, 0.1, 0.8, nesterov=True)),
    "AdaGrad": (nn.AdaGrad(0.1), lambda torch, p: torch.optim.Adagrad(p, 0.1, eps=1e-10)),
    "RMSProp": (nn.RMSProp(0.1), lambda torch, p: torch.optim.RMSprop(p, 0.1, 0.9, 1e-8)),
    "Adam": (nn.Adam(0.1), lambda torch, p: torch.optim.Adam(p, 0.1)),
    "Adam, decay": (nn.Adam(0.1, weight_decay=0.2), lambda torch, p: torch.optim.Adam(p, 0.1, weight_decay=0.2)),
    "AdamW": (nn.AdamW(0.1, weight_decay=0.2), lambda torch, p: torch.optim.AdamW(p, 0.1, weight_decay=0.2)),
}


@pytest.mark.parametrize("name", PEERS)
def test_optimizers_as_pytorch_s(name, rng):
    torch = pytest.importorskip("torch")
    optimizer, peer = PEERS[name]
    parameters = rng.standard_normal(50)
    theirs = torch.from_numpy(parameters.copy())
    peer, state = peer(torch, [theirs.requires_grad_()]), optimizer.start(parameters)
    for _ in range(5):
        gradients = rng.standard_normal(50)
        theirs.grad = torch.from_numpy(gradients.copy())
        peer.step()
        optimizer.step(parameters, gradients, state)
        np.testing.assert_allclose(parameters, theirs.detach(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", PEERS)
def test_a_step_in_float32_on_any_number_of_threads(name, rng, set_num_threads):
    optimizer, start, gradients = PEERS[name][0], rng.standard_normal(100_003), rng.standard_normal((2, 100_003))

    def run(dtype, threads):
        set_num_threads(threads)
        parameters = start.astype(dtype)
        state = optimizer.start(parameters)
        for gradient in gradients:
            optimizer.step(parameters, gradient.astype(dtype), state)
        return parameters

    single = run(np.float32, 1)
    assert run(np.float32, 3).tobytes() == single.tobytes()
    np.testing.assert_allclose(single, run(np.float64, 1), rtol=1e-5, atol=1e-5)


def test_every_optimizer_is_tested():
    tested = {type(optimizer) for optimizer, _ in PEERS.values()} | {nn.Optimizer}
    assert tested == {
        value
        for value in map(nn.__dict__.get, nn.__all__)
        if isinstance(value, type) and issubclass(value, nn.Optimizer)
    }


@pytest.mark.parametrize(
    "optimizer", [nn.SGD(0.1, weight_decay=0.5), nn.AdamW(0.1, weight_decay=0.5)], ids=["SGD", "AdamW"]
)
def test_weight_decay_leaves_biases_slopes_and_scales_alone(optimizer):
    layers = [nn.Conv2D(1, 2, 3), nn.PReLU(), nn.BatchNorm(), nn.Flatten(), nn.Dense(8, 4), nn.LayerNorm()]
    model = nn.Sequential(layers, input_shape=(4, 4, 1))
    model.parameters[...] = 1
    state = optimizer.start(model.parameters)
    optimizer.step(model.parameters, np.zeros_like(model.parameters), state, spans=model.spans)
    for layer in model.layers:
        for name, parameter in layer.parameters.items():
            decayed = isinstance(layer, (nn.Conv2D, nn.Dense)) and name == "weight"
            np.testing.assert_allclose(parameter, 0.95 if decayed else 1, rtol=1e-6)


def test_the_trainer_says_which_parameters_decay(data):
    models = []
    for decay in (0.0, 10.0):
        model = nn.Sequential([nn.Dense(4, 3)])
        model.parameters[...] = 1
        fit(
            trainer_for(model, lambda p, t: (0.0, np.zeros_like(p)), optimizer=nn.SGD(0.01, weight_decay=decay)),
            *data,
            batch_size=200,
        )
        models.append(model.layers[0].parameters)
    assert (models[0]["weight"] == 1).all() and (models[1]["weight"] < 0.95).all()
    assert (models[1]["bias"] == 1).all()


def test_schedules():
    assert [nn.StepDecay(1.0, 2, 0.5)(step) for step in range(5)] == [1, 1, 0.5, 0.5, 0.25]
    assert nn.ExponentialDecay(1.0, 2, 0.25)(1) == 0.5
    cosine = nn.CosineDecay(1.0, 10, final=0.1)
    assert [cosine(0), cosine(5), cosine(10), cosine(99)] == pytest.approx([1, 0.55, 0.1, 0.1])
    warm = nn.Warmup(nn.StepDecay(1.0, 2, 0.5), 3)
    assert [warm(step) for step in range(6)] == [0.25, 0.5, 0.75, 1, 1, 0.5]
    assert nn.Warmup(0.8, 1)(0) == 0.4
    for make in (
        lambda: nn.StepDecay(0, 1),
        lambda: nn.CosineDecay(1.0, 0),
        lambda: nn.Warmup(1.0, 0),
        lambda: nn.ExponentialDecay(1.0, 1.5),
    ):
        with pytest.raises(ValueError, match="must"):
            make()


def test_an_optimizer_follows_its_schedule():
    parameters = np.zeros(1)
    optimizer, seen = nn.SGD(nn.StepDecay(1.0, 2, 0.1)), []
    state = optimizer.start(parameters)
    for _ in range(4):
        before = parameters.copy()
        optimizer.step(parameters, np.ones(1), state)
        seen.append(float((before - parameters)[0]))
    assert seen == pytest.approx([1, 1, 0.1, 0.1])


def test_clipping_by_value_and_by_norm(rng):
    def step(**options):
        model = nn.Sequential([nn.Dense(3, 4)], seed=1)
        before = model.parameters.copy()
        x, y = np.random.default_rng(0).standard_normal((2, 8, 4)).astype(np.float32)
        fit(trainer_for(model, mean_squared_error, optimizer=nn.SGD(1.0), **options), x[:, :3], y, batch_size=8)
        return before - model.parameters

    free = step()
    np.testing.assert_allclose(step(clip_value=0.1), np.clip(free, -0.1, 0.1), atol=1e-6)
    length = np.linalg.norm(free)
    np.testing.assert_allclose(step(clip_norm=length / 3), free / 3, atol=1e-6)
    np.testing.assert_allclose(step(clip_norm=length / 3, clip_value=0.05), np.clip(free / 3, -0.05, 0.05), atol=1e-6)
    with pytest.raises(ValueError, match="clip_value"):
        step(clip_value=-1)


# Data -------------------------------------------------------------------------------------------------------------------


def test_loader_visits_every_row_once():
    x = np.arange(10)
    loader = nn.DataLoader(nn.Dataset(x, -x), 4, shuffle=True, seed=1)
    assert len(loader) == 3
    orders = []
    for _ in range(2):
        batches = [(bx.copy(), by.copy()) for bx, by in loader]
        assert [len(bx) for bx, _ in batches] == [4, 4, 2]
        assert all((bx == -by).all() for bx, by in batches)
        orders.append(list(np.concatenate([bx for bx, _ in batches])))
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(10)) and orders[0] != orders[1]
    in_order = nn.DataLoader(nn.Dataset(x, x), 4)
    assert list(np.concatenate([bx for bx, _ in in_order])) == list(range(10))


def test_shares_of_the_processes_make_the_batch():
    dataset = nn.Dataset(np.arange(10), np.arange(10))
    whole = [bx.copy() for bx, _ in nn.DataLoader(dataset, 4, shuffle=True).batches(np.random.default_rng(0))]
    shares = [
        [bx.copy() for bx, _ in nn.DataLoader(dataset, 4, shuffle=True).batches(np.random.default_rng(0), rank, 3)]
        for rank in range(3)
    ]
    for batch, parts in zip(whole, zip(*shares)):
        np.testing.assert_array_equal(np.concatenate(parts), batch)


def test_arrays_on_disk_are_read_batch_by_batch(data, tmp_path):
    """The same run as with arrays in memory; the file, in float64, is never loaded whole."""
    x, y = data
    on_disk = []
    for name, array in (("x", x.astype(np.float64)), ("y", y.astype(np.int16))):
        file = np.memmap(tmp_path / name, array.dtype, "w+", shape=array.shape)
        file[...] = array
        file.flush()
        on_disk.append(np.memmap(tmp_path / name, array.dtype, "r", shape=array.shape))
    models = [classifier(), classifier(), classifier()]
    fit(trainer_for(models[0]), x, y, 3)
    history = fit(trainer_for(models[1]), *on_disk, 3, validation=tuple(on_disk))
    fit(trainer_for(models[2]), nn.DataLoader(nn.Dataset(*on_disk), 32, shuffle=True), epochs=3)
    assert models[0].parameters.tobytes() == models[1].parameters.tobytes() == models[2].parameters.tobytes()
    assert len(history["val_accuracy"]) == 3
    np.testing.assert_array_equal(models[0].predict(x), models[1].predict(on_disk[0]))


def test_validation_split(data):
    x, y = data
    seen = []

    def loss(prediction, target):
        seen.append(target.copy())
        return fa.softmax_cross_entropy.value_and_grad(prediction, target)

    trainer = trainer_for(nn.Sequential([nn.Dense(4, 3)]), loss)
    history = fit(trainer, x, np.arange(200) % 3, validation_split=0.25, batch_size=50)
    assert [len(target) for target in seen] == [50, 50, 50, 50] and len(history["val_loss"]) == 1
    for wrong in ({"validation_split": 1.0}, {"validation_split": 0.2, "validation": (x, y)}):
        with pytest.raises(ValueError, match="validation"):
            fit(trainer, x, y, **wrong)


def test_scalers(rng):
    x = rng.standard_normal((50, 3)) * [1, 5, 0] + [0, 9, 4]
    z = nn.ZScore().fit(x)
    np.testing.assert_allclose(z.transform(x).mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(z.transform(x).std(0), [1, 1, 0], rtol=1e-12)
    np.testing.assert_allclose(z.inverse_transform(z.transform(x)), x)
    m = nn.MinMax().fit_transform(x)
    np.testing.assert_allclose([m.min(0), m.max(0)], [[0, 0, 0], [1, 1, 0]])


def test_metrics(rng):
    x = rng.standard_normal((50, 2))
    trainer = trainer_for(nn.Sequential([nn.Dense(2, 1)]), mean_squared_error,
                          metrics=["mean_absolute_error", "mean_squared_error", largest_error])  # fmt: skip
    history = fit(trainer, x, x.sum(axis=1, keepdims=True), validation=(x, x.sum(axis=1, keepdims=True)), batch_size=20)
    measured = trainer.evaluate(x, x.sum(axis=1, keepdims=True))
    error = trainer.predict(x) - x.sum(axis=1, keepdims=True)
    assert measured["mean_absolute_error"] == pytest.approx(np.abs(error).mean(), rel=1e-5)
    assert measured["mean_squared_error"] == pytest.approx(measured["loss"], rel=1e-5)
    assert measured["largest_error"] == pytest.approx(np.abs(error).max(), rel=1e-5)
    assert {"largest_error", "val_largest_error"} <= set(history)
    with pytest.raises(ValueError, match="unknown metric 'acuracy'; did you mean accuracy"):
        fit(trainer_for(nn.Sequential([nn.Dense(2, 1)]), mean_squared_error, metrics=["acuracy"]), x, x[:, :1])
    with pytest.raises(ValueError, match="integer classes"):
        fit(trainer_for(nn.Sequential([nn.Dense(2, 1)]), mean_squared_error, metrics=["accuracy"]), x, x[:, :1])


def largest_error(prediction, target):
    return np.abs(prediction - target).max()


# History ----------------------------------------------------------------------------------------------------------------


def test_history_knows_gradients_and_dead_units(rng):
    model = nn.Sequential(
        [nn.Dense(3, 10), nn.Activation("relu"), nn.Dense(10, 4), nn.Activation("gelu"), nn.Dense(4, 1)]
    )
    model.layers[0].parameters["bias"][:4] = -1e3
    x, y = rng.standard_normal((40, 3)), rng.standard_normal((40, 1))
    history = fit(trainer_for(model, mean_squared_error, optimizer=nn.SGD(1e-6)), x, y, 2, 40)
    assert [set(norms) for norms in history.gradient_norms] == [{"0 Dense", "2 Dense", "4 Dense"}] * 2
    last = model.layers[4].gradients
    expected = math.hypot(np.linalg.norm(last["weight"]), np.linalg.norm(last["bias"]))
    assert history.gradient_norms[-1]["4 Dense"] == pytest.approx(expected, rel=1e-5)
    assert history.dead_units[-1]["1 Activation"] == pytest.approx(0.4, abs=0.11)
    assert history.dead_units[-1]["1 Activation"] >= 0.4 and history.dead_units[-1]["3 Activation"] == 0


@pytest.mark.parametrize("activation", ["relu", "sigmoid"])
def test_vanishing_gradients_show(activation, rng):
    """Ten layers: with the sigmoid the first gradient is thousands of times smaller than the last, with relu it is not."""
    layers = [layer for _ in range(10) for layer in (nn.Dense(16, 16), nn.Activation(activation))]
    model = nn.Sequential([*layers, nn.Dense(16, 2)])
    history = fit(trainer_for(model), rng.standard_normal((64, 16)), rng.integers(0, 2, 64), batch_size=64)
    norms = list(history.gradient_norms[0].values())
    assert (norms[0] / norms[-1] < 1e-4) == (activation == "sigmoid")


def test_the_bar_shows_how_the_epoch_goes(data, capsys, monkeypatch):
    monkeypatch.setattr(nn.ProgressBar, "REFRESH", 0)
    trainer_for(nn.Sequential([nn.Dense(4, 3)])).fit(*data, 2, 50)
    shown = capsys.readouterr().err
    assert "epoch 0/2" in shown and "epoch 2/2" in shown and "loss=" in shown and "accuracy=" in shown


def test_a_stopped_run_closes_its_bar(data, capsys):
    closed = []

    class Spy(nn.Callback):
        def on_fit_end(self, trainer):
            closed.append(True)

    with pytest.raises(IndexError):
        trainer_for(nn.Sequential([nn.Dense(4, 2)])).fit(*data, 2, 50, callbacks=[Spy()])
    assert closed


# Memory -----------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(fa.backends.dispatch is None, reason="NumPy's kernels, for where nothing is compiled, make temporaries")
@pytest.mark.parametrize("layers, shape, batch", [
    (dense("relu"), (256,), 4096),
    (dense("gelu"), (256,), 4096),
    ([nn.Conv2D(3, 16), nn.BatchNorm(), nn.Activation("relu"), nn.MaxPool2D(), nn.Flatten(), nn.Dropout(0.5), nn.Dense(3136, 3)], (30, 30, 3), 64),
    ([nn.LSTM(32, 64, return_sequences=True), nn.LayerNorm(), nn.GRU(64, 64), nn.Dense(64, 3)], (40, 32), 64),
    ([nn.SimpleRNN(32, 64, return_sequences=True), nn.Attention(64, 4), nn.Flatten(), nn.Maxout(2560, 64), nn.PReLU(), nn.Dense(64, 3)], (40, 32), 64),
], ids=["relu", "gelu", "images", "sequences", "attention"])  # fmt: skip
def test_a_step_allocates_next_to_nothing(layers, shape, batch, rng):
    """The arrays that pass through have megabytes; all are in buffers that the first batch made."""
    model, peaks = nn.Sequential(layers, input_shape=shape), []
    x, y = rng.standard_normal((4 * batch, *shape), np.float32), rng.integers(0, 3, 4 * batch)

    class Watch(nn.Callback):
        def on_batch_end(self, trainer):
            peaks.append(tracemalloc.get_traced_memory()[1] - self.before if peaks else 0)
            tracemalloc.reset_peak()
            self.before = tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        fit(trainer_for(model, clip_norm=1.0), x, y, 1, batch, callbacks=[Watch()])
    finally:
        tracemalloc.stop()
    assert len(peaks) == 4 and max(peaks) < 300_000


# Checkpoints ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "optimizer", [nn.Adam(0.01), nn.SGD(nn.CosineDecay(0.1, 50), 0.9), nn.SGD(0.1)], ids=["Adam", "schedule", "SGD"]
)
def test_resume_to_the_same_bits(optimizer, data, tmp_path):
    """With dropout, running statistics, a schedule, another seed and another order of the rows until the checkpoint is read."""
    whole = trainer_for(classifier(), optimizer=optimizer)
    fit(whole, *data, 4, validation_split=0.2)
    first = trainer_for(classifier(), optimizer=optimizer)
    fit(first, *data, 2, validation_split=0.2)
    first.save(tmp_path / "run.npz")
    second = trainer_for(classifier(seed=9), optimizer=optimizer, seed=5)
    second.resume(tmp_path / "run.npz")
    assert second.epochs == 2 and second.history == first.history
    fit(second, *data, 2, validation_split=0.2)
    for name, array in whole.model.state().items():
        assert second.model.state()[name].tobytes() == array.tobytes(), name
    assert second.history == whole.history and second.history.gradient_norms == whole.history.gradient_norms
    assert nn.load(tmp_path / "run.npz").predict(data[0]).tobytes() == first.predict(data[0]).tobytes()


def test_checkpoints_are_written_while_training(data, tmp_path):
    trainer = trainer_for(classifier())
    best = nn.ModelCheckpoint(tmp_path / "best.npz", best_only=True, monitor="val_accuracy")
    history = fit(trainer, *data, 5, validation=data, callbacks=[nn.ModelCheckpoint(tmp_path / "{epoch}.npz"), best])
    assert sorted(path.name for path in tmp_path.iterdir()) == [*(f"{k}.npz" for k in range(1, 6)), "best.npz"]
    top = int(np.argmax(history["val_accuracy"])) + 1
    assert (
        nn.load(tmp_path / "best.npz").predict(data[0]).tobytes()
        == nn.load(tmp_path / f"{top}.npz").predict(data[0]).tobytes()
    )
    with pytest.raises(ValueError, match="val_loss"):
        fit(trainer, *data, callbacks=[nn.ModelCheckpoint(tmp_path / "x.npz", best_only=True)])


def test_resume_refuses_what_does_not_fit(data, tmp_path):
    trainer = trainer_for(classifier())
    fit(trainer, *data)
    trainer.save(tmp_path / "run.npz")
    trainer.model.save(tmp_path / "model.npz")
    before = trainer.model.parameters.copy()
    with pytest.raises(ValueError, match="not a checkpoint"):
        trainer.resume(tmp_path / "model.npz")
    with pytest.raises(ValueError, match="another model"):
        trainer_for(nn.Sequential([nn.Dense(4, 3)])).resume(tmp_path / "run.npz")
    with pytest.raises(ValueError, match="written with Adam"):
        trainer_for(classifier(), optimizer=nn.SGD(0.1)).resume(tmp_path / "run.npz")
    assert trainer.model.parameters.tobytes() == before.tobytes()


def test_early_stopping_restores_running_statistics_too(data):
    x, y = data
    trainer = trainer_for(classifier())
    fit(trainer, x, y, 20, validation=(x, (y + 1) % 3), callbacks=[nn.EarlyStopping(2)])
    history = trainer.history["val_loss"]
    assert trainer.evaluate(x, (y + 1) % 3)["loss"] == pytest.approx(min(history), rel=1e-6)


def test_early_stopping_watches_what_it_is_told(data):
    stopping = nn.EarlyStopping(1, monitor="accuracy", min_delta=2.0)
    history = fit(trainer_for(classifier()), *data, 10, callbacks=[stopping])
    assert stopping.sign == -1 and len(history["loss"]) == 2
    with pytest.raises(ValueError, match="mode"):
        nn.EarlyStopping(1, mode="best")


# Files ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path):
    nn.Sequential([nn.Dense(4, 3), nn.BatchNorm(), nn.Activation("relu")]).save(tmp_path / "model.npz")
    return (tmp_path / "model.npz").read_bytes()


def test_every_kind_of_damage_is_a_clear_error(saved, tmp_path, rng):
    """Cut short anywhere, or with bytes changed: ValueError that names the file, or the model itself where nothing matters."""
    path = tmp_path / "damaged.npz"
    damaged = [saved[:length] for length in range(0, len(saved), 37)]
    for _ in range(200):
        changed = bytearray(saved)
        changed[rng.integers(len(saved))] ^= 1 << rng.integers(8)
        damaged.append(bytes(changed))
    refused = 0
    for content in damaged:
        path.write_bytes(content)
        try:
            nn.load(path)
        except ValueError as error:
            refused += 1
            assert "damaged.npz" in str(error)
    assert refused > len(damaged) // 2
    with pytest.raises(FileNotFoundError):
        nn.load(tmp_path / "missing.npz")


@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x04\x95", b"PK\x03\x04", b"\x93NUMPY\x01\x00"], ids=repr)
def test_foreign_files(content, tmp_path):
    (tmp_path / "foreign").write_bytes(content)
    with pytest.raises(ValueError, match="foreign"):
        nn.load(tmp_path / "foreign")


def write_model(path, layers, parameters, **more):
    np.savez(path, layers=json.dumps(layers), parameters=parameters, **more)


@pytest.mark.parametrize("layers", [
    [["Dense", [4], {}]], [["Dense", [4, 3, 5], {}]], [["Dense", [4, "3"], {}]], [["Dense", {}, []]], ["Dense"], 3, None, {"a": 1},
    [["Sequential", [[]], {}]], [["Layer", [], {}]], [["__class__", [], {}]], [["Dense", [10**9, 10**9], {}]], [["Dense", [4, 2], {}]],
    [["Dense", [4, 3], {"initialisation": "os.system"}]], [["Activation", ["system"], {}]], [["Dense", [1e400, 3], {}]], [],
], ids=str)  # fmt: skip
def test_descriptions_of_no_model(layers, tmp_path):
    write_model(tmp_path / "odd.npz", layers, np.zeros(15, np.float32))
    with pytest.raises(ValueError, match="odd.npz"):
        nn.load(tmp_path / "odd.npz")


def test_parameters_of_another_type_or_shape(tmp_path):
    for parameters in (
        np.zeros(15, np.float16),
        np.zeros(15, np.int64),
        np.zeros((3, 5), np.float32),
        np.zeros(15, "U3"),
    ):
        write_model(tmp_path / "odd.npz", [["Dense", [4, 3], {}]], parameters)
        with pytest.raises(ValueError, match="odd.npz"):
            nn.load(tmp_path / "odd.npz")
    write_model(tmp_path / "good.npz", [["Dense", [4, 3], {}]], np.zeros(15, np.float32))
    assert nn.load(tmp_path / "good.npz").outputs == 3


def test_a_file_with_a_pickle_is_not_opened(tmp_path):
    class Trap:
        def __reduce__(self):
            return exec, ("raise SystemExit('executed')",)

    buffer = io.BytesIO()
    np.save(buffer, np.array([Trap()], object))
    with zipfile.ZipFile(tmp_path / "trap.npz", "w") as file:
        for name in ("layers.npy", "parameters.npy"):
            file.writestr(name, buffer.getvalue())
    with pytest.raises(ValueError, match="trap.npz"):
        nn.load(tmp_path / "trap.npz")


def test_a_failed_save_leaves_the_old_file(saved, tmp_path, monkeypatch):
    model = nn.load(tmp_path / "model.npz")
    monkeypatch.setattr(np, "savez", lambda *args, **kwargs: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        model.save(tmp_path / "model.npz")
    assert (tmp_path / "model.npz").read_bytes() == saved


@pytest.mark.parametrize("name", ["", ".", "folder"])
def test_a_failed_save_leaves_no_other_file(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="part"):
        nn.Sequential([nn.Dense(2, 2)]).save(name)
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


# Not a number -----------------------------------------------------------------------------------------------------------


def test_nan_in_the_data_is_named(data):
    x, y = data
    x[3, 2] = np.nan
    with pytest.raises(FloatingPointError, match="epoch 1.*the input"):
        fit(trainer_for(nn.Sequential([nn.Dense(4, 3)])), x, y)


def test_a_step_that_was_too_large_is_named(data):
    model = nn.Sequential([nn.Dense(4, 8), nn.Activation("relu"), nn.Dense(8, 3)])
    model.layers[2].parameters["weight"][0, 0] = np.nan
    with pytest.raises(FloatingPointError, match="weight of layer 2, Dense\\(8, 3\\).*learning rate"):
        fit(trainer_for(model), *data)


def test_the_layer_that_overflows_first_is_named(data):
    model = nn.Sequential([nn.Dense(4, 3), nn.Activation("relu"), nn.Activation("relu_squared"), nn.Dense(3, 3)])
    model.layers[0].parameters["weight"][...] = 1e30
    with pytest.raises(FloatingPointError, match="number 2, Activation\\('relu_squared'\\)"):
        fit(trainer_for(model), *data)


def test_a_loss_that_is_not_finite_by_itself_is_named(data):
    def broken_loss(prediction, target):
        return np.inf, np.zeros_like(prediction)

    with pytest.raises(FloatingPointError, match="loss is inf.*broken_loss"):
        fit(trainer_for(nn.Sequential([nn.Dense(4, 3)]), broken_loss), *data)


def test_gradients_that_are_not_finite_are_named_when_clipping(data):
    def loss(prediction, target):
        gradient = np.zeros_like(prediction)
        gradient[0, 1] = np.nan
        return 1.0, gradient

    model = nn.Sequential([nn.Dense(4, 3)])
    before = model.parameters.copy()
    with pytest.raises(FloatingPointError, match="gradient of the .* of layer 0"):
        fit(trainer_for(model, loss, clip_norm=1.0), *data)
    assert model.parameters.tobytes() == before.tobytes()


def test_relu_does_not_hide_a_nan(data):
    """np.where(x > 0, x, 0) would turn it into 0, and training would go on."""
    model = nn.Sequential([nn.Dense(4, 3), nn.Activation("relu"), nn.Dense(3, 3)])
    model.layers[0].parameters["bias"][0] = np.nan
    with pytest.raises(FloatingPointError, match="bias of layer 0"):
        fit(trainer_for(model), *data)


# Losses -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "last, loss, bound",
    [
        ("softmax", "softmax_cross_entropy", "1.461"),
        ("softmin", "softmax_cross_entropy", "1.461"),
        ("sigmoid", "sigmoid_cross_entropy", "0.313"),
        ("softmax", "softmax_focal", "too small"),
        ("sigmoid", "sigmoid_focal", "too small"),
    ],
)
def test_what_the_loss_applies_itself_is_refused(last, loss, bound):
    for layers in ([nn.Dense(4, 10), nn.Activation(last)], [nn.Dense(4, 10), nn.Activation(last), nn.Flatten()]):
        with pytest.raises(ValueError, match=f"logits.*{bound}.*Remove"):
            trainer_for(nn.Sequential(layers), loss)


def test_double_softmax_is_as_bad_as_the_message_says():
    """The loss cannot fall under log(1 + 9 / e), and the first gradients are ten times too small."""
    perfect = fa.softmax(np.where(np.eye(10), 1e4, 0.0))
    assert (
        fa.softmax_cross_entropy(perfect, np.arange(10))
        == pytest.approx(math.log(1 + 9 / math.e))
        == pytest.approx(1.4612, abs=1e-4)
    )
    z = np.zeros((1, 10))
    p, g = fa.softmax(z), fa.softmax_cross_entropy.value_and_grad(fa.softmax(z), [0])[1]
    right = fa.softmax_cross_entropy.value_and_grad(z, [0])[1]
    assert np.linalg.norm(right) / np.linalg.norm(fa.softmax.backward(g, output=p)) == pytest.approx(10)


def test_losses_of_more_than_two_arrays_are_refused():
    for loss in ("gaussian_nll", "linear_softmax_cross_entropy"):
        with pytest.raises(TypeError, match="more than a prediction and a target"):
            trainer_for(nn.Sequential([nn.Dense(4, 3)]), loss)


@pytest.mark.parametrize("name", fa.list_losses())
def test_every_loss_trains(name, rng):
    """Its own target for each; those of more arrays are refused above."""
    if name in ("gaussian_nll", "linear_softmax_cross_entropy"):
        return
    x = rng.standard_normal((64, 3)).astype(np.float32)
    y = x.sum(axis=1, keepdims=True)
    has_classes = name.startswith(("softmax", "nll", "categorical", "kl_div"))
    ends = {
        "binary_cross_entropy": "sigmoid",
        "nll_loss": "log_softmax",
        "kl_div": "log_softmax",
        "categorical_cross_entropy": "softmax",
    }
    binary = name.startswith(("sigmoid", "binary"))
    target = (
        (y[:, 0] > 0).astype(int)
        if has_classes
        else (y > 0).astype(np.float32)
        if binary
        else np.sign(y)
        if "hinge" in name
        else abs(y)
    )
    target = np.eye(3, dtype=np.float32)[target] if name == "kl_div" else target
    model = nn.Sequential([nn.Dense(3, 3 if has_classes else 1), nn.Activation(ends.get(name, "identity"))])
    history = fit(trainer_for(model, name, optimizer=nn.Adam(0.05)), x, target, 10, 16)
    assert history["loss"][-1] < history["loss"][0]


def test_a_function_of_the_same_name_is_another_loss():
    def softmax_cross_entropy(prediction, target):
        return 0.0, np.zeros_like(prediction)

    trainer_for(nn.Sequential([nn.Dense(4, 10), nn.Activation("softmax")]), softmax_cross_entropy)


def test_loss_over_steps(rng):
    """A class for each step: outputs of shape (rows, steps, classes)."""
    x = rng.standard_normal((60, 7, 2))
    y = (x.sum(axis=2) > 0).astype(int)
    trainer = trainer_for(nn.Sequential([nn.GRU(2, 8, return_sequences=True), nn.Dense(8, 2)]), optimizer=nn.Adam(0.02))
    fit(trainer, x, y, 20)
    assert trainer.evaluate(x, y)["accuracy"] > 0.95


# Import -----------------------------------------------------------------------------------------------------------------


def test_import_brings_nothing_heavy():
    program = "import sys, fastact.nn; print(*{name.partition('.')[0] for name in sys.modules})"
    brought = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert "fastact" in brought and not set(brought) & {
        "matplotlib",
        "sklearn",
        "tqdm",
        "scipy",
        "torch",
        "mpi4py",
        "pandas",
    }


def test_everything_is_there_and_listed():
    assert nn.__all__ == sorted(nn.__all__, key=lambda name: (not name.isupper(), not name[0].isupper(), name))
    for name in nn.__all__:
        assert getattr(nn, name).__doc__
    with pytest.raises(AttributeError, match="no_such"):
        nn.no_such  # noqa: B018


# Pictures ---------------------------------------------------------------------------------------------------------------


def test_learning_curves(data):
    pytest.importorskip("matplotlib")
    history = fit(
        trainer_for(nn.Sequential([nn.Dense(4, 8), nn.Activation("relu"), nn.Dense(8, 3)])), *data, 3, validation=data
    )
    figure = nn.learning_curves(history)
    assert [axes.get_title() for axes in figure.axes] == [
        "loss",
        "accuracy",
        "norm of the gradient",
        "share of dead units",
    ]
    assert [line.get_label() for line in figure.axes[0].lines] == ["training", "validation"]
    np.testing.assert_array_equal(figure.axes[0].lines[1].get_ydata(), history["val_loss"])
    figure.savefig(io.BytesIO())


def test_decision_boundary(rng):
    pytest.importorskip("matplotlib")
    x = rng.standard_normal((30, 2))
    figure = nn.decision_boundary(nn.Sequential([nn.Dense(2, 3)]), x, np.arange(30) % 3, title="three")
    figure.savefig(io.BytesIO())
    assert figure.axes[0].get_title() == "three" and len(figure.axes[0].get_legend().get_texts()) >= 3
    nn.decision_boundary(nn.Sequential([nn.Dense(2, 1)]), x, np.arange(30) % 2).savefig(io.BytesIO())
    with pytest.raises(ValueError, match="two features"):
        nn.decision_boundary(nn.Sequential([nn.Dense(3, 1)]), rng.standard_normal((30, 3)), np.arange(30))
