# cython: language_level=3, freethreading_compatible=True
"""From an array to the loops over its chunks: strides, half types, threads, streaming stores, ufuncs and the fast lane.

Built once; the loops themselves come from the build for the best instruction set, as addresses (see bind).
"""

cimport cython
from cpython.object cimport PyObject
cimport numpy as np

from .threads cimport share, team

np.import_array()
np.import_umath()

cdef extern from "primitives.h" nogil:
    void clear_fp_status()
    void stream_fence()

cdef extern from "numpy/ufuncobject.h":
    ctypedef void (*ufunc_function "PyUFuncGenericFunction")(char**, const np.npy_intp*, const np.npy_intp*, void*) noexcept nogil
    object PyUFunc_FromFuncAndData(ufunc_function*, void**, char*, int, int, int, int, const char*, const char*, int)

cdef extern from *:
    """
    #define IS_EXACT_ARRAY(object) PyArray_CheckExact(object)
    #define IS_CONTIGUOUS(object) PyArray_ISCARRAY_RO((PyArrayObject *)(object))
    #define IS_WRITEABLE_CONTIGUOUS(object) PyArray_ISCARRAY((PyArrayObject *)(object))
    #define SAME_SHAPE(a, b) PyArray_SAMESHAPE((PyArrayObject *)(a), (PyArrayObject *)(b))
    #define ALLOCATE_LIKE(object) PyArray_NewLikeArray((PyArrayObject *)(object), NPY_CORDER, NULL, 0)
    #define REGISTER_LOOP(ufunc, type, loop, types, data) \
        PyUFunc_RegisterLoopForType((PyUFuncObject *)(ufunc), type, loop, types, data)
    """
    bint IS_EXACT_ARRAY(PyObject*) nogil
    bint IS_CONTIGUOUS(PyObject*) nogil
    bint IS_WRITEABLE_CONTIGUOUS(PyObject*) nogil
    bint SAME_SHAPE(PyObject*, PyObject*) nogil
    object ALLOCATE_LIKE(PyObject*)
    int REGISTER_LOOP(object, int, ufunc_function, int*, void*) except -1

cdef extern from *:
    """
    /* A call without a tuple of arguments (PEP 590); Cython's own __call__ would make one. */
    #define ARGUMENT_COUNT(nargsf) PyVectorcall_NARGS(nargsf)
    static void enable_vectorcall(PyObject *type, Py_ssize_t offset)
    {
        ((PyTypeObject *)type)->tp_vectorcall_offset = offset;
        ((PyTypeObject *)type)->tp_flags |= Py_TPFLAGS_HAVE_VECTORCALL;
        ((PyTypeObject *)type)->tp_call = PyVectorcall_Call;
    }
    """
    Py_ssize_t ARGUMENT_COUNT(size_t) nogil
    void enable_vectorcall(object, Py_ssize_t)
    bint PyFloat_CheckExact(PyObject*) nogil
    bint PyLong_CheckExact(PyObject*) nogil
    double PyFloat_AsDouble(PyObject*) except? -1
    Py_ssize_t PyTuple_GET_SIZE(PyObject*) nogil
    PyObject* PyTuple_GET_ITEM(PyObject*, Py_ssize_t) nogil
    object PyObject_Vectorcall(PyObject*, PyObject**, size_t, PyObject*)

ctypedef void (*chunk_loop)(char*, char*, char*, char*, char*, Py_ssize_t, bint) noexcept nogil
ctypedef object (*vectorcall_function)(object, PyObject**, size_t, PyObject*)

cdef enum:
    BLOCK = 512          # elements of a stack buffer; five of them fit the first-level cache with room to spare
    MAX_INPUTS = 2
    MAX_PARAMETERS = 2

cdef enum Storage:
    FLOAT, DOUBLE, HALF, BFLOAT

cdef struct Loop:
    chunk_loop chunk
    int inputs
    int parameters
    Storage storage      # of inputs and output; parameters are float for all but double
    double cost          # estimated nanoseconds an element on one thread, for the number of threads

# Set by bind().
cdef void (*widen[2])(const void*, float*, Py_ssize_t) noexcept nogil
cdef void (*narrow[2])(const float*, void*, Py_ssize_t) noexcept nogil
cdef void (*stream)(char*, const char*, Py_ssize_t) noexcept nogil
cdef Py_ssize_t streaming_from = 1 << 62
cdef int bfloat16_number = -1


