# cython: language_level=3, freethreading_compatible=True
"""How many threads a piece of work gets, and who does what: the one place that knows."""

from cython.parallel cimport prange

# A region that wakes a second thread costs 1-2 us when that thread still spins and 10 us when it sleeps
# (python -m bench.threads); each thread is to have at least that much to do.
cdef double GRAIN = 5000.0

cdef int limit = 1


cdef int team(double nanoseconds) noexcept nogil:
    """Threads for work that takes one thread about that long."""
    cdef double wanted = nanoseconds / GRAIN
    if wanted < 2 or limit == 1:
        return 1
    return limit if wanted > limit else <int>wanted


cdef void share(piece work, void* job, Py_ssize_t total, Py_ssize_t chunk, int threads) noexcept nogil:
    """work(job, first, count) for chunks of 0...total, by as many threads: chunks small enough that a late one takes less."""
    cdef Py_ssize_t i
    if threads == 1:
        work(job, 0, total)
        return
    for i in prange((total + chunk - 1) // chunk, schedule="dynamic", num_threads=threads):
        work(job, i * chunk, min(chunk, total - i * chunk))


def set_limit(int n):
    global limit
    limit = n


def get_limit():
    return limit


def openmp_threads():
    """What the OpenMP runtime would use, or 0 when this was built without OpenMP."""
    return compiled_with_openmp() and openmp_max_threads()


cdef extern from *:
    """
    #ifdef _OPENMP
    #include <omp.h>
    #define compiled_with_openmp() 1
    #define openmp_max_threads() omp_get_max_threads()
    #else
    #define compiled_with_openmp() 0
    #define openmp_max_threads() 1
    #endif
    """
    int compiled_with_openmp() nogil
    int openmp_max_threads() nogil
