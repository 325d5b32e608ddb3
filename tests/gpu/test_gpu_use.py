"""The drop-in and whole models on a GPU: nobody waits, graphs replay, generators go on."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import fanin
from cuda_cases import bits_of
from fanin import init, zoo
from fanin.errors import ArgumentError, EngineError
from fanin.stream.cuda import launching

pytestmark = pytest.mark.gpu

DEVICE = "cuda"
CALLS = {
    "uniform_": lambda t, **g: init.uniform_(t, -1.0, 1.0, **g),
    "normal_": lambda t, **g: init.normal_(t, 0.0, 0.02, **g),
    "trunc_normal_": lambda t, **g: init.trunc_normal_(t, **g),
    "kaiming_uniform_": lambda t, **g: init.kaiming_uniform_(t, **g),
    "sparse_": lambda t, **g: init.sparse_(t, 0.1, **g),
    "orthogonal_": lambda t, **g: init.orthogonal_(t, **g),
    "eye_": lambda t, **g: init.eye_(t),
}

SHAPES = {"tall": (512, 300), "wide": (300, 512), "square": (256, 256)}
each_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=list(SHAPES))
each_call = pytest.mark.parametrize("call", CALLS.values(), ids=list(CALLS))


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.equal(bits_of(a), bits_of(b))


@each_shape
@each_call
def test_nobody_waits(call, shape, no_waiting) -> None:
    out = torch.empty(shape, device=DEVICE)
    with no_waiting():
        call(out)


@each_call
def test_nobody_waits_for_a_generator_of_the_device(call, no_waiting) -> None:
    out, generator = torch.empty(512, 300, device=DEVICE), torch.Generator(DEVICE).manual_seed(3)
    with no_waiting():
        call(out, generator=generator)


@each_shape
@each_call
def test_the_host_is_ahead_of_a_busy_device(call, shape) -> None:
    """What torch's debug mode cannot see: a copy that the driver makes the host wait for."""
    out, filler = torch.empty(shape, device=DEVICE), torch.empty(2**29, device=DEVICE)
    call(out)  # compiles
    torch.cuda.synchronize()
    for _ in range(600):  # 2 GiB each, a quarter of a second; a queue of launches holds 1024
        filler.fill_(1.0)
    reached = torch.cuda.Event()
    reached.record()
    call(out)
    assert not reached.query(), "the device came to this call before the host left it"


@pytest.mark.parametrize("name", ["uniform_", "normal_", "trunc_normal_"])
def test_one_seed_is_one_tensor_on_both(name: str) -> None:
    here, there = torch.empty(300, 200), torch.empty(300, 200, device=DEVICE)
    for tensor in (here, there):
        torch.manual_seed(0)
        CALLS[name](tensor)
    assert same_bits(here, there)


def test_a_generator_of_the_device_goes_on_and_can_be_set_back() -> None:
    generator = torch.Generator(DEVICE).manual_seed(3)
    first, second, again = (torch.empty(100, device=DEVICE) for _ in range(3))
    state = generator.get_state()
    init.normal_(first, generator=generator)
    init.normal_(second, generator=generator)
    generator.set_state(state)
    init.normal_(again, generator=generator)
    assert same_bits(first, again)
    assert not same_bits(first, second)


def test_a_generator_of_the_device_serves_tensors_anywhere() -> None:
    generator = torch.Generator(DEVICE)
    here, there = torch.empty(1000), torch.empty(1000, device=DEVICE)
    for tensor in (here, there):
        init.normal_(tensor, generator=generator.manual_seed(5))
    assert same_bits(here, there)


@each_call
def test_a_captured_graph_writes_the_same_bits_at_each_replay(call) -> None:
    out = torch.empty(300, 50, device=DEVICE)
    torch.manual_seed(0)
    call(out)  # compiles
    expected = out.clone()
    graph = torch.cuda.CUDAGraph()
    torch.manual_seed(0)
    with torch.cuda.graph(graph):
        call(out)
    for _ in range(2):
        out.zero_()
        graph.replay()
        assert same_bits(out, expected)


