# cython: language_level=3, freethreading_compatible=True
"""What no ufunc does in one pass over an array: prelu with the gradient of its weight, and maxout.

Built once; the loops over a block come from the build for the best instruction set, as addresses (see bind).
"""

from libc.string cimport memcpy, memset
cimport numpy as np

from .dispatch cimport BLOCK, gather, scatter
from .memory cimport empty_like
from .operands cimport DOUBLE, FLOAT, Storage, computed, exceed_cache, storage_of, width
from .threads cimport share, team

np.import_array()

cdef extern from "reductions.h" nogil:
    double add_up_float(double*, double*, double*)
    double add_up_double(double*, double*, double*)

cdef extern from "primitives.h" nogil:
    void stream_fence()

cdef extern from *:
    """
    #define EXACT_AND_BEHAVED(array) (PyArray_CheckExact(array) && PyArray_ISBEHAVED_RO(array))
    """
    bint EXACT_AND_BEHAVED(np.ndarray)

# Set by bind(); for float and double.
ctypedef void (*prelu_loop)(char*, char*, char*, char*, Py_ssize_t, double*, double*) noexcept nogil
cdef prelu_loop prelu_shared[2]
cdef prelu_loop prelu_each[2]
cdef void (*maxout_larger[2])(char*, char*, char*, Py_ssize_t) noexcept nogil
cdef void (*maxout_pairs[2])(char*, char*, Py_ssize_t) noexcept nogil
cdef void (*maxout_fold[2])(char*, char*, char*, Py_ssize_t, Py_ssize_t) noexcept nogil
cdef void (*maxout_route[2])(char*, char*, char*, Py_ssize_t, char*, Py_ssize_t) noexcept nogil


def bind(kernels):
    """Take the loops from the chosen build."""
    for k, kind in enumerate(("float", "double")):
        prelu_shared[k] = <prelu_loop><size_t>kernels[f"prelu_shared_{kind}"]
        prelu_each[k] = <prelu_loop><size_t>kernels[f"prelu_each_{kind}"]
        maxout_larger[k] = <void (*)(char*, char*, char*, Py_ssize_t) noexcept nogil><size_t>kernels[f"maxout_larger_{kind}"]
        maxout_pairs[k] = <void (*)(char*, char*, Py_ssize_t) noexcept nogil><size_t>kernels[f"maxout_pairs_{kind}"]
        maxout_fold[k] = <void (*)(char*, char*, char*, Py_ssize_t, Py_ssize_t) noexcept nogil><size_t>kernels[f"maxout_fold_{kind}"]
        maxout_route[k] = <void (*)(char*, char*, char*, Py_ssize_t, char*, Py_ssize_t) noexcept nogil><size_t>kernels[f"maxout_route_{kind}"]


# --- prelu with the gradient of its weight --------------------------------------------------------------------------

cdef enum:
    RUN = 65536          # elements whose terms are summed by one thread, so that the sum does not depend on the threads
    FEWEST_ROWS = 64     # of a weight for each column: its sums are to be small beside what they are taken over
    LANES = 16           # at most, of a sum in reductions.h

cdef struct Spaced:
    char* data
    Py_ssize_t step      # bytes from each element to the next

cdef struct Prelu:
    Storage storage
    Spaced grad
    Spaced x
    Spaced grad_x
    char* weight         # float or double, one or more
    Py_ssize_t weights
    Py_ssize_t length    # elements of a row, which has one weight, or one for each of them
    Py_ssize_t total     # elements
    Py_ssize_t runs      # of a row; or, negated, rows of a run
    double* sums

cdef void prelu_part(Prelu* job, prelu_loop* loop, Py_ssize_t first, Py_ssize_t count, Py_ssize_t weight, double* sums, double* low) noexcept nogil:
    """Elements that follow each other: their gradients, and their terms added to the lanes of one sum, or, without low, to as many sums."""
    cdef char buffers[3 * BLOCK * 8]
    cdef Storage compute = computed(job.storage)
    cdef Py_ssize_t end = first + count, block, shared = low != NULL
    cdef bint direct = job.storage == compute and job.grad_x.step == width(compute)
    cdef char* grad
    cdef char* x
    cdef char* y
    cdef char* target
    while first < end:
        block = min(end - first, <Py_ssize_t>BLOCK)
        grad = gather(job.storage, job.grad.data + first * job.grad.step, job.grad.step, block, buffers)
        x = gather(job.storage, job.x.data + first * job.x.step, job.x.step, block, buffers + BLOCK * 8)
        target = job.grad_x.data + first * job.grad_x.step
        y = target if direct else buffers + 2 * BLOCK * 8
        loop[<int>compute](grad, x, job.weight + weight * width(compute), y, block, sums, low)
        if not direct:
            scatter(job.storage, y, target, job.grad_x.step, block, False)
        first += block
        if not shared:
            weight += block
            sums += block

