# cython: language_level=3, freethreading_compatible=True
"""From arrays to the kernels of the losses that take rows: strides, half types, targets, sums, threads.

Built once; the kernels come from the build for the best instruction set, as addresses (see bind).
"""

from libc.math cimport log
from libc.stdlib cimport free
from libc.string cimport memset
cimport numpy as np

from .operands cimport (
    DOUBLE, FLOAT, GROUP, Operand, Storage, Workspace, address, computed, fill_with_zeros, go_past_cache, load, number_at, reserve,
    set_number, stand_side_by_side, storage_of, store, width,
)
from .rows cimport BATCH, PANEL, SHORT, batch_of, panel_bytes
from .threads cimport share, team

np.import_array()

cdef extern from "primitives.h" nogil:
    void stream_element(char*, Py_ssize_t, Py_ssize_t, const void*, Py_ssize_t)
    void stream_fence()
    void prefetch(const void*)

cdef extern from *:
    const Py_ssize_t PY_SSIZE_T_MIN

ctypedef void (*loss_kernel)(CrossEntropy*, Py_ssize_t) noexcept nogil
ctypedef void (*loss_panel_kernel)(CrossEntropyPanel*) noexcept nogil
ctypedef void (*compare_kernel)(ComparedRows*) noexcept nogil
ctypedef double (*spread_kernel)(char*, char*, Py_ssize_t, double, double, char*) noexcept nogil

cdef enum:
    SUMS = 256           # partial sums of a loss

# Set by bind().
cdef loss_kernel cross_entropy_kernels[2]
cdef loss_panel_kernel cross_entropy_panel_kernels[2]
cdef spread_kernel spread_kernels[2]
cdef dict addresses = {}


def bind(kernels):
    """Take the kernels from the chosen build."""
    global addresses
    addresses = kernels
    for storage, T in ((FLOAT, "float"), (DOUBLE, "double")):
        cross_entropy_kernels[<int>storage] = <loss_kernel><size_t>kernels["softmax_cross_entropy_" + T]
        cross_entropy_panel_kernels[<int>storage] = <loss_panel_kernel><size_t>kernels["softmax_cross_entropy_columns_" + T]
        spread_kernels[<int>storage] = <spread_kernel><size_t>kernels["spread_targets_" + T]


cdef struct LossJob:
    compare_kernel compare[2]   # of the computed types for a loss that compares rows with probabilities, else NULL
    bint at_label               # for one that reads nothing but the element of its class
    bint logarithm              # of which it takes the logarithm
    Operand x, target
    Operand grad, values     # without data if not wanted; values are the losses of the rows
    Storage storage
    Py_ssize_t rows, n
    int label_type           # the integer type of target, or -1 if it holds probabilities
    Py_ssize_t ignore_index
    double* shares           # of the classes: what the target is at a label; NULL if that is keep for all
    char* spread             # what is subtracted from the gradient of all rows beside their label, or NULL
    char* spread_weight      # of the classes as float or double, for probabilities, or NULL
    double spread_sum, keep, floor, z_loss, gamma, factor
    int unit                 # the logarithm to base 2 of how many rows in order make one of the partial sums
    double sums[SUMS]
    bint streaming, failed

cdef inline Py_ssize_t label_at(char* p, int number) noexcept nogil:
    cdef Py_ssize_t label
    if number == np.NPY_LONG:
        return (<long*>p)[0]
    if number == np.NPY_LONGLONG:
        return <Py_ssize_t>(<long long*>p)[0]
    if number == np.NPY_INT:
        return (<int*>p)[0]
    if number == np.NPY_UINT:
        return (<unsigned int*>p)[0]
    if number == np.NPY_SHORT:
        return (<short*>p)[0]
    if number == np.NPY_USHORT:
        return (<unsigned short*>p)[0]
    if number == np.NPY_BYTE:
        return (<signed char*>p)[0]
    if number == np.NPY_UBYTE:
        return (<unsigned char*>p)[0]
    # The unsigned ones as wide as label: what does not fit must not come out as some other class, nor as ignore_index.
    label = <Py_ssize_t>((<unsigned long*>p)[0] if number == np.NPY_ULONG else (<unsigned long long*>p)[0])
    return PY_SSIZE_T_MIN if label < 0 else label

