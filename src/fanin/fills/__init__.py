"""Concrete contents of a tensor: distributions and structures with numbers in them.

A fill knows nothing of models and draws nothing; `fanin.drawing.draw` executes it. Numbers that
were derived (a gain, a bound from a fan, a truncation factor) pass through `derived` first, so
that a last-digit difference between two machines' math libraries cannot reach a drawn bit.
"""

from fanin.fills.composite import Packed as Packed
from fanin.fills.composite import Part as Part
from fanin.fills.composite import Rearranged as Rearranged
from fanin.fills.composite import packed as packed
from fanin.fills.elementwise import Constant as Constant
from fanin.fills.elementwise import Normal as Normal
from fanin.fills.elementwise import TruncNormal as TruncNormal
from fanin.fills.elementwise import Uniform as Uniform
from fanin.fills.fill import Fill as Fill
from fanin.fills.functions import FromFunction as FromFunction
from fanin.fills.functions import Mapped as Mapped
from fanin.fills.functions import origin_of as origin_of
from fanin.fills.reading import fill_from_json as fill_from_json
from fanin.fills.structured import DeltaOrthogonal as DeltaOrthogonal
from fanin.fills.structured import Dirac as Dirac
from fanin.fills.structured import Eye as Eye
from fanin.fills.structured import Orthogonal as Orthogonal
from fanin.fills.structured import Sparse as Sparse
from fanin.fills.truncation import truncated_moments as truncated_moments
from fanin.stream.laws import derived as derived
