"""Published schemes under the names they are asked for by, each with a version.

A recipe is named in text (``get_recipe("resnet(zero_gamma=true)")``) or called as a function
(``resnet(zero_gamma=True)``), extended by appending (``recipe + forget_bias()``), written to TOML
and read from it, or translated from an ``init_cfg`` of MMEngine.
"""

from __future__ import annotations

from fanin.recipes.auto import auto
from fanin.recipes.bert import bert
from fanin.recipes.data import from_json, to_json
from fanin.recipes.dcgan import dcgan
from fanin.recipes.gates import chrono, forget_bias
from fanin.recipes.gpt2 import gpt2
from fanin.recipes.kaiming import kaiming
from fanin.recipes.lecun import lecun
from fanin.recipes.llama import llama
from fanin.recipes.mmengine import from_init_cfg
from fanin.recipes.orthogonal import orthogonal
from fanin.recipes.registry import RECIPES, get_recipe, known_recipes
from fanin.recipes.resnet import resnet
from fanin.recipes.siren import siren
from fanin.recipes.t5 import t5
from fanin.recipes.toml import from_toml, load_recipe, to_toml
from fanin.recipes.torch_default import torch_default
from fanin.recipes.vgg import vgg
from fanin.recipes.vit import vit
from fanin.recipes.xavier import xavier

__all__ = [
    "RECIPES",
    "auto",
    "bert",
    "chrono",
    "dcgan",
    "forget_bias",
    "from_init_cfg",
    "from_json",
    "from_toml",
    "get_recipe",
    "gpt2",
    "kaiming",
    "known_recipes",
    "lecun",
    "llama",
    "load_recipe",
    "orthogonal",
    "resnet",
    "siren",
    "t5",
    "to_json",
    "to_toml",
    "torch_default",
    "vgg",
    "vit",
    "xavier",
]
