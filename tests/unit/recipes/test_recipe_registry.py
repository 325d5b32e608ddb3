from __future__ import annotations

import inspect
import pickle
import subprocess
import sys
from typing import Any

import pytest
from torch import nn

import fanin
from fanin import recipes
from fanin.errors import ArgumentError, PlanError, UnknownNameError
from fanin.recipes import RECIPES, get_recipe, known_recipes, resnet, siren


def test_a_recipe_of_one_name_is_equal() -> None:
    assert get_recipe("kaiming") == get_recipe("kaiming@1") == get_recipe(" kaiming ( ) ")
    assert get_recipe("resnet(zero_gamma=true)") == get_recipe("resnet@1(zero_gamma = true)")
    assert get_recipe("resnet(zero_gamma=true)") != get_recipe("resnet")


@pytest.mark.parametrize("text", [*RECIPES, "gpt2(num_layers=12)", "t5(d_kv=4)", "vit(std=0.1)"])
def test_a_recipe_survives_pickling_and_has_a_hash(text: str) -> None:
    recipe = get_recipe(text)
    read = pickle.loads(pickle.dumps(recipe))
    assert read == recipe == get_recipe(text)
    assert hash(read) == hash(recipe) == hash(get_recipe(text))


def test_what_was_handed_out_changes_nothing_for_others() -> None:
    handed: Any = get_recipe("gpt2")
    handed.ties.update({"a": "b"})
    assert get_recipe("gpt2").ties == {"lm_head.weight": "transformer.wte.weight"}
    handed = get_recipe("bert")
    handed.ties.clear()
    assert len(get_recipe("bert").ties) == 2


def test_the_text_of_a_recipe_names_it() -> None:
    for recipe in (*known_recipes(), resnet(zero_gamma=True), siren(omega=10.0)):
        assert str(get_recipe(str(recipe))) == str(recipe)
    assert str(siren(omega=10.0)) == "siren@1(omega=10.0)"
    assert str(siren(omega=30.0)) == "siren@1"


def test_every_recipe_is_a_function_that_says_what_it_does() -> None:
    for recipe in known_recipes():
        builder = RECIPES[recipe.name]
        assert recipes.__dict__[recipe.name] is builder
        assert "Source: " in (inspect.getdoc(builder) or "")
        assert recipe.summary
        assert builder().version == recipe.version == 1
        parameters = inspect.signature(builder).parameters.values()
        assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in parameters)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kaimin", "Got 'kaimin'. Did you mean kaiming@1"),
        ("kaiming@2", "Got 'kaiming@2'. Did you mean kaiming@1"),
        ("kaiming@0", "Got 'kaiming@0'"),
        ("resnet(zero_gama=true)", "Got 'zero_gama'. Did you mean zero_gamma"),
        ("vgg(std=1)", "Got 'std'. It has none"),
        ("lecun(distribution=normed)", "Got 'normed'. Did you mean normal"),
    ],
)
def test_unknown_names_are_answered_with_near_ones(text: str, message: str) -> None:
    with pytest.raises(UnknownNameError, match="(?s)" + message.replace("(", r"\(")):
        get_recipe(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a name was expected"),
        ("resnet(", "recipe: a value was expected"),
        ("resnet@x", "nothing more was expected"),
        ("resnet(true)", "an option is given by name"),
        ("resnet(zero_gamma=1)", "zero_gamma is true or false"),
        ("siren(omega=fast)", "omega is a finite number"),
        ("siren(omega=0)", "omega is positive"),
        ("gpt2(residual=3)", "rule: match is a name pattern"),
        ("__import__('os')", "an option is given by name"),
    ],
)
def test_what_cannot_be_read_is_refused(text: str, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        get_recipe(text)


def test_importing_fanin_reads_no_recipe() -> None:
    code = "import sys, fanin; print('fanin.recipes' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"


def test_zero_gamma_without_a_block_it_knows_is_an_error() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    with pytest.raises(PlanError, match="ends_branch"):
        fanin.plan(model, resnet(zero_gamma=True), seed=0)


def test_a_block_of_another_library_with_a_known_name_is_left_alone() -> None:
    class Bottleneck(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(3)

    with pytest.raises(PlanError, match="ends_branch"):
        fanin.plan(Bottleneck(), resnet(zero_gamma=True), seed=0)
