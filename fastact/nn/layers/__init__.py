"""Layers: a forward and a backward pass over buffers that are made once."""

from .activation import Activation, PReLU
from .attention import Attention
from .base import Layer
from .dense import Dense, Embedding, Flatten, Maxout
from .images import AvgPool2D, Conv2D, MaxPool2D
from .normal import BatchNorm, Dropout, LayerNorm
from .recurrent import GRU, LSTM, SimpleRNN
from .tree import Tree, encode_trees

LAYERS = {layer.__name__: layer for layer in (
    Activation, Attention, AvgPool2D, BatchNorm, Conv2D, Dense, Dropout, Embedding, Flatten, GRU, LSTM, LayerNorm,
    MaxPool2D, Maxout, PReLU, SimpleRNN, Tree)}  # fmt: skip
"""Those that a saved model may name."""

__all__ = [*LAYERS, "LAYERS", "Layer", "encode_trees"]
