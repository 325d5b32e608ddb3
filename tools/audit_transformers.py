"""Audit models of transformers as their own constructors make them, and write what is found.

    python tools/audit_transformers.py [--largest 350] [--only Bert] [--keep FILE]

One class stands for each model type, with the default configuration; types whose default is larger
than so many millions of parameters are left out, or made narrower where `NARROWER` says how, at the
depth they have. Weights are judged, and a batch of random tokens or images where the class takes
these. The tables in docs/audit-transformers.md are replaced.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

import fanin
from fanin.auditing import CHECKS
from fanin.errors import ProbeError

PAGE = Path(__file__).parent.parent / "docs" / "audit-transformers.md"
MAPPINGS = (
    "MODEL_FOR_CAUSAL_LM_MAPPING",
    "MODEL_FOR_MASKED_LM_MAPPING",
    "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING",
    "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING",
    "MODEL_FOR_PRETRAINING_MAPPING",
    "MODEL_MAPPING",
)

_FAMILIES = """
arcee audio-spectrogram-transformer bamba beit bert big_bird bit bitnet blenderbot-small bloom
bros clip clip_text_model codegen cohere cohere2 convbert convnext convnextv2 ctrl cvt d_fine
dac data2vec-audio data2vec-vision deberta deberta-v2 decision_transformer deit diffllama dinov2
dinov2_with_registers dinov3_convnext dinov3_vit distilbert donut-swin dpr dpt edgetam_video
efficientloftr efficientnet electra encodec falcon fnet funnel gemma gpt2 gpt_neox gpt_oss gptj
hubert layoutlmv3 llama longt5 lw_detr mamba mask2former mistral mixtral mobilenet_v2 modernbert
mpt mt5 olmo2 openai-gpt opt patchtst perceiver phi qwen2 qwen3 recurrent_gemma resnet roberta
rt_detr rwkv sam segformer siglip swin switch_transformers t5 vit vit_mae vits wav2vec2 whisper
xlnet yolos
"""

_START, _END = "<!-- tables -->", "<!-- end of tables -->"

_NARROW = {
    "hidden_size": 512,
    "intermediate_size": 1024,
    "num_attention_heads": 8,
    "vocab_size": 8000,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_GROUPED = {**_NARROW, "num_key_value_heads": 4}
_LARGEST_SIDE = 256  # of images that are let through
NARROWER: dict[str, dict[str, Any]] = {
    "arcee": _GROUPED,
    "bamba": {**_GROUPED, "mamba_n_heads": 16, "mamba_d_head": 64},
    "bitnet": _GROUPED,
    "cohere": _GROUPED,
    "cohere2": _GROUPED,
    "ctrl": {"n_embd": 512, "dff": 1024, "n_head": 8, "vocab_size": 8000},
    "codegen": {"n_embd": 512, "n_head": 8, "rotary_dim": 32, "vocab_size": 8000},
    "deberta-v2": _NARROW,
    "diffllama": _GROUPED,
    "efficientnet": {"image_size": 224},
    "falcon": _NARROW,
    "gemma": {**_GROUPED, "head_dim": 64},
    "gpt_neox": _NARROW,
    "gpt_oss": {**_GROUPED, "head_dim": 64, "num_local_experts": 4},
    "gptj": {"n_embd": 512, "n_head": 8, "rotary_dim": 32, "vocab_size": 8000},
    "llama": _GROUPED,
    "mistral": {**_GROUPED, "head_dim": 64},
    "mixtral": {**_GROUPED, "head_dim": 64, "num_local_experts": 4},
    "mpt": {"d_model": 512, "n_heads": 8, "vocab_size": 8000},
    "olmo2": _GROUPED,
    "phi": _NARROW,
    "qwen2": _GROUPED,
    "qwen3": {**_GROUPED, "head_dim": 64},
    "recurrent_gemma": {**_GROUPED, "head_dim": 64, "lru_width": 512},
    "rwkv": {"hidden_size": 512, "attention_hidden_size": 512, "vocab_size": 8000},
    "xlnet": {"d_model": 512, "n_head": 8, "d_inner": 1024, "vocab_size": 8000},
}


@dataclass(frozen=True)
class Audited:
    """What came of one class.

    Args:
        model_type: of the configuration.
        name: of the class.
        millions: of parameters.
        fed: what went in: ``"tokens"``, ``"images"``, or nothing.
        found: code, severity, first place, number of places, observed, for each finding.
        failed: why it could not be built or run.
    """

    model_type: str
    name: str
    millions: float = 0.0
    fed: str = ""
    found: tuple[tuple[str, str, str, int, str], ...] = ()
    failed: str = ""


def main() -> None:
    """Audit every class that is not in the kept file yet, and write the page's tables."""
    options = _options()
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["TRANSFORMERS_VERBOSITY"] = "critical"
    warnings.simplefilter("ignore")
    torch.set_num_threads(options.threads)
    kept = Path(options.keep) if options.keep else None
    seen = _read(kept) if kept is not None and kept.exists() else []
    done = {each.name for each in seen}
    for kind, config_class in _classes():
        name = kind.__name__
        if options.only not in name or name in done:
            continue
        start = time.perf_counter()
        audited = _audited(kind, config_class, options.largest)
        if audited is None:
            continue
        seen.append(audited)
        seconds = time.perf_counter() - start
        print(f"{seconds:6.1f} s  {name}  {_short(audited)}", file=sys.stderr, flush=True)
        if kept is not None:
            kept.write_text(json.dumps([asdict(each) for each in seen], indent=1))
    if not options.only:
        _write(seen)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="audit the models of transformers")
    parser.add_argument("--largest", type=float, default=350, metavar="MILLIONS")
    parser.add_argument("--only", default="", metavar="TEXT", help="classes whose name has TEXT")
    parser.add_argument("--keep", metavar="FILE", help="all findings as JSON")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def _write(seen: Sequence[Audited]) -> None:
    text = PAGE.read_text(encoding="utf-8")
    head, _, rest = text.partition(_START)
    tail = rest.partition(_END)[2]
    PAGE.write_text(f"{head}{_START}\n{_tables(seen)}\n{_END}{tail}", encoding="utf-8")


