cimport numpy as np

cdef np.ndarray empty_like(np.ndarray array)
cdef np.ndarray empty_of_shape(np.ndarray array, int ndim, np.npy_intp* shape)
