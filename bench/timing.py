"""Median times of several callables that take turns (A, B, C, A, B, C, ...), so that whatever else the machine does hits all
alike."""

# Threads that wait by spinning (OpenMP's for some 10 ms, ONNX Runtime's for some 50) would take a core from whoever is
# next, and telling them not to spin would slow down their own library: so a turn begins once this process has gone
# quiet, and with calls that are not timed.

from __future__ import annotations

import math
import os
import statistics
import time
from pathlib import Path

WARM_UP = 0.02
"""Seconds. After a pause, threaded calls have been seen to take 8 ms until the scheduler had spread the threads."""
DISTURBANCE = 0.1
STAT = Path("/proc/stat")


def go_quiet():
    """Wait, at most 0.2 s, until no thread of this process spins any more."""
    for _ in range(20):
        before = time.process_time()
        time.sleep(0.01)
        if time.process_time() - before < 0.002:
            return


def warm_up(timer):
    """Call for a while, at least once; the seconds of the fastest call."""
    fastest = math.inf
    end = time.perf_counter() + WARM_UP
    while True:
        fastest = min(fastest, timer.timeit(1))
        if time.perf_counter() > end:
            return fastest


def cpu_seconds_of_others():
    """What other processes, and other guests of this machine, have used so far; 0 where there is no /proc/stat."""
    if not STAT.exists():
        return 0.0
    user, nice, system, _, _, *rest = map(int, STAT.read_text().split("\n", 1)[0].split()[1:9])
    return (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK") - time.process_time()


def take_turns(timers, rounds, seconds):
    """Median seconds of one call for each timer, whose turns last about so long, and whether others disturbed them."""
    calls = {name: max(1, int(seconds / warm_up(timer))) for name, timer in timers.items()}
    samples = {name: [] for name in timers}
    begin, begin_others = time.perf_counter(), cpu_seconds_of_others()
    for _ in range(rounds):
        for name, timer in timers.items():
            go_quiet()
            warm_up(timer)
            samples[name].append(timer.timeit(calls[name]) / calls[name])
    disturbed = cpu_seconds_of_others() - begin_others > DISTURBANCE * (time.perf_counter() - begin)
    return {name: statistics.median(sample) for name, sample in samples.items()}, disturbed
