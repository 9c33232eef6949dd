"""A fully connected network reads scanned digits: over 97 % of those it has not seen."""

from common import digits, options, save

from fastact import nn


def main():
    args = options(__doc__)
    training, validation, test = ((images.reshape(-1, 64), classes) for images, classes in digits(args.seed))
    model = nn.Sequential(
        [nn.Dense(64, 128), nn.Activation("gelu"), nn.Dropout(0.2), nn.Dense(128, 10)], seed=args.seed
    )
    trainer = nn.Trainer(model, "softmax_cross_entropy", nn.AdamW(0.004), clip_norm=1.0, seed=args.seed)
    history = trainer.fit(*training, epochs=8 if args.quick else 60, batch_size=32, validation=validation,
                          callbacks=[nn.EarlyStopping(patience=10)])  # fmt: skip
    print(f"accuracy on {len(test[0])} digits not seen: {trainer.evaluate(*test)['accuracy']:.2%}")
    save(nn.learning_curves(history), args.output)


if __name__ == "__main__":
    main()
