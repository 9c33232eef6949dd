"""From arrays to the kernels over rows that Numba compiles: strides, half types, masks, threads, gufuncs.

What rows.pyx is to the compiled kernels.
"""

from __future__ import annotations

import numpy as np

from . import numba_cpu
from .numba_cpu import (
    ALL_EXCEPTIONS,
    BFLOAT,
    BLOCK,
    DOUBLE,
    FLOAT,
    HALF,
    STREAMING_FROM,
    copy_strided,
    gather,
    scatter,
    stream,
    transpose,
    width,
)
from .numba_intrinsics import (
    C_CLEAR_STATUS,
    C_FREE,
    C_MALLOC,
    TILE,
    call,
    call_for_word,
    entry,
    fence,
    keep,
    load,
    real,
    routine,
    stack,
    store,
    word,
)
from .numba_lazy import Lazy, kernel_at, need_kernel
from .numba_row_steps import G_ROW, MORE, ROWS, SHORT, TEMPERATURE, X_ROW, Y_ROW, G, N, X, Y
from .numba_rows import task_kernel, variants
from .numba_threads import share, team
from .ufuncs import make_ufunc, register_loop

GROUP = 16384  # elements that are brought into contiguous rows at a time
LINE = 64

# A function as the compiled code sees it: words of memory. ROLES are those of the gufunc's operands.
KERNELS, NUMBERS = 0, 32  # of the variants of a kernel
VARIANTS, STORAGE, SINGLE_G, SINGLE_Y, NEGATED, MASKED, COST, COUNT = range(64, 128, 8)
ROLES = 128
ROLE_X, ROLE_G, ROLE_Y, ROLE_MASK, ROLE_TEMPERATURE = range(5)

# A job for the team: data, step from row to row and from item to item of each operand with items, in the roles' order.
OPERAND_X, OPERAND_G, OPERAND_Y, OPERAND_MASK = range(0, 96, 24)
ROW, ITEM = 8, 16
JOB_FUNCTION, JOB_KERNEL, JOB_N, JOB_TEMPERATURE, JOB_STREAMING = range(96, 136, 8)
JOB_BYTES, TASK_BYTES = 136, 80


@routine
def copy_rows(size, source, row, item, target, target_row, target_item, rows, n):
    if min(rows, n) >= TILE and size >= 4 and row == size and target_item == size:
        transpose(size, source, item, target, target_row, n, rows)
    elif min(rows, n) >= TILE and size >= 4 and item == size and target_row == size:
        transpose(size, source, row, target, target_item, rows, n)
    elif min(abs(row), abs(target_row)) < min(abs(item), abs(target_item)):
        for i in range(n):
            copy_strided(size, source + i * item, row, target + i * target_item, target_row, rows)
    else:
        for r in range(rows):
            copy_strided(size, source + r * row, item, target + r * target_row, target_item, n)


@routine
def load_rows(storage, source, row, item, target, rows, n):
    """The rows contiguous and one after another in target, as float or double."""
    if storage == FLOAT or storage == DOUBLE:
        size = width(storage)
        copy_rows(size, source, row, item, target, n * size, size, rows, n)
        return
    for r in range(rows):
        for i in range(0, n, BLOCK):
            gather(storage, source + r * row + i * item, item, min(n - i, BLOCK), target + 4 * (r * n + i))


@routine
def store_rows(storage, source, target, row, item, rows, n, streaming):
    if storage == FLOAT or storage == DOUBLE:
        size = width(storage)
        if streaming:
            if row == n * size:  # one long row, so that no lines are shared
                rows, n = 1, rows * n
            for r in range(rows):
                stream(target + r * row, source + r * n * size, n * size)
        else:
            copy_rows(size, source, n * size, size, target, row, item, rows, n)
        return
    for r in range(rows):
        for i in range(0, n, BLOCK):
            scatter(storage, source + 4 * (r * n + i), target + r * row + i * item, item, min(n - i, BLOCK), 0)


