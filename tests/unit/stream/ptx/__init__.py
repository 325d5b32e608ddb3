"""PTX, executed on the CPU: the bits that a compiled kernel leaves in memory."""
