"""The random stream: (seed, name, index) to bits to numbers, the same on every engine."""

from fanin.stream.engines import Engine as Engine
from fanin.stream.engines import bits as bits
from fanin.stream.engines import choose as choose
from fanin.stream.engines import clear as clear
from fanin.stream.engines import draws_on as draws_on
from fanin.stream.engines import engines as engines
from fanin.stream.engines import fill as fill
from fanin.stream.engines import fill_together as fill_together
from fanin.stream.engines import native_is_active as native_is_active
from fanin.stream.key import Key as Key
from fanin.stream.version import STREAM_VERSION as STREAM_VERSION
