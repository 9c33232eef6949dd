cdef enum:
    OPERANDS = 10
    SIZES = 12
    VALUES = 10

cdef struct Work:
    # What one piece of work of the trainer is given, by position; an array that was None is NULL.
    char* arrays[OPERANDS]
    Py_ssize_t sizes[SIZES]
    double values[VALUES]
