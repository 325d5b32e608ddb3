"""Where numbers go: which elements a buffer holds, and what its axes mean."""

from fanin.geometry.fans import MODES as MODES
from fanin.geometry.fans import Fans as Fans
from fanin.geometry.layout import Layout as Layout
from fanin.geometry.layout import MatrixView as MatrixView
from fanin.geometry.partitions import FSDP1_MARK as FSDP1_MARK
from fanin.geometry.partitions import partition as partition
from fanin.geometry.placements import is_dtensor as is_dtensor
from fanin.geometry.placements import local_tensor as local_tensor
from fanin.geometry.region import Region as Region
