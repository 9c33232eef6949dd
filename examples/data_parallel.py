"""One network trained by several processes: ``mpiexec -n 4 python examples/data_parallel.py`` (needs mpi4py).

Every process takes its share of each batch, and all use the mean of the gradients: the result is that of one process, to
rounding, which the printed sum of the weights shows.
"""

import numpy as np
from common import digits, options, save

from fastact import nn


def main():
    from mpi4py import MPI

    args = options(__doc__)
    comm = MPI.COMM_WORLD
    training, validation, test = ((images.reshape(-1, 64), classes) for images, classes in digits(args.seed))
    model = nn.Sequential([nn.Dense(64, 64), nn.Activation("gelu"), nn.Dense(64, 10)], seed=args.seed, dtype=np.float64)
    trainer = nn.Trainer(model, "softmax_cross_entropy", nn.Adam(0.003), seed=args.seed, comm=comm)
    history = trainer.fit(
        *training, epochs=2 if args.quick else 20, batch_size=64, validation=validation, verbose=False
    )
    if comm.Get_rank() == 0:
        print(f"{comm.Get_size()} processes: accuracy {trainer.evaluate(*test)['accuracy']:.2%}, "
              f"loss {history['loss'][-1]:.12f}, sum of the weights {model.parameters.sum():.12f}")  # fmt: skip
        save(nn.learning_curves(history), args.output)


if __name__ == "__main__":
    main()
