"""A team of threads for kernels that Numba compiled.

Not Numba's own threading layers: one of them ends the process when two Python threads use it at once, another when a
forked child does. Here the workers are Python threads that run a compiled loop without the GIL. A call that finds the
team at work does its own work alone, and nobody waits for a worker that has not begun. The children of a fork start
without workers.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import os
import threading

import numpy as np

from .numba_intrinsics import (
    atomic_add,
    atomic_exchange,
    atomic_load,
    atomic_store,
    call,
    call_for_int,
    called_from_python,
    entry,
    keep,
    pause,
    routine,
    word,
)
from .numba_lazy import Lazy, kernel_at

GRAIN, OFFERED = 5_000_000, 3_000_000
"""Picoseconds that each thread is to have to do, and from which on one that is awake may join: see threads.pyx."""
PATIENCE = 8
"""How many calls that would have liked a worker to join find it asleep before one wakes it."""
SPIN = 1000
"""How many pauses a worker waits for more work before it sleeps, and a caller for the last piece before it does."""
MAX_WORKERS = 255

# The team's words, those that different threads write at once on cache lines of their own.
BUSY, STATE, GENERATION = 0, 64, 128
WORK, JOB, CHUNK, THREADS, LIMIT, WORKERS, STOP, MISSED, DISTRIBUTE = range(192, 264, 8)
MEMBERS = 320  # from here on a cache line for each thread, the caller being number 0:
NEXT, END, ASLEEP, LOCK = range(0, 32, 8)  # what is left of its part of the work, and how it sleeps
OPEN = 1 << 32  # in STATE: there is work; the rest of it counts the workers inside


def _aligned_words(count):
    memory = np.zeros(count + 8, np.int64)
    return memory[(-memory.ctypes.data % 64) // 8 :][:count]


_memory = _aligned_words((MEMBERS + 64 * (MAX_WORKERS + 1)) // 8)
TEAM = _memory.ctypes.data
_threads: list[threading.Thread] = []
_hiring = threading.Lock()

# CPython's own locks, which need no GIL and are the same on every system.
_allocate_lock = ctypes.PYFUNCTYPE(ctypes.c_void_p)(("PyThread_allocate_lock", ctypes.pythonapi))
_acquire_lock = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int)(("PyThread_acquire_lock", ctypes.pythonapi))
ACQUIRE, RELEASE, ACQUIRE_TIMED = (ctypes.cast(getattr(ctypes.pythonapi, f"PyThread_{name}"), ctypes.c_void_p).value
                                   for name in ("acquire_lock", "release_lock", "acquire_lock_timed"))  # fmt: skip


def _closed_lock():
    lock = _allocate_lock()
    _acquire_lock(lock, 0)
    return lock


CLOSED = _closed_lock()


@routine
def member(number):
    return TEAM + MEMBERS + 64 * number


@routine
def take_pieces(number):
    """Pieces of the part that is mine, so that a thread meets the same memory call after call; then of the others'."""
    chunk, threads = word(TEAM, CHUNK), word(TEAM, THREADS)
    for k in range(threads):
        part = member((number + k) % threads)
        end = word(part, END)
        first = atomic_add(part + NEXT, chunk)
        while first < end:
            call(word(TEAM, WORK), (word(TEAM, JOB), first, min(chunk, end - first)))
            first = atomic_add(part + NEXT, chunk)


@routine
def wake(number):
    if atomic_exchange(member(number) + ASLEEP, 0) == 1:
        call(RELEASE, (word(member(number), LOCK),))


