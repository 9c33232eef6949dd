cdef enum:
    SHORT = 48             # rows of fewer elements are turned into columns (measured with python -m fastact bench)
    BATCH = 8
    PANEL = 64             # rows side by side in a kernel over columns
    PANEL_LANES = 16 * 64  # at most 16 lanes of sums for each

cdef inline Py_ssize_t batch_of(Py_ssize_t n) noexcept nogil:
    """How many rows of n elements go through the steps of a kernel together: they are to stay in the first-level cache."""
    return max(1, min(<Py_ssize_t>BATCH, 4096 // n))

cdef inline Py_ssize_t panel_bytes(Py_ssize_t rows, Py_ssize_t n, Py_ssize_t size) noexcept nogil:
    """The scratch memory of a kernel over columns, for that many rows or more."""
    return 2 * PANEL_LANES * sizeof(double) + n * min((rows + 15) & ~<Py_ssize_t>15, <Py_ssize_t>PANEL) * size

cdef struct Rows:
    # Rows of n elements for a serial kernel; strides count elements. An operand with one value a row has a row stride only.
    char* x
    char* g                # the gradient of the output, or NULL
    char* y
    Py_ssize_t x_row, x_item, g_row, g_item, y_row, y_item
    Py_ssize_t rows, n
    double temperature     # negative: the input is negated
    bint streaming         # y goes past the cache
    char* scratch          # for rows if streaming, a batch; for columns panel_bytes()
