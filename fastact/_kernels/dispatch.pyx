# cython: language_level=3, freethreading_compatible=True
"""From an array to the loops over its chunks: strides, half types, threads, streaming stores, ufuncs and the fast lane.

Built once; the loops themselves come from the build for the best instruction set, as addresses (see bind).
"""

cimport cython
from cpython.object cimport PyObject
from cpython.tuple cimport PyTuple_CheckExact
cimport numpy as np

from .memory cimport empty_like, empty_of_shape
from .operands cimport BFLOAT, DOUBLE, FLOAT, HALF, Storage, exceed_cache, width
from .threads cimport offer, share, team

np.import_array()
np.import_umath()

cdef extern from "primitives.h" nogil:
    enum: TILE "FASTACT_TILE"
    void clear_fp_status()
    void stream_fence()

cdef extern from "<stdlib.h>" nogil:
    void* malloc(size_t)

cdef extern from "<string.h>" nogil:
    void* memcpy(void*, const void*, size_t)
    void* memset(void*, int, size_t)

cdef extern from "numpy/ufuncobject.h":
    ctypedef void (*ufunc_function "PyUFuncGenericFunction")(char**, const np.npy_intp*, const np.npy_intp*, void*) noexcept nogil
    object PyUFunc_FromFuncAndData(ufunc_function*, void**, char*, int, int, int, int, const char*, const char*, int)

cdef extern from *:
    """
    #define IS_EXACT_ARRAY(object) PyArray_CheckExact(object)
    #define IS_CONTIGUOUS(object) PyArray_ISCARRAY_RO((PyArrayObject *)(object))
    #define IS_WRITEABLE_CONTIGUOUS(object) PyArray_ISCARRAY((PyArrayObject *)(object))
    #define SAME_SHAPE(a, b) PyArray_SAMESHAPE((PyArrayObject *)(a), (PyArrayObject *)(b))
    #define REGISTER_LOOP(ufunc, type, loop, types, data) \
        PyUFunc_RegisterLoopForType((PyUFuncObject *)(ufunc), type, loop, types, data)
    """
    bint IS_EXACT_ARRAY(PyObject*) nogil
    bint IS_CONTIGUOUS(PyObject*) nogil
    bint IS_WRITEABLE_CONTIGUOUS(PyObject*) nogil
    bint SAME_SHAPE(PyObject*, PyObject*) nogil
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

ctypedef void (*chunk_loop)(char*, char*, char*, char*, char*, char*, char*, Py_ssize_t, bint) noexcept nogil
ctypedef bint (*direct_loop)(char*, char*, char*, char*, char*, char*, char*, Py_ssize_t, bint) noexcept nogil
ctypedef void (*strided_loop)(char**, const Py_ssize_t*, Py_ssize_t, Py_ssize_t) noexcept nogil
ctypedef object (*vectorcall_function)(object, PyObject**, size_t, PyObject*)

cdef enum:
    # Of a chunk loop, and where their groups begin among its arguments. Everywhere else what is not used is left out.
    MAX_INPUTS = 3
    MAX_PARAMETERS = 2
    MAX_OUTPUTS = 2
    FIRST_PARAMETER = MAX_INPUTS
    FIRST_OUTPUT = MAX_INPUTS + MAX_PARAMETERS
    MAX_ARGUMENTS = MAX_INPUTS + MAX_PARAMETERS + MAX_OUTPUTS

cdef struct Loop:
    chunk_loop chunk
    direct_loop past_cache # the same with stores past the cache, in whole tiles, or NULL; it says whether it could
    strided_loop strided   # the same with gaps between elements and single parameters, or NULL
    direct_loop tiles      # the same on half types as they are, in whole tiles, or NULL; it says whether it could
    int inputs
    int parameters
    int outputs
    Storage storage      # of inputs and outputs; parameters are float for all but double
    double cost          # estimated nanoseconds an element on one thread, for the number of threads

# Set by bind().
cdef void (*widen[2])(const void*, float*, Py_ssize_t) noexcept nogil
cdef void (*narrow[2])(const float*, void*, Py_ssize_t) noexcept nogil
cdef void (*collect)(const char*, Py_ssize_t, Py_ssize_t, float*) noexcept nogil
cdef void (*spread)(const float*, char*, Py_ssize_t, Py_ssize_t) noexcept nogil
cdef void (*stream)(char*, const char*, Py_ssize_t) noexcept nogil
cdef int bfloat16_number = -1