def _distribute(work, job, total, chunk, threads):
    threads = min(threads, word(TEAM, WORKERS) + 1)
    if threads < 2 or atomic_exchange(TEAM + BUSY, 1) == 1:
        call(work, (job, 0, total))
        return
    keep(TEAM, WORK, work)
    keep(TEAM, JOB, job)
    keep(TEAM, CHUNK, chunk)
    keep(TEAM, THREADS, threads)
    part = ((total + chunk - 1) // chunk + threads - 1) // threads * chunk
    for number in range(threads):
        keep(member(number), NEXT, min(number * part, total))
        keep(member(number), END, min((number + 1) * part, total))
    atomic_add(TEAM + STATE, OPEN)
    atomic_add(TEAM + GENERATION, 1)
    for number in range(1, threads):
        wake(number)
    take_pieces(0)
    atomic_add(TEAM + STATE, -OPEN)
    spins = 0
    while atomic_load(TEAM + STATE) != 0:
        pause()
        spins += 1
        if spins > SPIN:
            call_for_int(ACQUIRE_TIMED, (CLOSED, 50, 0))  # 50 microseconds
    atomic_store(TEAM + BUSY, 0)


@functools.cache
def _distributor():
    return entry(_distribute)


def _make_distributor():
    _hire()
    return _distributor()


_lazy_distributor = Lazy(_memory, DISTRIBUTE, _make_distributor)
DISTRIBUTE_NUMBER = _lazy_distributor.number


@routine
def share(work, job, total, chunk, threads):
    """work(job, first, count) for chunks of 0...total, by as many threads; late ones take less."""
    distribute = 0
    if threads > 1 and total > chunk:
        distribute = kernel_at(TEAM + DISTRIBUTE, DISTRIBUTE_NUMBER)
    if distribute:
        call(distribute, (work, job, total, chunk, threads))
    else:
        call(work, (job, 0, total))


@routine
def offered(picoseconds):
    """Threads for work too small to wake a worker for, unless it comes again and again: one that is awake may join."""
    if picoseconds < OFFERED or word(TEAM, LIMIT) < 2:
        return 1
    if atomic_load(member(1) + ASLEEP) == 0:
        return 2
    missed = word(TEAM, MISSED) + 1
    keep(TEAM, MISSED, missed % PATIENCE)
    return 2 if missed == PATIENCE else 1


@routine
def team(picoseconds):
    """Threads for work that takes one thread about that long."""
    return max(1, min(picoseconds // GRAIN, word(TEAM, LIMIT)))


def _work(number):
    worker = member(number)
    seen = 0
    while True:
        spins = 0
        while atomic_load(TEAM + GENERATION) == seen:
            pause()
            spins += 1
            if spins > SPIN:
                atomic_store(worker + ASLEEP, 1)
                # Whoever resets ASLEEP decides: a caller, who then opens the lock, or this worker, who need not sleep.
                if atomic_load(TEAM + GENERATION) == seen or atomic_exchange(worker + ASLEEP, 0) == 0:
                    call_for_int(ACQUIRE, (word(worker, LOCK), 1))
                spins = 0
        seen = atomic_load(TEAM + GENERATION)
        if atomic_load(TEAM + STOP) == 1:
            return
        state = atomic_add(TEAM + STATE, 1)
        if state >= OPEN and number < word(TEAM, THREADS):
            take_pieces(number)
        atomic_add(TEAM + STATE, -1)


def _dismiss(count):
    atomic_store(TEAM + STOP, 1)
    atomic_add(TEAM + GENERATION, 1)
    for number in range(1, count + 1):
        wake(number)


def set_limit(n):
    """Let the kernels use at most that many threads, of which the caller's is one."""
    _memory[LIMIT // 8] = n
    if _lazy_distributor.ready:
        _hire()


@functools.cache
def _life():
    """What a worker does, and what ends it."""
    return called_from_python(_work), called_from_python(_dismiss)


def _hire():
    """Start the workers that the limit allows, if they have not been."""
    work, dismiss = _life()
    with _hiring:
        if not _threads:
            # Nobody may run compiled code when it is freed.
            atexit.register(_stop, dismiss)
        for number in range(len(_threads) + 1, min(int(_memory[LIMIT // 8]), MAX_WORKERS + 1)):
            _memory[(MEMBERS + 64 * number + LOCK) // 8] = _closed_lock()
            thread = threading.Thread(target=work, args=(number,), name=f"fastact-{number}", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the system, or an interpreter that is about to end, allows no more
                break
            _threads.append(thread)
        _memory[WORKERS // 8] = len(_threads)


def _stop(dismiss):
    dismiss(len(_threads))
    for thread in _threads:
        thread.join()


def _forget():
    """In a fork's child there are no workers, and those that its parent's memory tells of must not be waited for."""
    global _hiring
    _hiring = threading.Lock()
    _memory[:] = 0
    _memory[LIMIT // 8] = 1
    _threads.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
