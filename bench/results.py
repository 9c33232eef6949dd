"""What was measured, how it compares, and the file that keeps it."""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass, field, fields

from .cases import CONTIGUOUS, Setting

OURS, COPY = "fastact", "copy"
ELEMENTWISE = ("forward", "derivative", "backward")
UNITS = {"call": ("nanoseconds", 1e9), "training step": ("microseconds", 1e6)}


@dataclass(frozen=True)
class Cell:
    """One thing to measure: a case, or a call, or a step of training, in a setting and on so many threads."""

    kind: str
    name: str
    setting: Setting
    threads: int


@dataclass
class Result:
    """Median seconds of one call, for each library.

    ``moved`` counts the arrays of that shape that pass through memory; ``disturbed`` says that other processes ran;
    ``left_out`` says why a library has no figure; ``ulp`` holds the largest errors over a sample of all float32 values.
    """

    cell: Cell
    moved: int
    seconds: dict
    disturbed: bool
    left_out: dict = field(default_factory=dict)
    ulp: dict = field(default_factory=dict)

    @property
    def peers(self):
        return {name: seconds for name, seconds in self.seconds.items() if name not in (OURS, COPY)}

    @property
    def best(self):
        """The fastest of the other libraries; None if there is none."""
        return min(self.peers, key=self.peers.get, default=None)

    def ratio(self, library):
        """How many times as fast fastact is; None if the library does not have the function."""
        return self.seconds[library] / self.seconds[OURS] if library in self.seconds else None

    def share_of_copy(self):
        """Bytes per second over those of the copy, which moves two arrays."""
        return self.moved / 2 * self.seconds[COPY] / self.seconds[OURS] if COPY in self.seconds else None

    @property
    def elements(self):
        return math.prod(self.cell.setting.shape)

    @property
    def unit(self):
        return UNITS.get(self.cell.kind, ("Gelem/s", None))[0]

    def figure(self, library):
        """In ``unit``; NaN if the library has none."""
        seconds = self.seconds.get(library, math.nan)
        _, factor = UNITS.get(self.cell.kind, (None, None))
        return seconds * factor if factor else self.elements / seconds / 1e9

    def size(self):
        return " x ".join(f"{n:,}" for n in self.cell.setting.shape) + " elements" * (len(self.cell.setting.shape) == 1)

    def circumstances(self):
        """What is not about the function and the size."""
        setting, threads = self.cell.setting, self.cell.threads
        layout = [setting.layout] if setting.layout != CONTIGUOUS else []
        return [
            setting.dtype,
            *layout,
            *([] if setting.out else ["new memory"]),
            f"{threads} thread{'s' * (threads > 1)}",
        ]

    def describe(self):
        return ", ".join([self.cell.kind, self.size(), *self.circumstances()])


def geometric_mean(ratios):
    return math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else None


def plain(results, *kinds):
    """Those of these kinds on contiguous float32 arrays with memory given, on the most threads."""
    most = max((result.cell.threads for result in results), default=1)
    return [
        result
        for result in results
        if result.cell.kind in kinds
        and result.cell.threads == most
        and result.cell.setting == Setting(result.cell.setting.shape)
    ]


# Files --------------------------------------------------------------------------------------------------------------


def load(path):
    """(what was measured on, results)"""
    content = json.loads(path.read_text())
    return content["machine"], [result_of(entry) for entry in content["results"]]


def result_of(entry):
    setting = {f.name: entry.pop(f.name) for f in fields(Setting)}
    setting["shape"] = tuple(setting["shape"])
    cell = Cell(entry.pop("kind"), entry.pop("name"), Setting(**setting), entry.pop("threads"))
    return Result(cell, **entry)


def entry_of(result):
    entry = asdict(result)
    cell = entry.pop("cell")
    return (
        cell
        | cell.pop("setting")
        | entry
        | {"seconds": {name: float(f"{s:.4g}") for name, s in result.seconds.items()}}
    )


def save(path, machine, results):
    """Atomically: a run that is cut off leaves what was there."""
    part = path.with_name(path.name + ".part")
    lines = ",\n".join(json.dumps(entry_of(result)) for result in results)
    part.write_text(f'{{"machine": {json.dumps(machine, indent=1)},\n"results": [\n{lines}\n]}}\n')
    os.replace(part, path)
