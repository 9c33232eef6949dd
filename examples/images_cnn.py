"""The convolutional network of the text books on real images: three convolutions, 32 x 32 points, 10 classes.

The images are the scanned digits that ship with scikit-learn, enlarged from 8 x 8 points and in three colours: paper and ink
get a colour of their own in each image, so that only the shape tells the class.
"""

import numpy as np
from common import digits, options, save

from fastact import nn


def coloured(images, rng):
    """Images of 32 x 32 x 3, in [0, 1]."""
    large = images.repeat(4, axis=1).repeat(4, axis=2)[..., None]
    paper, ink = rng.random((2, len(images), 1, 1, 3), dtype=np.float32)
    ink = np.where(np.abs(ink - paper).max(axis=-1, keepdims=True) < 0.4, 1 - paper.round(), ink)
    return paper + large * (ink - paper)


def main():
    args = options(__doc__)
    rng = np.random.default_rng(args.seed)
    training, validation, test = ((coloured(images, rng), classes) for images, classes in digits(args.seed))
    if args.quick:
        training = training[0][:256], training[1][:256]
    relu = [nn.Activation("relu") for _ in range(4)]
    model = nn.Sequential([
        nn.Conv2D(3, 32, 3), relu[0], nn.MaxPool2D(2),
        nn.Conv2D(32, 64, 3), relu[1], nn.MaxPool2D(2),
        nn.Conv2D(64, 64, 3), relu[2], nn.Flatten(),
        nn.Dense(1024, 64), relu[3], nn.Dense(64, 10),
    ], input_shape=(32, 32, 3), seed=args.seed)  # fmt: skip
    # The network ends in logits: the loss applies the softmax. With a softmax layer at the end the trainer would refuse.
    trainer = nn.Trainer(model, "softmax_cross_entropy", nn.Adam(0.001), seed=args.seed)
    history = trainer.fit(*training, epochs=1 if args.quick else 10, batch_size=32, validation=validation)
    print(f"accuracy on {len(test[0])} images not seen: {trainer.evaluate(*test)['accuracy']:.2%}")
    save(nn.learning_curves(history), args.output)


if __name__ == "__main__":
    main()
