"""How a network bends its decision boundary: 2-4-1 networks with sigmoid and ReLU, a wider one, and PReLU, on two spirals."""

import numpy as np
from common import options, save

from fastact import nn
from fastact.nn.pictures import draw_boundary
from fastact.plot import new_figure


def spirals(rng, rows):
    """Points on two spirals that wind around each other, and which one each is on."""
    classes = np.arange(rows) % 2
    turn = np.sqrt(rng.uniform(0.02, 1, rows)) * 1.25 * np.pi
    angle = 2 * turn + np.pi * classes
    points = turn[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return nn.ZScore().fit_transform(points + 0.08 * rng.standard_normal(points.shape)), classes


def network(sizes, activation, seed):
    layers = []
    for before, after in zip(sizes, sizes[1:]):
        layers += [nn.Dense(before, after), nn.PReLU() if activation == "prelu" else nn.Activation(activation)]
    return nn.Sequential(layers[:-1], seed=seed)


def main():
    args = options(__doc__)
    x, y = spirals(np.random.default_rng(args.seed), 200 if args.quick else 500)
    cases = [("sigmoid", (2, 4, 1)), ("relu", (2, 4, 1)), ("tanh", (2, 32, 32, 1)), ("prelu", (2, 32, 32, 1))]
    figure = new_figure(figsize=(4.5 * len(cases), 4.2))
    for axes, (activation, sizes) in zip(figure.subplots(1, len(cases)), cases):
        model = network(sizes, activation, args.seed)
        trainer = nn.Trainer(model, "sigmoid_cross_entropy", nn.Adam(0.01), seed=args.seed)
        trainer.fit(x, y[:, None].astype(np.float32), epochs=10 if args.quick else 300, batch_size=50, verbose=False)
        right = np.mean((model.predict(x)[:, 0] > 0) == y)
        name = f"{activation} {'-'.join(map(str, sizes))}"
        print(f"{name:22} right on {right:.1%} of the points")
        draw_boundary(axes, model, x, y, f"{name}: {right:.1%}")
    save(figure, args.output)


if __name__ == "__main__":
    main()
