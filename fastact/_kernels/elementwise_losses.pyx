# cython: language_level=3, freethreading_compatible=True
"""From arrays to the loops of the elementwise losses: strides, dtypes, weights, sums, threads, streaming stores.

Built once; the loops themselves come from the build for the best instruction set, as addresses (see bind). One pass over
memory: blocks of each operand go through the first-level cache, where the values are weighted and summed.
"""

from libc.string cimport memcpy, memset
cimport numpy as np

from .dispatch cimport BLOCK, gather, scatter
from .operands cimport BFLOAT, DOUBLE, FLOAT, HALF, Storage, computed, exceed_cache, storage_of, width
from .threads cimport share, team

np.import_array()

cdef extern from "primitives.h" nogil:
    void stream_fence()

cdef extern from "reductions.h" nogil:
    double add_up_float(double*, double*, double*)
    double add_up_double(double*, double*, double*)

ctypedef void (*loss_kernel)(char*, char*, char*, char*, char*, char*, Py_ssize_t, double*, double) noexcept nogil
ctypedef void (*weighing)(char*, char*, Py_ssize_t) noexcept nogil
ctypedef void (*adding)(char*, Py_ssize_t, double*, double*) noexcept nogil

cdef enum:
    SUMS = 256           # partial sums, so that their order does not depend on threads
    UNIT = 32 * BLOCK    # elements of a partial sum, or more of them
    NUMBERS = 3          # at most, that a formula takes beside its arrays
    MAX_DIMS = 64        # as NumPy
    SOURCES = 4
    RESULTS = 3

cdef enum:
    INPUT, TARGET, THIRD, WEIGHT

cdef enum:
    VALUE, GRAD, THIRD_GRAD

# Set by bind().
cdef weighing weigh[2]
cdef adding add_to_lanes[2]


def bind(kernels):
    """Take what all losses share from the chosen build."""
    for storage, T in ((FLOAT, "float"), (DOUBLE, "double")):
        weigh[<int>storage] = <weighing><size_t>kernels["weigh_" + T]
        add_to_lanes[<int>storage] = <adding><size_t>kernels["add_to_lanes_" + T]


# --- Operands -----------------------------------------------------------------------------------------------------

cdef struct Elements:
    char* data           # NULL if there is none
    int code             # its Storage, or that of an integer: INTEGERS + 2 log2(size) + whether it is unsigned
    int ndim             # of what is left, at least 1, after dimensions of equal steps were joined
    Py_ssize_t dims[MAX_DIMS]
    Py_ssize_t steps[MAX_DIMS]

cdef enum:
    INTEGERS = 4

ctypedef fused number:
    signed char
    unsigned char
    short
    unsigned short
    int
    unsigned int
    long long
    unsigned long long
    float
    double

cdef void convert(number kind, char* source, Py_ssize_t step, Py_ssize_t count, Storage compute, char* buffer) noexcept nogil:
    cdef Py_ssize_t i
    if compute == DOUBLE:
        for i in range(count):
            (<double*>buffer)[i] = <double>(<number*>(source + i * step))[0]
    else:
        for i in range(count):
            (<float*>buffer)[i] = <float>(<number*>(source + i * step))[0]

cdef char* read(int code, char* source, Py_ssize_t step, Py_ssize_t count, Storage compute, char* buffer) noexcept nogil:
    """The elements as contiguous float or double: where they are if that is what they are, else in buffer."""
    if code == compute or code == HALF or code == BFLOAT:
        return gather(<Storage>code, source, step, count, buffer)
    if code == FLOAT:
        convert(<float>0, source, step, count, compute, buffer)
    elif code == DOUBLE:
        convert(<double>0, source, step, count, compute, buffer)
    elif code == INTEGERS:
        convert(<signed char>0, source, step, count, compute, buffer)
    elif code == INTEGERS + 1:
        convert(<unsigned char>0, source, step, count, compute, buffer)
    elif code == INTEGERS + 2:
        convert(<short>0, source, step, count, compute, buffer)
    elif code == INTEGERS + 3:
        convert(<unsigned short>0, source, step, count, compute, buffer)
    elif code == INTEGERS + 4:
        convert(<int>0, source, step, count, compute, buffer)
    elif code == INTEGERS + 5:
        convert(<unsigned int>0, source, step, count, compute, buffer)
    elif code == INTEGERS + 6:
        convert(<long long>0, source, step, count, compute, buffer)
    else:
        convert(<unsigned long long>0, source, step, count, compute, buffer)
    return buffer

cdef char* locate(Elements* operand, Py_ssize_t position, Py_ssize_t* run) noexcept nogil:
    """Where the element at a position of the flattened operand is, and how many follow it at the last dimension's step."""
    cdef int k = operand.ndim - 1
    cdef char* address = operand.data
    run[0] = operand.dims[k] - position % operand.dims[k]
    while k > 0:
        address += position % operand.dims[k] * operand.steps[k]
        position //= operand.dims[k]
        k -= 1
    return address + position * operand.steps[0]

