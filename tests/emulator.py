"""A GPU for tests: runs the kernels, as they are, in plain Python.

Every thread is a greenlet. The threads of a block run one after the other, in an order that a seed decides, each until it
waits for others: at a barrier, or to exchange numbers within its warp. There it is checked that all the others come, too.
Memory that nobody has written holds NaN; every access is checked for bounds and alignment, shared memory for races.

What it does not show: the weak order of memory between blocks, and speed.
"""

from __future__ import annotations

import bisect
import functools
import math
import random
from types import SimpleNamespace

import numpy as np

try:
    import greenlet
except ImportError:  # real GPUs are tested without
    greenlet = None

from fastact._kernels import cuda_intervals, numba_half, numba_loss_formulas, numba_scalar
from fastact._kernels.cuda_kernels import SIZES, WARP, Target
from fastact._kernels.tables import table

SHARED_MEMORY = 48 << 10
"""Bytes that a block may have."""
XLA_ALIGNMENT = 64
"""Of memory that JAX takes without a copy."""


class Fault(Exception):
    """What a kernel must not do."""


# --- Memory -----------------------------------------------------------------------------------------------------------


class Memory:
    """The pieces of memory that kernels may touch: arrays of bytes by their addresses."""

    def __init__(self):
        self._starts, self._pieces = [], []

    def add(self, array, writeable=True):
        """Make the memory of a NumPy array known, its gaps included."""
        if array.nbytes:
            first, last = np.lib.array_utils.byte_bounds(array)
            self.add_range(first, last - first, writeable, array)
        return array

    def add_range(self, address, size, writeable=True, keep=None):
        """Make ``size`` bytes known, which live as long as ``keep``."""
        from ctypes import c_uint8

        place = bisect.bisect(self._starts, address)
        if place and self._pieces[place - 1][1] >= address + size:
            return
        raw = np.frombuffer((c_uint8 * size).from_address(address), np.uint8)
        self._starts.insert(place, address)
        self._pieces.insert(place, (address, address + size, raw, writeable, keep))

    def bytes_at(self, address, size, writing=False):
        if address % size:
            raise Fault(f"{size} bytes at the misaligned address {address:#x}")
        place = bisect.bisect(self._starts, address) - 1
        if place < 0 or address + size > self._pieces[place][1]:
            raise Fault(f"{'write' if writing else 'read'} of {size} bytes out of bounds")
        start, _, raw, writeable, _ = self._pieces[place]
        if writing and not writeable:
            raise Fault("write to what is only to be read")
        return raw[address - start : address - start + size]


class SharedArray:
    """Memory of a block, in which races between two barriers are found."""

    def __init__(self, block, values):
        self._block, self._values, self._touched = block, values, {}

    def _touch(self, index, writing):
        if not 0 <= index < len(self._values):
            raise Fault(f"index {index} of {len(self._values)} in shared memory")
        thread, now = self._block.current, self._block.barriers
        when, readers, writer = self._touched.get(index, (now, (), None))
        if when != now:
            readers, writer = (), None
        if writer not in (None, thread) or writing and any(reader != thread for reader in readers):
            raise Fault(f"race between threads {writer if writer is not None else readers} and {thread} in shared memory")
        self._touched[index] = (now, readers, thread) if writing else (now, (*readers, thread)[-2:], writer)

    def __getitem__(self, index):
        self._touch(index, False)
        return self._values[index]

    def __setitem__(self, index, value):
        self._touch(index, True)
        self._values[index] = value


# --- Blocks of threads ------------------------------------------------------------------------------------------------


