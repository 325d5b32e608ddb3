"""The recipes of transformers models on models of one's own; tests/real has the originals."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import fanin
from fanin.errors import ArgumentError, PlanError
from fanin.fills import Constant, Fill, Normal, Packed, TruncNormal
from fanin.initializers import zeros
from fanin.planning import Recipe, rule
from fanin.recipes.bert import bert
from fanin.recipes.gpt2 import gpt2
from fanin.recipes.llama import llama
from fanin.recipes.t5 import t5
from fanin.recipes.vit import vit


def fills(model: nn.Module, recipe: Recipe) -> dict[str, Fill | None]:
    return {step.name: step.fill for step in fanin.plan(model, recipe, seed=0).steps}


def std(fill: Fill | None) -> float:
    assert isinstance(fill, Normal)
    return fill.std


class Block(nn.Module):
    """A block of one's own: torch's attention, a feed-forward part, two norms."""

    def __init__(self, width: int = 8, experts: int = 1) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, 2, add_bias_kv=True)
        self.experts = nn.ModuleList(nn.Linear(width, width) for _ in range(experts))


class Decoder(nn.Module):
    """nanoGPT's names for the outside; `config` only if one is given."""

    def __init__(self, depth: int, experts: int = 1, config: object = None) -> None:
        super().__init__()
        if config is not None:
            self.config = config
        blocks = nn.ModuleList(Block(experts=experts) for _ in range(depth))
        self.transformer = nn.ModuleDict({"wte": nn.Embedding(10, 8), "h": blocks})
        self.lm_head = nn.Linear(8, 10, bias=False)
        self.lm_head.weight = self.transformer["wte"].weight


OUTPUTS = ("**.out_proj.weight", "**.experts.*.weight")
RESIDUAL = "transformer.h.0.experts.0.weight"


def test_a_model_of_ones_own_is_covered_by_type() -> None:
    plan = fanin.plan(Decoder(8), gpt2(residual=OUTPUTS), seed=0)
    found = {step.name: step.fill for step in plan.steps}
    packed = found["transformer.h.0.attention.in_proj_weight"]
    assert isinstance(packed, Packed)
    assert {part.fill for part in packed.parts} == {Normal(0.0, 0.02)}
    assert found["transformer.h.0.attention.bias_k"] == Normal(0.0, 0.02)
    assert std(found["transformer.h.0.attention.out_proj.weight"]) == pytest.approx(0.005)
    assert found["transformer.h.0.attention.out_proj.bias"] == Constant(0.0)
    assert found["transformer.h.0.norm.weight"] == Constant(1.0)
    assert plan.steps[0].names == ("transformer.wte.weight", "lm_head.weight")


def test_gpt2_is_refused_where_nothing_is_a_residual_projection() -> None:
    with pytest.raises(PlanError, match=r"'\*\*\.c_proj\.weight -> .*option residual= of gpt2"):
        fanin.plan(Decoder(2), gpt2(), seed=0)
    assert std(fills(Decoder(2), gpt2(residual=()))[RESIDUAL]) == 0.02


@pytest.mark.parametrize(
    ("build", "options", "blocks"),
    [
        (lambda: Decoder(3), {}, 3),
        (lambda: Decoder(3, experts=5), {}, 3),
        (lambda: Decoder(1, experts=1), {}, 1),
        (lambda: nn.Sequential(Decoder(3)), {"num_layers": 3}, 3),
        (lambda: Decoder(3, config=SimpleNamespace(n_layer=12)), {}, 12),
        (lambda: Decoder(3, config=SimpleNamespace(num_hidden_layers=6)), {}, 6),
        (lambda: Decoder(3, config=SimpleNamespace(n_layer=12)), {"num_layers": 24}, 24),
    ],
)
def test_the_number_of_blocks_is_given_or_the_configs_or_counted(
    build: Callable[[], nn.Module], options: dict[str, int], blocks: int
) -> None:
    plan = fanin.plan(build(), gpt2(residual="**.experts.0.weight", **options), seed=0)
    found = {step.name: step.fill for step in plan.steps}
    name = next(name for name in found if name.endswith(RESIDUAL))
    assert f"num_layers={blocks}" in plan.explain(name)
    assert std(found[name]) == pytest.approx(0.02 / (2 * blocks) ** 0.5, rel=1e-9)


class FeedForward(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))


class Mixture(nn.Module):
    def __init__(self, count: int) -> None:
        super().__init__()
        self.experts = nn.ModuleList(FeedForward() for _ in range(count))


