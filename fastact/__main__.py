"""The command line: ``python -m fastact train | plot | vendor | bench | info``."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

import fastact as fa

from .bench import compare


def main():
    arguments = parse()
    try:
        arguments.run(arguments)
    except (ImportError, OSError) as error:
        sys.exit(f"fastact: {error}")


def parse():
    parser = argparse.ArgumentParser(prog="python -m fastact",
                                     description="Activation, softmax and loss functions of neural networks.")
    commands = parser.add_subparsers(required=True, metavar="command")

    def command(run):
        summary = run.__doc__
        sub = commands.add_parser(run.__name__, help=summary, description=summary,
                                  formatter_class=argparse.ArgumentDefaultsHelpFormatter)
        sub.set_defaults(run=run, parser=sub)
        return sub

    sub = command(train)
    sub.add_argument("--activation", type=hidden_activation, default="gelu", help="activation of the hidden layer")
    sub.add_argument("--epochs", type=at_least(1), default=40, help="at most; fewer where the validation loss stalls")
    sub.add_argument("--batch-size", type=at_least(1), default=64, help="rows in a mini-batch")
    sub.add_argument("--learning-rate", type=positive_float, default=0.004, help="step size of Adam")
    sub.add_argument("--seed", type=at_least(0), default=0, help="for the split of the data, the weights and the batches")
    sub.add_argument("--output", type=picture, default="fastact-digits.png", help="where the picture goes")

    sub = command(plot)
    sub.add_argument("name", nargs="?", help="an activation, such as gelu")
    sub.add_argument("--all", action="store_true", help="all of them, and softmax, each in a picture of its own")
    sub.add_argument("--out", type=Path, default=Path("figures"), metavar="DIR", help="where those go")
    sub.add_argument("--parameter", type=assignment, action="append", default=[], metavar="NAME=VALUE",
                     help="such as negative_slope=0.03; may be repeated")
    sub.add_argument("--interval", type=float, nargs=2, metavar=("LOW", "HIGH"), help="range of x")
    sub.add_argument("--output", type=picture, help="where the picture goes (default: NAME.png)")

    sub = command(vendor)
    sub.add_argument("folder", type=Path, metavar="DEST", help="a new folder, whose name is the package's")
    sub.add_argument("--only", type=lambda text: text.replace(" ", "").split(","), metavar="NAME,NAME,...", help="such as gelu,softmax")
    kernels = sub.add_mutually_exclusive_group()
    kernels.add_argument("--cython", action="store_true", help="compiled kernels only")
    kernels.add_argument("--numba", action="store_true", help="Numba's kernels only, which need no compiler")

    compare.add_options(command(bench))

    command(info)
    return parser.parse_args()


# Types of arguments --------------------------------------------------------------------------------------------------


def hidden_activation(name):
    try:
        return fa.nn.Activation(name)
    except (TypeError, ValueError) as error:
        raise argparse.ArgumentTypeError(error) from error


def at_least(least):
    def number(text):
        if (value := int(text)) < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, not {text}")
        return value

    return number


def positive_float(text):
    if not 0 < (value := float(text)) < np.inf:
        raise argparse.ArgumentTypeError(f"must be positive, not {text}")
    return value


def assignment(text):
    name, _, value = text.partition("=")
    try:
        return name, float(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not like negative_slope=0.03") from error


def picture(text):
    path = Path(text)
    if path.suffix not in (".png", ".svg", ".pdf"):
        raise argparse.ArgumentTypeError(f"{text} must end in .png, .svg or .pdf")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {path.parent}")
    return path


# Commands ------------------------------------------------------------------------------------------------------------


def train(arguments):
    """train a small network on real handwritten digits"""
    nn = fa.nn
    config = fa.backends.config()
    print(f"kernels: {config['backend']}, {config['instruction_set']}, threads: {config['threads']}")
    images, classes = digits()
    from threadpoolctl import threadpool_limits  # comes with scikit-learn

    order = np.random.default_rng(arguments.seed).permutation(len(images))
    test, validation, training = np.split(order, [360, 540])

    model = nn.Sequential([nn.Dense(64, 256), arguments.activation, nn.Dense(256, 10)], seed=arguments.seed)
    trainer = nn.Trainer(model, "softmax_cross_entropy", nn.Adam(arguments.learning_rate), seed=arguments.seed)
    x, y = shifted(images[training], classes[training])
    print(f"{model!r}\ntraining on {len(x)} images ({len(training)} digits, and each one shifted by a pixel in four "
          f"directions), validation on {len(validation)}, test on {len(test)}", flush=True)
    began = time.perf_counter()
    # Matrices this small gain nothing from threads, and lose much where another process wants the CPU.
    with threadpool_limits(1, user_api="blas"):
        history = trainer.fit(rows(x), y, arguments.epochs, arguments.batch_size,
                              validation=(rows(images[validation]), classes[validation]),
                              callbacks=[nn.EarlyStopping(patience=10)])
    seconds = time.perf_counter() - began

    predicted = model.predict(rows(images[test])).argmax(axis=1)
    right = predicted == classes[test]
    epochs = len(history["loss"])
    print(f"{epochs} epoch{'s' * (epochs > 1)} in {seconds:.1f} s")
    print(f"accuracy on held-out digits: {right.mean():.2%} ({right.sum()} of {right.size})")
    # The wrong ones first, because they are few and say most.
    shown = np.argsort(right, kind="stable")[:30]
    fa.plot.training(history, images[test][shown], classes[test][shown], predicted[shown]).savefig(arguments.output)
    print(f"picture: {arguments.output}")


def plot(arguments):
    """draw an activation beside its derivative"""
    if arguments.all:
        print(f"{len(fa.plot.gallery(arguments.out))} pictures: {arguments.out}")
        return
    if arguments.name is None:
        arguments.parser.error("which activation? or --all")
    try:
        figure = fa.plot.curve(arguments.name, arguments.interval, **dict(arguments.parameter))
    except (TypeError, ValueError) as error:
        arguments.parser.error(str(error))
    output = arguments.output or Path(f"{arguments.name}.png")
    figure.savefig(output)
    print(f"picture: {output}")


def vendor(arguments):
    """copy functions and what they need, as a package of its own"""
    from .vendor import vendor

    try:
        files = vendor(arguments.folder, arguments.only, cython=not arguments.numba, numba=not arguments.cython)
    except (ValueError, FileExistsError) as error:
        arguments.parser.error(str(error))
    print(f"{len(files)} files: {arguments.folder}")
    if not arguments.numba:
        print(f"compile them where they are to stay: python {arguments.folder}/_kernels/build.py")


def bench(arguments):
    """time functions beside NumPy, SciPy, PyTorch and others"""
    try:
        compare.run(arguments)
    except ModuleNotFoundError as error:
        raise ImportError(f"there is no {error.name}: pip install 'fastact[bench]'") from error


def info(arguments):
    """show which kernels run, on how many threads"""
    fa.show_config()


# Digits --------------------------------------------------------------------------------------------------------------


def digits():
    """The 1,797 scanned digits that ship with scikit-learn: images of 8 x 8 pixels in [0, 1], and their classes."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError("the digits come with scikit-learn: pip install 'fastact[nn]'") from error
    data = load_digits()
    return (data.images / 16).astype(np.float32), data.target


def shifted(images, classes):
    """The images and their copies shifted by one pixel in four directions, with their classes."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    height, width = images.shape[1:]
    corners = ((1, 1), (0, 1), (2, 1), (1, 0), (1, 2))
    return (np.concatenate([padded[:, top : top + height, left : left + width] for top, left in corners]),
            np.tile(classes, len(corners)))


def rows(images):
    return images.reshape(len(images), -1)


if __name__ == "__main__":
    main()
