"""A tree network tells whether a logical expression is true: vectors of the parts make that of the whole.

The expressions are synthetic: random trees of `and`, `or` and `xor` over true and false. An operation is the pair
(operator, (left, right)). Tested on expressions that were not trained on, and on larger ones than any of those.
"""

import operator

import numpy as np
from common import options, save

from fastact import nn

FALSE, TRUE, *OPERATORS = range(5)
MEANING = dict(zip(OPERATORS, (operator.and_, operator.or_, operator.xor)))


def expression(rng, size):
    """A random expression of that many operations, and its value."""
    if size == 0:
        value = int(rng.integers(2))
        return (TRUE if value else FALSE), value
    left_size = int(rng.integers(size))
    (left, a), (right, b) = expression(rng, left_size), expression(rng, size - 1 - left_size)
    kind = int(rng.choice(OPERATORS))
    return (kind, (left, right)), MEANING[kind](a, b)


def expressions(rng, count, sizes, known=frozenset()):
    """Different ones that are not known yet, with their values."""
    found = {}
    while len(found) < count:
        tree, value = expression(rng, int(rng.choice(sizes)))
        if tree not in known:
            found[tree] = value
    return list(found), np.array(list(found.values()))


def main():
    args = options(__doc__)
    rng = np.random.default_rng(args.seed)
    count, epochs = (400, 3) if args.quick else (3000, 40)
    training, values = expressions(rng, count, range(1, 6))
    test, test_values = expressions(rng, 500, range(3, 6), set(training))
    larger, larger_values = expressions(rng, 500, range(6, 9))

    model = nn.Sequential([nn.Tree(5, 32), nn.Dense(32, 2)], seed=args.seed)
    trainer = nn.Trainer(model, "softmax_cross_entropy", nn.Adam(0.003), clip_norm=1.0, seed=args.seed)
    history = trainer.fit(nn.encode_trees(training), values, epochs=epochs, batch_size=32,
                          validation=(nn.encode_trees(test), test_values))  # fmt: skip
    for what, trees, truth in (
        ("of up to 5 operations, not seen", test, test_values),
        ("of 6 to 8 operations", larger, larger_values),
    ):
        accuracy = trainer.evaluate(nn.encode_trees(trees), truth)["accuracy"]
        print(
            f"right on {accuracy:.1%} of the expressions {what} ({max(truth.mean(), 1 - truth.mean()):.1%} by always saying the same)"
        )
    save(nn.learning_curves(history), args.output)


if __name__ == "__main__":
    main()
