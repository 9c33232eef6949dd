# cython: language_level=3, freethreading_compatible=True, boundscheck=False, wraparound=False, cdivision=True
include "kernels.pxi"
