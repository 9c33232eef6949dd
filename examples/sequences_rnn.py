"""Which of four symbols came first? A task that needs memory, for SimpleRNN, LSTM and GRU."""

import numpy as np
from common import options, save

from fastact import nn
from fastact.plot import new_figure

SYMBOLS = 4


def sequences(rng, rows, steps):
    """The first step shows a symbol; the others show noise. The class is the symbol."""
    classes = rng.integers(0, SYMBOLS, rows)
    x = rng.standard_normal((rows, steps, SYMBOLS)).astype(np.float32) * 0.5
    x[:, 0] = np.eye(SYMBOLS)[classes]
    return x, classes


def main():
    args = options(__doc__)
    rows, steps, epochs = (256, 10, 3) if args.quick else (1024, 30, 25)
    rng = np.random.default_rng(args.seed)
    training, test = sequences(rng, rows, steps), sequences(rng, 512, steps)
    cells = {"SimpleRNN, sigmoid": nn.SimpleRNN(SYMBOLS, 32, activation="sigmoid"), "SimpleRNN, tanh": nn.SimpleRNN(SYMBOLS, 32),
             "LSTM": nn.LSTM(SYMBOLS, 32), "GRU": nn.GRU(SYMBOLS, 32)}  # fmt: skip
    figure = new_figure(figsize=(7, 4.5))
    axes = figure.subplots()
    for name, cell in cells.items():
        model = nn.Sequential([cell, nn.Dense(32, SYMBOLS)], seed=args.seed)
        trainer = nn.Trainer(model, "softmax_cross_entropy", nn.Adam(0.005), clip_norm=1.0, seed=args.seed)
        history = trainer.fit(*training, epochs=epochs, batch_size=64, validation=test, verbose=False)
        print(
            f"{name:20} remembers the first of {steps} steps in {history['val_accuracy'][-1]:.1%} of {len(test[0])} sequences not seen"
        )
        axes.plot(np.arange(1, epochs + 1), history["val_accuracy"], label=name)
    axes.axhline(1 / SYMBOLS, color="grey", linestyle="--", label="guessing")
    axes.set(title=f"first of {steps} steps", xlabel="epoch", ylabel="accuracy on sequences not seen", ylim=(0, 1.02))
    axes.grid(alpha=0.4)
    axes.legend()
    save(figure, args.output)


if __name__ == "__main__":
    main()
