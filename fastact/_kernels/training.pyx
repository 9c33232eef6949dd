# cython: language_level=3, freethreading_compatible=True
"""From a layer or an optimizer to its kernels: checks the arrays and shares the work out among threads."""

cimport numpy as np

from .threads cimport piece, share, team

np.import_array()

cdef extern from "primitives.h" nogil:
    void clear_fp_status()

cdef extern from *:
    """
    #define IS_CONTIGUOUS(array) PyArray_ISCARRAY_RO(array)
    """
    bint IS_CONTIGUOUS(np.ndarray)

# Letting other threads in costs about 50 ns.
cdef double RELEASE_FROM = 2000.0


cdef class Kernel:
    """``kernel(total, arrays, sizes, values)`` runs a kernel over 0...total, which counts rows, elements or samples.

    ``operands`` has a letter for each array: x of the type that the first one has, float32 or float64; d float64;
    i int64; n int32. All must be contiguous; None stands for no array. The elements of the first, ``cost`` nanoseconds each, decide
    how many threads the work gets. What belongs to one of the total is written by nobody else: the result does not
    depend on the threads. If the first is no array of NumPy, ``plain`` gets the same arguments instead.
    """
    cdef piece single, double_
    cdef double cost
    cdef readonly str name
    cdef bytes operands
    cdef object plain

    def __init__(self, str name, kernels, str operands, double cost, plain):
        self.name = name
        self.plain = plain
        self.cost = cost
        self.operands = operands.encode()
        self.single = <piece><size_t>kernels[name + "_float"]
        self.double_ = <piece><size_t>kernels[name + "_double"]

    def __call__(self, Py_ssize_t total, tuple arrays, tuple sizes=(), tuple values=()):
        cdef Work work
        if not isinstance(arrays[0], np.ndarray):
            return self.plain(total, arrays, sizes, values)
        cdef np.ndarray array = arrays[0]
        cdef int number = np.PyArray_TYPE(array), threads, wanted
        cdef Py_ssize_t k, chunk, count = len(arrays)
        cdef double nanoseconds = np.PyArray_SIZE(array) * self.cost
        cdef const char* operands = self.operands
        cdef piece run = self.double_ if number == np.NPY_DOUBLE else self.single
        if number != np.NPY_FLOAT and number != np.NPY_DOUBLE:
            raise TypeError(f"{self.name} works on float32 and float64, not {array.dtype}")
        if count != len(self.operands) or len(sizes) > SIZES or len(values) > VALUES:
            raise TypeError(f"{self.name} takes {len(self.operands)} arrays")
        for k in range(count):
            if arrays[k] is None:
                work.arrays[k] = NULL
                continue
            array = arrays[k]
            wanted = (number if operands[k] == c"x" else np.NPY_DOUBLE if operands[k] == c"d"
                      else np.NPY_INT64 if operands[k] == c"i" else np.NPY_INT32)
            if not IS_CONTIGUOUS(array) or np.PyArray_TYPE(array) != wanted:
                raise ValueError(f"array {k} of {self.name} is not contiguous or of another type: {array.dtype}")
            work.arrays[k] = <char*>np.PyArray_DATA(array)
        for k in range(len(sizes)):
            work.sizes[k] = sizes[k]
        for k in range(len(values)):
            work.values[k] = values[k]
        if nanoseconds < RELEASE_FROM:
            run(&work, 0, total)
        else:
            threads = team(nanoseconds)
            chunk = max(total // (4 * threads), 1)
            if chunk >= 64:
                chunk = (chunk + 63) & ~<Py_ssize_t>63
            with nogil:
                share(run, &work, total, chunk, threads)
        clear_fp_status()