class Stage(nn.Module):
    def __init__(self, depth: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(FeedForward() for _ in range(depth))


OUTPUT = gpt2(residual="**.mlp.2.weight")


def feed_forwards(count: int) -> list[nn.Module]:
    return [FeedForward() for _ in range(count)]


def test_layers_beside_blocks_and_lists_of_layers_are_no_blocks() -> None:
    model = nn.Sequential(nn.Linear(4, 4), *feed_forwards(12), nn.Linear(4, 4))
    wanted = fills(model, OUTPUT)["1.mlp.2.weight"]
    assert std(wanted) == pytest.approx(0.02 / 24**0.5, rel=1e-9)
    nn.utils.parametrizations.weight_norm(model[1].mlp[2])
    model[2] = nn.DataParallel(model[2])
    assert fills(model, OUTPUT)["1.mlp.2.weight"] == wanted


@pytest.mark.parametrize(
    ("build", "found"),
    [
        (lambda: FeedForward(), "no list around"),
        (lambda: nn.ModuleList(Stage(6) for _ in range(2)), "2 Stage, and of 6 FeedForward .of 12"),
        (lambda: nn.Sequential(*(nn.Sequential(*feed_forwards(6)) for _ in range(2))), "of 6 Feed"),
        (lambda: nn.ModuleDict({"encoder": Stage(6), "decoder": Stage(6)}), "lists of 6 Feed"),
        (lambda: nn.ModuleList(Mixture(5) for _ in range(3)), "3 Mixture, and of 5 FeedForward"),
        (lambda: nn.ModuleList([Mixture(5)]), "1 Mixture, and of 5 FeedForward"),
        (lambda: nn.ModuleList([*feed_forwards(1), Stage(1)]), "FeedForward .of 2. and 1 Stage"),
        (lambda: nn.ModuleList([FeedForward()] * 3), "lists of 3 FeedForward"),
    ],
)
def test_gpt2_asks_for_the_number_of_blocks_where_it_could_be_several(
    build: Callable[[], nn.Module], found: str
) -> None:
    message = rf"Got no config, and .*{found}.*Say gpt2\(num_layers=12\)"
    with pytest.raises(PlanError, match=message):
        fanin.plan(build(), OUTPUT, seed=0)


@pytest.mark.parametrize("recipe", [gpt2, bert, llama, vit])
def test_the_std_is_given_or_the_nearest_configs(recipe: Callable[..., Recipe]) -> None:
    none = {"residual": ()} if recipe is gpt2 else {}
    inner, outer = Decoder(1, config=SimpleNamespace(initializer_range=0.1)), nn.Module()
    outer.inner = inner
    outer.config = SimpleNamespace(initializer_range=0.3)
    outer.head = nn.Linear(8, 2)
    found = fills(outer, recipe(**none))
    assert found["inner.transformer.wte.weight"] == Normal(0.0, 0.1)
    assert found["head.weight"] == Normal(0.0, 0.3)
    assert fills(outer, recipe(std=0.5, **none))["head.weight"] == Normal(0.0, 0.5)


def test_a_config_without_a_std_leaves_the_default() -> None:
    for config in (SimpleNamespace(n_layer=2), SimpleNamespace(initializer_range=0.0), {}):
        found = fills(Decoder(1, config=config), llama())
        assert found["transformer.wte.weight"] == Normal(0.0, 0.02)


def test_a_padding_row_and_a_norm_of_ones_own_are_known_by_the_class() -> None:
    class MyRMSNorm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.empty(4))

    class GemmaRMSNorm(MyRMSNorm):
        """Scales by 1 more than its weight."""

    model = nn.Sequential(nn.Embedding(5, 4, padding_idx=2), MyRMSNorm(), GemmaRMSNorm())
    fanin.initialize(model, llama(), seed=0)
    assert not model[0].weight[2].any()
    assert model[0].weight[1].all()
    assert (model[1].weight == 1).all()
    assert (model[2].weight == 0).all()
    fanin.initialize(model, t5(factor=0.5, query=()), seed=0)
    assert (model[1].weight == 0.5).all()
    assert (model[2].weight == -0.5).all()


def test_t5_is_refused_where_nothing_is_a_query() -> None:
    with pytest.raises(PlanError, match=r"'\*\*\.q\.weight -> .*option query= of t5"):
        fanin.plan(nn.Linear(4, 4), t5(), seed=0)
    assert fills(nn.Linear(4, 4), t5(query=()))["weight"] == Normal(0.0, 0.5)


