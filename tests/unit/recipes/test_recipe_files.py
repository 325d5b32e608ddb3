from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import fanin
from fanin.errors import ArgumentError, FaninError, UnknownNameError
from fanin.geometry import Fans, Layout
from fanin.initializers import (
    constant,
    from_function,
    kaiming_normal,
    mapped,
    normal,
    ones,
    uniform,
    zeros,
)
from fanin.model import Site
from fanin.planning import Recipe, keep, rule
from fanin.recipes import (
    dcgan,
    forget_bias,
    from_init_cfg,
    from_json,
    from_toml,
    get_recipe,
    known_recipes,
    load_recipe,
    resnet,
    siren,
    to_json,
    to_toml,
    vgg,
)
from fanin.zoo import alexnet
from fanin.zoo import resnet as resnet_model


class Experts(nn.Module):
    """A parameter whose axes no adapter knows, a packed one and a tie."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.Parameter(torch.zeros(4, 6, 3))
        self.qkv = nn.Parameter(torch.zeros(5, 9))
        self.inner = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.LSTM(3, 2))
        self.head = nn.Linear(3, 3)
        self.head.weight = self.inner[0].weight


EXPERTS = Recipe(
    "experts",
    3,
    (
        rule("**", zeros()),
        rule(nn.Linear, kaiming_normal(nonlinearity="gelu"), parameter="weight", label='a "label"'),
        rule(("*Norm1d", nn.GroupNorm), ones(), parameter="weight", within=nn.Sequential),
        rule(nn.LSTM, constant(1.0), parameter="bias_ih_*", part="f", exact=True),
        rule("inner.1.bias", keep(), stream="shared\nstream \\ \x7f é 🙂"),
        rule(r"re:experts|\d+\.nothing", kaiming_normal(), layout=Layout((4, 6, 3), in_axes=(-1,))),
        rule("nothing.*", normal(mean=-1.5e-7, std=0.02), optional=True),
        rule(
            "qkv",
            uniform(-1.0, 1.0),
            layout=Layout(in_axes=(0,), out_axes=(-1,)).packed({"q": 3, "kv": 6}, dim=1),
        ),
        rule("qkv", zeros(), part="kv"),
    ),
    ties={"inner.0.weight": "head.weight"},
    summary="all that a file can say",
)


def same_plans(a: Recipe, b: Recipe, model: nn.Module) -> bool:
    return fanin.plan(model, a, seed=7) == fanin.plan(model, b, seed=7)


def test_everything_a_rule_can_say_survives() -> None:
    for read in (from_toml(to_toml(EXPERTS)), from_json(to_json(EXPERTS))):
        assert same_plans(EXPERTS, read, Experts())
        assert (read.name, read.version, read.summary) == ("experts", 3, "all that a file can say")
        assert read.ties == EXPERTS.ties
        assert to_toml(read) == to_toml(EXPERTS)
    assert fanin.plan(Experts(), EXPERTS, seed=0).steps[0].fans == Fans(3 * 24, 24)


@pytest.mark.parametrize("recipe", known_recipes(), ids=str)
def test_a_registered_recipe_is_written_as_its_name(recipe: Recipe) -> None:
    text = to_toml(recipe + {"**.extra": zeros()})
    assert f'base = "{recipe}"' in text
    read = from_toml(text)
    assert read == recipe + {"**.extra": zeros()}
    assert from_toml(to_toml(recipe)) == recipe


@pytest.mark.parametrize(
    ("recipe", "base"),
    [
        (resnet(zero_gamma=True) + {"fc.bias": zeros()}, "resnet@1(zero_gamma=true)"),
        (siren(omega=10.0), "siren@1(omega=10.0)"),
        (vgg() + forget_bias(), "vgg@1"),
        (Recipe("mine", 2, (*dcgan().rules, rule("fc.*", zeros()))), "dcgan@1"),
        (from_init_cfg({"type": "Xavier", "layer": "Linear"}, base="xavier"), "xavier@1"),
    ],
)
def test_what_extends_a_registered_recipe_is_written_over_it(recipe: Recipe, base: str) -> None:
    text = to_toml(recipe)
    assert f'base = "{base}"' in text
    read = from_toml(text)
    assert (read.name, read.version) == (recipe.name, recipe.version)
    assert same_plans(read, recipe, resnet_model(depth=10, width=4))


def test_a_file_may_be_written_by_hand(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        """
        base = "kaiming"
        [ties]
        "head.weight" = "inner.0.weight"
        [[rules]]
        type = "Experts"
        parameter = "*"
        in_axes = [2]
        out_axes = [1]
        batch_axes = [0]
        init = "kaiming_normal(nonlinearity=gelu)"
        [[rules]]
        name = "qkv"
        in_axes = [0]
        out_axes = [1]
        parts = ["q", "k", "v"]
        part_dim = 1
        init = "xavier_uniform"
        """
    )
    recipe = load_recipe(file)
    assert str(recipe) == "kaiming@1 + 2 rules"
    steps = {step.name: step for step in fanin.plan(Experts(), recipe, seed=0).steps}
    assert steps["experts"].fans == Fans(3, 6)
    assert steps["qkv"].fans == Fans(5, 3)
    json_file = tmp_path / "mine.json"
    json_file.write_text(to_json(recipe))
    assert load_recipe(json_file) == recipe


def is_head(site: Site) -> bool:
    return site.name == "head.weight"


@pytest.mark.parametrize(
    "function",
    [
        rule(is_head, zeros(), label="heads"),
        rule("head.*", lambda site: zeros(), label="heads"),
        rule("head.*", zeros(), layout=lambda site: Layout((1,)), label="heads"),
        rule("head.*", mapped(uniform(), torch.abs), label="heads"),
        rule("head.*", from_function(torch.Tensor.zero_), label="heads"),
        rule("head.*", kaiming_normal(nonlinearity=torch.sin), label="heads"),
    ],
)
def test_a_function_is_refused_with_its_rule(function: fanin.Rule) -> None:
    recipe = get_recipe("xavier") + {"a": zeros()} + function
    number = len(recipe.rules)
    with pytest.raises(ArgumentError, match=rf"(?s)rule {number} of xavier@1 \+ 2 rules.*'heads'"):
        to_toml(recipe)


@pytest.mark.parametrize(
    "content", [mapped(uniform(), torch.abs), from_function(torch.Tensor.zero_)]
)
def test_a_users_function_is_said_to_have_no_text(content: fanin.Initializer) -> None:
    message = f"holds no functions. Got {content.name}.*append the rule in code"
    with pytest.raises(ArgumentError, match=message):
        to_toml(get_recipe("xavier") + {"head.*": content})


@pytest.mark.parametrize("text", ["keep", "keep()"])
def test_keep_is_read_as_plans_and_files_spell_it(text: str) -> None:
    read = from_toml(f'name = "a"\n[[rules]]\nname = "b"\ninit = "{text}"')
    assert read.rules == (rule("b", keep()),)


RULE = '[[rules]]\nname = "a"\ninit = "zeros"\n'


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("name = ", ArgumentError, "TOML was expected. Got .* in my.toml"),
        ("version = 1", ArgumentError, "its name or its base is stated. Got neither in my.toml"),
        ('naem = "a"', UnknownNameError, "Got 'naem' in my.toml. Did you mean name"),
        ("name = 3", ArgumentError, "name is text. Got 3 for name in my.toml"),
        ('name = "a"\nversion = true', ArgumentError, "version is a number from 1. Got True"),
        ('name = "a"\nrules = 1', ArgumentError, "rules is a list of tables"),
        ('name = "a"\nties = { a = 1 }', ArgumentError, "ties is a table from alias to owner"),
        ('base = "gpt3"', UnknownNameError, "(?s)Got 'gpt3'. Did you mean gpt2@1.* in my.toml"),
        (
            'name = "a"\n' + RULE + '[[rules]]\nnmae = "b"',
            UnknownNameError,
            "Got 'nmae' in rule 2 of my.toml. Did you mean name",
        ),
        ('name = "a"\n[[rules]]\nname = "b"', ArgumentError, "its init. Got none in rule 1 of my"),
        ('name = "a"\n[[rules]]\ninit = "zeros"', ArgumentError, "(?s)states what .* rule 1 of my"),
        (
            'name = "a"\n[[rules]]\nname = "b"\ninit = "zeroes()"',
            UnknownNameError,
            "(?s)Got 'zeroes'. Did you mean zeros.*rule 1 of my.toml",
        ),
        ('name = "a"\n' + RULE + "in_axes = 1", ArgumentError, "in_axes is a list of dims"),
        ('name = "a"\n' + RULE + "optional = 1", ArgumentError, "optional is true or false"),
        ('name = "a"\n' + RULE + "type = []", ArgumentError, "type is text, or a list of it"),
        ('name = "a"\n[[rules]]\nname = "re:("\ninit = "zeros"', ArgumentError, "(?s)re:.*rule 1"),
    ],
)
def test_errors_say_where(text: str, error: type[FaninError], message: str) -> None:
    with pytest.raises(error, match=message):
        from_toml(text, source="my.toml")


def test_a_file_that_is_no_table_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"a table was expected. Got \[1\]"):
        from_json("[1]")
    with pytest.raises(ArgumentError, match="JSON was expected"):
        from_json("{")
    file = tmp_path / "binary.toml"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ArgumentError, match=r"UTF-8 text.*binary\.toml"):
        load_recipe(file)


texts = st.text(st.characters(codec="utf-8"), min_size=1)


@given(label=texts, stream=texts, ties=st.dictionaries(texts, texts))
def test_any_text_survives(label: str, stream: str, ties: dict[str, str]) -> None:
    recipe = Recipe(label, 1, (rule("a", zeros(), label=label, stream=stream),), ties, stream)
    assert from_toml(to_toml(recipe)) == recipe
    assert from_json(to_json(recipe)) == recipe


@given(st.text(alphabet='name="a"[rules]\n #', max_size=40))
def test_any_file_is_read_or_refused(text: str) -> None:
    # Any other exception than a refusal fails the test.
    with contextlib.suppress(FaninError):
        assert isinstance(from_toml(text), Recipe)


def test_a_base_found_by_rules_serves_any_model() -> None:
    recipe = vgg() + {"classifier.6.weight": normal(std=0.1)}
    model = alexnet(num_classes=3)
    assert same_plans(from_toml(to_toml(recipe)), recipe, model)
