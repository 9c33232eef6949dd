from .operands cimport Storage

cdef enum:
    BLOCK = 512          # elements of a stack buffer; seven of them fit the first-level cache with room to spare

cdef char* gather(Storage storage, char* source, Py_ssize_t step, Py_ssize_t count, char* buffer) noexcept nogil
cdef void scatter(Storage storage, char* buffer, char* target, Py_ssize_t step, Py_ssize_t count, bint streaming) noexcept nogil