cdef void prelu_piece(void* task, Py_ssize_t start, Py_ssize_t count) noexcept nogil:
    cdef Prelu* job = <Prelu*>task
    cdef double total[LANES]
    cdef double low[LANES]
    cdef double rest
    cdef double* sums
    cdef Py_ssize_t unit, row, first
    for unit in range(start, start + count):
        if job.runs > 0:
            memset(total, 0, sizeof(total))
            memset(low, 0, sizeof(low))
            row = unit // job.runs
            first = (unit - row * job.runs) * RUN
            prelu_part(job, prelu_shared, row * job.length + first, min(<Py_ssize_t>RUN, job.length - first), row % job.weights, total, low)
            job.sums[unit] = add_up_double(total, low, &rest) if job.storage == DOUBLE else add_up_float(total, low, &rest)
        else:
            sums = job.sums + unit * job.length
            memset(sums, 0, job.length * sizeof(double))
            for row in range(unit * -job.runs, (unit + 1) * -job.runs):
                if row * job.length < job.total:
                    prelu_part(job, prelu_each, row * job.length, min(job.length, job.total - row * job.length), 0, sums, NULL)

cdef bint is_spaced(np.ndarray array, np.ndarray like, Spaced* spaced):
    """Whether an array of the shape and type of another has its elements, in order, the same number of bytes apart."""
    cdef Py_ssize_t k, joined = 1
    spaced.data = <char*>np.PyArray_DATA(array)
    spaced.step = np.PyArray_ITEMSIZE(array)
    if not EXACT_AND_BEHAVED(array) or np.PyArray_TYPE(array) != np.PyArray_TYPE(like) or not np.PyArray_SAMESHAPE(array, like):
        return False
    for k in range(np.PyArray_NDIM(array) - 1, -1, -1):
        if np.PyArray_DIM(array, k) > 1:
            if joined == 1:
                spaced.step = np.PyArray_STRIDE(array, k)
            elif np.PyArray_STRIDE(array, k) != joined * spaced.step:
                return False
            joined *= np.PyArray_DIM(array, k)
    return True

cdef bint touch(Spaced* a, Spaced* b, Py_ssize_t last, Py_ssize_t size) noexcept:
    """Whether they share memory other than by being the same elements, the last one being of that number."""
    if a.data == b.data and a.step == b.step:
        return False
    return max(a.data, a.data + last * a.step) + size > min(b.data, b.data + last * b.step) \
        and max(b.data, b.data + last * b.step) + size > min(a.data, a.data + last * a.step)


