"""A small trainer for neural networks on fastact's functions.

model = nn.Sequential([nn.Dense(64, 128), nn.Activation("gelu"), nn.Dense(128, 10)])
trainer = nn.Trainer(model, loss="softmax_cross_entropy", optimizer=nn.Adam(1e-3))
history = trainer.fit(x, y, epochs=20, batch_size=64, validation=(xv, yv), callbacks=[nn.EarlyStopping(patience=3)])
"""

from .callbacks import Callback, EarlyStopping, ModelCheckpoint, ProgressBar
from .data import DataLoader, Dataset, MinMax, ZScore
from .history import History
from .layers import (
    GRU,
    LSTM,
    Activation,
    Attention,
    AvgPool2D,
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    Layer,
    LayerNorm,
    Maxout,
    MaxPool2D,
    PReLU,
    SimpleRNN,
    Tree,
    encode_trees,
)
from .model import Sequential, load
from .optimizers import SGD, AdaGrad, Adam, AdamW, Momentum, Nesterov, Optimizer, RMSProp
from .schedules import CosineDecay, ExponentialDecay, StepDecay, Warmup
from .trainer import Trainer

LAZY = {
    "Classifier": "estimators",
    "Regressor": "estimators",
    "learning_curves": "pictures",
    "decision_boundary": "pictures",
}
"""What needs scikit-learn or Matplotlib is imported on first use."""

__all__ = [
    "GRU",
    "LSTM",
    "SGD",
    "Activation",
    "AdaGrad",
    "Adam",
    "AdamW",
    "Attention",
    "AvgPool2D",
    "BatchNorm",
    "Callback",
    "Classifier",
    "Conv2D",
    "CosineDecay",
    "DataLoader",
    "Dataset",
    "Dense",
    "Dropout",
    "EarlyStopping",
    "Embedding",
    "ExponentialDecay",
    "Flatten",
    "History",
    "Layer",
    "LayerNorm",
    "MaxPool2D",
    "Maxout",
    "MinMax",
    "ModelCheckpoint",
    "Momentum",
    "Nesterov",
    "Optimizer",
    "PReLU",
    "ProgressBar",
    "RMSProp",
    "Regressor",
    "Sequential",
    "SimpleRNN",
    "StepDecay",
    "Trainer",
    "Tree",
    "Warmup",
    "ZScore",
    "decision_boundary",
    "encode_trees",
    "learning_curves",
    "load",
]


def __getattr__(name):
    if name in LAZY:
        import importlib

        return getattr(importlib.import_module(f".{LAZY[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
