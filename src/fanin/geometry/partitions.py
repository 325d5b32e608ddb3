"""Parameters that a library has cut up outside of torch's own description of shards.

Of what they hold nothing public says which elements it is, so they are refused; a tensor without
elements must not pass for one that is written. FSDP1 tells only by private names what it made of a
parameter: all that are needed are here, and a test runs each case with the FSDP1 of the installed
torch.
"""

from __future__ import annotations

import gc
from typing import Any
from weakref import WeakValueDictionary

from torch import Tensor
from torch.nn import Parameter

__all__ = ["FSDP1_MARK", "partition"]

# The attribute by which FSDP1 knows its flat parameters, and the originals that it keeps with
# use_orig_params=True. The mark stays while the parameters are whole.
FSDP1_MARK = "_fsdp_flattened"


def partition(tensor: Tensor) -> str | None:
    """What a tensor is a part of and how to make it whole, in words; None for a whole one.

    DeepSpeed's ZeRO-3 marks parameters with ``ds_id`` and keeps their shape in ``ds_shape``; the
    parameter itself is empty until it is gathered. FSDP1 joins parameters in flat ones; with
    ``use_orig_params=True`` it leaves of each original the 1-D piece of it that is here.
    """
    shape = getattr(tensor, "ds_shape", None)
    if shape is not None and hasattr(tensor, "ds_id") and tuple(shape) != tuple(tensor.shape):
        return (
            f"a parameter of shape {tuple(shape)} that DeepSpeed's ZeRO-3 has partitioned. "
            "Initialize before deepspeed.initialize, outside of deepspeed.zero.Init; or inside "
            "`with deepspeed.zero.GatheredParameters(list(model.parameters()), modifier_rank=0):`"
        )
    if not getattr(tensor, FSDP1_MARK, False):
        return None
    if _is_flat(tensor):
        return f"a FlatParameter, in which FSDP joins several. {_WAY_OUT}"
    if _is_flat_piece(tensor):
        return (
            f"a flat piece, of shape {tuple(tensor.shape)}, of a parameter that FSDP has spread "
            f"over processes. {_WAY_OUT}"
        )
    return None


_WAY_OUT = (
    "Shard with fully_shard (FSDP2); initialize before wrapping; or inside "
    "`with FullyShardedDataParallel.summon_full_params(model):`"
)

# FSDP1's flat parameters by the ids of the originals in them, as far as they were looked for.
_FLAT: WeakValueDictionary[int, Any] = WeakValueDictionary()


def _is_flat(tensor: Tensor) -> bool:
    return bool(getattr(tensor, "_is_flat_param", False))


def _is_flat_piece(tensor: Tensor) -> bool:
    """Whether an original of FSDP1 is a piece now; one whose flat parameter is gone counts too."""
    if tensor.dim() != 1:
        return False
    flat: Any = _flat_of(tensor)
    if flat is None or flat.shape != flat._unpadded_unsharded_size:
        return True
    shapes = zip(flat._params, flat._shapes, strict=True)
    # Tied originals have no shape of their own there.
    return any(original is tensor and shape != tensor.shape for original, shape in shapes)


def _flat_of(tensor: Tensor) -> Any:
    """The flat parameter of which a tensor is an original.

    An original does not refer to it, nor does torch list its wrappers: the garbage collector does.
    """
    if not _is_original(tensor, _FLAT.get(id(tensor))):
        for each in gc.get_objects():
            if type(each) is Parameter and _is_flat(each):
                _FLAT.update((id(original), each) for original in _originals(each))
    flat = _FLAT.get(id(tensor))
    return flat if _is_original(tensor, flat) else None


def _is_original(tensor: Tensor, flat: Any) -> bool:
    return any(original is tensor for original in _originals(flat))  # ids are used again


def _originals(flat: Any) -> list[Tensor]:
    return [*(getattr(flat, "_params", None) or ()), *(getattr(flat, "_shared_params", None) or ())]
