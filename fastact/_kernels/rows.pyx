# cython: language_level=3, freethreading_compatible=True
"""From an array to the kernels over its rows: strides, half types, masks, threads, gufuncs and the fast lane.

Built once; the kernels come from the build for the best instruction set, as addresses (see bind).
"""

from libc.math cimport INFINITY
from libc.stdlib cimport free, llabs, malloc
from libc.string cimport memset, strlen
cimport numpy as np

from .threads cimport share, team

np.import_array()
np.import_umath()

cdef extern from "primitives.h" nogil:
    void clear_fp_status()
    void stream_fence()

cdef extern from "numpy/ufuncobject.h":
    ctypedef void (*ufunc_function "PyUFuncGenericFunction")(char**, const np.npy_intp*, const np.npy_intp*, void*) noexcept nogil
    object PyUFunc_FromFuncAndDataAndSignature(ufunc_function*, void**, char*, int, int, int, int, const char*, const char*,
                                               int, const char*)

cdef extern from *:
    """
    #define IS_EXACT_ARRAY(object) PyArray_CheckExact(object)
    #define IS_CONTIGUOUS(array) PyArray_ISCARRAY_RO(array)
    #define IS_WRITEABLE_CONTIGUOUS(array) PyArray_ISCARRAY(array)
    #define SAME_SHAPE(a, b) PyArray_SAMESHAPE(a, b)
    #define REGISTER_LOOP(ufunc, type, loop, types, data) \
        PyUFunc_RegisterLoopForType((PyUFuncObject *)(ufunc), type, loop, types, data)

    static PyObject *allocate_like(PyArrayObject *array, int ndim)
    {
        Py_INCREF(PyArray_DESCR(array));
        return PyArray_Empty(ndim, PyArray_DIMS(array), PyArray_DESCR(array), 0);
    }
    """
    bint IS_EXACT_ARRAY(object)
    bint IS_CONTIGUOUS(np.ndarray)
    bint IS_WRITEABLE_CONTIGUOUS(np.ndarray)
    bint SAME_SHAPE(np.ndarray, np.ndarray)
    int REGISTER_LOOP(object, int, ufunc_function, int*, void*) except -1
    np.ndarray allocate_like(np.ndarray, int)
    void* PyErr_NoMemory()
    const Py_ssize_t PY_SSIZE_T_MIN

ctypedef void (*row_kernel)(Rows*) noexcept nogil
ctypedef void (*loss_kernel)(CrossEntropy*, Py_ssize_t) noexcept nogil
ctypedef void (*loss_panel_kernel)(CrossEntropyPanel*) noexcept nogil
ctypedef double (*spread_kernel)(char*, char*, Py_ssize_t, double, double, char*) noexcept nogil

cdef enum:
    SHORT = 48           # rows of fewer elements are turned into columns (measured with python -m bench.compare)
    GROUP = 16384        # elements that are brought into contiguous rows at a time
    SUMS = 256           # partial sums of a loss
    MAX_OPERANDS = 5

cdef enum Storage:
    FLOAT, DOUBLE, HALF, BFLOAT

# Set by bind() and register_bfloat16().
cdef void (*widen[2])(const void*, float*, Py_ssize_t) noexcept nogil
cdef void (*narrow[2])(const float*, void*, Py_ssize_t) noexcept nogil
cdef loss_kernel cross_entropy_kernels[2]
cdef loss_panel_kernel cross_entropy_panel_kernels[2]
cdef spread_kernel spread_kernels[2]
cdef Py_ssize_t streaming_from = 1 << 62
cdef int bfloat16_number = -1


def bind(kernels, Py_ssize_t last_level_cache):
    """Take the kernels from the chosen build and stream outputs that, with their input, exceed that cache."""
    global streaming_from
    widen[0] = <void (*)(const void*, float*, Py_ssize_t) noexcept nogil><size_t>kernels["widen_half"]
    widen[1] = <void (*)(const void*, float*, Py_ssize_t) noexcept nogil><size_t>kernels["widen_bfloat"]
    narrow[0] = <void (*)(const float*, void*, Py_ssize_t) noexcept nogil><size_t>kernels["narrow_half"]
    narrow[1] = <void (*)(const float*, void*, Py_ssize_t) noexcept nogil><size_t>kernels["narrow_bfloat"]
    for storage, T in ((FLOAT, "float"), (DOUBLE, "double")):
        cross_entropy_kernels[<int>storage] = <loss_kernel><size_t>kernels["softmax_cross_entropy_" + T]
        cross_entropy_panel_kernels[<int>storage] = <loss_panel_kernel><size_t>kernels["softmax_cross_entropy_columns_" + T]
        spread_kernels[<int>storage] = <spread_kernel><size_t>kernels["spread_targets_" + T]
    streaming_from = last_level_cache // 2