def bind(kernels, Py_ssize_t last_level_cache):
    """Take the conversions from the chosen build and stream outputs that, with their input, exceed that cache."""
    global stream, streaming_from
    widen[0] = <void (*)(const void*, float*, Py_ssize_t) noexcept nogil><size_t>kernels["widen_half"]
    widen[1] = <void (*)(const void*, float*, Py_ssize_t) noexcept nogil><size_t>kernels["widen_bfloat"]
    narrow[0] = <void (*)(const float*, void*, Py_ssize_t) noexcept nogil><size_t>kernels["narrow_half"]
    narrow[1] = <void (*)(const float*, void*, Py_ssize_t) noexcept nogil><size_t>kernels["narrow_bfloat"]
    stream = <void (*)(char*, const char*, Py_ssize_t) noexcept nogil><size_t>kernels["stream_copy"]
    streaming_from = last_level_cache // 2


# --- Loops --------------------------------------------------------------------------------------------------------

cdef inline Py_ssize_t width(Storage storage) noexcept nogil:
    return 8 if storage == DOUBLE else (4 if storage == FLOAT else 2)

cdef char* gather(Storage storage, char* source, Py_ssize_t step, Py_ssize_t count, char* buffer) noexcept nogil:
    """The elements as contiguous float or double: where they are if that is what they are, else in buffer."""
    cdef Py_ssize_t i
    cdef unsigned short halves[BLOCK]
    if storage == DOUBLE:
        if step == sizeof(double):
            return source
        for i in range(count):
            (<double*>buffer)[i] = (<double*>(source + i * step))[0]
    elif storage == FLOAT:
        if step == sizeof(float):
            return source
        for i in range(count):
            (<float*>buffer)[i] = (<float*>(source + i * step))[0]
    else:
        if step != 2:
            for i in range(count):
                halves[i] = (<unsigned short*>(source + i * step))[0]
            source = <char*>halves
        widen[storage - HALF](source, <float*>buffer, count)
    return buffer

cdef void scatter(Storage storage, char* buffer, char* target, Py_ssize_t step, Py_ssize_t count, bint streaming) noexcept nogil:
    cdef Py_ssize_t i
    cdef unsigned short halves[BLOCK]
    if storage == HALF or storage == BFLOAT:
        if step == 2 and not streaming:
            narrow[storage - HALF](<float*>buffer, target, count)
            return
        narrow[storage - HALF](<float*>buffer, halves, count)
        buffer = <char*>halves
    if streaming:
        stream(target, buffer, count * width(storage))
    elif storage == DOUBLE:
        for i in range(count):
            (<double*>(target + i * step))[0] = (<double*>buffer)[i]
    elif storage == FLOAT:
        for i in range(count):
            (<float*>(target + i * step))[0] = (<float*>buffer)[i]
    else:
        for i in range(count):
            (<unsigned short*>(target + i * step))[0] = (<unsigned short*>buffer)[i]

cdef enum Store:
    PLAIN                # straight to the output where types and strides allow
    STREAMING            # past the cache, by way of a buffer
    BUFFERED             # a block is read before any of it is written, for outputs that overlap an input

