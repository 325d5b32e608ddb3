"""The CUDA engine: Triton kernels that write the stream's numbers where a GPU keeps them.

Nothing here is imported before a tensor on a GPU is drawn, and so `import fanin` leaves Triton
alone: `fanin.stream.engines` asks `availability`, and reaches for `launching` when it has to draw.
"""
