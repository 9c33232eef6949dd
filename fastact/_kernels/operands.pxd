cimport numpy as np

cdef enum Storage:
    FLOAT, DOUBLE, HALF, BFLOAT

cdef struct Operand:
    # Rows in memory, strides in bytes: every inner rows a step of block instead of row.
    char* data
    Py_ssize_t row, item, block, inner

cdef enum:
    GROUP = 16384        # elements that are brought into contiguous rows at a time
    MAX_OPERANDS = 5

cdef struct Workspace:
    # What a function over some rows allocates.
    char* memory
    char* raw            # rows as they are stored
    char* buffers[MAX_OPERANDS]

cdef int bfloat16_number         # ml_dtypes.bfloat16 as NumPy counts dtypes, -1 until it is known

cdef bint go_past_cache(Py_ssize_t rows, Py_ssize_t n, Py_ssize_t size) noexcept nogil
cdef bint exceed_cache(Py_ssize_t size) noexcept nogil

cdef inline Py_ssize_t width(Storage storage) noexcept nogil:
    return 8 if storage == DOUBLE else (4 if storage == FLOAT else 2)

cdef inline Storage computed(Storage storage) noexcept nogil:
    return DOUBLE if storage == DOUBLE else FLOAT

cdef inline char* address(Operand* operand, Py_ssize_t row) noexcept nogil:
    if row < operand.inner:
        return operand.data + row * operand.row  # nearly always: a division takes as long as a dozen elements
    return operand.data + row // operand.inner * operand.block + row % operand.inner * operand.row

cdef inline bint stand_side_by_side(Operand* operand, Py_ssize_t rows, Py_ssize_t n, Py_ssize_t size) noexcept nogil:
    """Whether a kernel over columns suits: it works on whole vectors, and in float it counts no further."""
    return operand.row == size and operand.item != size and rows >= 8 and n < 1 << 24

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

cdef void copy_rows(Py_ssize_t size, char* source, Py_ssize_t row, Py_ssize_t item, char* target, Py_ssize_t target_row,
                    Py_ssize_t target_item, Py_ssize_t rows, Py_ssize_t n) noexcept nogil
cdef char* load(Operand* operand, Py_ssize_t first, Py_ssize_t rows, Py_ssize_t n, Storage storage, char* raw, char* buffer,
                bint beside=*) noexcept nogil
cdef void store(Operand* operand, Py_ssize_t first, Py_ssize_t rows, Py_ssize_t n, Storage storage, char* raw, char* buffer,
                bint beside=*) noexcept nogil
cdef double number_at(char* p, Storage storage) noexcept nogil
cdef void set_number(char* p, Storage storage, double value) noexcept nogil
cdef void fill_with_zeros(char* target, Py_ssize_t row, Py_ssize_t item, Py_ssize_t rows, Py_ssize_t n, Py_ssize_t size) noexcept nogil
cdef bint reserve(Workspace* work, Py_ssize_t raw, Py_ssize_t* sizes, int count) noexcept nogil
