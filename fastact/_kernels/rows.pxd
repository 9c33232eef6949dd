cdef enum:
    BATCH = 8
    PANEL = 64             # rows side by side in a kernel over columns
    PANEL_LANES = 16 * 64  # at most 16 lanes of sums for each

cdef inline Py_ssize_t batch_of(Py_ssize_t n) noexcept nogil:
    """How many rows of n elements go through the steps of a kernel together: they are to stay in the first-level cache."""
    return max(1, min(<Py_ssize_t>BATCH, 4096 // n))

cdef inline Py_ssize_t panel_bytes(Py_ssize_t n, Py_ssize_t size) noexcept nogil:
    """The scratch memory of a kernel over columns."""
    return 2 * PANEL_LANES * sizeof(double) + n * PANEL * size

cdef struct Rows:
    # Rows of n elements for a serial kernel; strides count elements. An operand with one value a row has a row stride only.
    char* x
    char* g                # the gradient of the output, or NULL
    char* y
    Py_ssize_t x_row, x_item, g_row, y_row, y_item
    Py_ssize_t rows, n
    double temperature     # negative: the input is negated
    bint streaming         # y goes past the cache
    char* scratch          # for rows if streaming, a batch; for columns panel_bytes()

cdef struct CrossEntropy:
    # One row of n logits for the kernel of softmax cross-entropy, whose target is
    #     share onehot(label) + spread,
    # label -1 meaning that there is no first part; spread may be NULL. The gradient is multiplied by factor.
    char* logits
    char* grad             # may be logits, or NULL if only the value is wanted
    Py_ssize_t row, n, label
    double share, spread_sum, z_loss, factor
    char* spread
    bint streaming         # grad goes past the cache
    char* scratch          # n elements if it does
    Py_ssize_t ahead       # elements from here to a row that will be needed soon, or 0
    double value           # the result
    double peak, rest      # what one step of the kernel leaves to the next
    bint label_is_peak

cdef struct CrossEntropyPanel:
    # The same for at most PANEL rows side by side, whose targets are share onehot(label); label -1: the row does not count.
    char* logits
    char* grad
    Py_ssize_t logits_row, logits_item, grad_row, grad_item
    Py_ssize_t rows, n
    Py_ssize_t label[PANEL]
    double share[PANEL]
    double value[PANEL]
    double z_loss, factor
    char* scratch          # panel_bytes()
