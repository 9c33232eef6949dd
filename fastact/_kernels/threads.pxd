cdef int team(double nanoseconds) noexcept nogil
