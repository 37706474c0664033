"""The GPU of this process: driver, memory, graphs, kernels, and arrays of other libraries."""