@routine
def apply_mask(storage, mask, row, item, value, buffer, rows, n):
    """value, a float64's bits, where the mask is False."""
    filler = stack(LINE)
    keep(filler, 0, value)
    for r in range(rows):
        for i in range(n):
            if load(np.int8, mask + r * row + i * item) == 0:
                if storage == DOUBLE:
                    keep(buffer, 8 * (r * n + i), value)
                else:
                    store(np.float32, buffer + 4 * (r * n + i), np.float32(real(filler, 0)))


@routine
def store_minus_infinity(storage, target):
    if storage == DOUBLE:
        store(np.float64, target, -np.inf)
    elif storage == FLOAT:
        store(np.float32, target, np.float32(-np.inf))
    else:
        store(np.int16, target, np.int16(-1024 if storage == HALF else -128))


@entry
def run_direct(job, first, count):
    """Rows that are as kernels take them."""
    task = stack(TASK_BYTES)
    keep(task, N, word(job, JOB_N))
    keep(task, ROWS, count)
    keep(task, MORE, 0)
    keep(task, TEMPERATURE, word(job, JOB_TEMPERATURE))
    keep(task, X, word(job, OPERAND_X) + first * word(job, OPERAND_X + ROW))
    keep(task, X_ROW, word(job, OPERAND_X + ROW))
    keep(task, G, word(job, OPERAND_G) + first * word(job, OPERAND_G + ROW))
    keep(task, G_ROW, word(job, OPERAND_G + ROW))
    keep(task, Y, word(job, OPERAND_Y) + first * word(job, OPERAND_Y + ROW))
    keep(task, Y_ROW, word(job, OPERAND_Y + ROW))
    call(word(job, JOB_KERNEL), (task,))