@pytest.mark.parametrize("name", ["q", "relative_attention_bias"])
def test_t5_asks_for_sizes_that_it_does_not_find(name: str) -> None:
    option = {"q": "d_kv", "relative_attention_bias": "d_model"}[name]
    model = nn.ModuleDict({"q": nn.Linear(16, 8), name: nn.Linear(16, 8)})
    given = {"d_kv": 4, "d_model": 16}
    assert std(fills(model, t5(**given))["q.weight"]) == pytest.approx(0.125)
    del given[option]
    with pytest.raises(PlanError, match=rf"Say t5\({option}=64\)"):
        fanin.plan(model, t5(**given), seed=0)
    model.config = SimpleNamespace(**{option: 4})
    assert std(fills(model, t5(**given))[f"{name}.weight"]) > 0


def test_the_factor_of_t5_multiplies_everything_but_biases() -> None:
    model = nn.ModuleDict({"linear": nn.Linear(16, 4), "lookup": nn.Embedding(5, 4)})
    model["norm"] = nn.LayerNorm(4)
    found = fills(model, t5(factor=0.5, query=()))
    assert std(found["linear.weight"]) == pytest.approx(0.125)
    assert found["lookup.weight"] == Normal(0.0, 0.5)
    assert found["norm.weight"] == Constant(0.5)
    assert found["linear.bias"] == found["norm.bias"] == Constant(0.0)


def test_the_factor_reaches_a_norm_that_set_itself_to_one_under_deferred() -> None:
    class MyRMSNorm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(4))

    with fanin.deferred():
        model = MyRMSNorm()
    fanin.initialize(model, t5(factor=0.5, query=()), seed=0)
    assert (model.weight == 0.5).all()


class Tokens(nn.Module):
    def __init__(self, *names: str) -> None:
        super().__init__()
        for name in names:
            self.register_parameter(name, nn.Parameter(torch.empty(1, 1, 8)))


def test_the_raw_parameters_of_a_vit_are_known_by_name() -> None:
    names = ("cls_token", "class_token", "pos_embed", "pos_embedding", "position_embeddings")
    found = fills(Tokens(*names, "mask_token"), vit(std=0.05))
    for name in names:
        fill = found[name]
        assert isinstance(fill, TruncNormal)
        assert (fill.low, fill.high) == (-2.0, 2.0)
        assert fill.parent_std == pytest.approx(0.05, rel=1e-9)
    assert found["mask_token"] == Constant(0.0)
    with pytest.raises(PlanError, match="Got none for\n  distillation_token"):
        fanin.plan(Tokens("distillation_token"), vit(), seed=0)


def test_the_head_of_bert_has_a_bias_of_its_own() -> None:
    class MyLMPredictionHead(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias = nn.Parameter(torch.empty(3))

    assert fills(MyLMPredictionHead(), bert()) == {"bias": Constant(0.0)}


@pytest.mark.parametrize("tied", [True, False])
def test_a_tie_says_whose_stream_the_head_has(tied: bool) -> None:
    model = nn.ModuleDict({"lm_head": nn.Linear(8, 10, bias=False)})
    for recipe, owner in [
        (gpt2(residual=(), tied=tied), "transformer.wte.weight"),
        (llama(tied=tied), "model.embed_tokens.weight"),
        (t5(query=(), tied=tied), "shared.weight"),
    ]:
        (step,) = fanin.plan(model, recipe, seed=0).steps
        assert step.key is not None
        assert step.key.name == (owner if tied else "lm_head.weight")


def test_a_recipe_is_extended_by_appending() -> None:
    recipe = gpt2(residual=OUTPUTS, num_layers=2) + rule("lm_head.weight", zeros())
    assert fills(Decoder(2), recipe)["transformer.wte.weight"] == Constant(0.0)


def test_options_that_were_given_are_part_of_the_name() -> None:
    assert str(gpt2(std=0.01, tied=False)) == "gpt2@1(std=0.01, tied=false)"
    assert [str(recipe()) for recipe in (gpt2, bert, t5, llama, vit)] == [
        f"{name}@1" for name in ("gpt2", "bert", "t5", "llama", "vit")
    ]


@pytest.mark.parametrize(
    ("recipe", "option"),
    [
        *((recipe, "std") for recipe in (gpt2, bert, llama, vit)),
        *((t5, option) for option in ("factor", "d_kv", "d_model")),
        (gpt2, "num_layers"),
    ],
)
def test_an_option_is_a_positive_number(recipe: Callable[..., Recipe], option: str) -> None:
    with pytest.raises(ArgumentError, match=f"{recipe.__name__}: {option} is positive. Got 0"):
        recipe(**{option: 0})
    with pytest.raises(ArgumentError, match=f"{recipe.__name__}: {option} is a finite number"):
        recipe(**{option: "large"})