cdef char* load(Elements* operand, Py_ssize_t start, Py_ssize_t count, Storage compute, char* buffer) noexcept nogil:
    """Elements of the flattened operand, as by read."""
    cdef Py_ssize_t step = operand.steps[operand.ndim - 1], size = width(compute), done = 0, run
    cdef char* address
    cdef char* found
    if operand.ndim == 1:
        return read(operand.code, operand.data + start * step, step, count, compute, buffer)
    while done < count:
        address = locate(operand, start + done, &run)
        run = min(run, count - done)
        found = read(operand.code, address, step, run, compute, buffer + done * size)
        if found != buffer + done * size:
            memcpy(buffer + done * size, found, run * size)
        done += run
    return buffer

cdef void store(Elements* operand, Py_ssize_t start, Py_ssize_t count, Storage compute, char* buffer, bint streaming) noexcept nogil:
    cdef Py_ssize_t step = operand.steps[operand.ndim - 1], done = 0, run
    cdef char* address
    while done < count:
        address = locate(operand, start + done, &run)
        run = min(run, count - done)
        scatter(<Storage>operand.code, buffer + done * width(compute), address, step, run, streaming)
        done += run


# --- The pass over memory -----------------------------------------------------------------------------------------

cdef struct Job:
    loss_kernel kernel
    Storage compute
    Elements sources[SOURCES]
    Elements results[RESULTS]    # VALUE without data where only the sum is wanted
    bint streaming[RESULTS]
    double numbers[NUMBERS]
    double factor                # of the gradients
    Py_ssize_t unit
    double sums[SUMS]            # each as the sum and what rounding took from it
    double rests[SUMS]

cdef inline bint is_single(Elements* operand) noexcept nogil:
    """Whether it is one value throughout."""
    return operand.ndim == 1 and operand.steps[0] == 0

cdef inline bint is_source(Job* job, char* data) noexcept nogil:
    """Whether that is where a source lies, whose lines are in the cache already."""
    return data == job.sources[INPUT].data or data == job.sources[TARGET].data or data == job.sources[THIRD].data

cdef inline bint is_direct(Job* job, int k) noexcept nogil:
    """Whether the kernel writes the result where it belongs; not over a source, which it may read again after another result."""
    return (job.results[k].code == job.compute and job.results[k].ndim == 1 and job.results[k].steps[0] == width(job.compute)
            and not job.streaming[k] and not is_source(job, job.results[k].data))

