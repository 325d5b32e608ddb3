"""Parameters that a library has cut up outside of torch's own description of shards.

Of what they hold nothing public says which elements it is, so they are refused; a tensor without
elements must not pass for one that is written.
"""

from __future__ import annotations

from torch import Tensor

__all__ = ["partition"]


def partition(tensor: Tensor) -> str | None:
    """What a tensor is a part of and how to make it whole, in words; None for a whole one.

    DeepSpeed's ZeRO-3 marks parameters with ``ds_id`` and keeps their shape in ``ds_shape``; the
    parameter itself is empty until it is gathered. FSDP1 with ``use_orig_params=True`` marks the
    originals with ``_fsdp_flattened``: such a parameter is empty where another process holds it.
    """
    shape = getattr(tensor, "ds_shape", None)
    if hasattr(tensor, "ds_id") and shape is not None and tuple(shape) != tuple(tensor.shape):
        return (
            f"a parameter of shape {tuple(shape)} that DeepSpeed's ZeRO-3 has partitioned. "
            "Initialize before deepspeed.initialize, outside of deepspeed.zero.Init; or inside "
            "`with deepspeed.zero.GatheredParameters(list(model.parameters()), modifier_rank=0):`"
        )
    if getattr(tensor, "_fsdp_flattened", False) and not tensor.numel():
        return (
            "a parameter that FSDP keeps on other processes. Shard with fully_shard (FSDP2); "
            "initialize before wrapping; or inside "
            "`with FullyShardedDataParallel.summon_full_params(model):`"
        )
    return None
