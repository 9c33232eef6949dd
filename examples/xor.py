"""XOR, which no single layer can tell apart: a 2-8-2 network gets all four right."""

import numpy as np
from common import options, save

from fastact import nn


def main():
    args = options(__doc__)
    x, y = np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), np.array([0, 1, 1, 0])
    model = nn.Sequential([nn.Dense(2, 8), nn.Activation("tanh"), nn.Dense(8, 2)], seed=args.seed)
    trainer = nn.Trainer(model, "softmax_cross_entropy", nn.Adam(0.05), seed=args.seed)
    trainer.fit(x, y, epochs=200, batch_size=4, verbose=False)
    print(
        f"accuracy {trainer.evaluate(x, y)['accuracy']:.0%}: {dict(zip(map(tuple, x.tolist()), model.predict(x).argmax(axis=1).tolist()))}"
    )
    save(nn.decision_boundary(model, x, y, "XOR"), args.output)


if __name__ == "__main__":
    main()