def prelu_backward(np.ndarray grad, np.ndarray x, np.ndarray weight, Py_ssize_t inner, np.ndarray out):
    """The gradient of x, and sums of terms of the weight's: (rows, runs) for rows of inner elements of one weight each, else
    (runs, weights) for a weight for each column. None if the arrays are not alike, or their elements not evenly spaced."""
    cdef Prelu job
    cdef int storage = storage_of(x)
    cdef np.npy_intp shape[2]
    cdef np.ndarray sums
    cdef Py_ssize_t last = np.PyArray_SIZE(x) - 1, size = np.PyArray_ITEMSIZE(x)
    if storage < 0 or last < 0 or not is_spaced(x, x, &job.x) or not is_spaced(grad, x, &job.grad):
        return None
    if out is None:
        out = empty_like(x)
    if not is_spaced(out, x, &job.grad_x) or not np.PyArray_ISWRITEABLE(out) or last > 0 and job.grad_x.step == 0 \
            or touch(&job.grad_x, &job.x, last, size) or touch(&job.grad_x, &job.grad, last, size):
        return None
    job.storage = <Storage>storage
    job.weight = <char*>np.PyArray_DATA(weight)
    job.weights = np.PyArray_SIZE(weight)
    job.total = last + 1
    if job.weights == 1 or inner > 1:
        job.length = job.total if job.weights == 1 else inner
        job.runs = (job.length + RUN - 1) // RUN
        shape[0] = job.total // job.length
        shape[1] = job.runs
    else:
        job.length = job.weights
        job.runs = -max(<Py_ssize_t>RUN // job.length, <Py_ssize_t>FEWEST_ROWS)
        shape[0] = (job.total + job.length * -job.runs - 1) // (job.length * -job.runs)
        shape[1] = job.length
    sums = np.PyArray_EMPTY(2, shape, np.NPY_DOUBLE, 0)
    job.sums = <double*>np.PyArray_DATA(sums)
    with nogil:
        share(prelu_piece, &job, shape[0] * job.runs if job.runs > 0 else shape[0], 1, team(job.total * 0.25))
    return out, sums


# --- Maxout -------------------------------------------------------------------------------------------------------

cdef struct Maxout:
    Storage storage
    Py_ssize_t pieces
    Py_ssize_t inner     # elements from piece to piece; as many outputs follow each other
    char* x
    char* y              # the output, or grad_output
    char* grad           # of x, or NULL
    bint streaming       # the output goes past the cache

cdef Py_ssize_t maxout_run(Maxout* job, Py_ssize_t start, Py_ssize_t count, char** x, Py_ssize_t* step) noexcept nogil:
    """Of how many outputs from start on the pieces of one number are evenly spaced; where the first piece of the first one is, and the space."""
    cdef Py_ssize_t row = start // job.inner, size = width(job.storage), block = min(count, <Py_ssize_t>BLOCK)
    x[0] = job.x + (row * (job.pieces - 1) * job.inner + start) * size
    step[0] = job.pieces * size if job.inner == 1 else size
    return block if job.inner == 1 else min(block, (row + 1) * job.inner - start)

cdef void maxout_piece(void* task, Py_ssize_t start, Py_ssize_t count) noexcept nogil:
    """Outputs start ... start + count."""
    cdef Maxout* job = <Maxout*>task
    cdef char buffers[3 * BLOCK * 8]
    cdef char* best = buffers
    cdef char* spare = buffers + BLOCK * 8
    cdef char* read = buffers + 2 * BLOCK * 8
    cdef char* x
    cdef char* top
    cdef Storage compute = computed(job.storage), storage
    cdef Py_ssize_t size = width(job.storage), step, apart, block, pieces, k
    while count > 0:
        block = maxout_run(job, start, count, &x, &step)
        storage, pieces, apart = job.storage, job.pieces, job.inner * size
        if job.inner == 1 and pieces % 2 == 0 and pieces <= 2 * BLOCK:
            # The larger of each two neighbours, until their number is odd: piece by piece two floats took 0.8 ns.
            block = min(block, 2 * BLOCK // pieces)
            x = gather(storage, x, size, block * pieces, read)
            while pieces % 2 == 0:
                pieces //= 2
                maxout_pairs[<int>compute](x, best, block * pieces)
                x = best
                best, spare = spare, best
            storage, apart = compute, width(compute)
            step = pieces * apart
        top = gather(storage, x, step, block, best)
        for k in range(1, pieces):
            maxout_larger[<int>compute](top, gather(storage, x + k * apart, step, block, read), best, block)
            top = best
        scatter(job.storage, top, job.y + start * size, size, block, job.streaming)
        start += block
        count -= block
    if job.streaming:
        stream_fence()

cdef void maxout_backward_piece(void* task, Py_ssize_t start, Py_ssize_t count) noexcept nogil:
    """The gradients of the pieces of outputs start ... start + count."""
    cdef Maxout* job = <Maxout*>task
    cdef char buffers[5 * BLOCK * 8]
    cdef char* best = buffers
    cdef char* winner = buffers + BLOCK * 8
    cdef char* read = buffers + 2 * BLOCK * 8
    cdef char* routed = buffers + 3 * BLOCK * 8
    cdef char* grad
    cdef char* x
    cdef char* element
    cdef Storage compute = computed(job.storage)
    cdef Py_ssize_t size = width(job.storage), wide = width(compute), step, apart = job.inner * size, block, k
    while count > 0:
        block = maxout_run(job, start, count, &x, &step)
        for k in range(job.pieces):
            element = gather(job.storage, x + k * apart, step, block, read)
            if k == 0:
                memcpy(best, element, block * wide)
                memset(winner, 0, block * wide)
            else:
                maxout_fold[<int>compute](element, best, winner, k, block)
        grad = gather(job.storage, job.y + start * size, size, block, buffers + 4 * BLOCK * 8)
        for k in range(job.pieces):
            maxout_route[<int>compute](grad, best, winner, k, routed, block)
            scatter(job.storage, routed, job.grad + (x - job.x) + k * apart, step, block, False)
        start += block
        count -= block


def maxout(np.ndarray x, int axis, np.ndarray y, np.ndarray grad=None):
    """The largest along an axis, which y lacks, into y; or the gradient y into grad, which is like x and may be it.

    For C-contiguous arrays of one of the four types, which the caller has checked.
    """
    cdef Maxout job
    cdef Py_ssize_t outputs = np.PyArray_SIZE(y)
    cdef int k
    job = Maxout(<Storage>storage_of(x), np.PyArray_DIM(x, axis), 1, <char*>np.PyArray_DATA(x), <char*>np.PyArray_DATA(y), NULL,
                 exceed_cache(outputs * np.PyArray_ITEMSIZE(y)))
    if grad is not None:
        job.grad = <char*>np.PyArray_DATA(grad)
    for k in range(axis + 1, np.PyArray_NDIM(x)):
        job.inner *= np.PyArray_DIM(x, k)
    if outputs > 0:
        with nogil:
            share(maxout_piece if grad is None else maxout_backward_piece, &job, outputs, min(max(outputs // 8, 1024), 16384) & ~<Py_ssize_t>63,
                  team(outputs * job.pieces * (0.1 if grad is None else 0.6)))
