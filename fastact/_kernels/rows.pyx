# cython: language_level=3, freethreading_compatible=True
"""From an array to the kernels over its rows: strides, half types, masks, threads, gufuncs and the fast lane.

Built once; the kernels come from the build for the best instruction set, as addresses.
"""

from libc.math cimport INFINITY
from libc.stdlib cimport free, malloc
from libc.string cimport memset, strlen
cimport numpy as np

from .operands cimport (
    BFLOAT, DOUBLE, FLOAT, GROUP, HALF, MAX_OPERANDS, Operand, Storage, Workspace, address, bfloat16_number, computed, copy_rows,
    go_past_cache, load, reserve, set_number, stand_side_by_side, storage_of, store, width,
)
from .memory cimport empty_of_shape
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
    """
    bint IS_EXACT_ARRAY(object)
    bint IS_CONTIGUOUS(np.ndarray)
    bint IS_WRITEABLE_CONTIGUOUS(np.ndarray)
    bint SAME_SHAPE(np.ndarray, np.ndarray)
    int REGISTER_LOOP(object, int, ufunc_function, int*, void*) except -1
    void* PyErr_NoMemory()

ctypedef void (*row_kernel)(Rows*) noexcept nogil

cdef enum:
    LINES = 4096         # elements of contiguous rows that are converted at a time, to stay in the first-level cache

cdef struct Function:
    row_kernel rows
    row_kernel columns   # or NULL
    row_kernel stored    # for rows of half types as they are, or NULL
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
    cdef Storage storage = function.storage, compute
    cdef Py_ssize_t size, stored = width(storage), n = job.n, group = count, rows, start
    cdef bint rows_of_g = job.g.data != NULL and not function.single_g
    cdef Py_ssize_t y_n = 1 if function.single_y else n, g_n = n if rows_of_g else 1
    cdef bint beside = (function.columns != NULL and stand_side_by_side(&job.x, job.rows, n, stored)
                        and (not rows_of_g or stand_side_by_side(&job.g, job.rows, n, stored)))
    cdef bint columns = beside or (function.columns != NULL and n < SHORT and not rows_of_g)
    cdef bint in_lines = job.x.item == stored and (g_n == 1 or job.g.item == stored) and (y_n == 1 or job.y.item == stored)
    cdef bint as_stored = function.stored != NULL and in_lines and not columns and job.mask.data == NULL
    cdef bint plain, x_direct, g_direct, y_direct
    cdef Py_ssize_t sizes[MAX_OPERANDS]
    cdef Workspace work
    cdef Rows task
    cdef char* mask = NULL
    compute = storage if as_stored else computed(storage)
    size = width(compute)
    plain = storage == compute and job.mask.data == NULL
    x_direct = plain and (beside or job.x.item == size or n == 1)
    g_direct = job.g.data == NULL or storage == compute and (beside or job.g.item == size or g_n == 1)
    y_direct = plain and (columns or job.y.item == size or y_n == 1)
    if columns:
        group = min(count, <Py_ssize_t>PANEL)
    elif not (x_direct and g_direct and y_direct):
        group = min(count, max(1, LINES // n) if in_lines else max(16, GROUP // n))
    sizes[0] = 0 if x_direct else group * n * size
    sizes[1] = 0 if g_direct else group * g_n * size
    sizes[2] = 0 if y_direct else group * y_n * size
    sizes[3] = 0 if job.mask.data == NULL else group * n
    if columns:
        sizes[4] = panel_bytes(group, n, size)
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
            task.x = load(&job.x, start, rows, n, storage, work.raw, work.buffers[0], beside)
            task.x_row = 1 if beside else n
            task.x_item = rows if beside else 1
        if job.mask.data != NULL:
            mask = work.buffers[3]
            copy_rows(1, address(&job.mask, start), job.mask.row, job.mask.item, mask, task.x_row, task.x_item, rows, n)
            apply_mask(mask, rows * n, INFINITY if function.negated else -INFINITY, compute, task.x)
        if job.g.data != NULL and g_direct:
            task.g = address(&job.g, start)
            task.g_row = job.g.row // size
            task.g_item = job.g.item // size
        elif job.g.data != NULL:
            task.g = load(&job.g, start, rows, g_n, storage, work.raw, work.buffers[1], beside)
            task.g_row = 1 if beside else g_n
            task.g_item = rows if beside else 1
        if y_direct:
            task.y = address(&job.y, start)
            task.y_row = job.y.row // size
            task.y_item = job.y.item // size
        else:
            task.y = work.buffers[2]
            task.y_row = 1 if beside else y_n
            task.y_item = rows if beside else 1
        if columns:
            function.columns(&task)
        elif as_stored:
            function.stored(&task)
        else:
            function.rows(&task)
        if not y_direct:
            if job.mask.data != NULL and not function.single_y:
                apply_mask(mask, rows * n, function.masked, compute, task.y)
            store(&job.y, start, rows, y_n, storage, work.raw, task.y, beside)
        start += rows
    free(work.memory)
    if job.streaming:
        stream_fence()

cdef void fill_with_minus_infinity(Operand* y, Py_ssize_t rows, Storage storage) noexcept nogil:
    """logsumexp of empty rows."""
    cdef Py_ssize_t r
    for r in range(rows):
        set_number(address(y, r), storage, -INFINITY)

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
                     and job.g.data != job.y.data and go_past_cache(rows, n, size))
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
    cdef int types[MAX_OPERANDS]
    cdef int number = dtype.num
    cdef size_t data
    cdef Function* function
    for gufunc, data, _ in every_gufunc:
        function = <Function*>data
        for k in range(gufunc.nargs):
            types[k] = type_of(function.roles[k], number)
        REGISTER_LOOP(gufunc, number, gufunc_loop, types, function)


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
            function.stored = <row_kernel><size_t>(kernels.get(("rows_half", "rows_bfloat")[storage - HALF], 0) if storage >= HALF else 0)
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
        self.general = make_gufunc(name + "_general", inputs + ",()->" + result, roles + b"ty", self.functions)

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
            result = empty_of_shape(array, ndim - job.function.single_y, np.PyArray_DIMS(array))
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
