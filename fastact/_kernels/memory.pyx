# cython: language_level=3, freethreading_compatible=True
"""Where results that fastact allocates itself get their memory."""

cimport numpy as np

np.import_array()

cdef extern from "memory.h":
    size_t kept_limit

cdef extern from *:
    """
    #define NEW_ARRAY(array, ndim, shape) (Py_INCREF(PyArray_DESCR(array)), new_array(ndim, shape, PyArray_DESCR(array)))
    """
    np.ndarray NEW_ARRAY(np.ndarray, int, np.npy_intp*)


cdef np.ndarray empty_of_shape(np.ndarray array, int ndim, np.npy_intp* shape):
    """A new C-contiguous array of that shape and of the dtype of another one."""
    return NEW_ARRAY(array, ndim, shape)

cdef np.ndarray empty_like(np.ndarray array):
    return empty_of_shape(array, np.PyArray_NDIM(array), np.PyArray_DIMS(array))


def empty(np.ndarray array):
    """A new C-contiguous array of that shape and dtype."""
    return empty_like(array)


def keep_memory(size_t limit):
    """Keep at most so many bytes of big results that are gone for those to come."""
    global kept_limit
    kept_limit = limit
