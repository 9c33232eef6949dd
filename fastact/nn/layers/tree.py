"""Networks over trees: the vector of a node is made from those of its two children."""

from __future__ import annotations

import operator

import numpy as np

import fastact as fa

from .. import kernels
from ..initialisation import normal
from ..places import beside, gather
from .base import Layer, positive
from .dense import check_range

NOTHING = -1


def encode_trees(trees):
    """Trees as the array of integers that `Tree` takes.

    Parameters
    ----------
    trees : sequence
        Each a leaf, which is an integer, or a pair of trees: ``(0, (2, 1))``.

    Returns
    -------
    ndarray of int64, shape (trees, nodes of the largest, 3)
        For each node, children first: its number if it is a leaf, and the positions of its children; -1 for none.

    Raises
    ------
    ValueError
        For anything that is neither an integer that is not negative nor a pair.
    """
    encoded = [_nodes(tree) for tree in trees]
    result = np.full((len(encoded), max(map(len, encoded), default=0), 3), NOTHING, np.int64)
    for row, nodes in zip(result, encoded):
        row[: len(nodes)] = nodes
    return result


def _nodes(tree):
    nodes, roots, todo = [], [], [(tree, False)]
    while todo:  # a stack of our own: trees may be deeper than Python's
        node, visited = todo.pop()
        if visited:
            right, left = roots.pop(), roots.pop()
            nodes.append((NOTHING, left, right))
        elif isinstance(node, (tuple, list)) and len(node) == 2:
            todo += [(node, True), (node[1], False), (node[0], False)]
            continue
        elif isinstance(node, (int, np.integer)) and node >= 0:
            nodes.append((operator.index(node), NOTHING, NOTHING))
        else:
            raise ValueError(f"a tree is an integer from 0 on or a pair of trees, not {node!r}")
        roots.append(len(nodes) - 1)
    return nodes


class Tree(Layer):
    """Recursive network: a leaf is a learned vector, a node ``tanh([left, right] @ weight + bias)``; returns the roots'.

    All nodes of one height, of all trees together, are one matrix product. After Socher et al. 2011.

    Parameters
    ----------
    count : int
        How many kinds of leaves there are.
    features : int
        Numbers in the vector of a node.
    """

    takes_integers = True
    decaying = frozenset({"leaves", "weight"})
    input_shape = (None, 3)

    def __init__(self, count, features):
        positive(count=count, features=features)
        self.count, self.features = operator.index(count), operator.index(features)
        self.shapes = {"leaves": (self.count, self.features), "weight": (2 * self.features, self.features),
                       "bias": (self.features,)}  # fmt: skip

    def shape_after(self, shape, previous):
        if previous is not None or len(shape) != 2 or shape[1] != 3:
            raise ValueError(f"{self!r} is the first layer and takes what encode_trees returns")
        return (self.features,)

    def initialise(self, rng, following):
        normal(self.parameters["leaves"], rng, 1, 1, None, "lecun")
        normal(self.parameters["weight"], rng, 2 * self.features, self.features, None, "xavier")
        self.parameters["bias"][...] = 0

    def forward(self, x, training=False):
        rows, count = x.shape[:2]
        kinds, left, right = (np.ascontiguousarray(x[:, :, k]) for k in range(3))
        is_leaf, is_pair = kinds >= 0, left >= 0
        self.check(kinds, left, right, is_leaf, is_pair)
        height = np.zeros((rows, count), np.int64)
        every = np.arange(rows)
        for j in range(count):
            children = np.maximum(height[every, left[:, j]], height[every, right[:, j]])
            height[:, j] = np.where(is_pair[:, j], children + 1, 0)
        first = (every * count)[:, None]
        roots = every * count + count - 1 - np.argmax((is_leaf | is_pair)[:, ::-1], axis=1)
        self.roots, self.leaf_places, self.leaf_kinds = (
            beside(self.like, numbers) for numbers in (roots, np.flatnonzero(is_leaf), kinds[is_leaf])
        )
        left, right = left + first, right + first

        self.h = self.buffer("h", (rows * count, self.features))
        self.h[self.leaf_places] = self.parameters["leaves"][self.leaf_kinds]
        self.levels = []
        for level in range(1, height.max(initial=0) + 1):
            at = np.flatnonzero(height == level)
            places, *children = (beside(self.like, numbers) for numbers in (at, left.ravel()[at], right.ravel()[at]))
            pair = self.buffer(f"pair {level}", (len(places), 2 * self.features))
            for k, child in enumerate(children):
                pair[:, k * self.features : (k + 1) * self.features] = self.h[child]
            z = np.matmul(pair, self.parameters["weight"], out=self.buffer("z", (len(places), self.features)))
            z += self.parameters["bias"]
            self.h[places] = fa.tanh(z, out=z)
            self.levels.append((places, children, pair))
        y = self.buffer("output", (rows, self.features))
        return gather(self.h, self.roots, y)

    def check(self, kinds, left, right, is_leaf, is_pair):
        """Raise unless children come before their parents and leaves are known: nothing may be read that is not there."""
        check_range(self, kinds, self.count, NOTHING)
        positions = np.arange(kinds.shape[1])
        children_first = (left < positions) & (right < positions) & (left >= NOTHING) & (right >= NOTHING)
        if not (children_first.all() and (is_pair == (right >= 0)).all() and not (is_leaf & is_pair).any()
                and (is_leaf | is_pair).any(axis=1).all()):  # fmt: skip
            raise ValueError("these are no trees as encode_trees returns them: children come before their parents")

    def backward(self, grad_output):
        grad = self.buffer("grad", self.h.shape)
        grad[...] = 0
        grad[self.roots] = grad_output
        for gradient in self.gradients.values():
            gradient[...] = 0
        for places, children, pair in reversed(self.levels):
            d = grad[places]
            fa.tanh.backward(d, output=self.h[places], out=d)
            self.gradients["weight"] += pair.T @ d
            self.gradients["bias"] += d.sum(axis=0)
            d = d @ self.parameters["weight"].T
            for k, child in enumerate(children):
                share = beside(d, d[:, k * self.features : (k + 1) * self.features])
                kernels.scatter(self.features, (share, grad, child), (self.features, len(child)))
        kernels.scatter(
            self.features,
            (grad[self.leaf_places], self.gradients["leaves"], self.leaf_kinds),
            (self.features, len(self.leaf_kinds)),
        )

    def arguments(self):
        return [self.count, self.features], {}