def bind(kernels):
    """Take from the chosen build what is not particular to a function."""
    global collect, spread, stream
    widen[0] = <void (*)(const void*, float*, Py_ssize_t) noexcept nogil><size_t>kernels["widen_half"]
    widen[1] = <void (*)(const void*, float*, Py_ssize_t) noexcept nogil><size_t>kernels["widen_bfloat"]
    narrow[0] = <void (*)(const float*, void*, Py_ssize_t) noexcept nogil><size_t>kernels["narrow_half"]
    narrow[1] = <void (*)(const float*, void*, Py_ssize_t) noexcept nogil><size_t>kernels["narrow_bfloat"]
    collect = <void (*)(const char*, Py_ssize_t, Py_ssize_t, float*) noexcept nogil><size_t>kernels["collect_floats"]
    spread = <void (*)(const float*, char*, Py_ssize_t, Py_ssize_t) noexcept nogil><size_t>kernels["spread_floats"]
    stream = <void (*)(char*, const char*, Py_ssize_t) noexcept nogil><size_t>kernels["stream_copy"]


# --- Loops --------------------------------------------------------------------------------------------------------

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
        collect(source, step, count, <float*>buffer)
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
    elif step == width(storage):
        memcpy(target, buffer, count * step)
    elif storage == DOUBLE:
        for i in range(count):
            (<double*>(target + i * step))[0] = (<double*>buffer)[i]
    elif storage == FLOAT:
        spread(<float*>buffer, target, step, count)
    else:
        for i in range(count):
            (<unsigned short*>(target + i * step))[0] = (<unsigned short*>buffer)[i]

cdef enum Store:
    PLAIN                # straight to the output where types and strides allow
    STREAMING            # past the cache, by way of a buffer
    BUFFERED             # a block is read before any of it is written, for outputs that overlap an input

cdef inline int place_of(Loop* loop, int k) noexcept nogil:
    """Where the argument number k of a call stands among those of a chunk loop."""
    if k < loop.inputs:
        return k
    k -= loop.inputs
    return FIRST_PARAMETER + k if k < loop.parameters else FIRST_OUTPUT + k - loop.parameters

cdef inline void point(Loop* loop, char** args, Py_ssize_t* steps, Py_ssize_t start, char** where) noexcept nogil:
    """The arguments of a chunk loop from element start on, where they are; NULL for what the loop does not use."""
    cdef int k
    for k in range(MAX_ARGUMENTS):
        where[k] = NULL
    for k in range(loop.inputs + loop.parameters + loop.outputs):
        where[place_of(loop, k)] = args[k] + start * steps[k]

