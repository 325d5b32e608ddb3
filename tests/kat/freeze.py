"""Prints the frozen values of the stream: `python tests/kat/freeze.py > tests/kat/stream_v1.txt`.

Run it only for a new STREAM_VERSION: whoever initialised a model relies on the old values.
"""

from __future__ import annotations

import itertools
import math

import torch

from fanin.stream import STREAM_VERSION, laws, reference
from fanin.stream.native import _CODES as DTYPES
from fanin.stream.philox import LOW_HALVES, VALUES

KEYS = [0x0000000000000000, 0x0123456789ABCDEF, 0xFFFFFFFFFFFFFFFF]
INDICES = [0, 15, 16, 47, 48, 63, 64, 1000003]
# Beyond 32 bits; where the block number passes 2³²; the last ones that fit.
INDICES += [2**32 + 5, 2**34 - 1, 2**34 + 16, 2**38 + 37, 2**63 - 66]
LAWS = [
    ("uniform", (-0.25, 0.75)),
    ("normal", (0.0, 1.0)),
    ("normal", (0.5, 2.0**-10)),
    ("truncated", (0.0, 1.0, -2.0, 2.0)),
    ("truncated", (0.0, 1.0, 5.0, 6.0)),
    ("truncated", (0.0, 1.0, -math.inf, -11.0)),
]
MAKE = {
    "uniform": laws.uniform_law,
    "normal": laws.normal_law,
    "truncated": laws.truncated_law,
}


def main() -> None:
    print(f"# STREAM_VERSION {STREAM_VERSION}. First words, then numbers; key and index; after '='")
    print("# the bits in hexadecimal and, for numbers, the value. Written by freeze.py.")
    for purpose, key, index in itertools.product((VALUES, LOW_HALVES), KEYS, INDICES):
        word = torch.empty(1, dtype=torch.int32)
        reference.bits(key, purpose, index, word)
        print(f"word {purpose} {key:016x} {index} = {_hexadecimal(word)}")
    for (name, numbers), dtype in itertools.product(LAWS, DTYPES):
        law = MAKE[name](*numbers, dtype)
        value = reference.values(law, KEYS[1], torch.tensor(INDICES))
        text = f"{name} {' '.join(map(float.hex, numbers))} {str(dtype).removeprefix('torch.')}"
        for index, number in zip(INDICES, value, strict=True):
            shown = number.double().item().hex()
            print(f"{text} {KEYS[1]:016x} {index} = {_hexadecimal(number[None])} {shown}")


def _hexadecimal(number: torch.Tensor) -> str:
    return bytes(number.view(torch.uint8).tolist())[::-1].hex()


if __name__ == "__main__":
    main()
