"""The mistakes that text books make, each a test that fastact does not make it."""

import math

import numpy as np
import pytest

import fastact as fa
from fastact import nn

FAR = np.array([-1e4, -800.0, -20.0, -1e-12, 0.0, 1e-12, 20.0, 800.0, 1e4])


def half_square(prediction, target):
    """C = (a - y)^2 / 2, summed over the rows, and its gradient."""
    error = prediction - target
    return 0.5 * np.sum(error**2), error


class TestFunctions:
    def test_tanh_far_out_and_near_zero(self):
        """(e^x - e^-x) / (e^x + e^-x) is NaN far out, and 1e-12 loses its digits in 1 - e^-2x."""
        np.testing.assert_array_equal(fa.tanh(FAR)[[0, 1, 7, 8]], [-1, -1, 1, 1])
        np.testing.assert_array_equal(fa.tanh(FAR)[3:6], [-1e-12, 0, 1e-12])
        np.testing.assert_allclose(fa.tanh([-1.0, 0.0, 1.0]), [-0.7615941559557649, 0, 0.7615941559557649], rtol=1e-15)

    def test_sigmoid_does_not_overflow(self):
        for dtype in (np.float32, np.float64):
            with np.errstate(all="raise"):
                assert fa.sigmoid(FAR.astype(dtype))[0] == 0 and fa.sigmoid(FAR.astype(dtype))[-1] == 1

    def test_slopes(self):
        """The sigmoid's is largest at 0; that of tanh is 1 - tanh^2, not tanh (1 - tanh)."""
        x = np.linspace(-6, 6, 1201)
        slopes = fa.sigmoid.derivative(x)
        assert slopes.argmax() == 600 and slopes[600] == 0.25
        np.testing.assert_allclose(fa.tanh.derivative(x), 1 - np.tanh(x) ** 2, atol=1e-15)

    def test_relu_keeps_nan(self):
        np.testing.assert_array_equal(fa.relu([np.nan, -1.0, 2.0]), [np.nan, 0, 2])

    def test_softmax_is_stable_and_by_rows(self):
        np.testing.assert_allclose(fa.softmax([1000.0, 1001.0]), fa.softmax([0.0, 1.0]), rtol=1e-15)
        np.testing.assert_allclose(fa.softmax(np.ones((3, 4))).sum(axis=1), 1)

    def test_cross_entropy_is_in_nats_of_the_right_class(self):
        """Not the binary formula in log2, summed, that is NaN where a prediction is perfect."""
        assert fa.softmax_cross_entropy(np.log([[0.7, 0.2, 0.1]]), [0]) == pytest.approx(0.3567, abs=1e-4)
        assert fa.softmax_cross_entropy([[1e4, 0.0, 0.0]], [0]) == 0


class TestGradients:
    def test_squared_error_s_gradient_has_the_slope_at_z(self, rng):
        """dC/dW = (a - y) s'(z) x with z the sum: s'(a) would be the slope at the output."""
        model = nn.Sequential([nn.Dense(3, 1), nn.Activation("sigmoid")], dtype=np.float64)
        x, y = rng.standard_normal((1, 3)), np.array([[0.3]])
        p = model.layers[0].parameters
        z = x @ p["weight"] + p["bias"]
        a = model.forward(x, training=True)
        model.backward(half_square(a, y)[1])
        expected = x.T * (a - y) * (1 / (1 + np.exp(-z))) * (1 - 1 / (1 + np.exp(-z)))
        np.testing.assert_allclose(model.layers[0].gradients["weight"], expected, rtol=1e-12)

    def test_cross_entropy_keeps_its_gradient_where_the_sigmoid_is_saturated_and_wrong(self):
        """Behind softmax, (p - y): as large as it can be. Behind the squared error, nothing is left of it."""
        z, y = np.array([[20.0, -20.0]]), [1]
        grad = fa.softmax_cross_entropy.value_and_grad(z, y)[1]
        np.testing.assert_allclose(grad, [[1, -1]], rtol=1e-12)
        a = fa.sigmoid(z[:, :1])
        assert abs(fa.sigmoid.backward(half_square(a, 0.0)[1], output=a)[0, 0]) < 1e-8