# --- Operands -----------------------------------------------------------------------------------------------------

cdef struct Operand:
    # Rows in memory, strides in bytes: every inner rows a step of block instead of row.
    char* data
    Py_ssize_t row, item, block, inner

cdef struct Workspace:
    # What run_rows and its like allocate once a chunk.
    char* memory
    char* raw            # rows as they are stored
    char* buffers[MAX_OPERANDS]

cdef inline Py_ssize_t width(Storage storage) noexcept nogil:
    return 8 if storage == DOUBLE else (4 if storage == FLOAT else 2)

cdef inline Storage computed(Storage storage) noexcept nogil:
    return DOUBLE if storage == DOUBLE else FLOAT

cdef inline char* address(Operand* operand, Py_ssize_t row) noexcept nogil:
    return operand.data + row // operand.inner * operand.block + row % operand.inner * operand.row

ctypedef fused element:
    unsigned char
    unsigned short
    unsigned int
    unsigned long long

cdef void copy_elements(element kind, char* source, Py_ssize_t row, Py_ssize_t item, char* target, Py_ssize_t target_row,
                        Py_ssize_t target_item, Py_ssize_t rows, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t r, i
    if min(llabs(row), llabs(target_row)) < min(llabs(item), llabs(target_item)):
        for i in range(n):
            for r in range(rows):
                (<element*>(target + r * target_row + i * target_item))[0] = (<element*>(source + r * row + i * item))[0]
    else:
        for r in range(rows):
            for i in range(n):
                (<element*>(target + r * target_row + i * target_item))[0] = (<element*>(source + r * row + i * item))[0]

cdef void copy_rows(Py_ssize_t size, char* source, Py_ssize_t row, Py_ssize_t item, char* target, Py_ssize_t target_row,
                    Py_ssize_t target_item, Py_ssize_t rows, Py_ssize_t n) noexcept nogil:
    if size == 1:
        copy_elements(<unsigned char>0, source, row, item, target, target_row, target_item, rows, n)
    elif size == 2:
        copy_elements(<unsigned short>0, source, row, item, target, target_row, target_item, rows, n)
    elif size == 4:
        copy_elements(<unsigned int>0, source, row, item, target, target_row, target_item, rows, n)
    else:
        copy_elements(<unsigned long long>0, source, row, item, target, target_row, target_item, rows, n)

cdef char* load(Operand* operand, Py_ssize_t first, Py_ssize_t rows, Py_ssize_t n, Storage storage, char* raw, char* buffer) noexcept nogil:
    """The rows contiguous and one after another in buffer, as float or double."""
    cdef Py_ssize_t size = width(storage), row = operand.row, r
    cdef char* source = address(operand, first)
    if storage == computed(storage):
        copy_rows(size, source, row, operand.item, buffer, n * size, size, rows, n)
        return buffer
    if operand.item != size and n > 1:
        copy_rows(size, source, row, operand.item, raw, n * size, size, rows, n)
        source = raw
        row = n * size
    for r in range(rows):
        widen[storage - HALF](source + r * row, <float*>buffer + r * n, n)
    return buffer

cdef void store(Operand* operand, Py_ssize_t first, Py_ssize_t rows, Py_ssize_t n, Storage storage, char* raw, char* buffer) noexcept nogil:
    cdef Py_ssize_t size = width(storage), r
    cdef char* target = address(operand, first)
    if storage == computed(storage):
        copy_rows(size, buffer, n * size, size, target, operand.row, operand.item, rows, n)
    elif operand.item == size or n == 1:
        for r in range(rows):
            narrow[storage - HALF](<float*>buffer + r * n, target + r * operand.row, n)
    else:
        narrow[storage - HALF](<float*>buffer, raw, rows * n)
        copy_rows(size, raw, n * size, size, target, operand.row, operand.item, rows, n)

cdef inline bint stand_side_by_side(Operand* operand, Py_ssize_t rows, Py_ssize_t n, Py_ssize_t size) noexcept nogil:
    """Whether a kernel over columns suits: it works on whole vectors, and in float it counts no further."""
    return operand.row == size and operand.item != size and rows >= 8 and n < 1 << 24

cdef bint reserve(Workspace* work, Py_ssize_t raw, Py_ssize_t* sizes, int count) noexcept nogil:
    """Memory for the raw rows and for each of the buffers, which start on cache lines; False if there is none to be had."""
    cdef Py_ssize_t total = raw + 64 * count
    cdef char* free_memory
    cdef int k
    for k in range(count):
        total += sizes[k]
    work.memory = <char*>malloc(total)
    if work.memory == NULL:
        return False
    work.raw = work.memory
    free_memory = work.memory + raw
    for k in range(count):
        free_memory += -<Py_ssize_t>free_memory & 63
        work.buffers[k] = free_memory
        free_memory += sizes[k]
    return True


# --- Rows ---------------------------------------------------------------------------------------------------------

cdef struct Function:
    row_kernel rows
    row_kernel columns   # or NULL
    Storage storage
    bint negated         # softmin
    bint single_g        # g is one number a row
    bint single_y        # and so is y
    double masked        # what y is where the mask is False
    double cost          # estimated nanoseconds an element on one thread, for the number of threads
    char roles[8]        # of the operands of the gufunc: x, g, y, m(ask), t(emperature)

cdef struct Job:
    Function* function
    Operand x, g, y, mask        # without data if the function has no such operand
    Py_ssize_t rows, n
    double temperature
    bint streaming
    bint failed                  # for want of memory

cdef void apply_mask(char* mask, Py_ssize_t n, double value, Storage compute, char* buffer) noexcept nogil:
    cdef Py_ssize_t i
    if compute == DOUBLE:
        for i in range(n):
            (<double*>buffer)[i] = (<double*>buffer)[i] if mask[i] else value
    else:
        for i in range(n):
            (<float*>buffer)[i] = (<float*>buffer)[i] if mask[i] else <float>value

cdef void run_rows(void* about, Py_ssize_t first, Py_ssize_t count) noexcept nogil:
    cdef Job* job = <Job*>about
    cdef Function* function = job.function
    cdef Storage storage = function.storage, compute = computed(storage)
    cdef Py_ssize_t size = width(compute), n = job.n, group = count, rows, start
    cdef Py_ssize_t y_n = 1 if function.single_y else n, g_n = 1 if function.single_g else n
    cdef bint plain = storage == compute and job.mask.data == NULL
    cdef bint beside = plain and function.columns != NULL and stand_side_by_side(&job.x, job.rows, n, size)
    cdef bint columns = beside or (function.columns != NULL and n < SHORT)
    cdef bint x_direct = plain and (beside or job.x.item == size or n == 1)
    cdef bint g_direct = job.g.data == NULL or storage == compute and (job.g.item == size or g_n == 1)
    cdef bint y_direct = plain and (columns or job.y.item == size or y_n == 1)
    cdef Py_ssize_t sizes[MAX_OPERANDS]
    cdef Workspace work
    cdef Rows task
    cdef char* mask = NULL
    if columns:
        group = min(count, <Py_ssize_t>PANEL)
    elif not (x_direct and g_direct and y_direct):
        group = min(count, max(16, GROUP // max(n, 1)))
    sizes[0] = 0 if x_direct else group * n * size
    sizes[1] = 0 if g_direct else group * g_n * size
    sizes[2] = 0 if y_direct else group * y_n * size
    sizes[3] = 0 if job.mask.data == NULL else group * n
    if columns:
        sizes[4] = panel_bytes(n, size)
    else:
        sizes[4] = batch_of(n) * n * size if job.streaming else 0
    if not reserve(&work, 0 if storage == compute else group * n * 2, sizes, MAX_OPERANDS):
        job.failed = True
        return
    task.n = n
    task.temperature = job.temperature
    task.streaming = job.streaming
    task.scratch = work.buffers[4]
    task.g = NULL
    start = first
    while start < first + count:
        rows = min(group, first + count - start)
        task.rows = rows
        if x_direct:
            task.x = address(&job.x, start)
            task.x_row = job.x.row // size
            task.x_item = job.x.item // size
        else:
            task.x = load(&job.x, start, rows, n, storage, work.raw, work.buffers[0])
            task.x_row = n
            task.x_item = 1
        if job.mask.data != NULL:
            mask = work.buffers[3]
            copy_rows(1, address(&job.mask, start), job.mask.row, job.mask.item, mask, n, 1, rows, n)
            apply_mask(mask, rows * n, INFINITY if function.negated else -INFINITY, compute, task.x)
        if job.g.data != NULL:
            task.g = address(&job.g, start) if g_direct else load(&job.g, start, rows, g_n, storage, work.raw, work.buffers[1])
            task.g_row = job.g.row // size if g_direct else g_n
        if y_direct:
            task.y = address(&job.y, start)
            task.y_row = job.y.row // size
            task.y_item = job.y.item // size
        else:
            task.y = work.buffers[2]
            task.y_row = y_n
            task.y_item = 1
        if columns:
            function.columns(&task)
        else:
            function.rows(&task)
        if not y_direct:
            if job.mask.data != NULL and not function.single_y:
                apply_mask(mask, rows * n, function.masked, compute, task.y)
            store(&job.y, start, rows, y_n, storage, work.raw, task.y)
        start += rows
    free(work.memory)
    if job.streaming:
        stream_fence()

cdef void fill_with_minus_infinity(Operand* y, Py_ssize_t rows, Storage storage) noexcept nogil:
    """logsumexp of empty rows."""
    cdef double value = -INFINITY
    cdef float narrow_value = <float>value
    cdef Py_ssize_t r
    for r in range(rows):
        store(y, r, 1, 1, storage, NULL, <char*>&value if storage == DOUBLE else <char*>&narrow_value)

cdef void run(Job* job) noexcept nogil:
    cdef Py_ssize_t n = job.n, rows = job.rows, size = width(job.function.storage), chunk
    cdef int threads
    job.failed = False
    if n == 0 or rows == 0:
        if job.function.single_y:
            fill_with_minus_infinity(&job.y, rows, job.function.storage)
        return
    threads = team(rows * n * job.function.cost)
    job.streaming = (size >= 4 and not job.function.single_y and job.y.item == size and job.x.data != job.y.data
                     and job.g.data != job.y.data and rows * n * size > streaming_from)
    # Chunks of whole cache lines of columns.
    chunk = max(1, min(rows // (4 * threads), (1 << 18) // n))
    if chunk > PANEL // 2:
        chunk = (chunk + PANEL - 1) & ~<Py_ssize_t>(PANEL - 1)
    elif job.x.item != size:
        chunk = (chunk + 15) & ~<Py_ssize_t>15
    share(run_rows, job, rows, chunk, threads)

cdef void gufunc_loop(char** args, const np.npy_intp* dimensions, const np.npy_intp* steps, void* data) noexcept nogil:
    cdef Function* function = <Function*>data
    cdef Py_ssize_t count = strlen(function.roles), core = count, k
    cdef Operand operand
    cdef bint single
    cdef Job job
    memset(&job, 0, sizeof(Job))
    job.function = function
    job.rows = dimensions[0]
    job.n = dimensions[1]
    job.temperature = 1
    for k in range(count):
        operand = Operand(args[k], steps[k], 0, 0, dimensions[0])
        single = (function.roles[k] == c"t" or function.roles[k] == c"g" and function.single_g
                  or function.roles[k] == c"y" and function.single_y)
        if not single:
            operand.item = steps[core]
            core += 1
        if function.roles[k] == c"x":
            job.x = operand
        elif function.roles[k] == c"g":
            job.g = operand
        elif function.roles[k] == c"y":
            job.y = operand
        elif function.roles[k] == c"m":
            job.mask = operand
        elif job.rows > 0:
            job.temperature = (<double*>args[k])[0]      # one for all rows
    if function.negated:
        job.temperature = -job.temperature
    run(&job)
    if job.failed:
        with gil:
            PyErr_NoMemory()
    clear_fp_status()


cdef list every_gufunc = []

cdef void* keep(Py_ssize_t size) except NULL:
    """Memory for good: NumPy's gufuncs hold on to it, as they do to their name."""
    cdef void* memory = malloc(size)
    if memory == NULL:
        raise MemoryError
    return memory


cdef object make_gufunc(str name, str signature, bytes roles, Function* functions):
    """A gufunc with a loop for each storage type; functions are copied."""
    cdef Function* kept = <Function*>keep(4 * sizeof(Function))
    cdef ufunc_function* loops = <ufunc_function*>keep(3 * sizeof(void*))
    cdef void** data = <void**>keep(3 * sizeof(void*))
    cdef char* types = <char*>keep(3 * len(roles))
    cdef bytes name_text = name.encode(), signature_text = signature.encode()
    cdef int count = 0, storage, number, k, nargs = len(roles)
    for storage in range(4):
        kept[storage] = functions[storage]
        for k in range(nargs + 1):
            kept[storage].roles[k] = roles[k] if k < nargs else 0
    for storage, number in ((HALF, np.NPY_FLOAT16), (FLOAT, np.NPY_FLOAT), (DOUBLE, np.NPY_DOUBLE)):
        loops[count] = gufunc_loop
        data[count] = &kept[storage]
        for k in range(nargs):
            types[count * nargs + k] = type_of(roles[k], number)
        count += 1
    gufunc = PyUFunc_FromFuncAndDataAndSignature(loops, data, types, 3, nargs - 1, 1, -1, name_text, NULL, 0, signature_text)
    every_gufunc.append((gufunc, <size_t>&kept[<int>BFLOAT], name_text))
    return gufunc


cdef int type_of(char role, int number):
    return np.NPY_BOOL if role == c"m" else (np.NPY_DOUBLE if role == c"t" else number)


def register_bfloat16(dtype):
    """Give every gufunc a loop for ml_dtypes.bfloat16."""
    global bfloat16_number
    cdef int types[MAX_OPERANDS]
    cdef size_t data
    cdef Function* function
    bfloat16_number = dtype.num
    for gufunc, data, _ in every_gufunc:
        function = <Function*>data
        for k in range(gufunc.nargs):
            types[k] = type_of(function.roles[k], bfloat16_number)
        REGISTER_LOOP(gufunc, bfloat16_number, gufunc_loop, types, function)


cdef inline int storage_of(np.ndarray array) noexcept:
    """-1 if there is no kernel for such arrays."""
    cdef int number = np.PyArray_TYPE(array)
    if number == np.NPY_FLOAT:
        return FLOAT
    if number == np.NPY_DOUBLE:
        return DOUBLE
    if number == np.NPY_FLOAT16:
        return HALF
    return BFLOAT if number == bfloat16_number else -1


cdef inline bint overlap(np.ndarray a, np.ndarray b):
    """Whether contiguous arrays share memory other than by being the same elements."""
    cdef char* p = <char*>np.PyArray_DATA(a)
    cdef char* q = <char*>np.PyArray_DATA(b)
    return p != q and p < q + np.PyArray_NBYTES(b) and q < p + np.PyArray_NBYTES(a)


# Letting other threads in costs about 50 ns, a tenth of the work from here on.
cdef Py_ssize_t RELEASE_FROM = 2048


cdef class RowFunction:
    """A function of rows: ``gufunc`` of the rows alone, ``general`` with mask and temperature too, and a fast lane.

    ``kernels`` maps "rows_float" and so on to addresses, "columns_..." being optional. ``grad`` and ``result`` are the
    core dimensions of the gradient of the output and of the result: "(n)", "()" for one number a row, and for ``grad``
    "" where there is none.
    """
    cdef Function functions[4]
    cdef readonly object gufunc, general
    cdef readonly bint with_mask, grad_is_row, result_is_row

    def __init__(self, str name, kernels, *, str grad="", str result="(n)", bint with_mask=True, bint negated=False,
                 double masked=0.0, double cost=0.5):
        cdef int storage
        cdef Function* function
        self.with_mask = with_mask
        self.grad_is_row = grad == "(n)"
        self.result_is_row = result == "(n)"
        for storage in range(4):
            T = "double" if storage == DOUBLE else "float"
            function = &self.functions[storage]
            memset(function, 0, sizeof(Function))
            function.rows = <row_kernel><size_t>kernels["rows_" + T]
            function.columns = <row_kernel><size_t>kernels.get("columns_" + T, 0)
            function.storage = <Storage>storage
            function.negated = negated
            function.single_g = grad == "()"
            function.single_y = not self.result_is_row
            function.masked = masked
            function.cost = 2 * cost if storage == DOUBLE else cost
        inputs, roles = (grad + ",(n)", b"gx") if grad else ("(n)", b"x")
        self.gufunc = make_gufunc(name, inputs + "->" + result, roles + b"y", self.functions)
        if with_mask:
            inputs, roles = inputs + ",(n)", roles + b"m"
        self.general = make_gufunc(name, inputs + ",()->" + result, roles + b"ty", self.functions)

    def direct(self, x, g, axis, temperature, out):
        """The result if all is plain, else None: exact contiguous arrays, the last axis, a float for a temperature."""
        cdef np.ndarray array, gradient, result
        cdef int storage, ndim
        cdef Py_ssize_t size
        cdef Job job
        if not IS_EXACT_ARRAY(x) or type(axis) is not int or type(temperature) is not float:
            return None
        array = x
        storage = storage_of(array)
        ndim = np.PyArray_NDIM(array)
        if storage < 0 or ndim == 0 or not (axis == -1 or axis == ndim - 1) or not IS_CONTIGUOUS(array):
            return None
        memset(&job, 0, sizeof(Job))
        job.function = &self.functions[storage]
        job.temperature = -<double>temperature if job.function.negated else <double>temperature
        job.n = np.PyArray_DIM(array, ndim - 1)
        job.rows = np.PyArray_SIZE(array) // job.n if job.n else 0
        if job.rows == 0 or not <double>temperature > 0:
            return None
        size = np.PyArray_ITEMSIZE(array)
        job.x = Operand(<char*>np.PyArray_DATA(array), job.n * size, size, 0, job.rows)
        if g is not None:
            if not self.grad_is_row or not IS_EXACT_ARRAY(g):
                return None
            gradient = g
            if not SAME_SHAPE(array, gradient) or not IS_CONTIGUOUS(gradient) or storage_of(gradient) != storage:
                return None
            job.g = Operand(<char*>np.PyArray_DATA(gradient), job.n * size, size, 0, job.rows)
        if out is None:
            result = allocate_like(array, ndim - job.function.single_y)
        else:
            if not IS_EXACT_ARRAY(out):
                return None
            result = out
            if (job.function.single_y or not SAME_SHAPE(array, result) or not IS_WRITEABLE_CONTIGUOUS(result)
                    or storage_of(result) != storage or overlap(result, array)
                    or g is not None and overlap(result, gradient)):
                return None
        job.y = job.x
        job.y.data = <char*>np.PyArray_DATA(result)
        if job.function.single_y:
            job.y.row = size
            job.y.item = 0
        if job.rows * job.n < RELEASE_FROM:
            run(&job)
        else:
            with nogil:
                run(&job)
        if job.failed:
            raise MemoryError
        return result[()] if result.ndim == 0 else result


# --- Softmax cross-entropy ----------------------------------------------------------------------------------------

cdef struct LossJob:
    Operand logits, target
    Operand grad, values     # without data if not wanted; values are the losses of the rows
    Storage storage
    Py_ssize_t rows, n
    int label_type           # the integer type of target, or -1 if it holds probabilities
    Py_ssize_t ignore_index
    double* weight           # of the classes, or NULL
    char* spread             # what is subtracted from the gradient of all rows beside their label, or NULL
    char* spread_weight      # weight as float or double, for probabilities, or NULL
    double spread_sum, keep, floor, z_loss, factor
    Py_ssize_t unit          # how many rows in order make one of the partial sums
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

cdef Py_ssize_t check_labels(LossJob* job, double* share) noexcept nogil:
    """The first row whose class does not exist, or -1; share becomes the weight of all rows that count."""
    cdef Py_ssize_t r, label
    share[0] = 0
    for r in range(job.rows):
        label = label_at(address(&job.target, r), job.label_type)
        if label == job.ignore_index:
            continue
        if label < 0 or label >= job.n:
            return r
        share[0] += 1 if job.weight == NULL else job.weight[label]
    return -1

cdef void take_value(LossJob* job, Py_ssize_t row, double value) noexcept nogil:
    """The loss of one row: into its sum, and to where the losses are wanted."""
    cdef float narrow_value = <float>value
    job.sums[row // job.unit] += value
    if job.values.data != NULL:
        store(&job.values, row, 1, 1, job.storage, NULL, <char*>&value if job.storage == DOUBLE else <char*>&narrow_value)

cdef void run_loss_columns(void* about, Py_ssize_t first, Py_ssize_t count) noexcept nogil:
    """The losses of some rows, side by side, where classes are the only target."""
    cdef LossJob* job = <LossJob*>about
    cdef Storage storage = job.storage, compute = computed(storage)
    cdef Py_ssize_t size = width(compute), n = job.n, start = first, r
    cdef bint direct = storage == compute
    cdef Py_ssize_t sizes[3]
    cdef Workspace work
    cdef CrossEntropyPanel task
    sizes[0] = 0 if direct else PANEL * n * size
    sizes[1] = 0 if direct or job.grad.data == NULL else PANEL * n * size
    sizes[2] = panel_bytes(n, size)
    if not reserve(&work, 0 if direct else PANEL * n * 2, sizes, 3):
        job.failed = True
        return
    task.n = n
    task.grad = NULL
    task.logits_row = job.logits.row // size if direct else n
    task.logits_item = job.logits.item // size if direct else 1
    task.grad_row = job.grad.row // size if direct else n
    task.grad_item = job.grad.item // size if direct else 1
    task.z_loss = job.z_loss
    task.factor = job.factor
    task.scratch = work.buffers[2]
    while start < first + count:
        task.rows = min(<Py_ssize_t>PANEL, first + count - start, job.logits.inner - start % job.logits.inner)
        task.logits = (address(&job.logits, start) if direct
                       else load(&job.logits, start, task.rows, n, storage, work.raw, work.buffers[0]))
        if job.grad.data != NULL:
            task.grad = address(&job.grad, start) if direct else work.buffers[1]
        for r in range(task.rows):
            task.label[r] = label_at(address(&job.target, start + r), job.label_type)
            if task.label[r] == job.ignore_index:
                task.label[r] = -1
            else:
                task.share[r] = job.keep * (1 if job.weight == NULL else job.weight[task.label[r]])
        cross_entropy_panel_kernels[<int>compute](&task)
        for r in range(task.rows):
            take_value(job, start + r, task.value[r])
        if job.grad.data != NULL and not direct:
            store(&job.grad, start, task.rows, n, storage, work.raw, task.grad)
        start += task.rows
    free(work.memory)

cdef void run_loss_rows(void* about, Py_ssize_t first, Py_ssize_t count) noexcept nogil:
    """The same, row by row."""
    cdef LossJob* job = <LossJob*>about
    cdef Storage storage = job.storage, compute = computed(storage)
    cdef Py_ssize_t size = width(compute), n = job.n, batch = batch_of(n), group = count, rows, start = first, r, i, k, label
    cdef bint gradient = job.grad.data != NULL, probabilities = job.label_type < 0
    cdef bint logits_direct = storage == compute and (job.logits.item == size or n == 1)
    cdef bint grad_direct = storage == compute and (job.grad.item == size or n == 1)
    cdef bint target_direct = not probabilities or storage == compute and (job.target.item == size or n == 1)
    cdef Py_ssize_t logits_row = job.logits.row if logits_direct else n * size
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
        task.factor = job.factor
        task.streaming = job.streaming
        task.scratch = work.buffers[4] + k * n * size
    while start < first + count:
        rows = min(group, first + count - start, job.logits.inner - start % job.logits.inner)
        logits = (address(&job.logits, start) if logits_direct
                  else load(&job.logits, start, rows, n, storage, work.raw, work.buffers[0]))
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
                label = label_at(address(&job.target, start + r), job.label_type)
                if label == job.ignore_index:
                    if gradient:
                        memset(grad + r * grad_row, 0, n * size)
                    take_value(job, start + r, 0)
                    label = -1
                else:
                    task.label = label
                    task.share = job.keep * (1 if job.weight == NULL else job.weight[label])
            if probabilities or label >= 0:
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

cdef double run_losses(LossJob* job) noexcept nogil:
    """The sum over all rows, whose order depends on nothing but the shape."""
    cdef Py_ssize_t size = width(job.storage), chunk, i
    cdef int threads = team(job.rows * job.n * (1.0 if size == 8 else 0.5))
    cdef double total = 0
    cdef bint columns = (job.label_type >= 0 and job.spread == NULL
                         and (job.n < SHORT or size >= 4 and stand_side_by_side(&job.logits, job.logits.inner, job.n, size)))
    job.streaming = (not columns and size >= 4 and job.grad.data != NULL and job.grad.item == size
                     and job.grad.data != job.logits.data and job.rows * job.n * size > streaming_from)
    job.unit = max((job.rows + SUMS - 1) // SUMS, GROUP // job.n, 1)
    chunk = (PANEL + job.unit - 1) // job.unit * job.unit if columns else job.unit
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


def same_elements(np.ndarray a, np.ndarray b):
    """Whether two arrays of one shape and dtype are the same memory in the same order."""
    cdef int k
    for k in range(np.PyArray_NDIM(a)):
        if np.PyArray_STRIDE(a, k) != np.PyArray_STRIDE(b, k):
            return False
    return np.PyArray_DATA(a) == np.PyArray_DATA(b)


def softmax_cross_entropy(np.ndarray logits, np.ndarray target, np.ndarray grad, np.ndarray values, np.ndarray weight,
                          np.ndarray spread_weight, np.ndarray spread, Py_ssize_t ignore_index, double keep, double floor,
                          double z_loss, bint mean):
    """The sum or mean of the losses of rows, along the last axis of logits; None if the arrays have too many dimensions.

    target holds probabilities if it has as many dimensions as logits. Those of grad and values that are not None are
    written. The divisor of the mean is 1 if no row counts.
    """
    cdef int outer = np.PyArray_NDIM(logits) - 1, split, storage
    cdef Py_ssize_t bad
    cdef double share, total
    cdef LossJob job
    memset(&job, 0, sizeof(LossJob))
    for split in range(outer + 1):
        for array in (logits, target, grad, values):
            if array is not None and not (collapses(array, 0, split) and collapses(array, split, outer)):
                break
        else:
            break
    else:
        return None
    job.n = np.PyArray_DIM(logits, outer)
    job.rows = np.PyArray_SIZE(logits) // job.n if job.n else 0
    if job.rows == 0:
        return 0.0
    inner = 1
    for k in range(split, outer):
        inner *= np.PyArray_DIM(logits, k)
    storage = storage_of(logits)
    if storage < 0:
        raise TypeError(f"there is no kernel for logits of {logits.dtype}")
    job.storage = <Storage>storage
    job.logits = rows_of(logits, outer, split, inner)
    job.target = rows_of(target, outer, split, inner)
    if grad is not None:
        job.grad = rows_of(grad, outer, split, inner)
    if values is not None:
        job.values = rows_of(values, outer, split, inner)
    if weight is not None:
        job.weight = <double*>np.PyArray_DATA(weight)
    if spread_weight is not None:
        job.spread_weight = <char*>np.PyArray_DATA(spread_weight)
    if spread is not None:
        job.spread = <char*>np.PyArray_DATA(spread)
        job.spread_sum = floor * (job.n if weight is None else weight.sum())
    job.ignore_index = ignore_index
    job.keep = keep
    job.floor = floor
    job.z_loss = z_loss
    job.label_type = -1 if np.PyArray_NDIM(target) == outer + 1 else np.PyArray_TYPE(target)
    share = job.rows
    if job.label_type >= 0:
        bad = check_labels(&job, &share)
        if bad >= 0:
            raise IndexError(f"class {target.flat[bad]} at row {bad} is not one of the {job.n} classes")
    job.factor = 1 / share if mean and share != 0 else 1
    with nogil:
        total = run_losses(&job)
    if job.failed:
        raise MemoryError
    return total * job.factor