cdef inline Py_ssize_t label_of(LossJob* job, Py_ssize_t row, double* share) noexcept nogil:
    """The class of a row that counts, and what the target is there; else -1."""
    cdef Py_ssize_t label = label_at(address(&job.target, row), job.label_type)
    if label == job.ignore_index:
        return -1
    share[0] = job.keep if job.shares == NULL else job.shares[label]
    return label

cdef inline void take_value(LossJob* job, Py_ssize_t row, double value) noexcept nogil:
    """The loss of one row: into its sum, and to where the losses are wanted."""
    job.sums[row >> job.unit] += value
    if job.values.data != NULL:
        set_number(address(&job.values, row), job.storage, value)

cdef void run_loss_columns(void* about, Py_ssize_t first, Py_ssize_t count) noexcept nogil:
    """The losses of some rows, side by side, where classes are the only target."""
    cdef LossJob* job = <LossJob*>about
    cdef Storage storage = job.storage, compute = computed(storage)
    cdef Py_ssize_t size = width(compute), n = job.n, start = first, most = min(count, <Py_ssize_t>PANEL), r
    cdef bint direct = storage == compute, beside = job.x.row == width(storage)
    cdef Py_ssize_t sizes[3]
    cdef Workspace work
    cdef CrossEntropyPanel task
    sizes[0] = 0 if direct else most * n * size
    sizes[1] = 0 if direct or job.grad.data == NULL else most * n * size
    sizes[2] = panel_bytes(most, n, size)
    if not reserve(&work, 0 if direct else most * n * 2, sizes, 3):
        job.failed = True
        return
    task.n = n
    task.grad = NULL
    task.logits_row = job.x.row // size
    task.logits_item = job.x.item // size
    task.grad_row = job.grad.row // size
    task.grad_item = job.grad.item // size
    task.z_loss = job.z_loss
    task.gamma = job.gamma
    task.factor = job.factor
    task.scratch = work.buffers[2]
    while start < first + count:
        task.rows = min(<Py_ssize_t>PANEL, first + count - start, job.x.inner - start % job.x.inner)
        if direct:
            task.logits = address(&job.x, start)
        else:
            task.logits = load(&job.x, start, task.rows, n, storage, work.raw, work.buffers[0], beside)
            task.logits_row = task.grad_row = 1 if beside else n
            task.logits_item = task.grad_item = task.rows if beside else 1
        if job.grad.data != NULL:
            task.grad = address(&job.grad, start) if direct else work.buffers[1]
        for r in range(task.rows):
            task.label[r] = label_of(job, start + r, &task.share[r])
        cross_entropy_panel_kernels[<int>compute](&task)
        for r in range(task.rows):
            take_value(job, start + r, task.value[r])
        if job.grad.data != NULL and not direct:
            store(&job.grad, start, task.rows, n, storage, work.raw, task.grad, beside)
        start += task.rows
    free(work.memory)

