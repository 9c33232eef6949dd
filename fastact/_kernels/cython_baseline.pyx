# cython: language_level=3, freethreading_compatible=True, boundscheck=False, wraparound=False, cdivision=True
include "elementwise.pxi"
include "rowwise.pxi"
include "elementwise_losses.pxi"
include "row_losses.pxi"
include "layers.pxi"
include "optimizers.pxi"

kernels = {**elementwise_kernels, **rowwise_kernels, **elementwise_losses_kernels, **row_losses_kernels, **layers_kernels,
           **optimizers_kernels}
