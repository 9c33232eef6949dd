"""Vanishing gradients made visible: ten layers of sigmoid beside ReLU, and the remedies.

The sigmoid's derivative is at most 1/4, so that ten layers make the gradient of the first layer a million times smaller than
that of the last. Batch normalisation keeps the sums in the middle, where the slope is largest, and gives every layer a scale
of its own; ReLU has a slope of 1 wherever it passes anything, if the weights start out large enough (He) not to fade.
"""

import numpy as np
from common import digits, options, save

from fastact import nn
from fastact.plot import new_figure

DEPTH, WIDTH = 10, 32


def network(activation, seed, *, batch_norm=False, initialisation=None):
    layers, inputs = [], 64
    for _ in range(DEPTH):
        layers += [
            nn.Dense(inputs, WIDTH, initialisation=initialisation),
            *([nn.BatchNorm()] if batch_norm else []),
            nn.Activation(activation),
        ]
        inputs = WIDTH
    return nn.Sequential([*layers, nn.Dense(WIDTH, 10)], seed=seed)


def main():
    args = options(__doc__)
    training, validation, _ = ((images.reshape(-1, 64) - 0.3, classes) for images, classes in digits(args.seed))
    cases = {
        "sigmoid": {"activation": "sigmoid"},
        "sigmoid, batch normalisation": {"activation": "sigmoid", "batch_norm": True},
        "ReLU, small weights (LeCun)": {"activation": "relu", "initialisation": "lecun"},
        "ReLU, He": {"activation": "relu"},
    }
    figure = new_figure(figsize=(11, 4.5))
    norms, accuracies = figure.subplots(1, 2)
    for name, settings in cases.items():
        model = network(seed=args.seed, **settings)
        trainer = nn.Trainer(model, "softmax_cross_entropy", nn.Adam(0.003), seed=args.seed)
        history = trainer.fit(
            *training, epochs=1 if args.quick else 15, batch_size=64, validation=validation, verbose=False
        )
        layers = [norm for layer, norm in history.gradient_norms[0].items() if layer.endswith("Dense")]
        print(
            f"{name:30} first gradient / last {layers[0] / layers[-1]:.1e}   accuracy {history['val_accuracy'][-1]:.1%}"
        )
        norms.semilogy(np.arange(1, len(layers) + 1), layers, marker=".", label=name)
        accuracies.plot(np.arange(1, len(history["loss"]) + 1), history["val_accuracy"], label=name)
    norms.set(title="after the first epoch", xlabel="layer", ylabel="norm of the gradient")
    accuracies.set(title="learning", xlabel="epoch", ylabel="accuracy on digits not seen", ylim=(0, 1.02))
    for axes in (norms, accuracies):
        axes.grid(alpha=0.4)
        axes.legend(fontsize=8)
    save(figure, args.output)


if __name__ == "__main__":
    main()
