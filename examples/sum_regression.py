"""The regression y = x1 + x2 with a 2-8-1 ReLU network on four rows, batches of two: to a loss under 1e-6."""

import numpy as np
from common import options, save

from fastact import nn


def mean_squared_error(prediction, target):
    """A loss of one's own is any function that returns the value and the gradient."""
    error = prediction - target
    return np.mean(error**2), 2 * error / error.size


def main():
    args = options(__doc__)
    x = np.array([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6], [0.7, 0.8]])
    y = x.sum(axis=1, keepdims=True)
    model = nn.Sequential([nn.Dense(2, 8), nn.Activation("relu"), nn.Dense(8, 1)], seed=args.seed)
    trainer = nn.Trainer(model, mean_squared_error, nn.Momentum(0.1), seed=args.seed)
    history = trainer.fit(x, y, epochs=400, batch_size=2, verbose=False)
    print(f"loss {trainer.evaluate(x, y)['loss']:.2e}; 0.1 + 0.2 = {model.predict([[0.1, 0.2]])[0, 0]:.6f}")
    figure = nn.learning_curves(history)
    figure.axes[0].set_yscale("log")
    save(figure, args.output)


if __name__ == "__main__":
    main()
