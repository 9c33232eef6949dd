# cython: language_level=3, freethreading_compatible=True
"""Rows in memory, whatever their strides and their type, and how they come into contiguous memory and back."""

from libc.stdlib cimport llabs, malloc
from libc.string cimport memcpy, memset

cdef extern from "transpose.h" nogil:
    void transpose(Py_ssize_t, const char*, Py_ssize_t, char*, Py_ssize_t, Py_ssize_t, Py_ssize_t)

cdef enum:
    LONG_ROW = 3072      # bytes from which on the lines that a row shares with its neighbours, and which so are not, count for little:
                         # results past the cache of rows of 400 bytes took 1.5 to 2.3 times as long, of 4,000 0.7 to 1

cdef Py_ssize_t streaming_from = 1 << 62
bfloat16_number = -1

# Set by bind().
cdef void (*widen[2])(const void*, float*, Py_ssize_t) noexcept nogil
cdef void (*narrow[2])(const float*, void*, Py_ssize_t) noexcept nogil


def bind(kernels, Py_ssize_t last_level_cache):
    """Take the conversions from the chosen build and stream outputs that, with their input, exceed that cache."""
    global streaming_from
    widen[0] = <void (*)(const void*, float*, Py_ssize_t) noexcept nogil><size_t>kernels["widen_half"]
    widen[1] = <void (*)(const void*, float*, Py_ssize_t) noexcept nogil><size_t>kernels["widen_bfloat"]
    narrow[0] = <void (*)(const float*, void*, Py_ssize_t) noexcept nogil><size_t>kernels["narrow_half"]
    narrow[1] = <void (*)(const float*, void*, Py_ssize_t) noexcept nogil><size_t>kernels["narrow_bfloat"]
    streaming_from = last_level_cache // 2


def register_bfloat16(dtype):
    """Recognise ml_dtypes.bfloat16."""
    global bfloat16_number
    bfloat16_number = dtype.num


cdef bint go_past_cache(Py_ssize_t rows, Py_ssize_t n, Py_ssize_t size) noexcept nogil:
    """Whether results do that are rows of n elements of some bytes."""
    return n * size >= LONG_ROW and exceed_cache(rows * n * size)

cdef bint exceed_cache(Py_ssize_t size) noexcept nogil:
    """Whether so many bytes of results, with what they are made from, do."""
    return size > streaming_from

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
    cdef Py_ssize_t k
    if item == size and target_item == size:
        for k in range(rows):
            memcpy(target + k * target_row, source + k * row, n * size)
    elif row == size and target_row == size:
        for k in range(n):
            memcpy(target + k * target_item, source + k * item, rows * size)
    elif row == size and target_item == size and size > 1:
        transpose(size, source, item, target, target_row, n, rows)
    elif item == size and target_row == size and size > 1:
        transpose(size, source, row, target, target_item, rows, n)
    elif size == 1:
        copy_elements(<unsigned char>0, source, row, item, target, target_row, target_item, rows, n)
    elif size == 2:
        copy_elements(<unsigned short>0, source, row, item, target, target_row, target_item, rows, n)
    elif size == 4:
        copy_elements(<unsigned int>0, source, row, item, target, target_row, target_item, rows, n)
    else:
        copy_elements(<unsigned long long>0, source, row, item, target, target_row, target_item, rows, n)

cdef char* load(Operand* operand, Py_ssize_t first, Py_ssize_t rows, Py_ssize_t n, Storage storage, char* raw, char* buffer,
                bint beside=False) noexcept nogil:
    """The rows as float or double in buffer, one after another, or side by side."""
    cdef Py_ssize_t size = width(storage), row = operand.row, item = operand.item, k
    cdef Py_ssize_t lines = n if beside else rows, length = rows if beside else n, line = item if beside else row
    cdef Py_ssize_t to_row = size if beside else n * size, to_item = rows * size if beside else size
    cdef char* source = address(operand, first)
    if storage == computed(storage):
        copy_rows(size, source, row, item, buffer, to_row, to_item, rows, n)
        return buffer
    if (row if beside else item) != size and length > 1:
        copy_rows(size, source, row, item, raw, to_row, to_item, rows, n)
        source = raw
        line = length * size
    for k in range(lines):
        widen[storage - HALF](source + k * line, <float*>buffer + k * length, length)
    return buffer

cdef void store(Operand* operand, Py_ssize_t first, Py_ssize_t rows, Py_ssize_t n, Storage storage, char* raw, char* buffer,
                bint beside=False) noexcept nogil:
    """From buffer, where load() would have put the rows, to where they belong."""
    cdef Py_ssize_t size = width(storage), row = operand.row, item = operand.item, k
    cdef Py_ssize_t lines = n if beside else rows, length = rows if beside else n, line = item if beside else row
    cdef Py_ssize_t from_row = size if beside else n * size, from_item = rows * size if beside else size
    cdef char* target = address(operand, first)
    if storage == computed(storage):
        copy_rows(size, buffer, from_row, from_item, target, row, item, rows, n)
    elif (row if beside else item) == size or length == 1:
        for k in range(lines):
            narrow[storage - HALF](<float*>buffer + k * length, target + k * line, length)
    else:
        narrow[storage - HALF](<float*>buffer, raw, rows * n)
        copy_rows(size, raw, from_row, from_item, target, row, item, rows, n)

cdef double number_at(char* p, Storage storage) noexcept nogil:
    cdef float number
    if storage == DOUBLE:
        return (<double*>p)[0]
    if storage == FLOAT:
        return (<float*>p)[0]
    widen[storage - HALF](p, &number, 1)
    return number

cdef void set_number(char* p, Storage storage, double value) noexcept nogil:
    cdef float number = <float>value
    if storage == DOUBLE:
        (<double*>p)[0] = value
    elif storage == FLOAT:
        (<float*>p)[0] = number
    else:
        narrow[storage - HALF](&number, p, 1)

cdef void fill_with_zeros(char* target, Py_ssize_t row, Py_ssize_t item, Py_ssize_t rows, Py_ssize_t n, Py_ssize_t size) noexcept nogil:
    cdef unsigned long long zero = 0
    cdef Py_ssize_t r
    if item == size and row == n * size:
        memset(target, 0, rows * n * size)
    elif item == size:
        for r in range(rows):
            memset(target + r * row, 0, n * size)
    elif llabs(row) < llabs(item):
        copy_rows(size, <char*>&zero, 0, 0, target, item, row, n, rows)
    else:
        copy_rows(size, <char*>&zero, 0, 0, target, row, item, rows, n)

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
