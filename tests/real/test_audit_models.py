"""What an audit says of models that others wrote."""

from __future__ import annotations

import torch
from transformers import SamVisionConfig
from transformers.models.sam.modeling_sam import SamVisionEncoder

from fanin.auditing import audit


def sam(initializer_range: float) -> SamVisionEncoder:
    torch.manual_seed(0)
    return SamVisionEncoder(
        SamVisionConfig(
            hidden_size=32,
            output_channels=32,
            num_hidden_layers=4,
            num_attention_heads=2,
            image_size=64,
            num_pos_feats=16,
            global_attn_indexes=[3],
            window_size=2,
            mlp_dim=64,
            initializer_range=initializer_range,
        )
    )


def test_sams_positions_are_not_why_its_encoder_is_silent() -> None:
    """Its default std is 1e-10; the zeros among its parameters have nothing to do with that."""
    images = {"pixel_values": torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))}
    (finding,) = audit(sam(1e-10), images, select=["FAN405"]).findings
    assert finding.severity == "warning"
    assert finding.observed == "its gradient is too small for float32, and 0 there"
    assert all("rel_pos" in name for name in finding.where)
    assert audit(sam(0.02), images, select=["FAN405"]).findings == ()
