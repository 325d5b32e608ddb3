"""Descriptions of what a parameter should hold, before its shape is known."""

from fanin.initializers.elementwise import constant as constant
from fanin.initializers.elementwise import normal as normal
from fanin.initializers.elementwise import ones as ones
from fanin.initializers.elementwise import trunc_normal as trunc_normal
from fanin.initializers.elementwise import uniform as uniform
from fanin.initializers.elementwise import zeros as zeros
from fanin.initializers.functions import from_function as from_function
from fanin.initializers.functions import mapped as mapped
from fanin.initializers.initializer import BUILDERS as BUILDERS
from fanin.initializers.initializer import Initializer as Initializer
from fanin.initializers.initializer import register as register
from fanin.initializers.scaled import kaiming_normal as kaiming_normal
from fanin.initializers.scaled import kaiming_uniform as kaiming_uniform
from fanin.initializers.scaled import lecun_normal as lecun_normal
from fanin.initializers.scaled import lecun_uniform as lecun_uniform
from fanin.initializers.scaled import variance_scaling as variance_scaling
from fanin.initializers.scaled import xavier_normal as xavier_normal
from fanin.initializers.scaled import xavier_uniform as xavier_uniform
from fanin.initializers.structured import delta_orthogonal as delta_orthogonal
from fanin.initializers.structured import dirac as dirac
from fanin.initializers.structured import eye as eye
from fanin.initializers.structured import orthogonal as orthogonal
from fanin.initializers.structured import sparse as sparse
from fanin.initializers.text import parse as parse
