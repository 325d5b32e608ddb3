"""NumPy's Generator and, where it is installed, JAX, on the same numbers of the same size."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import numpy as np

__all__ = ["jax_run", "jax_version", "numpy_run"]


def numpy_run(distribution: str, shape: tuple[int, ...]) -> Callable[[], object] | None:
    """A call that fills one float32 array, or None where NumPy has no such distribution."""
    generator = np.random.default_rng(0)
    out = np.ones(shape, dtype=np.float32)
    draw = {"uniform": generator.random, "normal": generator.standard_normal}.get(distribution)
    return (lambda: draw(dtype=np.float32, out=out)) if draw else None


def jax_run(distribution: str, shape: tuple[int, ...]) -> Callable[[], object] | None:
    """A compiled call that makes a new float32 array, JAX's only way; None without JAX."""
    if not jax_version() or not distribution:
        return None
    import jax

    random = jax.random
    draw = {
        "uniform": lambda key: random.uniform(key, shape),
        "normal": lambda key: random.normal(key, shape),
        "truncated": lambda key: random.truncated_normal(key, -2.0, 2.0, shape),
    }[distribution]
    compiled, key = jax.jit(draw), random.key(0)
    return lambda: compiled(key).block_until_ready()


def jax_version() -> str:
    """Its version, or an empty text where it is not installed."""
    if importlib.util.find_spec("jax") is None:
        return ""
    import jax

    return str(jax.__version__)
