"""A small trainer for fully connected networks on fastact's functions.

    model = nn.Sequential([nn.Dense(64, 128), nn.Activation("gelu"), nn.Dense(128, 10)])
    trainer = nn.Trainer(model, loss="softmax_cross_entropy", optimizer=nn.Adam(1e-3))
    history = trainer.fit(x, y, epochs=20, batch_size=64, validation=(xv, yv), callbacks=[nn.EarlyStopping(patience=3)])
"""

from .callbacks import Callback, EarlyStopping, ProgressBar
from .layers import Activation, Dense, PReLU
from .model import Sequential, load
from .optimizers import SGD, Adam
from .trainer import History, Trainer

__all__ = [
    "SGD",
    "Activation",
    "Adam",
    "Callback",
    "Dense",
    "EarlyStopping",
    "History",
    "PReLU",
    "ProgressBar",
    "Sequential",
    "Trainer",
    "load",
]