class Block:
    """The threads of one block, and what they wait for."""

    def __init__(self, number, threads, order):
        self.number, self.threads, self.order = number, threads, order
        self.barriers, self.shared, self.tables, self.shared_bytes = 0, [], {}, 0
        self.current = None
        self.calls = [0] * threads

    def run(self, function, arguments):
        def thread(*arguments):
            with np.errstate(all="ignore"):  # every greenlet has a context of its own
                function(*arguments)

        hub = greenlet.getcurrent()
        fibres = [greenlet.greenlet(thread, hub) for _ in range(self.threads)]
        waiting = {}
        answers = {thread: arguments for thread in range(self.threads)}
        while answers:
            runnable = list(answers)
            self.order.shuffle(runnable)
            for thread in runnable:
                self.current = thread
                request = fibres[thread].switch(*answers.pop(thread))
                if not fibres[thread].dead:
                    waiting[thread] = request
            answers = self._meet(waiting)

    def _meet(self, waiting):
        """The answers for threads whose others have come."""
        answers = {}
        for first in range(0, self.threads, WARP):
            warp = [thread for thread in range(first, min(first + WARP, self.threads)) if thread in waiting]
            shuffles = [thread for thread in warp if waiting[thread][0] == "shuffle"]
            if not shuffles:
                continue
            if len(shuffles) < WARP or len({waiting[thread][1] for thread in shuffles}) > 1:
                raise Fault(f"threads of a warp that do not come to one shuffle: only {len(shuffles)} of {WARP}")
            mask = waiting[first][1]
            for thread in warp:
                answers[thread] = (waiting[first + ((thread - first) ^ mask)][2],)
        for thread in answers:
            del waiting[thread]
        if waiting and not answers:
            if len(waiting) < self.threads:
                raise Fault(f"only {len(waiting)} of {self.threads} threads come to a barrier")
            self.barriers += 1
            answers = dict.fromkeys(waiting, ())
            waiting.clear()
        return answers