cdef void run_loss_rows(void* about, Py_ssize_t first, Py_ssize_t count) noexcept nogil:
    """The same, row by row."""
    cdef LossJob* job = <LossJob*>about
    cdef Storage storage = job.storage, compute = computed(storage)
    cdef Py_ssize_t size = width(compute), n = job.n, batch = batch_of(n), group = count, rows, start = first, r, i, k
    cdef bint gradient = job.grad.data != NULL, probabilities = job.label_type < 0
    cdef bint logits_direct = storage == compute and (job.x.item == size or n == 1)
    cdef bint grad_direct = storage == compute and (job.grad.item == size or n == 1)
    cdef bint target_direct = not probabilities or storage == compute and (job.target.item == size or n == 1)
    cdef Py_ssize_t logits_row = job.x.row if logits_direct else n * size
    cdef Py_ssize_t grad_row = job.grad.row if grad_direct else n * size
    cdef Py_ssize_t target_row = job.target.row if target_direct else n * size
    cdef Py_ssize_t sizes[5]
    cdef Workspace work
    cdef CrossEntropy[BATCH] tasks
    cdef CrossEntropy* task
    cdef char* logits
    cdef char* grad = NULL
    cdef char* target = NULL
    if not (logits_direct and target_direct and (grad_direct or not gradient)):
        group = min(count, max(16, GROUP // n))
    sizes[0] = 0 if logits_direct else group * n * size
    sizes[1] = 0 if grad_direct or not gradient else group * n * size
    sizes[2] = 0 if target_direct else group * n * size
    sizes[3] = batch * n * size if probabilities else 0
    sizes[4] = batch * n * size if job.streaming else 0
    if not reserve(&work, 0 if storage == compute else group * n * 2, sizes, 5):
        job.failed = True
        return
    for k in range(batch):
        task = &tasks[k]
        task.n = n
        task.label = -1
        task.share = 0
        task.grad = NULL
        task.spread = work.buffers[3] + k * n * size if probabilities else job.spread
        task.spread_sum = job.spread_sum
        task.z_loss = job.z_loss
        task.gamma = job.gamma
        task.factor = job.factor
        task.streaming = job.streaming
        task.scratch = work.buffers[4] + k * n * size
    while start < first + count:
        rows = min(group, first + count - start, job.x.inner - start % job.x.inner)
        logits = (address(&job.x, start) if logits_direct
                  else load(&job.x, start, rows, n, storage, work.raw, work.buffers[0]))
        if gradient:
            grad = address(&job.grad, start) if grad_direct else work.buffers[1]
        if probabilities:
            target = (address(&job.target, start) if target_direct
                      else load(&job.target, start, rows, n, storage, work.raw, work.buffers[2]))
        k = 0
        for r in range(rows):
            task = &tasks[k]
            if probabilities:
                task.spread_sum = spread_kernels[<int>compute](target + r * target_row, job.spread_weight, n, job.keep, job.floor,
                                                               task.spread)
            else:
                task.label = label_of(job, start + r, &task.share)
                if task.label < 0:
                    if gradient:
                        memset(grad + r * grad_row, 0, n * size)
                    take_value(job, start + r, 0)
            if probabilities or task.label >= 0:
                task.row = start + r
                task.logits = logits + r * logits_row
                if gradient:
                    task.grad = grad + r * grad_row
                task.ahead = logits_row // size * batch if logits_direct and r + batch < rows and n * size < 1 << 18 else 0
                k += 1
            if k == batch or r == rows - 1:
                cross_entropy_kernels[<int>compute](tasks, k)
                for i in range(k):
                    take_value(job, tasks[i].row, tasks[i].value)
                k = 0
        if gradient and not grad_direct:
            store(&job.grad, start, rows, n, storage, work.raw, grad)
        start += rows
    free(work.memory)
    if job.streaming:
        stream_fence()

cdef inline bint lies_as_computed(Operand* operand, Storage storage, Py_ssize_t n, Py_ssize_t row) noexcept nogil:
    """Whether rows need not be brought into contiguous memory first; row is the step that they must have, 0 for any."""
    return storage == computed(storage) and (operand.item == width(storage) or n == 1) and (row == 0 or operand.row == row)

cdef void run_compared_rows(void* about, Py_ssize_t first, Py_ssize_t count) noexcept nogil:
    """The losses of some rows compared with probabilities."""
    cdef LossJob* job = <LossJob*>about
    cdef Storage storage = job.storage, compute = computed(storage)
    cdef Py_ssize_t size = width(compute), n = job.n, group = max(1, min(count, GROUP // n)), start = first, r
    cdef Py_ssize_t row = n * size if n <= BLOCK else 0        # short rows follow one another
    cdef bint gradient = job.grad.data != NULL
    cdef bint x_direct = lies_as_computed(&job.x, storage, n, row)
    cdef bint target_direct = lies_as_computed(&job.target, storage, n, row)
    cdef bint grad_direct = lies_as_computed(&job.grad, storage, n, row)
    cdef Py_ssize_t[4] sizes
    cdef Workspace work
    cdef ComparedRows task
    sizes[0] = 0 if x_direct else group * n * size
    sizes[1] = 0 if target_direct else group * n * size
    sizes[2] = 0 if grad_direct or not gradient else group * n * size
    sizes[3] = group * sizeof(double)
    if not reserve(&work, 0 if storage == compute else group * n * 2, sizes, 4):
        job.failed = True
        return
    task.n = n
    task.x_row = job.x.row // size if x_direct else n
    task.target_row = job.target.row // size if target_direct else n
    task.grad_row = job.grad.row // size if grad_direct else n
    task.grad = NULL
    task.weight = job.spread_weight
    task.values = <double*>work.buffers[3]
    task.factor = job.factor
    task.streaming = job.streaming and grad_direct
    while start < first + count:
        task.rows = min(group, first + count - start, job.x.inner - start % job.x.inner)
        task.x = (address(&job.x, start) if x_direct
                  else load(&job.x, start, task.rows, n, storage, work.raw, work.buffers[0]))
        task.target = (address(&job.target, start) if target_direct
                       else load(&job.target, start, task.rows, n, storage, work.raw, work.buffers[1]))
        if gradient:
            task.grad = address(&job.grad, start) if grad_direct else work.buffers[2]
        job.compare[<int>compute](&task)
        for r in range(task.rows):
            take_value(job, start + r, task.values[r])
        if gradient and not grad_direct:
            store(&job.grad, start, task.rows, n, storage, work.raw, task.grad)
        start += task.rows
    free(work.memory)
    if task.streaming:
        stream_fence()

cdef void run_labels(void* about, Py_ssize_t first, Py_ssize_t count) noexcept nogil:
    """The losses of some rows that depend on the element of their class alone: elsewhere the gradient is 0."""
    cdef LossJob* job = <LossJob*>about
    cdef Storage storage = job.storage
    # The elements of some rows are fetched together, as each is on a cache line of its own.
    cdef Py_ssize_t n = job.n, size = width(storage), group = min(count, max(<Py_ssize_t>32, GROUP // n)), start = first, rows, r
    cdef Py_ssize_t row = job.x.row, item = job.x.item, unit = first >> job.unit
    cdef bint gradient = job.grad.data != NULL, logarithm = job.logarithm
    cdef Py_ssize_t[2] sizes = [group * sizeof(Py_ssize_t), group * sizeof(double)]
    cdef Py_ssize_t* label
    cdef double* slope
    cdef char* element
    cdef char* x
    cdef Workspace work
    cdef double stored, share = 0, value, factor, total = job.sums[unit]
    if not reserve(&work, 0, sizes, 2):
        job.failed = True
        return
    label = <Py_ssize_t*>work.buffers[0]
    slope = <double*>work.buffers[1]
    while start < first + count:
        rows = min(group, first + count - start, job.x.inner - start % job.x.inner)
        x = address(&job.x, start)
        for r in range(rows):
            label[r] = label_of(job, start + r, &share)
            slope[r] = -share
            if label[r] < 0 or share == 0:
                slope[r] = 0
            else:
                prefetch(x + r * row + label[r] * item)
        for r in range(rows):
            value = 0
            if slope[r] != 0:
                element = x + r * row + label[r] * item
                value = (<float*>element)[0] if storage == FLOAT else number_at(element, storage)
                factor = job.factor / value if logarithm else job.factor
                value = 0 + slope[r] * (log(value) if logarithm else value)
                slope[r] *= factor
            if start + r >> job.unit != unit:
                job.sums[unit] = total
                unit = start + r >> job.unit
                total = job.sums[unit]
            total += value
            if job.values.data != NULL:
                set_number(address(&job.values, start + r), storage, value)
        if job.streaming:
            for r in range(rows):
                set_number(<char*>&stored, storage, slope[r])
                stream_element(address(&job.grad, start + r), n * size, max(label[r], <Py_ssize_t>0) * size, &stored, size)
        elif gradient:
            fill_with_zeros(address(&job.grad, start), job.grad.row, job.grad.item, rows, n, size)
            for r in range(rows):
                if slope[r] != 0:
                    set_number(address(&job.grad, start + r) + label[r] * job.grad.item, storage, slope[r])
        start += rows
    job.sums[unit] = total
    free(work.memory)
    if job.streaming:
        stream_fence()


cdef double run_losses(LossJob* job) noexcept nogil:
    """The sum over all rows, whose order depends on nothing but the shape."""
    cdef Py_ssize_t size = width(job.storage), chunk, i
    cdef double total = 0
    cdef int threads
    cdef bint columns = (job.compare[0] == NULL and not job.at_label and job.label_type >= 0 and job.spread == NULL
                         and (job.n < SHORT or size >= 4 and stand_side_by_side(&job.x, job.x.inner, job.n, size)))
    job.streaming = (not columns and size >= 4 and job.grad.data != NULL and job.grad.item == size
                     and job.grad.data != job.x.data and go_past_cache(job.rows, job.n, size))
    while (<Py_ssize_t>1 << job.unit) < max((job.rows + SUMS - 1) // SUMS, GROUP // job.n):
        job.unit += 1
    chunk = max(<Py_ssize_t>PANEL if columns else 1, <Py_ssize_t>1 << job.unit)
    if job.at_label:
        threads = team(job.rows * (5 + (0.02 * size * job.n if job.grad.data != NULL else 0)))
        share(run_labels, job, job.rows, chunk, threads)
    elif job.compare[0] != NULL:
        threads = team(0.1 * size * job.rows * job.n)
        share(run_compared_rows, job, job.rows, chunk, threads)
    else:
        threads = team(job.rows * job.n * (1.0 if size == 8 else 0.5))
        share(run_loss_columns if columns else run_loss_rows, job, job.rows, chunk, threads)
    for i in range(SUMS):
        total += job.sums[i]
    return total


cdef bint collapses(np.ndarray array, int start, int stop):
    """Whether those dimensions are one, of equal steps."""
    cdef Py_ssize_t step = 0
    cdef bint found = False
    cdef int k
    for k in range(stop - 1, start - 1, -1):
        if np.PyArray_DIM(array, k) == 1:
            continue
        if found and np.PyArray_STRIDE(array, k) != step:
            return False
        found = True
        step = np.PyArray_STRIDE(array, k) * np.PyArray_DIM(array, k)
    return True

cdef Py_ssize_t step_of(np.ndarray array, int start, int stop):
    cdef int k
    for k in range(stop - 1, start - 1, -1):
        if np.PyArray_DIM(array, k) != 1:
            return np.PyArray_STRIDE(array, k)
    return 0

cdef Operand rows_of(np.ndarray array, int outer, int split, Py_ssize_t inner):
    cdef int ndim = np.PyArray_NDIM(array)
    return Operand(<char*>np.PyArray_DATA(array), step_of(array, split, outer),
                   np.PyArray_STRIDE(array, ndim - 1) if ndim > outer else 0, step_of(array, 0, split), inner)


cdef inline bint all_exist(char* labels, int number, Py_ssize_t size, Py_ssize_t rows, Py_ssize_t classes, Py_ssize_t ignore_index,
                           Py_ssize_t* counting) noexcept nogil:
    """Whether all labels are classes or ignored, and how many are not; without branches where number is known to the compiler."""
    cdef Py_ssize_t r, label, bad = 0, kept = 0
    cdef int counts
    for r in range(rows):
        label = label_at(labels + r * size, number)
        counts = label != ignore_index
        kept += counts
        bad += counts & (<size_t>label >= <size_t>classes)
    counting[0] = kept
    return bad == 0

def total_weight(np.ndarray target, Py_ssize_t classes, Py_ssize_t ignore_index, np.ndarray weight):
    """The sum of the weights of the rows that count, 1 each if weight is None; target is contiguous.

    Raises IndexError for a class that does not exist.
    """
    cdef int number = np.PyArray_TYPE(target)
    cdef Py_ssize_t size = np.PyArray_ITEMSIZE(target), rows = np.PyArray_SIZE(target), counting, r, label
    cdef char* labels = <char*>np.PyArray_DATA(target)
    cdef double* weights = NULL if weight is None else <double*>np.PyArray_DATA(weight)
    cdef double total = 0
    cdef bint exist
    with nogil:
        if number == np.NPY_LONG:
            exist = all_exist(labels, np.NPY_LONG, sizeof(long), rows, classes, ignore_index, &counting)
        elif number == np.NPY_INT:
            exist = all_exist(labels, np.NPY_INT, sizeof(int), rows, classes, ignore_index, &counting)
        else:
            exist = all_exist(labels, number, size, rows, classes, ignore_index, &counting)
        for r in range(rows if exist and weights != NULL else 0):
            label = label_at(labels + r * size, number)
            if label != ignore_index:
                total += weights[label]
    if not exist:
        for r in range(rows):
            label = label_at(labels + r * size, number)
            if label != ignore_index and not 0 <= label < classes:
                raise IndexError(f"class {target.flat[r]} at row {r} is not one of the {classes} classes")
    return counting if weight is None else total


def evaluate(str loss, np.ndarray x, np.ndarray target, np.ndarray grad, np.ndarray values, double factor, *,
             np.ndarray shares=None, np.ndarray spread_weight=None, np.ndarray spread=None, double spread_sum=0,
             Py_ssize_t ignore_index=0, double keep=1, double floor=0, double z_loss=0, double gamma=0):
    """factor times the sum of the losses of rows, along the last axis of x; None if the arrays have too many dimensions.

    target holds probabilities if it has as many dimensions as x, else classes that exist. Those of grad and values that
    are not None are written; the gradient is multiplied by factor too.
    """
    cdef int outer = np.PyArray_NDIM(x) - 1, split
    cdef double total
    cdef LossJob job
    memset(&job, 0, sizeof(LossJob))
    for split in range(outer + 1):
        for array in (x, target, grad, values):
            if array is not None and not (collapses(array, 0, split) and collapses(array, split, outer)):
                break
        else:
            break
    else:
        return None
    job.n = np.PyArray_DIM(x, outer)
    job.rows = np.PyArray_SIZE(x) // job.n if job.n else 0
    if job.rows == 0:
        return 0.0
    inner = 1
    for k in range(split, outer):
        inner *= np.PyArray_DIM(x, k)
    job.storage = <Storage>storage_of(x)
    job.x = rows_of(x, outer, split, inner)
    job.target = rows_of(target, outer, split, inner)
    if grad is not None:
        job.grad = rows_of(grad, outer, split, inner)
    if values is not None:
        job.values = rows_of(values, outer, split, inner)
    if shares is not None:
        job.shares = <double*>np.PyArray_DATA(shares)
    if spread_weight is not None:
        job.spread_weight = <char*>np.PyArray_DATA(spread_weight)
    if spread is not None:
        job.spread = <char*>np.PyArray_DATA(spread)
    job.spread_sum = spread_sum
    job.ignore_index = ignore_index
    job.keep = keep
    job.floor = floor
    job.z_loss = z_loss
    job.gamma = gamma
    job.factor = factor
    job.label_type = -1 if np.PyArray_NDIM(target) == outer + 1 else np.PyArray_TYPE(target)
    if loss != "softmax_cross_entropy":
        job.at_label = job.label_type >= 0
        job.logarithm = loss != "nll_loss"
        if not job.at_label:
            for storage, T in ((FLOAT, "float"), (DOUBLE, "double")):
                job.compare[<int>storage] = <compare_kernel><size_t>addresses[f"{loss}_{T}"]
    with nogil:
        total = run_losses(&job)
    if job.failed:
        raise MemoryError
    return total * factor
