"""The key of a stream: which 64 bits a (seed, name) pair, or a torch generator, stands for."""

from __future__ import annotations

import hashlib
import operator
import threading
from typing import SupportsIndex

import torch

from fanin.errors import ArgumentError

__all__ = ["Key", "checked_seed", "generator_bits", "state_bits"]

_PERSON = b"fanin.v1"
_OFFSET_STEP = 4  # torch keeps offsets at multiples of it


class Key:
    """64 bits that select one random stream.

    ``blake2b(name, digest_size=8, key=seed, person=b"fanin.v1")`` read as a little-endian integer.

    Args:
        seed: an integer in ``[0, 2**64)``, of any integer type.
        name: canonical parameter name; any text.

    Raises:
        ArgumentError: when the seed is no integer or outside its range.

    Example:
        >>> Key(0, "weight") == Key(0, "weight"), Key(0, "weight") == Key(1, "weight")
        (True, False)

    Source: STREAM_VERSION 1, "Key".
    """

    __slots__ = ("name", "seed", "value")

    def __init__(self, seed: SupportsIndex, name: str) -> None:
        seed = checked_seed(seed)
        digest = hashlib.blake2b(
            name.encode(), digest_size=8, key=seed.to_bytes(8, "little"), person=_PERSON
        )
        self.seed = seed
        self.name = name
        self.value = int.from_bytes(digest.digest(), "little")

    @classmethod
    def from_bits(cls, value: int) -> Key:
        """The key that is these 64 bits: it was drawn, so it has a seed but no name."""
        key = object.__new__(cls)
        key.seed, key.name, key.value = value, "", value
        return key

    @classmethod
    def from_generator(cls, generator: torch.Generator | None = None) -> Key:
        """The next 64 bits of a torch generator (default: torch's own on the CPU), as a key."""
        return cls.from_bits(generator_bits(generator))

    def part(self, name: str) -> Key:
        """The key of a named part of this parameter (``q`` of a packed projection)."""
        return Key(self.seed, f"{self.name}\0{name}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Key) and self.value == other.value

    def __hash__(self) -> int:
        return hash(self.value)

    def __repr__(self) -> str:
        return f"Key(seed={self.seed}, name={self.name!r})"


def checked_seed(seed: SupportsIndex) -> int:
    """A seed of any integer type as Python's; what is no integer in ``[0, 2**64)`` is refused."""
    try:
        number = operator.index(seed)
    except TypeError:
        number = -1
    if isinstance(seed, bool) or not 0 <= number < 2**64:
        raise ArgumentError(f"seed: an integer in [0, 2**64). Got {seed!r}. Pass an int.")
    return number


class _Word(threading.local):
    """One 64-bit word a thread, reused: a fresh tensor would cost more than the draw itself."""

    def __init__(self) -> None:
        self.tensor = torch.zeros((), dtype=torch.int64, device="cpu")


_word = _Word()


def generator_bits(generator: torch.Generator | None = None) -> int:
    """The next 64 bits of a torch generator, as an integer in ``[0, 2**64)``.

    ``None`` is torch's default generator on the CPU. Of a CUDA generator the bits are a hash of
    its seed and offset, both of which the host knows; a generator of another device is asked for
    a number, and waited for.

    Raises:
        ArgumentError: for a CUDA generator while a CUDA graph is captured.
    """
    word = _word.tensor
    if generator is not None:
        if not isinstance(generator, torch.Generator):
            raise TypeError(
                f"generator: the bits come from a torch.Generator. Got {generator!r}. "
                "Make one with torch.Generator().manual_seed(...)."
            )
        if generator.device.type == "cuda":
            return _cuda_generator_bits(generator)
        if generator.device.type != "cpu":
            word = torch.zeros((), dtype=torch.int64, device=generator.device)
    return int(word.random_(-(2**63), None, generator=generator).item()) & (2**64 - 1)


def _cuda_generator_bits(generator: torch.Generator) -> int:
    """The key named by the generator's place in its sequence, and the generator one step on."""
    if torch.cuda.is_current_stream_capturing():
        raise ArgumentError(
            "generator: a captured CUDA graph repeats the numbers of its capture. Got a CUDA "
            "generator, whose numbers are meant to be new each time. Fill outside of the capture, "
            "or pass a generator of the CPU to repeat one fill."
        )
    state = generator.get_state()
    bits, following = state_bits(state)
    generator.set_state(following)
    return bits


def state_bits(state: torch.Tensor) -> tuple[int, torch.Tensor]:
    """The 64 bits that a CUDA generator's state stands for, and the state that follows it.

    The last 16 bytes of a state are seed and offset. ``Key(seed, "torch.Generator\\0<offset>")``
    has the bits; the offset grows by 4, as one number of torch's own makes it.
    """
    following = state.clone()
    seed, offset = following.view(torch.int64)[-2:].tolist()
    following.view(torch.int64)[-1] = offset + _OFFSET_STEP
    return Key(seed & (2**64 - 1), f"torch.Generator\0{offset}").value, following