def run_groups(job, first, count):
    """Rows of all kinds, which buffers make such, some at a time."""
    function, n, streaming = word(job, JOB_FUNCTION), word(job, JOB_N), word(job, JOB_STREAMING)
    storage = word(function, STORAGE)
    size = 8 if storage == DOUBLE else 4
    y_n = 1 if word(function, SINGLE_Y) else n
    g_n = 1 if word(function, SINGLE_G) else n
    x, x_row, x_item = word(job, OPERAND_X), word(job, OPERAND_X + ROW), word(job, OPERAND_X + ITEM)
    g, g_row, g_item = word(job, OPERAND_G), word(job, OPERAND_G + ROW), word(job, OPERAND_G + ITEM)
    y, y_row, y_item = word(job, OPERAND_Y), word(job, OPERAND_Y + ROW), word(job, OPERAND_Y + ITEM)
    mask, mask_row, mask_item = word(job, OPERAND_MASK), word(job, OPERAND_MASK + ROW), word(job, OPERAND_MASK + ITEM)
    computed = storage == FLOAT or storage == DOUBLE
    x_direct = computed and mask == 0 and (x_item == size or n == 1)
    g_direct = g == 0 or computed and (g_item == size or g_n == 1)
    y_direct = computed and mask == 0 and streaming == 0 and (y_item == size or y_n == 1)
    group = count
    if streaming:
        group = max(1, 4096 // n)
    if not (x_direct and g_direct and (y_direct or streaming)):
        group = max(16, GROUP // n)
    group = min(group, count)
    # Whole cache lines for each.
    x_bytes = 0 if x_direct else (group * n * size + LINE - 1) & -LINE
    g_bytes = 0 if g_direct else (group * g_n * size + LINE - 1) & -LINE
    y_bytes = 0 if y_direct else group * y_n * size
    memory = 0
    if x_bytes + g_bytes + y_bytes:
        memory = call_for_word(C_MALLOC, (x_bytes + g_bytes + y_bytes + LINE,))
        if memory == 0:
            need_kernel(-1)
            return
    x_buffer = (memory + LINE - 1) & -LINE
    g_buffer = x_buffer + x_bytes
    y_buffer = g_buffer + g_bytes
    task, infinity = stack(TASK_BYTES), stack(LINE)
    keep(task, N, n)
    keep(task, G, 0)
    keep(task, TEMPERATURE, word(job, JOB_TEMPERATURE))
    keep(infinity, 0, np.inf if word(function, NEGATED) else -np.inf)
    for start in range(first, first + count, group):
        rows = min(group, first + count - start)
        keep(task, ROWS, rows)
        keep(task, MORE, first + count - start - rows if x_direct else 0)
        keep(task, X, x + start * x_row if x_direct else x_buffer)
        keep(task, X_ROW, x_row if x_direct else n * size)
        if not x_direct:
            load_rows(storage, x + start * x_row, x_row, x_item, x_buffer, rows, n)
            if mask:
                apply_mask(storage, mask + start * mask_row, mask_row, mask_item, word(infinity, 0), x_buffer, rows, n)
        if g:
            keep(task, G, g + start * g_row if g_direct else g_buffer)
            keep(task, G_ROW, g_row if g_direct else g_n * size)
            if not g_direct:
                load_rows(storage, g + start * g_row, g_row, g_item, g_buffer, rows, g_n)
        keep(task, Y, y + start * y_row if y_direct else y_buffer)
        keep(task, Y_ROW, y_row if y_direct else y_n * size)
        call(word(job, JOB_KERNEL), (task,))
        if not y_direct:
            if mask and word(function, SINGLE_Y) == 0:
                apply_mask(storage, mask + start * mask_row, mask_row, mask_item, word(function, MASKED), y_buffer, rows, n)
            store_rows(storage, y_buffer, y + start * y_row, y_row, y_item, rows, y_n, streaming)
    if memory:
        call(C_FREE, (memory,))
    if streaming:
        fence()


_groups = Lazy(np.zeros(1, np.int64), 0, lambda: entry(run_groups))
GROUPS, GROUPS_NUMBER = _groups.words.ctypes.data, _groups.number
RUN_DIRECT = run_direct.address


@entry
def gufunc_loop(args, dimensions, steps, function):
    rows, n = word(dimensions, 0), word(dimensions, 8)
    if rows == 0:
        return
    job = stack(JOB_BYTES)
    for k in range(0, JOB_BYTES, 8):
        keep(job, k, 0)
    operands, storage = word(function, COUNT), word(function, STORAGE)
    single_g, single_y = word(function, SINGLE_G) != 0, word(function, SINGLE_Y) != 0
    size, core = width(storage), 8 * operands
    direct = size >= 4
    keep(job, JOB_TEMPERATURE, 1.0)
    for k in range(operands):
        role, step = word(function, ROLES + 8 * k), word(steps, 8 * k)
        if role == ROLE_TEMPERATURE:
            keep(job, JOB_TEMPERATURE, word(word(args, 8 * k), 0))  # one for all rows
            continue
        keep(job, 24 * role, word(args, 8 * k))
        keep(job, 24 * role + ROW, step)
        if not (role == ROLE_G and single_g or role == ROLE_Y and single_y):
            item = word(steps, core)
            keep(job, 24 * role + ITEM, item)
            direct = direct and (item == size or n == 1)
            core += 8
    if word(function, NEGATED):
        keep(job, JOB_TEMPERATURE, -real(job, JOB_TEMPERATURE))
    y = word(job, OPERAND_Y)
    if n == 0:
        if single_y:  # logsumexp of empty rows
            for r in range(rows):
                store_minus_infinity(storage, y + r * word(job, OPERAND_Y + ROW))
        return
    variant = 0
    if word(function, VARIANTS) > 1:
        variant = 8 * (n < SHORT) + 16 * (abs(real(job, JOB_TEMPERATURE)) != 1.0)
    kernel = kernel_at(function + KERNELS + variant, word(function, NUMBERS + variant))
    if kernel == 0:
        return
    keep(job, JOB_FUNCTION, function)
    keep(job, JOB_KERNEL, kernel)
    keep(job, JOB_N, n)
    big = rows * n * size > word(STREAMING_FROM, 0)
    apart = word(job, OPERAND_X) != y and word(job, OPERAND_G) != y
    streaming = big and apart and size >= 4 and word(job, OPERAND_Y + ITEM) == size and not single_y and y % size == 0
    keep(job, JOB_STREAMING, streaming)
    work = RUN_DIRECT
    if not direct or streaming or word(job, OPERAND_MASK) != 0:
        work = kernel_at(GROUPS, GROUPS_NUMBER)
        if work == 0:
            return
    threads = team(rows * n * word(function, COST))
    # Chunks of whole cache lines of columns.
    chunk = max(1, min(rows // (4 * threads), (1 << 18) // n))
    if chunk > 32:
        chunk = (chunk + 63) & -64
    elif word(job, OPERAND_X + ITEM) != size:
        chunk = (chunk + 15) & -16
    share(work, job, rows, chunk, threads)
    call(C_CLEAR_STATUS, (ALL_EXCEPTIONS,))


# --- gufuncs ----------------------------------------------------------------------------------------------------------

ROLE_CODES = {"x": ROLE_X, "g": ROLE_G, "y": ROLE_Y, "m": ROLE_MASK, "t": ROLE_TEMPERATURE}


class RowFunction:
    """A function of rows: ``gufunc`` of the rows alone, and ``general`` with mask and temperature too.

    ``kernel`` names the kernel; ``grad`` and ``result`` are the core dimensions of the gradient of the output and of the
    result: "(n)", "()" for one number a row, and for ``grad`` "" where there is none.
    """

    def __init__(self, name, kernel, *, grad="", result="(n)", with_mask=True, negated=False, masked=0.0, cost=0.5):
        self.kernel, self.cost, self.negated, self.masked = kernel, cost, negated, masked
        self.with_mask, self.grad_is_row, self.result_is_row = with_mask, grad == "(n)", result == "(n)"
        self.single_g = grad == "()"
        self.bfloat_words = []
        self.loops = {}
        inputs, roles = (grad + ",(n)", "gx") if grad else ("(n)", "x")
        self.gufunc = self._make(name, inputs + "->" + result, roles + "y")
        if with_mask:
            inputs, roles = inputs + ",(n)", roles + "m"
        self.general = self._make(name + "_general", inputs + ",()->" + result, roles + "ty")
        numba_cpu.ufuncs.append(self)
        if numba_cpu.bfloat16 is not None:
            self.learn(numba_cpu.bfloat16)

    def direct(self, x, grad, axis, temperature, out):
        """No lane is faster than the gufunc."""

    def _make(self, name, signature, roles):
        kinds, data = [], []
        for code, storage in (("e", HALF), ("f", FLOAT), ("d", DOUBLE)):
            kinds.append(_codes(roles, np.dtype(code)))
            data.append(self._words(storage, roles))
        gufunc = make_ufunc(name, "", gufunc_loop.address, kinds, data, signature=signature)
        self.bfloat_words.append((gufunc, roles, self._words(BFLOAT, roles)))
        return gufunc

    def _words(self, storage, roles):
        """The function for one way to store numbers; kept for good."""
        words = np.zeros(24, np.int64)
        T = np.float64 if storage == DOUBLE else np.float32
        count = variants(self.kernel)
        for variant in range(count):
            lazy = Lazy(words, KERNELS + 8 * variant, lambda variant=variant: task_kernel(self.kernel, variant, T))
            words[NUMBERS // 8 + variant] = lazy.number
            self.loops.setdefault(storage, []).append(lazy)
        picoseconds = self.cost * (2000 if storage == DOUBLE else 1000)
        masked = np.float64(self.masked).view(np.int64)
        for offset, value in ((VARIANTS, count), (STORAGE, storage), (SINGLE_G, self.single_g), (SINGLE_Y, not self.result_is_row),
                              (NEGATED, self.negated), (MASKED, masked), (COST, picoseconds),
                              (COUNT, len(roles))):  # fmt: skip
            words[offset // 8] = value
        words[ROLES // 8 :][: len(roles)] = [ROLE_CODES[role] for role in roles]
        return words.ctypes.data

    def learn(self, bfloat16):
        for gufunc, roles, words in self.bfloat_words:
            register_loop(gufunc, bfloat16, gufunc_loop.address, _codes(roles, bfloat16), words)

    def compile(self, dtype):
        """Compile the kernels that arrays of a dtype need, now."""
        for lazy in self.loops[DOUBLE if dtype == np.float64 else FLOAT]:
            lazy.compile()


def _codes(roles, dtype):
    return [{"m": np.dtype(bool), "t": np.dtype(np.float64)}.get(role, dtype).num for role in roles]
