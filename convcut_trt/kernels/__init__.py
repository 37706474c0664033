"""The CUDA kernels, ``*.cuh`` and ``*.cu``, and beside each what Python has to know of it."""
