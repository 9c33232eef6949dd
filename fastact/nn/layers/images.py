"""Layers for images, arrays of shape (rows, height, width, channels).

The channels come last: a window of the image is then a few long runs of memory, a convolution one matrix product of the
windows with all filters, and what it gives needs no turning around.
"""

from __future__ import annotations

import operator

import numpy as np

from .. import kernels
from ..initialisation import check_scheme, normal
from .base import Layer, match_features, positive
from .dense import Biased

PATCH_BYTES = 1 << 20
"""Windows of as many images as fit in here are multiplied at a time, while they are in the cache."""


def check_image(layer, shape):
    if len(shape) != 3 or None in shape:
        raise ValueError(f"{layer!r} takes rows of shape (height, width, channels), not {shape}; the first layer of a model "
                         "is given input_shape=(height, width, channels)")  # fmt: skip


class Conv2D(Biased):
    """Convolution of images with filters, as neural networks mean it: the filters are not turned around.

    Parameters
    ----------
    inputs, outputs : int
        Channels before and after.
    kernel_size : int
        Height and width of a filter.
    stride : int
        Step between windows.
    padding : {"valid", "same"}
        Whether windows lie inside the image, or begin and end outside, where it is 0, so that with a stride of 1 the
        size stays.
    initialisation : {None, "xavier", "he", "lecun"}
        As for `Dense`.
    """

    def __init__(self, inputs, outputs, kernel_size=3, stride=1, padding="valid", *, initialisation=None):
        positive(inputs=inputs, outputs=outputs, kernel_size=kernel_size, stride=stride)
        if padding not in ("valid", "same"):
            raise ValueError(f"padding must be 'valid' or 'same', not {padding!r}")
        self.inputs, self.outputs, self.kernel_size, self.stride = map(
            operator.index, (inputs, outputs, kernel_size, stride)
        )
        self.padding, self.initialisation = padding, check_scheme(initialisation)
        self.shapes = {"weight": (kernel_size, kernel_size, self.inputs, self.outputs), "bias": (self.outputs,)}

    def shape_after(self, shape, previous):
        check_image(self, shape)
        match_features(self, shape, previous, self.inputs)
        size, stride = self.kernel_size, self.stride
        if self.padding == "same":
            self.places = [-(-n // stride) for n in shape[:2]]
            margins = [max((m - 1) * stride + size - n, 0) // 2 for n, m in zip(shape, self.places)]
        else:
            self.places = [(n - size) // stride + 1 for n in shape[:2]]
            margins = [0, 0]
            if min(shape[:2]) < size:
                raise ValueError(f"{self!r} does not fit into images of {shape[0]} x {shape[1]}")
        self.geometry = (*shape, size, size, *self.places, stride, *margins)
        self.patch = size * size * self.inputs
        return (*self.places, self.outputs)

    def initialise(self, rng, following):
        area = self.kernel_size**2
        normal(self.parameters["weight"], rng, area * self.inputs, area * self.outputs, following, self.initialisation)
        self.parameters["bias"][...] = 0

    def parts(self, rows):
        """Slices of the rows, and the memory for the windows of each."""
        height, width = self.places
        count = max(1, min(rows, PATCH_BYTES // (height * width * self.patch * self.dtype.itemsize)))
        for begin in range(0, rows, count):
            part = slice(begin, min(begin + count, rows))
            windows = (part.stop - begin) * height * width
            yield part, self.buffer("patches", (count * height * width, self.patch))[:windows]

    def forward(self, x, training=False):
        self.x = x
        y = self.buffer("output", (len(x), *self.output_shape))
        weight = self.parameters["weight"].reshape(self.patch, self.outputs)
        for part, windows in self.parts(len(x)):
            kernels.patches(len(x[part]) * self.places[0], (windows, x[part]), self.geometry)
            np.matmul(windows, weight, out=y[part].reshape(-1, self.outputs))
        return self.add_bias(y)

    def backward(self, grad_output):
        x, grad_input = self.x, None if self.is_first else self.input_or_buffer(self.x)
        weight, gradient = (
            values["weight"].reshape(self.patch, self.outputs) for values in (self.parameters, self.gradients)
        )
        share = self.buffer("share", gradient.shape)
        gradient[...] = 0
        if self.adds_bias:
            self.bias_backward(grad_output)
        for part, windows in self.parts(len(x)):
            kernels.patches(len(x[part]) * self.places[0], (windows, x[part]), self.geometry)
            grad = grad_output[part].reshape(-1, self.outputs)
            gradient += np.matmul(windows.T, grad, out=share)
            if grad_input is not None:
                np.matmul(grad, weight.T, out=windows)
                kernels.add_patches(len(x[part]), (windows, grad_input[part]), self.geometry)
        return grad_input

    def arguments(self):
        options = {"initialisation": self.initialisation} if self.initialisation else {}
        return [self.inputs, self.outputs, self.kernel_size, self.stride, self.padding], options


class Pool2D(Layer):
    """What MaxPool2D and AvgPool2D share.

    Parameters
    ----------
    size : int
        Height and width of a window; what is left at the right and bottom edges belongs to none.
    stride : int, optional
        Step between windows; by default they touch.
    """

    transparent = True

    def __init__(self, size=2, stride=None):
        stride = size if stride is None else stride
        positive(size=size, stride=stride)
        self.size, self.stride = operator.index(size), operator.index(stride)

    def shape_after(self, shape, previous):
        check_image(self, shape)
        if min(shape[:2]) < self.size:
            raise ValueError(f"{self!r} does not fit into images of {shape[0]} x {shape[1]}")
        self.places = [(n - self.size) // self.stride + 1 for n in shape[:2]]
        self.geometry = (*shape, self.size, *self.places, self.stride)
        return (*self.places, shape[2])

    def winners(self, shape):
        return None

    def forward(self, x, training=False):
        self.input = x
        y = self.buffer("output", (len(x), *self.output_shape))
        self.winner = self.winners(y.shape)
        kernels.pool(len(x) * self.places[0], (x, y, self.winner), self.geometry)
        return y

    def backward(self, grad_output):
        grad_input = self.input_or_buffer(self.input)
        kernels.pool_backward(len(grad_input), (grad_input, grad_output, self.winner), self.geometry)
        return grad_input

    def arguments(self):
        return [self.size, self.stride], {}


class MaxPool2D(Pool2D):
    __doc__ = (
        "The largest value of each window, for each channel; the first one where several are."
        + Pool2D.__doc__.partition(".")[2]
    )

    def winners(self, shape):
        return self.buffer("winner", shape, np.int32)


class AvgPool2D(Pool2D):
    __doc__ = "The mean of each window, for each channel." + Pool2D.__doc__.partition(".")[2]