class TestTraining:
    def test_every_weight_is_updated(self, rng):
        layers = [
            nn.Conv2D(1, 2),
            nn.BatchNorm(),
            nn.PReLU(),
            nn.Flatten(),
            nn.Maxout(32, 4),
            nn.LayerNorm(),
            nn.Dense(4, 3),
        ]
        model = nn.Sequential(layers, input_shape=(6, 6, 1))
        before = model.parameters.copy()
        x, y = rng.standard_normal((32, 6, 6, 1)), rng.integers(0, 3, 32)
        nn.Trainer(model, "softmax_cross_entropy", nn.Adam(0.01)).fit(x, y, 2, verbose=False)
        names = [
            name for layer in model.layers for name, shape in layer.shapes.items() for _ in range(math.prod(shape))
        ]
        still = {name for name, moved in zip(names, before != model.parameters) if not moved}
        # The bias in front of BatchNorm has no effect, so it has no gradient.
        assert still <= {"bias"}

    def test_recurrent_weights_start_apart_and_move(self, rng):
        """With all weights zero every unit would stay like every other."""
        for layer in (nn.SimpleRNN(2, 6, activation="sigmoid"), nn.LSTM(2, 6), nn.GRU(2, 6)):
            model = nn.Sequential([layer, nn.Dense(6, 2)])
            before = layer.parameters["recurrent"].copy()
            assert len(np.unique(before)) == before.size
            x = rng.standard_normal((32, 5, 2))
            nn.Trainer(model, "softmax_cross_entropy", nn.Adam(0.01)).fit(
                x, (x[:, 0, 0] > 0).astype(int), 2, verbose=False
            )
            assert (layer.parameters["recurrent"] != before).all()

    def test_a_dead_output_layer_is_seen(self, rng):
        """A ReLU at the end can start dead: the history says so."""
        model = nn.Sequential([nn.Dense(2, 1), nn.Activation("relu")])
        model.layers[0].parameters["bias"][...] = -100
        x = rng.standard_normal((40, 2))
        history = nn.Trainer(model, half_square, nn.SGD(0.01)).fit(x, x[:, :1], 1, verbose=False)
        assert history.dead_units == [{"1 Activation": 1.0}] and history.gradient_norms == [{"0 Dense": 0.0}]

    def test_runs_are_seeded(self, rng):
        x, y = rng.standard_normal((40, 2)), rng.integers(0, 2, 40)

        def losses():
            model = nn.Sequential([nn.Dense(2, 8), nn.Activation("relu"), nn.Dropout(0.5), nn.Dense(8, 2)])
            return nn.Trainer(model, "softmax_cross_entropy", nn.Adam()).fit(x, y, 3, verbose=False)

        assert losses() == losses()

    def test_batch_norm_of_one_row_and_of_a_constant(self):
        """With eps, gamma, beta and running statistics: prediction does not depend on the other rows."""
        model = nn.Sequential([nn.BatchNorm()], input_shape=(2,))
        assert set(model.layers[0].parameters) == {"gamma", "beta"}
        assert np.isfinite(model.forward(np.ones((4, 2), np.float32), training=True)).all()
        row = np.array([[3.0, -1.0]])
        np.testing.assert_array_equal(model.predict(row), model.predict(np.concatenate([row, 100 * row]))[:1])

    def test_a_function_of_one_s_own_equals_the_built_in(self, rng):
        """Half the square's mean, written in Python, moves the weights as its gradient says."""
        x, y = rng.standard_normal((16, 3)), rng.standard_normal((16, 2)).astype(np.float32)
        model = nn.Sequential([nn.Dense(3, 2)], dtype=np.float64)
        p = model.layers[0].parameters
        expected = p["weight"] - 0.1 * x.T @ (x @ p["weight"] + p["bias"] - y)
        nn.Trainer(model, half_square, nn.SGD(0.1)).fit(x, y, 1, 16, verbose=False)
        np.testing.assert_allclose(p["weight"], expected, rtol=1e-6, atol=1e-6)