def _tables(seen: Sequence[Audited]) -> str:
    """Codes with the classes that they were found in, and the classes without a finding."""
    seen = sorted(seen, key=lambda audited: audited.name.lower())
    found: dict[tuple[str, str], list[str]] = {}
    for audited in seen:
        for code, severity in sorted({(row[0], row[1]) for row in audited.found}):
            found.setdefault((code, severity), []).append(audited.name)
    built = [audited for audited in seen if not audited.failed]
    fed = Counter(audited.fed or "nothing" for audited in built)
    clean = [audited.name for audited in built if not audited.found]
    names = {check.code: check.name for check in CHECKS}
    page = "../src/fanin/auditing/pages"
    rows = [
        f"| [{code}]({page}/{code}.md) {names[code]} | {severity} | {len(classes)} | "
        f"{', '.join(classes)} |"
        for (code, severity), classes in sorted(found.items())
    ]
    return "\n".join(
        [
            f"{len(built)} classes; {', '.join(f'{n} with {what}' for what, n in fed.items())}.",
            "",
            "| check | severity | classes | |",
            "|---|---|---|---|",
            *rows,
            f"| none | | {len(clean)} | {', '.join(clean)} |",
        ]
    )


def _read(kept: Path) -> list[Audited]:
    rows = json.loads(kept.read_text())
    return [Audited(**{**row, "found": tuple(map(tuple, row["found"]))}) for row in rows]


def _short(audited: Audited) -> str:
    return audited.failed or " ".join(f"{f[0]}:{f[1][0]}" for f in audited.found)


def _classes() -> Iterator[tuple[Any, Any]]:
    """A class for each model type, each class once."""
    from transformers.models.auto import modeling_auto
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    met = set()
    for model_type in _FAMILIES.split():
        config_class = CONFIG_MAPPING[model_type]
        for mapping in MAPPINGS:
            table = getattr(modeling_auto, mapping)
            if config_class in table:
                kind = table[config_class]
                kind = kind[0] if isinstance(kind, tuple | list) else kind
                if kind not in met:
                    met.add(kind)
                    yield kind, config_class
                break


def _audited(kind: Any, config_class: Any, largest: float) -> Audited | None:
    """The audit of one class; None for one that is too large."""
    name, model_type = kind.__name__, config_class.model_type
    fields = NARROWER.get(model_type, {})
    try:
        with torch.device("meta"):
            size = sum(p.numel() for p in kind(config_class(**fields)).parameters()) / 1e6
    except Exception as error:
        return Audited(model_type, name, failed=_reason(error))
    if size > largest:
        return None
    try:
        torch.manual_seed(0)
        model = kind(config_class(**fields))
    except Exception as error:
        return Audited(model_type, name, size, failed=_reason(error))
    fed, found = _found(model)
    rows = tuple(
        (
            each.code,
            each.severity,
            each.where[0] if each.where else "",
            len(each.where),
            each.observed,
        )
        for each in found.findings
    )
    return Audited(model_type, name, size, fed, rows)


def _found(model: Any) -> tuple[str, fanin.Audit]:
    """The audit with the first inputs that fit, or without."""
    for fed, inputs in _inputs(model):
        try:
            return fed, fanin.audit(model, inputs)
        except ProbeError:
            continue
    return "", fanin.audit(model)


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0][:80] if str(error) else ''}"


def _inputs(model: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """What a model may take, with labels and without."""
    config = model.config
    torch.manual_seed(1)
    if model.main_input_name == "input_ids":
        size = getattr(config, "vocab_size", None)
        if isinstance(size, int):
            ids = torch.randint(min(10, size), size, (2, 24))
            batch = {"input_ids": ids}
            if getattr(config, "is_encoder_decoder", False):
                batch["decoder_input_ids"] = ids.flip(1)
            if not type(model).__name__.endswith("Model"):
                yield "tokens", {**batch, "labels": torch.randint_like(ids, min(10, size), size)}
            yield "tokens", batch
    elif model.main_input_name == "pixel_values":
        size = getattr(config, "image_size", 224)
        if isinstance(size, int) and size > _LARGEST_SIDE:
            return
        sides = tuple(size) if isinstance(size, tuple | list) else (size, size)
        images = torch.randn(2, getattr(config, "num_channels", 3), *sides)
        if "ImageClassification" in type(model).__name__:
            yield "images", {"pixel_values": images, "labels": torch.tensor([0, 1])}
        yield "images", {"pixel_values": images}


if __name__ == "__main__":
    main()
