"""Epochs of whole networks in fastact, PyTorch (eager) and scikit-learn, in turns: ``python -m bench.training``.

Every library has the same number of threads for everything, the same layers, batches, Adam and float32 data. ``--cpu`` counts
processor time instead of time, which other processes disturb less; with more than one thread it means little.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time
import warnings
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

import fastact as fa

from .cases import BATCH, LAYERS, training_rows
from .peers.optional import optional

nn, torch, sklearn = (optional(name) for name in ("fastact.nn", "torch", "sklearn.neural_network"))


@dataclass(frozen=True)
class Network:
    """Shape of a row, how many rows and in a batch; ``layers`` makes fastact's, ``peer`` PyTorch's; hidden sizes of an MLP."""

    shape: tuple
    rows: int
    batch: int
    layers: object
    peer: object
    hidden: tuple = ()


def mlp(*sizes):
    def layers():
        found = [layer for pair in zip(sizes, sizes[1:]) for layer in (nn.Dense(*pair), nn.Activation("relu"))]
        return found[:-1]

    def peer():
        found = [layer for pair in zip(sizes, sizes[1:]) for layer in (torch.nn.Linear(*pair), torch.nn.ReLU())]
        return torch.nn.Sequential(*found[:-1])

    return layers, peer, sizes[1:-1]


def cnn():
    """The one of the text books."""
    relu = [nn.Activation("relu") for _ in range(4)]
    return [nn.Conv2D(3, 32), relu[0], nn.MaxPool2D(), nn.Conv2D(32, 64), relu[1], nn.MaxPool2D(), nn.Conv2D(64, 64), relu[2],
            nn.Flatten(), nn.Dense(1024, 64), relu[3], nn.Dense(64, 10)]  # fmt: skip


def torch_cnn():
    t = torch.nn
    body = [
        t.Conv2d(3, 32, 3),
        t.ReLU(),
        t.MaxPool2d(2),
        t.Conv2d(32, 64, 3),
        t.ReLU(),
        t.MaxPool2d(2),
        t.Conv2d(64, 64, 3),
        t.ReLU(),
    ]
    return t.Sequential(ChannelsFirst(), *body, t.Flatten(), t.Linear(1024, 64), t.ReLU(), t.Linear(64, 10))


def recurrent(name):
    def layers():
        return [getattr(nn, name)(32, 128), nn.Dense(128, 10)]

    def peer():
        cell = {"SimpleRNN": torch.nn.RNN}.get(name) or getattr(torch.nn, name)
        return torch.nn.Sequential(cell(32, 128, batch_first=True), LastStep(), torch.nn.Linear(128, 10))

    return layers, peer


if torch:

    class ChannelsFirst(torch.nn.Module):
        """Images to PyTorch's order as a view, which it computes on in memory as it is, channels last."""

        def forward(self, x):
            return x.permute(0, 3, 1, 2)

    class LastStep(torch.nn.Module):
        def forward(self, result):
            return result[0][:, -1]


NETWORKS = {
    "MLP 784-256-128-10": Network((784,), 60000, 128, *mlp(784, 256, 128, 10)),
    "MLP 64-64-10, digits": Network((64,), 1797, 32, *mlp(64, 64, 10)),
    "CNN 32x32x3": Network((32, 32, 3), 1024, 64, cnn, torch_cnn),
    "LSTM 32-128, 50 steps": Network((50, 32), 1024, 64, *recurrent("LSTM")),
    "GRU 32-128, 50 steps": Network((50, 32), 1024, 64, *recurrent("GRU")),
    "SimpleRNN 32-128, 50 steps": Network((50, 32), 1024, 64, *recurrent("SimpleRNN")),
}


def small_epoch():
    model = nn.Sequential([nn.Dense(*LAYERS[:2]), nn.Activation("gelu"), nn.Dense(*LAYERS[1:])])
    trainer = nn.Trainer(model, "softmax_cross_entropy", nn.Adam())
    x, y = training_rows()
    return functools.partial(trainer.fit, x, y, epochs=1, batch_size=BATCH, verbose=False)


def small_torch_epoch():
    model = torch.nn.Sequential(torch.nn.Linear(*LAYERS[:2]), torch.nn.GELU(), torch.nn.Linear(*LAYERS[1:]))
    return functools.partial(
        torch_epoch, model, *map(torch.from_numpy, training_rows()), BATCH, torch.optim.Adam(model.parameters())
    )


def torch_epoch(model, x, y, batch, optimizer):
    for chosen in torch.randperm(len(x)).split(batch):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x[chosen]), y[chosen]).backward()
        optimizer.step()


SMALL = {"fastact": small_epoch} | ({"PyTorch": small_torch_epoch} if torch else {})
"""Name of the library -> what makes a function that trains a network of one hidden layer for an epoch."""


def epochs(network, share):
    """Name of the library -> a function that trains for an epoch, of a share of the rows."""
    rng = np.random.default_rng(0)
    rows = max(network.batch, int(network.rows * share))
    x, y = rng.standard_normal((rows, *network.shape), np.float32), rng.integers(0, 10, rows)
    trainer = nn.Trainer(nn.Sequential(network.layers(), input_shape=network.shape), "softmax_cross_entropy", nn.Adam())
    turns = {"fastact": lambda: trainer.fit(x, y, 1, network.batch, verbose=False)}
    if torch:
        model = network.peer()
        tensors = torch.from_numpy(x), torch.from_numpy(y)
        turns["PyTorch"] = functools.partial(
            torch_epoch, model, *tensors, network.batch, torch.optim.Adam(model.parameters())
        )
    if sklearn and network.hidden:
        peer = sklearn.MLPClassifier(network.hidden, batch_size=network.batch, max_iter=1)
        turns["scikit-learn"] = lambda: peer.fit(x, y)
    return turns


def measure(turns, repeats, clock):
    """Median seconds of each, after one run that is not counted."""
    seconds = {name: [] for name in turns}
    for repeat in range(repeats + 1):
        for name, run in turns.items():
            begun = clock()
            run()
            if repeat:
                seconds[name].append(clock() - begun)
    return {name: statistics.median(values) for name, values in seconds.items()}


def main():
    parser = argparse.ArgumentParser(prog="python -m bench.training", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="networks whose names contain one of these (default: all)")
    parser.add_argument("--threads", type=int, default=fa.get_num_threads())
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--share", type=float, default=1.0, help="of the rows of an epoch")
    parser.add_argument("--cpu", action="store_true", help="processor time")
    args = parser.parse_args()
    warnings.filterwarnings("ignore", module="sklearn")  # it has not converged after one epoch
    fa.set_num_threads(args.threads)
    if torch:
        torch.set_num_threads(args.threads)
    print(
        f"{args.threads} threads, milliseconds an epoch, {'processor time' if args.cpu else 'time'}; in brackets: fastact is so many times as fast"
    )
    with threadpool_limits(args.threads):
        for name, network in NETWORKS.items():
            if args.names and not any(wanted.lower() in name.lower() for wanted in args.names):
                continue
            seconds = measure(
                epochs(network, args.share), args.repeats, time.process_time if args.cpu else time.perf_counter
            )
            others = [
                f"{peer} {value * 1e3:.1f} ({value / seconds['fastact']:.2f}x)"
                for peer, value in seconds.items()
                if peer != "fastact"
            ]
            print(f"{name:28} fastact {seconds['fastact'] * 1e3:9.1f}   {'   '.join(others)}", flush=True)


if __name__ == "__main__":
    main()
