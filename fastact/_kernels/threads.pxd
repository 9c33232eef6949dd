ctypedef void (*piece)(void* job, Py_ssize_t first, Py_ssize_t count) noexcept nogil

cdef int team(double nanoseconds) noexcept nogil
cdef void share(piece work, void* job, Py_ssize_t total, Py_ssize_t chunk, int threads) noexcept nogil
cdef void offer(piece work, void* job, Py_ssize_t total, Py_ssize_t chunk, double nanoseconds) noexcept nogil