class Emulator:
    """What launches kernels: as fastact._kernels.cuda_launch.Launcher, with memory of the CPU for that of a GPU."""

    capability = (9, 0)

    def __init__(self, seed=0):
        self.memory = Memory()
        self.order = random.Random(seed)
        self.block = None
        self.launches = []
        """(factory, grid) of what ran."""
        self.last = None
        """Where only the last blocks of a grid shall run, how many."""
        self.target = self._target()
        self._made = {}

    def processors(self, device):
        """Few, so that long rows have several blocks only where a test says so."""
        return 1

    def wait(self, stream, other):
        """All is done in the order in which it is launched."""

    def finish(self, stream, device):
        """And before launch() returns."""

    def allocate(self, size, device):
        """Memory that nobody has written to, where JAX may take it."""
        raw = poisoned(size + XLA_ALIGNMENT, np.uint8)
        start = -raw.ctypes.data % XLA_ALIGNMENT
        values = self.memory.add(raw[start : start + size])
        return SimpleNamespace(values=values, address=raw.ctypes.data + start)

    def launch(self, factory, specification, grid, arguments, device=0, stream=0):
        key = factory, specification
        if key not in self._made:
            self._made[key] = factory(self.target, *specification)
        kernel = self._made[key]
        self.launches.append((factory.__name__, grid))
        expected = tuple(len(a) if isinstance(a, tuple) else None for a in arguments)
        assert expected == kernel.arguments, (expected, kernel.arguments)
        # The driver copies 8 bytes of each; a number of NumPy may have fewer.
        assert {type(word) for a in arguments for word in (a if isinstance(a, tuple) else (a,))} == {int}, arguments
        blocks = list(range(grid))[-self.last :] if self.last else list(range(grid))
        self.order.shuffle(blocks)
        for number in blocks:
            self.block = Block(number, kernel.threads, self.order)
            self.block.run(kernel.function, arguments)

    # --- The target ---------------------------------------------------------------------------------------------------

    def _target(self):
        emulator = self

        class Index:
            def __init__(self, value):
                self._value = value

            x = property(lambda self: self._value())

        def meet(*request):
            return greenlet.getcurrent().parent.switch(request)

        def shuffle(mask, value, lane_mask):
            assert mask == 0xFFFFFFFF
            return meet("shuffle", lane_mask, value)

        def shared_array(count, kind):
            block, values = emulator.block, poisoned(count, kind)
            block.shared_bytes += values.nbytes
            if block.shared_bytes > SHARED_MEMORY:
                raise Fault(f"{block.shared_bytes} bytes of shared memory")
            return SharedArray(block, values)

        def shared(count, kind):
            """The same for all threads at their same call."""
            block = emulator.block
            call = block.calls[block.current]
            block.calls[block.current] += 1
            if call == len(block.shared):
                block.shared.append(shared_array(count, kind))
            return block.shared[call]

        def copy_of(name):
            """The block's copy of a table."""
            tables = emulator.block.tables
            if name not in tables:
                tables[name] = shared_array(as_array(name).size, np.float32)
            return tables[name]

        def copy_tables(names):
            def copy(thread):
                for name in names:
                    numbers = as_array(name).ravel()
                    for k in range(4 * thread, min(4 * thread + 4, numbers.size)):
                        copy_of(name)[k] = numbers[k]

            return copy

        def lookup(name):
            width = as_array(name).shape[1]
            return lambda row, place: copy_of(name)[row * width + int(place)]

        def barrier():
            meet("barrier")

        cuda = SimpleNamespace(threadIdx=Index(lambda: emulator.block.current), blockIdx=Index(lambda: emulator.block.number),
                               syncthreads=barrier, shfl_xor_sync=shuffle, local=SimpleNamespace(array=poisoned),
                               shared=SimpleNamespace(array=shared))  # fmt: skip

        def load(kind, address):
            kind = np.dtype(kind if kind is not int else np.int64)
            return kind.type(self.memory.bytes_at(address, kind.itemsize).view(kind)[0])

        def store(kind, address, value):
            kind = np.dtype(kind if kind is not int else np.int64)
            self.memory.bytes_at(address, kind.itemsize, True).view(kind)[0] = value

        @functools.cache
        def formulas(storage):
            return numba_half.formulas(storage, machine(storage))

        @functools.cache
        def intervals():
            return cuda_intervals.formulas(formulas("float32"), machine("float32", lookup))

        @functools.cache
        def loss_formulas(storage):
            return numba_loss_formulas.formulas(computed(storage), numba_scalar.plain(computed(storage)))

        return Target(
            cuda=cuda, word=int, device=lambda function: function, load=load, store=store, quotient=lambda a, b: a // b, within=lambda i, n: 0 <= i < n,
            access=self._access, formulas=formulas, intervals=intervals, copy_tables=copy_tables, loss_formulas=loss_formulas,
            integer_formulas=lambda name: numba_scalar.integer_formulas(getattr(np, name), lambda function: function),
            number=computed, integer=lambda name: getattr(np, name),
            fma=lambda a, b, c: type(a)(np.longdouble(a) * b + c), exp2=exp2,
            log1p=lambda x: type(x)(math.log1p(x)) if x > -1 else x,
            from_word=lambda storage: lambda word: from_word(computed(storage), word),
            bits=lambda x: x.view(np.int32), from_bits=lambda pattern: np.int32(pattern).view(np.float32),
        )  # fmt: skip

    @functools.cache
    def _access(self, storage, width):
        dtype, T = storage_dtype(storage), computed(storage)
        size = SIZES[storage] * width

        def read(values, first, address):
            values[first : first + width] = self.memory.bytes_at(address, size).view(dtype).astype(T)

        def write(address, values, first):
            self.memory.bytes_at(address, size, True).view(dtype)[:] = values[first : first + width].astype(dtype)

        return SimpleNamespace(read=read, write=write, size=SIZES[storage], width=width, bytes=size)


def poisoned(count, kind):
    """Memory as nobody has written to it."""
    return np.full(count * np.dtype(kind).itemsize, 0xFF, np.uint8).view(kind)


def computed(storage):
    return np.float64 if storage == "float64" else np.float32


def storage_dtype(storage):
    if storage == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(storage)


@functools.cache
def as_array(name):
    """A table of the kernels."""
    return np.float32(table(name))


def looked_up(name):
    """The function of a row and a place in a table."""
    return lambda row, place: as_array(name)[row, place]


def machine(storage, lookup=looked_up):
    """What formulas are made of."""
    plain = vars(numba_scalar.plain(computed(storage)))
    return SimpleNamespace(**plain, exp2=exp2, reciprocal=lambda x: np.float32(1) / x,
                           reciprocal_root=lambda x: np.float32(1) / np.sqrt(x), lookup=lookup)  # fmt: skip


def exp2(x):
    y = np.exp2(x, dtype=np.float32)
    return np.float32(0) if y < np.finfo(np.float32).tiny else y


def from_word(T, word):
    return np.int64(word).view(np.float64) if T is np.float64 else np.int32(word).view(np.float32)