cdef void run_chunk(Loop* loop, char** args, Py_ssize_t* steps, Py_ssize_t start, Py_ssize_t count, Store store) noexcept nogil:
    """At once where a loop takes the elements as they are, what is left in blocks."""
    cdef char* where[MAX_ARGUMENTS]
    cdef int last = loop.inputs + loop.parameters, total = last + loop.outputs, k
    cdef Py_ssize_t size = width(loop.storage), head, tiled
    cdef bint single = True, packed = store != BUFFERED
    for k in range(loop.inputs, last):
        single = single and steps[k] == 0
    for k in range(total):
        packed = packed and (steps[k] == size or single and loop.inputs <= k < last)
    if store == STREAMING:
        # Whole cache lines from here on: a line written in two parts is read first.
        head = min(count, <Py_ssize_t>(-<size_t>(args[last] + start * size) & 63) // size)
        run_blocks(loop, args, steps, start, head, store, single)
        start += head
        count -= head
    if packed and loop.storage <= DOUBLE:
        point(loop, args, steps, start, where)
        if store == PLAIN:
            loop.chunk(where[0], where[1], where[2], where[3], where[4], where[5], where[6], count, single)
            return
        tiled = count & ~<Py_ssize_t>(TILE - 1)
        if loop.past_cache != NULL and not (args[total - 1] - args[last]) & 63 \
                and loop.past_cache(where[0], where[1], where[2], where[3], where[4], where[5], where[6], tiled, single):
            start += tiled
            count -= tiled
    elif single and store == PLAIN and loop.strided != NULL:
        loop.strided(args, steps, start, count)
        return
    if packed and single and loop.tiles != NULL:
        tiled = run_tiles(loop, args, steps, start, count & ~<Py_ssize_t>(TILE - 1), store)
        start += tiled
        count -= tiled
    run_blocks(loop, args, steps, start, count, store, single)
    if store == STREAMING:
        stream_fence()

cdef Py_ssize_t run_tiles(Loop* loop, char** args, Py_ssize_t* steps, Py_ssize_t start, Py_ssize_t count, Store store) noexcept nogil:
    """Whole tiles of half types, at once or by way of buffers; how many elements were done: all or none."""
    cdef char buffers[MAX_OUTPUTS * BLOCK * 2]
    cdef char* where[MAX_ARGUMENTS]
    cdef int last = loop.inputs + loop.parameters, k
    cdef Py_ssize_t block, done = 0
    while done < count:
        point(loop, args, steps, start + done, where)
        block = count
        if store == STREAMING:
            block = min(count - done, <Py_ssize_t>BLOCK)
            for k in range(loop.outputs):
                where[FIRST_OUTPUT + k] = buffers + k * BLOCK * 2
        if not loop.tiles(where[0], where[1], where[2], where[3], where[4], where[5], where[6], block, True):
            return 0
        for k in range(loop.outputs if store == STREAMING else 0):
            stream(args[last + k] + (start + done) * 2, where[FIRST_OUTPUT + k], block * 2)
        done += block
    return done

cdef void run_blocks(Loop* loop, char** args, Py_ssize_t* steps, Py_ssize_t start, Py_ssize_t count, Store store,
                     bint single) noexcept nogil:
    """By way of buffers."""
    cdef char buffers[MAX_ARGUMENTS * BLOCK * 8]
    cdef char* where[MAX_ARGUMENTS]
    cdef int last = loop.inputs + loop.parameters, k, place
    cdef Storage compute = DOUBLE if loop.storage == DOUBLE else FLOAT
    cdef Py_ssize_t block, end = start + count
    while start < end:
        block = min(end - start, <Py_ssize_t>BLOCK)
        point(loop, args, steps, start, where)
        for k in range(last + loop.outputs):
            place = place_of(loop, k)
            if k >= last:
                where[place] = buffers + place * BLOCK * 8
            elif k < loop.inputs or not single:
                where[place] = gather(loop.storage if k < loop.inputs else compute, where[place], steps[k], block,
                                      buffers + place * BLOCK * 8)
        loop.chunk(where[0], where[1], where[2], where[3], where[4], where[5], where[6], block, single)
        for k in range(last, last + loop.outputs):
            scatter(loop.storage, where[place_of(loop, k)], args[k] + start * steps[k], steps[k], block, store == STREAMING)
        start += block

cdef struct Job:
    Loop* loop
    char** args
    Py_ssize_t* steps    # from element to element of a row
    Py_ssize_t* leaps    # from row to row
    Py_ssize_t length    # elements in a row
    Store store

cdef void run_piece(void* task, Py_ssize_t start, Py_ssize_t count) noexcept nogil:
    cdef Job* job = <Job*>task
    cdef char* args[MAX_ARGUMENTS]
    cdef int total = job.loop.inputs + job.loop.parameters + job.loop.outputs, k
    cdef Py_ssize_t row = start // job.length, first = start - row * job.length, block
    while count > 0:
        block = min(count, job.length - first)
        for k in range(total):
            args[k] = job.args[k] + row * job.leaps[k]
        run_chunk(job.loop, args, job.steps, first, block, job.store)
        count -= block
        row += 1
        first = 0

cdef Store store_for(Loop* loop, char** args, Py_ssize_t* steps, Py_ssize_t count) noexcept nogil:
    cdef Py_ssize_t size = width(loop.storage)
    cdef int last = loop.inputs + loop.parameters, k, j
    cdef Store store = STREAMING if exceed_cache(count * size * loop.outputs) else PLAIN
    for k in range(last, last + loop.outputs):
        if steps[k] != size:
            store = PLAIN
    for k in range(last, last + loop.outputs):
        for j in range(loop.inputs):
            if args[j] == args[k]:
                # In place, the line is in the cache already. The first of two results must not overwrite what the second needs.
                store = PLAIN if loop.outputs == 1 else BUFFERED
    return store

cdef void run(Loop* loop, char** args, Py_ssize_t* steps, Py_ssize_t* leaps, Py_ssize_t length, Py_ssize_t rows) noexcept nogil:
    cdef Py_ssize_t count = rows * length
    cdef int threads = team(count * loop.cost)
    cdef Job job = Job(loop, args, steps, leaps, length, store_for(loop, args, steps, count))
    # Whole cache lines of any type.
    if threads == 1:
        offer(run_piece, &job, count, max(count // 8, 4096) & ~<Py_ssize_t>63, count * loop.cost)
    else:
        share(run_piece, &job, count, min(max(count // (4 * threads), 4096), 65536) & ~<Py_ssize_t>63, threads)

cdef bint runs_into(char* a, Py_ssize_t a_step, char* b, Py_ssize_t b_step, Py_ssize_t count) noexcept nogil:
    """Whether two operands share memory other than element by element."""
    cdef Py_ssize_t a_reach = a_step * (count - 1), b_reach = b_step * (count - 1)
    if a == b and a_step == b_step:
        return a_step == 0 and count > 1
    return a + min(a_reach, 0) < b + max(b_reach, 0) + 8 and b + min(b_reach, 0) < a + max(a_reach, 0) + 8

cdef void ufunc_loop(char** args, const np.npy_intp* dimensions, const np.npy_intp* steps, void* data) noexcept nogil:
    """Where the output overlaps an input, one result goes into the next, as for ufunc.accumulate; else NumPy makes copies."""
    cdef Loop* loop = <Loop*>data
    cdef int last = loop.inputs + loop.parameters, k, j
    cdef Py_ssize_t i
    cdef bint overlapping = False
    for k in range(last, last + loop.outputs):
        for j in range(k):
            overlapping = overlapping or runs_into(args[j], steps[j], args[k], steps[k], dimensions[0])
    if overlapping:
        for i in range(dimensions[0]):
            run_chunk(loop, args, <Py_ssize_t*>steps, i, 1, BUFFERED)
    elif dimensions[0] > 0:
        run(loop, args, <Py_ssize_t*>steps, <Py_ssize_t*>steps, dimensions[0], 1)
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

    ``kernels`` maps "float" and "double" to the addresses of chunk loops of ``inputs`` arrays, as many parameters as
    there are (name, default) pairs in ``parameters`` (None: no default), and ``outputs`` arrays; and to those of other loops,
    or to 0: "float_past_cache" and "double_past_cache" that store past the cache, "float_strided" and "double_strided" over elements with gaps
    between them, "half" and "bfloat" of these as they are. ``integers`` "keep" or "clamp" gives loops for them. Without
    kernels there is the second lane only, and no ufunc.
    """
    cdef vectorcall_function call
    cdef Loop loops[4]
    cdef double values[MAX_PARAMETERS]
    cdef bint optional[MAX_PARAMETERS]
    cdef tuple names
    cdef readonly object ufunc
    cdef object general
    cdef ufunc_function guest          # another backend's loop for ufuncs, NULL if there is none yet
    cdef void* guest_data[4]           # what it takes last, for each Storage

    def __init__(self, str name, str doc, kernels, int inputs, parameters, double cost, general, integers=None, int outputs=1):
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
            T = "double" if storage == DOUBLE else "float"
            self.loops[<int>storage] = Loop(<chunk_loop><size_t>kernels[T],
                                            <direct_loop><size_t>(kernels[T + "_past_cache"] if storage <= DOUBLE else 0),
                                            <strided_loop><size_t>(kernels[T + "_strided"] if storage <= DOUBLE else 0),
                                            <direct_loop><size_t>(kernels[("half", "bfloat")[storage - HALF]] if storage >= HALF else 0),
                                            inputs, nin - inputs, outputs, storage, 2 * cost if storage == DOUBLE else cost)
        self.make_ufunc(name, doc, inputs, nin, outputs, integers)

    def __call__(self, *args, **kwargs):
        return self.general(*args, **kwargs)

    def admit(self, size_t loop, data):
        """Have the fast lane call another backend's loop while that runs: the loop of ufuncs at an address, and its data for each Storage."""
        cdef int storage
        if self.ufunc is None:
            return
        for storage in range(4):
            self.guest_data[storage] = <void*><size_t>data[storage]
        self.guest = <ufunc_function>loop
        self.call = fast_call

    cdef make_ufunc(self, str name, str doc, int inputs, int nin, int outputs, integers):
        """A real ufunc. NumPy keeps pointers to these arrays for good, so nothing frees them."""
        cdef int count = 0, total = 3 + (10 if integers else 0), k
        cdef ufunc_function* functions = <ufunc_function*>keep(total * sizeof(void*))
        cdef void** data = <void**>keep(total * sizeof(void*))
        cdef char* types = <char*>keep(total * (nin + outputs))
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
            for k in range(nin + outputs):
                # The parameters of half types are float: rounding 0.01 to ten bits would be felt in the result.
                types[count * (nin + outputs) + k] = np.NPY_FLOAT if storage == HALF and inputs <= k < nin else number
            count += 1
        self.ufunc = PyUFunc_FromFuncAndData(functions, data, types, total, nin, outputs, -1, name_text, doc_text, 0)
        every_elementwise.append((self, <size_t>&loops[<int>BFLOAT], inputs, nin, outputs, name_text, doc_text))


cdef list every_elementwise = []
cdef bint lanes_are_open = True

cdef void* keep(Py_ssize_t size) except NULL:
    cdef void* memory = malloc(size)
    if memory == NULL:
        raise MemoryError
    return memory


def register_bfloat16(dtype):
    """Give every ufunc a loop for ml_dtypes.bfloat16."""
    global bfloat16_number
    cdef int types[MAX_ARGUMENTS]
    cdef int k, inputs, nin, outputs
    cdef int number = dtype.num
    for function, loop, inputs, nin, outputs, _, _ in every_elementwise:
        for k in range(nin + outputs):
            types[k] = np.NPY_FLOAT if inputs <= k < nin else number
        # Not the attribute, which a subclass turns into another backend's.
        REGISTER_LOOP((<Elementwise>function).ufunc, number, ufunc_loop, types, <void*><size_t>loop)
    bfloat16_number = number


cdef inline bint same_start(PyObject* a, PyObject* b) noexcept:
    return np.PyArray_DATA(<np.ndarray>a) == np.PyArray_DATA(<np.ndarray>b)


cdef inline bint overlaps(PyObject* output, PyObject* source) noexcept:
    """Whether they share memory other than by being the same elements."""
    cdef char* a = <char*>np.PyArray_DATA(<np.ndarray>output)
    cdef char* b = <char*>np.PyArray_DATA(<np.ndarray>source)
    cdef Py_ssize_t size = np.PyArray_NBYTES(<np.ndarray>output)
    return a != b and a < b + size and b < a + size


cdef inline int storage_of(PyObject* x) noexcept:
    """The storage of a plain array, -1 for anything else."""
    cdef int number
    if not IS_EXACT_ARRAY(x) or not IS_CONTIGUOUS(x) or np.PyArray_NDIM(<np.ndarray>x) == 0:
        return -1
    number = np.PyArray_TYPE(<np.ndarray>x)
    if number == np.NPY_FLOAT:
        return FLOAT
    elif number == np.NPY_DOUBLE:
        return DOUBLE
    elif number == np.NPY_FLOAT16:
        return HALF
    elif number == bfloat16_number:
        return BFLOAT
    return -1


cdef inline bint is_like(PyObject* x, PyObject* other) noexcept:
    return IS_EXACT_ARRAY(other) and IS_CONTIGUOUS(other) and SAME_SHAPE(x, other) \
        and np.PyArray_TYPE(<np.ndarray>x) == np.PyArray_TYPE(<np.ndarray>other)


cdef object fast_call(object function, PyObject** args, size_t nargsf, PyObject* keywords):
    """Run the loop if all is plain, else leave everything to the general lane, which also makes the error messages."""
    cdef Elementwise self = <Elementwise>function
    cdef Py_ssize_t given = ARGUMENT_COUNT(nargsf), named = 0 if keywords == NULL else PyTuple_GET_SIZE(keywords), k, j
    cdef int inputs = self.loops[0].inputs, parameters = self.loops[0].parameters, outputs = self.loops[0].outputs
    cdef int last = inputs + parameters
    cdef PyObject* x
    cdef PyObject* name
    cdef PyObject* value
    cdef PyObject* sources[MAX_PARAMETERS]
    cdef PyObject* targets[MAX_OUTPUTS]
    cdef double values[MAX_PARAMETERS]
    cdef float narrow_values[MAX_PARAMETERS]
    cdef char* pointers[MAX_ARGUMENTS]
    cdef Py_ssize_t steps[MAX_ARGUMENTS]
    cdef Py_ssize_t size, length
    cdef Loop* loop
    cdef int storage
    cdef object result = None, other = None

    if given < inputs or given > last + outputs:
        return PyObject_Vectorcall(<PyObject*>self.general, args, nargsf, keywords)
    x = args[0]
    storage = storage_of(x)
    if storage < 0:
        return PyObject_Vectorcall(<PyObject*>self.general, args, nargsf, keywords)
    loop = &self.loops[storage]
    size = width(loop.storage)
    for k in range(parameters):
        sources[k] = NULL
    for k in range(outputs):
        targets[k] = NULL
    for k in range(inputs, given):
        if k < last:
            sources[k - inputs] = args[k]
        else:
            targets[k - last] = NULL if args[k] == <PyObject*>None else args[k]
    for k in range(named):
        name = PyTuple_GET_ITEM(keywords, k)
        value = args[given + k]
        if name == <PyObject*>OUT:
            if given > last:
                return PyObject_Vectorcall(<PyObject*>self.general, args, nargsf, keywords)
            if value == <PyObject*>None:
                continue
            if outputs == 1:
                targets[0] = value
                continue
            if not PyTuple_CheckExact(<object>value) or PyTuple_GET_SIZE(value) != outputs:
                return PyObject_Vectorcall(<PyObject*>self.general, args, nargsf, keywords)
            for j in range(outputs):
                name = PyTuple_GET_ITEM(value, j)
                targets[j] = NULL if name == <PyObject*>None else name
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
        if k > 0 and not is_like(x, value):
            return PyObject_Vectorcall(<PyObject*>self.general, args, nargsf, keywords)
        pointers[k] = <char*>np.PyArray_DATA(<np.ndarray>value)
        steps[k] = size
    for k in range(outputs):
        if targets[k] == NULL:
            continue
        if not (is_like(x, targets[k]) and IS_WRITEABLE_CONTIGUOUS(targets[k])):
            return PyObject_Vectorcall(<PyObject*>self.general, args, nargsf, keywords)
        for j in range(inputs):
            if overlaps(targets[k], args[j]):
                return PyObject_Vectorcall(<PyObject*>self.general, args, nargsf, keywords)
        for j in range(k):
            if targets[j] != NULL and (overlaps(targets[k], targets[j]) or same_start(targets[k], targets[j])):
                return PyObject_Vectorcall(<PyObject*>self.general, args, nargsf, keywords)
    for k in range(outputs):
        if k == 0:
            result = empty_like(<np.ndarray>x) if targets[k] == NULL else <object>targets[k]
            value = <PyObject*>result
        else:
            other = empty_like(<np.ndarray>x) if targets[k] == NULL else <object>targets[k]
            value = <PyObject*>other
        pointers[last + k] = <char*>np.PyArray_DATA(<np.ndarray>value)
        steps[last + k] = size
    length = np.PyArray_SIZE(<np.ndarray>x)
    if lanes_are_open or self.guest == NULL:
        run_locked(loop, pointers, steps, steps, length, 1)
    elif length > 0:
        with nogil:
            self.guest(pointers, <np.npy_intp*>&length, <np.npy_intp*>steps, self.guest_data[storage])
    return result if outputs == 1 else (result, other)


def packed(Elementwise function, x, int axis, grad=None, out=None):
    """The function of the two halves of x along an axis; with a gradient, which comes first then, both results in an array like x.

    None if that takes more than plain arrays, an even length, and an out that is none of the inputs but x in the backward pass.
    """
    cdef Loop* loop
    cdef char* args[MAX_ARGUMENTS]
    cdef Py_ssize_t steps[MAX_ARGUMENTS]
    cdef Py_ssize_t leaps[MAX_ARGUMENTS]
    cdef np.npy_intp shape[64]
    cdef Py_ssize_t size, half = 1, rows = 1
    cdef int backward = grad is not None, storage = storage_of(<PyObject*>x), dimensions, k
    if storage < 0:
        return None
    loop = &function.loops[storage]
    dimensions = np.PyArray_NDIM(x)
    for k in range(dimensions):
        shape[k] = np.PyArray_DIM(x, k)
        if k < axis:
            rows *= shape[k]
        else:
            half *= shape[k]
    if not 0 <= axis < dimensions or shape[axis] % 2:
        return None
    shape[axis] //= 2
    half //= 2
    if backward and not has_shape(<PyObject*>x, <PyObject*>grad, shape):
        return None
    if out is None:
        out = empty_like(x) if backward else empty_of_shape(x, dimensions, shape)
    elif not IS_EXACT_ARRAY(<PyObject*>out) or not IS_WRITEABLE_CONTIGUOUS(<PyObject*>out) \
            or not (is_like(<PyObject*>x, <PyObject*>out) if backward else has_shape(<PyObject*>x, <PyObject*>out, shape)) \
            or overlaps(<PyObject*>out, <PyObject*>x) or not backward and same_start(<PyObject*>out, <PyObject*>x) \
            or backward and (overlaps(<PyObject*>out, <PyObject*>grad) or same_start(<PyObject*>out, <PyObject*>grad)):
        return None
    size = width(loop.storage)
    for k in range(3 + 2 * backward):
        steps[k] = size
        leaps[k] = 2 * half * size
    if backward:
        args[0] = <char*>np.PyArray_DATA(grad)
        leaps[0] = half * size
    args[backward] = <char*>np.PyArray_DATA(x)
    args[backward + 1] = args[backward] + half * size
    args[backward + 2] = <char*>np.PyArray_DATA(out)
    if backward:
        args[4] = args[3] + half * size
    else:
        leaps[2] = half * size
    if half < SHORT_ROW and rows > half:                     # then the long way is the inner one
        half, rows = rows, half
        for k in range(3 + 2 * backward):
            steps[k], leaps[k] = leaps[k], steps[k]
    run_locked(loop, args, steps, leaps, half, rows)
    return out


cdef void run_locked(Loop* loop, char** args, Py_ssize_t* steps, Py_ssize_t* leaps, Py_ssize_t length, Py_ssize_t rows):
    """By who holds the interpreter's lock, which is let go where that pays."""
    if rows == 1 and length < RELEASE_FROM:
        run_chunk(loop, args, steps, 0, length, store_for(loop, args, steps, length))
    elif rows * length > 0:
        with nogil:
            run(loop, args, steps, leaps, length, rows)


cdef object general_call(object function, PyObject** args, size_t nargsf, PyObject* keywords):
    return PyObject_Vectorcall(<PyObject*>(<Elementwise>function).general, args, nargsf, keywords)


def open_fast_lanes(bint open):
    """Whether calls go straight to these kernels, or to those of another backend: by way of general(), which admits them."""
    global lanes_are_open
    cdef Elementwise function
    lanes_are_open = open
    for entry in every_elementwise:
        function = entry[0]
        function.call = fast_call if open or function.guest != NULL else general_call


cdef bint has_shape(PyObject* x, PyObject* other, np.npy_intp* shape) noexcept:
    """Whether other is a plain array of that shape and of the type and number of dimensions of x."""
    cdef int k
    if not (IS_EXACT_ARRAY(other) and IS_CONTIGUOUS(other) and np.PyArray_NDIM(<np.ndarray>x) == np.PyArray_NDIM(<np.ndarray>other)
            and np.PyArray_TYPE(<np.ndarray>x) == np.PyArray_TYPE(<np.ndarray>other)):
        return False
    for k in range(np.PyArray_NDIM(<np.ndarray>x)):
        if np.PyArray_DIM(<np.ndarray>other, k) != shape[k]:
            return False
    return True


# Rows shorter than that cost more to begin than to gather from.
cdef Py_ssize_t SHORT_ROW = 64
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
