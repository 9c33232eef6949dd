# cython: language_level=3, freethreading_compatible=True
"""How many threads a piece of work gets, and who does what: the one place that knows."""

cdef extern from "pool.h" nogil:
    const bint FASTACT_THREADS
    void share_out(piece, void*, Py_ssize_t, Py_ssize_t, int, bint)

# A second thread costs 1 us when it still waits awake and 5-50 us when it sleeps (python -m bench.threads), but never more
# than that, as nobody waits for it; each thread is to have at least that much to do.
cdef double GRAIN = 5000.0
# Asking who is awake costs 0.1 us.
cdef double OFFERED = 3000.0

cdef int limit = 1


cdef int team(double nanoseconds) noexcept nogil:
    """Threads for work that takes one thread about that long."""
    cdef double wanted = nanoseconds / GRAIN
    if wanted < 2 or limit == 1:
        return 1
    return limit if wanted > limit else <int>wanted


cdef void share(piece work, void* job, Py_ssize_t total, Py_ssize_t chunk, int threads) noexcept nogil:
    """work(job, first, count) for all of 0...total, by as many threads in chunks: small ones, so that a late thread takes less."""
    if threads == 1:
        work(job, 0, total)
    else:
        share_out(work, job, total, chunk, threads, True)


cdef void offer(piece work, void* job, Py_ssize_t total, Py_ssize_t chunk, double nanoseconds) noexcept nogil:
    """The same for work too small to wake a thread for, unless it comes again and again: one that is awake may join."""
    if limit == 1 or nanoseconds < OFFERED:
        work(job, 0, total)
    else:
        share_out(work, job, total, chunk, 2, False)


def set_limit(int n):
    global limit
    limit = n


def get_limit():
    return limit


def can_be_shared():
    """Whether this was built with threads."""
    return FASTACT_THREADS != 0
