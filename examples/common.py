"""What the examples share: their options, a way to save a picture, and data that ship with packages."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits


def options(doc):
    """The command line of an example: ``--quick`` for a short run, ``--output`` for the picture, ``--seed``."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few seconds, to see that it works; results are worse")
    parser.add_argument(
        "--output", type=Path, default=Path(sys.argv[0]).with_suffix(".png").name, help="where the picture goes"
    )
    parser.add_argument("--seed", type=int, default=0, help="for the data, the weights and the batches")
    # Matrices as small as these gain nothing from threads, and lose much where another process wants the CPU.
    threadpool_limits(1, user_api="blas")
    return parser.parse_args()


def save(figure, output):
    figure.savefig(output)
    print(f"picture: {output}")


def digits(seed):
    """The 1,797 scanned digits of scikit-learn, in [0, 1]: images and classes for training, validation and test."""
    from sklearn.datasets import load_digits

    data = load_digits()
    order = np.random.default_rng(seed).permutation(len(data.images))
    images, classes = (data.images[order] / 16).astype(np.float32), data.target[order]
    return tuple((images[part], classes[part]) for part in (slice(540, None), slice(360, 540), slice(360)))