def test_a_captured_plan_writes_its_bits_at_each_replay() -> None:
    model = zoo.resnet().to(DEVICE)
    plan = fanin.plan(model, "kaiming", seed=0)
    plan.apply(model)
    expected = {name: value.clone() for name, value in model.state_dict().items()}
    init.normal_(torch.empty(64, device=DEVICE))  # alone, as a capture draws small tensors
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        plan.apply(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    graph.replay()
    for name, value in model.state_dict().items():
        assert same_bits(value, expected[name]), name


def test_the_first_call_of_a_kernel_is_refused_in_a_capture(monkeypatch) -> None:
    out = torch.empty(300, device=DEVICE)
    monkeypatch.setattr(launching, "_checked", set())
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out.zero_()  # a graph is not empty
        with pytest.raises(EngineError, match="the first call of a kernel loads it"):
            init.normal_(out)


def test_a_generator_of_the_device_is_refused_in_a_capture() -> None:
    out, generator = torch.empty(300, device=DEVICE), torch.Generator(DEVICE)
    init.normal_(out, generator=generator)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out.zero_()  # a graph is not empty
        with pytest.raises(ArgumentError, match="a captured CUDA graph repeats"):
            init.normal_(out, generator=generator)


# Inductor's own modules use the scripting that torch deprecates.
@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")
def test_a_compiled_function_draws_the_same_bits() -> None:
    @torch.compile(fullgraph=True)
    def fresh(x: torch.Tensor) -> torch.Tensor:
        return init.normal_(torch.empty_like(x)) * 2

    like = torch.empty(1000, device=DEVICE)
    torch.manual_seed(0)
    compiled = fresh(like)
    torch.manual_seed(0)
    assert same_bits(compiled, init.normal_(torch.empty_like(like)) * 2)


@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")
def test_a_compiler_that_captures_graphs_gets_new_numbers_each_time() -> None:
    @torch.compile(mode="reduce-overhead")
    def fresh(x: torch.Tensor) -> torch.Tensor:
        return init.normal_(torch.empty_like(x)) * 2

    like = torch.empty(1000, device=DEVICE)
    drawn = [fresh(like).clone() for _ in range(4)]
    assert len({float(numbers[0]) for numbers in drawn}) == 4


def test_a_tensor_of_inference_mode() -> None:
    with torch.inference_mode():
        out, expected = torch.empty(300, device=DEVICE), torch.empty(300)
        for tensor in (out, expected):
            torch.manual_seed(0)
            init.normal_(tensor)
        assert same_bits(out, expected)


def test_another_device_than_the_current_one() -> None:
    last = torch.device(DEVICE, torch.cuda.device_count() - 1)  # on most machines: the only one
    out, expected = torch.empty(300, 200, device=last), torch.empty(300, 200)
    with torch.cuda.device(0):
        for tensor in (out, expected):
            torch.manual_seed(0)
            init.trunc_normal_(tensor)
    assert same_bits(out, expected)


@pytest.mark.parametrize("engine", ["native", "reference"])
def test_other_engines_draw_on_the_cpu_and_copy(engine: str, monkeypatch) -> None:
    out, expected = torch.empty(300, 200, device=DEVICE), torch.empty(300, 200)
    torch.manual_seed(0)
    init.normal_(expected)
    monkeypatch.setenv("FANIN_ENGINE", engine)
    torch.manual_seed(0)
    init.normal_(out)
    assert same_bits(out, expected)


def test_another_stream_is_drawn_on() -> None:
    out, expected = torch.empty(10_000, device=DEVICE), torch.empty(10_000)
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        torch.manual_seed(0)
        init.normal_(out)
        torch.cuda.current_stream().synchronize()
    torch.manual_seed(0)
    assert same_bits(out, init.normal_(expected))


@pytest.mark.parametrize("recipe", ["gpt2", "llama"])
def test_language_models_from_meta_have_the_bits_of_the_cpu(recipe: str, no_waiting) -> None:
    here, there = _language_model(recipe), _language_model(recipe)
    fanin.initialize(here, recipe, seed=0, dtype=torch.bfloat16)
    plan = fanin.initialize(there, recipe, seed=0, dtype=torch.bfloat16, device=DEVICE)
    expected = here.state_dict()
    for name, value in there.state_dict().items():
        assert value.device.type == DEVICE
        assert same_bits(value, expected[name]), name
    with no_waiting():
        plan.apply(there)


@pytest.mark.parametrize("recipe", ["kaiming", "xavier", "torch_default"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_from_meta_has_the_bits_of_the_cpu(recipe: str, dtype) -> None:
    here = zoo.resnet()
    with fanin.deferred():
        there = zoo.resnet()
    fanin.initialize(here, recipe, seed=0, dtype=dtype)
    fanin.initialize(there, recipe, seed=0, dtype=dtype, device=DEVICE)
    expected = here.state_dict()
    for name, value in there.state_dict().items():
        assert value.device.type == DEVICE
        assert same_bits(value, expected[name]), name


def test_many_small_parameters_have_the_bits_of_the_cpu() -> None:
    here = nn.ModuleList(nn.Linear(size, 7) for size in range(1, 60))
    there = nn.ModuleList(nn.Linear(size, 7, device=DEVICE) for size in range(1, 60))
    plan = fanin.plan(here, "torch_default", seed=0)
    plan.apply(here)
    plan.apply(there)
    for a, b in zip(here.parameters(), there.parameters(), strict=True):
        assert same_bits(a, b)


def test_applying_a_plan_waits_for_nothing(no_waiting) -> None:
    with torch.device(DEVICE):
        model = nn.Sequential(
            nn.Embedding(100, 64, padding_idx=0), nn.Linear(64, 64), nn.Conv2d(8, 8, 3)
        )
    for recipe in ("kaiming", "orthogonal"):
        plan = fanin.plan(model, recipe, seed=0)
        with no_waiting():
            plan.apply(model)


def _language_model(family: str) -> nn.Module:
    """On the meta device, and small."""
    import transformers

    with fanin.deferred():
        if family == "gpt2":
            return transformers.GPT2LMHeadModel(transformers.GPT2Config(n_embd=96, n_layer=2))
        sizes = {"hidden_size": 96, "intermediate_size": 300, "num_hidden_layers": 2}
        heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
        return transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes, **heads))