cdef void run_piece(void* about, Py_ssize_t first, Py_ssize_t count) noexcept nogil:
    """Whole units, each from its beginning, and their sums."""
    cdef Job* job = <Job*>about
    cdef Storage compute = job.compute
    cdef char memory[(SOURCES + RESULTS) * BLOCK * 8 + 64]
    cdef char* buffers = memory + (-<Py_ssize_t>memory & 63)
    cdef char* read_from[SOURCES]
    cdef char* write_to[RESULTS]
    cdef double total[16]
    cdef double low[16]
    cdef Py_ssize_t start = first, unit_end, n
    cdef int k
    for k in range(SOURCES):
        read_from[k] = NULL
        if job.sources[k].data != NULL and is_single(&job.sources[k]):
            read_from[k] = buffers + k * BLOCK * 8
            read(job.sources[k].code, job.sources[k].data, 0, BLOCK, compute, read_from[k])
    for k in range(RESULTS):
        write_to[k] = buffers + (SOURCES + k) * BLOCK * 8
    while start < first + count:
        memset(total, 0, sizeof(total))
        memset(low, 0, sizeof(low))
        unit_end = min(first + count, (start // job.unit + 1) * job.unit)
        while start < unit_end:
            n = min(<Py_ssize_t>BLOCK, unit_end - start)
            for k in range(SOURCES):
                if job.sources[k].data != NULL and not is_single(&job.sources[k]):
                    read_from[k] = load(&job.sources[k], start, n, compute, buffers + k * BLOCK * 8)
            for k in range(RESULTS):
                if job.results[k].data != NULL and is_direct(job, k):
                    write_to[k] = job.results[k].data + start * width(compute)
            job.kernel(read_from[INPUT], read_from[TARGET], read_from[THIRD], write_to[VALUE], write_to[GRAD], write_to[THIRD_GRAD],
                       n, job.numbers, job.factor)
            if read_from[WEIGHT] != NULL:
                for k in range(RESULTS):
                    if k == VALUE or job.results[k].data != NULL:
                        weigh[<int>compute](write_to[k], read_from[WEIGHT], n)
            add_to_lanes[<int>compute](write_to[VALUE], n, total, low)
            for k in range(RESULTS):
                if job.results[k].data != NULL and not is_direct(job, k):
                    store(&job.results[k], start, n, compute, write_to[k], job.streaming[k])
            start += n
        k = (start - 1) // job.unit
        if compute == DOUBLE:
            job.sums[k] = add_up_double(total, low, &job.rests[k])
            if job.sums[k] != job.sums[k]:               # infinite sums have no rest
                job.sums[k] = total[0]
                job.rests[k] = 0
        else:
            job.sums[k] = add_up_float(total, low, &job.rests[k])
    stream_fence()

cdef double run(Job* job, Py_ssize_t count, double cost) noexcept nogil:
    cdef double total = 0, rest = 0, sum, share_of_it
    cdef Py_ssize_t k
    job.unit = max(<Py_ssize_t>UNIT, ((count + SUMS - 1) // SUMS + BLOCK - 1) // BLOCK * BLOCK)
    for k in range(RESULTS):
        job.streaming[k] = (job.results[k].data != NULL and job.results[k].ndim == 1
                            and job.results[k].steps[0] == width(<Storage>job.results[k].code)
                            and not is_source(job, job.results[k].data)
                            and exceed_cache(count * job.results[k].steps[0]))
    share(run_piece, job, count, job.unit, team(count * cost * (2 if job.compute == DOUBLE else 1)))
    for k in range((count + job.unit - 1) // job.unit):
        sum = total + job.sums[k]                        # Knuth's two-sum
        share_of_it = sum - total
        rest += (total - (sum - share_of_it)) + (job.sums[k] - share_of_it) + job.rests[k]
        total = sum
    return total + rest if rest == rest else total


# --- Called from Python -------------------------------------------------------------------------------------------

cdef int code_of(np.ndarray array) except -2:
    """-1 if there are no loops for such arrays."""
    cdef int storage = storage_of(array)
    if storage >= 0:
        return storage
    kind = array.dtype.kind
    if kind not in "biu":
        return -1
    return INTEGERS + 2 * {1: 0, 2: 1, 4: 2, 8: 3}[np.PyArray_ITEMSIZE(array)] + (kind != "i")

cdef Elements elements_of(np.ndarray array, int code):
    """Its dimensions with those joined that are one of equal steps."""
    cdef Elements operand
    cdef Py_ssize_t length, step
    cdef int k, count = 0
    operand.data = <char*>np.PyArray_DATA(array)
    operand.code = code
    for k in range(np.PyArray_NDIM(array)):
        length = np.PyArray_DIM(array, k)
        step = np.PyArray_STRIDE(array, k)
        if length == 1:
            continue
        if count > 0 and operand.steps[count - 1] == step * length:
            operand.dims[count - 1] *= length
        else:
            operand.dims[count] = length
            count += 1
        operand.steps[count - 1] = step
    if count == 0:
        operand.dims[0] = 1
        operand.steps[0] = 0
        count = 1
    operand.ndim = count
    return operand


cdef class ElementwiseLoss:
    """The loops of one formula, whose addresses ``kernels`` has under "NAME_value_float", "NAME_grad_double" and so on.

    ``cost`` is the estimated number of nanoseconds an element takes in float on one thread.
    """
    cdef loss_kernel kernels[RESULTS][2]
    cdef double cost

    def __init__(self, str name, kernels, double cost):
        cdef int k
        self.cost = cost
        for k, kind in enumerate(("value", "grad", "grads")):
            for storage, T in ((FLOAT, "float"), (DOUBLE, "double")):
                self.kernels[k][<int>storage] = <loss_kernel><size_t>kernels.get(f"{name}_{kind}_{T}", 0)

    def total(self, sources, results, numbers, bint mean):
        """The sum or the mean of the losses of all elements.

        ``sources`` are the input, the target, the third array and the weight, ``results`` receive the losses, the
        gradient and the gradient of the third array. All are of the shape of the input, or 0-d for a source that is one
        value; those that the loss does not have are None. A result may be a source itself, other than the weight, but
        share no other memory with one.
        """
        cdef Job job
        cdef np.ndarray array
        cdef Py_ssize_t count = np.PyArray_SIZE(sources[0])
        cdef int k, code, kind = 2 if results[THIRD_GRAD] is not None else 1 if results[GRAD] is not None else 0
        cdef double total
        if count == 0:
            return 0.0
        job.compute = computed(<Storage>storage_of(sources[INPUT]))
        job.kernel = self.kernels[kind][<int>job.compute]
        for k, value in enumerate(numbers):
            job.numbers[k] = value
        job.factor = 1.0 / count if mean else 1.0
        for k in range(SOURCES):
            job.sources[k].data = NULL
            if sources[k] is not None:
                array = sources[k]
                code = code_of(array)
                if code < 0 or job.compute == DOUBLE and code in (HALF, BFLOAT):
                    array = array.astype("d" if job.compute == DOUBLE else "f")
                    code = job.compute
                job.sources[k] = elements_of(array, code)
                sources[k] = array               # keeps it alive
        for k in range(RESULTS):
            job.results[k].data = NULL
            if results[k] is not None:
                job.results[k] = elements_of(results[k], storage_of(results[k]))
        with nogil:
            total = run(&job, count, self.cost)
        return total / count if mean else total
