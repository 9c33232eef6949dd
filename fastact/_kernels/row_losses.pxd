from .rows cimport PANEL

cdef enum:
    BLOCK = 256            # elements that are in the first-level cache while they are summed up

cdef struct ComparedRows:
    # Rows of n elements and their targets, contiguous; those of at most BLOCK elements without gaps between them. Strides
    # count elements.
    char* x
    char* target
    char* grad             # may be x, or NULL if only the values are wanted; it is multiplied by factor
    char* weight           # of the n classes, or NULL
    double* values         # of the rows
    Py_ssize_t x_row, target_row, grad_row
    Py_ssize_t rows, n
    double factor
    bint streaming         # grad goes past the cache

cdef struct CrossEntropy:
    # One row of n logits for the kernel of softmax cross-entropy, whose target is
    #     share onehot(label) + spread,
    # label -1 meaning that there is no first part; spread may be NULL. The gradient is multiplied by factor.
    char* logits
    char* grad             # may be logits, or NULL if only the value is wanted
    Py_ssize_t row, n, label
    double share, spread_sum, z_loss, factor
    double gamma           # of the focal loss, else 0
    char* spread
    bint streaming         # grad goes past the cache
    char* scratch          # n elements if it does
    Py_ssize_t ahead       # elements from here to a row that will be needed soon, or 0
    double value           # the result
    bint label_is_peak     # what one step of the kernel leaves to the next

cdef struct CrossEntropyPanel:
    # The same for at most PANEL rows side by side, whose targets are share onehot(label); label -1: the row does not count.
    char* logits
    char* grad
    Py_ssize_t logits_row, logits_item, grad_row, grad_item
    Py_ssize_t rows, n
    Py_ssize_t label[PANEL]
    double share[PANEL]
    double value[PANEL]
    double z_loss, gamma, factor
    char* scratch          # panel_bytes()