cdef void run_chunk(Loop* loop, char** args, Py_ssize_t* steps, Py_ssize_t start, Py_ssize_t count, Store store) noexcept nogil:
    cdef char buffers[(MAX_INPUTS + MAX_PARAMETERS + 1) * BLOCK * 8]
    cdef char* where[MAX_INPUTS + MAX_PARAMETERS + 1]
    cdef int inputs = loop.inputs, last = inputs + loop.parameters, k
    cdef Storage compute = DOUBLE if loop.storage == DOUBLE else FLOAT
    cdef Py_ssize_t size = width(compute), block, step, done = 0
    cdef bint direct = loop.storage == compute and steps[last] == size and store == PLAIN, single = True, streaming = store == STREAMING
    cdef char* result
    where[1] = NULL
    where[MAX_INPUTS] = NULL
    where[MAX_INPUTS + 1] = NULL
    for k in range(inputs):
        direct = direct and steps[k] == size
    for k in range(inputs, last):
        single = single and steps[k] == 0
    for k in range(inputs, last):
        direct = direct and (single or steps[k] == size)
    while done < count:
        block = count if direct else min(count - done, <Py_ssize_t>BLOCK)
        if streaming and (<size_t>(args[last] + (start + done) * steps[last])) & 63:
            # Whole cache lines from here on: a line written in two parts is read first.
            block = min(block, (64 - <Py_ssize_t>((<size_t>(args[last] + (start + done) * steps[last])) & 63)) // steps[last])
        for k in range(last):
            step = steps[k]
            result = args[k] + (start + done) * step
            if k < inputs:
                where[k] = result if direct else gather(loop.storage, result, step, block, buffers + k * BLOCK * 8)
            else:
                where[MAX_INPUTS + k - inputs] = (result if direct or single
                                                  else gather(compute, result, step, block, buffers + k * BLOCK * 8))
        result = args[last] + (start + done) * steps[last]
        if direct:
            loop.chunk(where[0], where[1], where[MAX_INPUTS], where[MAX_INPUTS + 1], result, block, single)
        else:
            where[MAX_INPUTS + MAX_PARAMETERS] = buffers + (MAX_INPUTS + MAX_PARAMETERS) * BLOCK * 8
            loop.chunk(where[0], where[1], where[MAX_INPUTS], where[MAX_INPUTS + 1], where[MAX_INPUTS + MAX_PARAMETERS], block, single)
            scatter(loop.storage, where[MAX_INPUTS + MAX_PARAMETERS], result, steps[last], block, streaming)
        done += block
    if streaming:
        stream_fence()

cdef struct Job:
    Loop* loop
    char** args
    Py_ssize_t* steps
    Store store

cdef void run_piece(void* job, Py_ssize_t start, Py_ssize_t count) noexcept nogil:
    run_chunk((<Job*>job).loop, (<Job*>job).args, (<Job*>job).steps, start, count, (<Job*>job).store)

cdef void run(Loop* loop, char** args, Py_ssize_t* steps, Py_ssize_t count) noexcept nogil:
    cdef int threads = team(count * loop.cost), last = loop.inputs + loop.parameters, k
    cdef Py_ssize_t size = width(loop.storage)
    cdef Job job = Job(loop, args, steps, STREAMING if steps[last] == size and count * size > streaming_from else PLAIN)
    for k in range(loop.inputs):
        if args[k] == args[last]:
            job.store = PLAIN                                # in place, the line is in the cache already
    # Whole cache lines of any type.
    share(run_piece, &job, count, min(max(count // (4 * threads), 4096), 65536) & ~<Py_ssize_t>63, threads)

cdef bint runs_into(char* a, Py_ssize_t a_step, char* b, Py_ssize_t b_step, Py_ssize_t count) noexcept nogil:
    """Whether two operands share memory other than element by element."""
    cdef Py_ssize_t a_reach = a_step * (count - 1), b_reach = b_step * (count - 1)
    if a == b and a_step == b_step:
        return False
    return a + min(a_reach, 0) < b + max(b_reach, 0) + 8 and b + min(b_reach, 0) < a + max(a_reach, 0) + 8

cdef void ufunc_loop(char** args, const np.npy_intp* dimensions, const np.npy_intp* steps, void* data) noexcept nogil:
    """NumPy relies on loops to run in order where the output overlaps an input that it follows."""
    cdef Loop* loop = <Loop*>data
    cdef int last = loop.inputs + loop.parameters, k
    cdef bint overlapping = False
    for k in range(last):
        overlapping = overlapping or runs_into(args[k], steps[k], args[last], steps[last], dimensions[0])
    if overlapping:
        run_chunk(loop, args, <Py_ssize_t*>steps, 0, dimensions[0], BUFFERED)
    else:
        run(loop, args, <Py_ssize_t*>steps, dimensions[0])
    clear_fp_status()

ctypedef fused integer:
    signed char
    short
    int
    long long

cdef void rectify(integer kind, char** args, const np.npy_intp* dimensions, const np.npy_intp* steps, bint clamp) noexcept nogil:
    cdef np.npy_intp i
    cdef integer x
    for i in range(dimensions[0]):
        x = (<integer*>(args[0] + i * steps[0]))[0]
        (<integer*>(args[1] + i * steps[1]))[0] = 0 if clamp and x < 0 else x

cdef void integer_loop(char** args, const np.npy_intp* dimensions, const np.npy_intp* steps, void* data) noexcept nogil:
    """relu or identity of integers; data is their size in bytes, negated where there is nothing to clamp."""
    cdef Py_ssize_t size = <Py_ssize_t>data
    cdef bint clamp = size > 0
    if size == 1 or size == -1:
        rectify(<signed char>0, args, dimensions, steps, clamp)
    elif size == 2 or size == -2:
        rectify(<short>0, args, dimensions, steps, clamp)
    elif size == 4 or size == -4:
        rectify(<int>0, args, dimensions, steps, clamp)
    else:
        rectify(<long long>0, args, dimensions, steps, clamp)


# --- Callables ----------------------------------------------------------------------------------------------------

cdef class Elementwise:
    """A function with two lanes: exact contiguous arrays go straight to the loop, all else to general(*args, **kwargs).

    ``kernels`` maps "float" and "double" to the addresses of chunk loops of ``inputs`` arrays and as many parameters
    as there are (name, default) pairs in ``parameters`` (None: no default). ``integers`` "keep" or "clamp" gives loops for them.
    Without kernels there is the second lane only, and no ufunc.
    """
    cdef vectorcall_function call
    cdef Loop loops[4]
    cdef double values[MAX_PARAMETERS]
    cdef bint optional[MAX_PARAMETERS]
    cdef tuple names
    cdef readonly object ufunc
    cdef object general

    def __init__(self, str name, str doc, kernels, int inputs, parameters, double cost, general, integers=None):
        cdef int k, nin = inputs + len(parameters)
        cdef Storage storage
        self.call = fast_call if lanes_are_open and kernels is not None else general_call
        self.general = general
        self.names = tuple([parameter for parameter, _ in parameters])
        if kernels is None:
            return
        for k, (_, default) in enumerate(parameters):
            self.optional[k] = default is not None
            self.values[k] = default or 0.0
        for storage in (FLOAT, DOUBLE, HALF, BFLOAT):
            self.loops[<int>storage] = Loop(<chunk_loop><size_t>kernels["double" if storage == DOUBLE else "float"],
                                            inputs, nin - inputs, storage, 2 * cost if storage == DOUBLE else cost)
        self.make_ufunc(name, doc, inputs, nin, integers)

    def __call__(self, *args, **kwargs):
        return self.general(*args, **kwargs)

    cdef make_ufunc(self, str name, str doc, int inputs, int nin, integers):
        """A real ufunc. NumPy keeps pointers to these arrays for good, so nothing frees them."""
        cdef int count = 0, total = 3 + (10 if integers else 0), k
        cdef ufunc_function* functions = <ufunc_function*>keep(total * sizeof(void*))
        cdef void** data = <void**>keep(total * sizeof(void*))
        cdef char* types = <char*>keep(total * (nin + 1))
        cdef bytes name_text = name.encode(), doc_text = doc.encode()
        cdef Loop* loops = <Loop*>keep(4 * sizeof(Loop))
        memcpy(loops, self.loops, 4 * sizeof(Loop))
        if integers:
            for number, size, signed in ((np.NPY_BYTE, 1, True), (np.NPY_UBYTE, 1, False), (np.NPY_SHORT, 2, True),
                                         (np.NPY_USHORT, 2, False), (np.NPY_INT, 4, True), (np.NPY_UINT, 4, False),
                                         (np.NPY_LONG, sizeof(long), True), (np.NPY_ULONG, sizeof(long), False),
                                         (np.NPY_LONGLONG, 8, True), (np.NPY_ULONGLONG, 8, False)):
                functions[count] = integer_loop
                data[count] = <void*><Py_ssize_t>(size if signed and integers == "clamp" else -size)
                types[2 * count] = types[2 * count + 1] = number
                count += 1
        for storage, number in ((HALF, np.NPY_FLOAT16), (FLOAT, np.NPY_FLOAT), (DOUBLE, np.NPY_DOUBLE)):
            functions[count] = ufunc_loop
            data[count] = &loops[<int>storage]
            for k in range(nin + 1):
                # The parameters of half types are float: rounding 0.01 to ten bits would be felt in the result.
                types[count * (nin + 1) + k] = np.NPY_FLOAT if storage == HALF and inputs <= k < nin else number
            count += 1
        self.ufunc = PyUFunc_FromFuncAndData(functions, data, types, total, nin, 1, -1, name_text, doc_text, 0)
        every_elementwise.append((self, <size_t>&loops[<int>BFLOAT], inputs, nin, name_text, doc_text))


cdef list every_elementwise = []
cdef bint lanes_are_open = True

cdef extern from "<stdlib.h>" nogil:
    void* malloc(size_t)

cdef extern from "<string.h>" nogil:
    void* memcpy(void*, const void*, size_t)

cdef void* keep(Py_ssize_t size) except NULL:
    cdef void* memory = malloc(size)
    if memory == NULL:
        raise MemoryError
    return memory


def register_bfloat16(dtype):
    """Give every ufunc a loop for ml_dtypes.bfloat16."""
    global bfloat16_number
    cdef int types[MAX_INPUTS + MAX_PARAMETERS + 1]
    cdef int k, inputs, nin
    cdef int number = dtype.num
    for function, loop, inputs, nin, _, _ in every_elementwise:
        for k in range(nin + 1):
            types[k] = np.NPY_FLOAT if inputs <= k < nin else number
        REGISTER_LOOP(function.ufunc, number, ufunc_loop, types, <void*><size_t>loop)
    bfloat16_number = number


cdef inline bint overlaps(PyObject* output, PyObject* source) noexcept:
    """Whether they share memory other than by being the same elements."""
    cdef char* a = <char*>np.PyArray_DATA(<np.ndarray>output)
    cdef char* b = <char*>np.PyArray_DATA(<np.ndarray>source)
    cdef Py_ssize_t size = np.PyArray_NBYTES(<np.ndarray>output)
    return a != b and a < b + size and b < a + size


cdef object fast_call(object function, PyObject** args, size_t nargsf, PyObject* keywords):
    """Run the loop if all is plain, else leave everything to the general lane, which also makes the error messages."""
    cdef Elementwise self = <Elementwise>function
    cdef Py_ssize_t given = ARGUMENT_COUNT(nargsf), named = 0 if keywords == NULL else PyTuple_GET_SIZE(keywords), k, j
    cdef int inputs = self.loops[0].inputs, parameters = self.loops[0].parameters, number
    cdef PyObject* x
    cdef PyObject* output = NULL
    cdef PyObject* name
    cdef PyObject* value
    cdef PyObject* sources[MAX_PARAMETERS]
    cdef double values[MAX_PARAMETERS]
    cdef float narrow_values[MAX_PARAMETERS]
    cdef char* pointers[MAX_INPUTS + MAX_PARAMETERS + 1]
    cdef Py_ssize_t steps[MAX_INPUTS + MAX_PARAMETERS + 1]
    cdef Py_ssize_t size
    cdef Loop* loop
    cdef object result

    if given < inputs or given > inputs + parameters + 1:
        return PyObject_Vectorcall(<PyObject*>self.general, args, nargsf, keywords)
    x = args[0]
    if not IS_EXACT_ARRAY(x) or not IS_CONTIGUOUS(x) or np.PyArray_NDIM(<np.ndarray>x) == 0:
        return PyObject_Vectorcall(<PyObject*>self.general, args, nargsf, keywords)
    number = np.PyArray_TYPE(<np.ndarray>x)
    if number == np.NPY_FLOAT:
        loop = &self.loops[<int>FLOAT]
    elif number == np.NPY_DOUBLE:
        loop = &self.loops[<int>DOUBLE]
    elif number == np.NPY_FLOAT16:
        loop = &self.loops[<int>HALF]
    elif number == bfloat16_number:
        loop = &self.loops[<int>BFLOAT]
    else:
        return PyObject_Vectorcall(<PyObject*>self.general, args, nargsf, keywords)
    size = width(loop.storage)
    for k in range(parameters):
        sources[k] = NULL
    for k in range(inputs, given):
        if k < inputs + parameters:
            sources[k - inputs] = args[k]
        else:
            output = args[k]
    for k in range(named):
        name = PyTuple_GET_ITEM(keywords, k)
        value = args[given + k]
        if name == <PyObject*>OUT:
            if output != NULL:
                return PyObject_Vectorcall(<PyObject*>self.general, args, nargsf, keywords)
            output = value
            continue
        for j in range(parameters):
            if name == <PyObject*>self.names[j] and sources[j] == NULL:
                sources[j] = value
                break
        else:
            return PyObject_Vectorcall(<PyObject*>self.general, args, nargsf, keywords)
    for k in range(parameters):
        value = sources[k]
        if value == NULL and self.optional[k]:
            values[k] = self.values[k]
        elif value != NULL and (PyFloat_CheckExact(value) or PyLong_CheckExact(value)):
            values[k] = PyFloat_AsDouble(value)
        else:
            return PyObject_Vectorcall(<PyObject*>self.general, args, nargsf, keywords)
        narrow_values[k] = <float>values[k]
        pointers[inputs + k] = <char*>&values[k] if loop.storage == DOUBLE else <char*>&narrow_values[k]
        steps[inputs + k] = 0
    for k in range(inputs):
        value = args[k]
        if k > 0 and not (IS_EXACT_ARRAY(value) and IS_CONTIGUOUS(value) and SAME_SHAPE(x, value)
                          and np.PyArray_TYPE(<np.ndarray>value) == number):
            return PyObject_Vectorcall(<PyObject*>self.general, args, nargsf, keywords)
        pointers[k] = <char*>np.PyArray_DATA(<np.ndarray>value)
        steps[k] = size
    if output == NULL or output == <PyObject*>None:
        result = ALLOCATE_LIKE(x)
        output = <PyObject*>result
    else:
        if not (IS_EXACT_ARRAY(output) and IS_WRITEABLE_CONTIGUOUS(output) and SAME_SHAPE(x, output)
                and np.PyArray_TYPE(<np.ndarray>output) == number):
            return PyObject_Vectorcall(<PyObject*>self.general, args, nargsf, keywords)
        for k in range(inputs):
            if overlaps(output, args[k]):
                return PyObject_Vectorcall(<PyObject*>self.general, args, nargsf, keywords)
        result = <object>output
    k = inputs + parameters
    pointers[k] = <char*>np.PyArray_DATA(<np.ndarray>output)
    steps[k] = size
    size = np.PyArray_SIZE(<np.ndarray>x)
    if size < RELEASE_FROM:
        run_chunk(loop, pointers, steps, 0, size, PLAIN)
    else:
        with nogil:
            run(loop, pointers, steps, size)
    return result


cdef object general_call(object function, PyObject** args, size_t nargsf, PyObject* keywords):
    return PyObject_Vectorcall(<PyObject*>(<Elementwise>function).general, args, nargsf, keywords)


def open_fast_lanes(bint open):
    """Whether calls may go straight to these kernels, or all go to general(), which may have others."""
    global lanes_are_open
    lanes_are_open = open
    for entry in every_elementwise:
        (<Elementwise>entry[0]).call = fast_call if open else general_call


# Letting other threads in costs about 50 ns, a tenth of the work from here on.
cdef Py_ssize_t RELEASE_FROM = 2048
cdef str OUT = "out"

cdef Elementwise sample = Elementwise.__new__(Elementwise)
cdef Py_ssize_t VECTORCALL_OFFSET = <char*>&sample.call - <char*><PyObject*>sample
enable_vectorcall(Elementwise, VECTORCALL_OFFSET)


def callable_like_builtin(type cls):
    """Class decorator: calls of a Python subclass take the fast lane directly (CPython < 3.12 does not inherit that)."""
    enable_vectorcall(cls, VECTORCALL_OFFSET)
    return cls


cdef void copy_piece(void* ends, Py_ssize_t first, Py_ssize_t count) noexcept nogil:
    stream((<char**>ends)[0] + first, (<char**>ends)[1] + first, count)
    stream_fence()


def stream_copy(np.ndarray target, np.ndarray source):
    """Copy with the stores that big outputs get, on as many threads: the bound for what memory allows."""
    cdef Py_ssize_t size = np.PyArray_NBYTES(target)
    cdef char* ends[2]
    if size != np.PyArray_NBYTES(source) or not IS_WRITEABLE_CONTIGUOUS(<PyObject*>target) or not IS_CONTIGUOUS(<PyObject*>source):
        raise ValueError("stream_copy takes two contiguous arrays of one size")
    ends[0] = <char*>np.PyArray_DATA(target)
    ends[1] = <char*>np.PyArray_DATA(source)
    with nogil:
        share(copy_piece, ends, size, 1 << 18, team(size * 0.1))


def supported_instruction_sets():
    """Those of the builds that this CPU and operating system run, best first."""
    return [name for name, runs in (("avx512", cpu_has_avx512()), ("avx2", cpu_has_avx2()), ("baseline", True)) if runs]


cdef extern from *:
    """
    #if defined(__x86_64__) && defined(__GNUC__)
    #define cpu_has_avx2() (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2"))
    #define cpu_has_avx512() (cpu_has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") \
                              && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
    #else
    #define cpu_has_avx2() 0
    #define cpu_has_avx512() 0
    #endif
    """
    bint cpu_has_avx2()
    bint cpu_has_avx512()
