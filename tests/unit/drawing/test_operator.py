"""``fanin::fill_``: vmap's three meanings of randomness, and compilers."""

from __future__ import annotations

import functools
import subprocess
import sys

import pytest
import torch
from torch import nn

from fanin import init
from fanin.drawing.operator import fill_

CALLS = {
    "uniform_": init.uniform_,
    "normal_": init.normal_,
    "trunc_normal_": init.trunc_normal_,
    "xavier_uniform_": init.xavier_uniform_,
    "kaiming_normal_": init.kaiming_normal_,
    "orthogonal_": init.orthogonal_,
    "sparse_": lambda tensor: init.sparse_(tensor, 0.3),
}
calls = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())


@calls
def test_vmap_must_be_told(call):
    """pain 36."""
    with pytest.raises(RuntimeError, match="randomness"):
        torch.vmap(call)(torch.empty(3, 4, 5))


@calls
@pytest.mark.parametrize("dim", [0, 1, 2])
def test_vmap_different(call, dim):
    batch = torch.zeros(4, 5, 6).movedim(0, dim)
    torch.vmap(call, in_dims=dim, out_dims=dim, randomness="different")(batch)
    samples = batch.movedim(dim, 0)
    assert all(not torch.equal(samples[0], other) for other in samples[1:])
    assert all(sample.any() for sample in samples)


def test_vmap_different_is_one_tensor_with_the_batch_first():
    torch.manual_seed(0)
    batch = torch.vmap(init.normal_, in_dims=1, out_dims=1, randomness="different")(
        torch.empty(4, 3)
    )
    torch.manual_seed(0)
    assert torch.equal(batch.T, init.normal_(torch.empty(3, 4)))


def test_vmap_different_makes_every_matrix_orthogonal():
    batch = torch.vmap(init.orthogonal_, randomness="different")(torch.empty(5, 4, 6))
    assert torch.allclose(batch @ batch.mT, torch.eye(4).expand(5, 4, 4), atol=1e-5)


@calls
def test_vmap_same(call):
    batch = torch.vmap(call, randomness="same")(torch.zeros(3, 4, 5))
    torch.manual_seed(0)
    torch.vmap(call, randomness="same")(batch)
    torch.manual_seed(0)
    expected = call(torch.empty(4, 5))
    assert all(torch.equal(sample, expected) for sample in batch)


def test_vmap_within_vmap():
    inner = torch.vmap(init.normal_, randomness="different")
    both = torch.vmap(inner, randomness="different")(torch.zeros(2, 3, 4))
    assert both.unique().numel() == 24
    one = torch.vmap(inner, randomness="same")(torch.zeros(2, 3, 4))
    assert torch.equal(one[0], one[1])
    assert one.unique().numel() == 12
    other = torch.vmap(torch.vmap(init.normal_, randomness="same"), randomness="different")
    mixed = other(torch.zeros(2, 3, 4))
    assert torch.equal(mixed[0, 0], mixed[0, 1])
    assert not torch.equal(mixed[0, 0], mixed[1, 0])


def test_vmap_over_nothing():
    for randomness in ["same", "different"]:
        empty = torch.empty(0, 3)
        assert torch.vmap(init.normal_, randomness=randomness)(empty).shape == (0, 3)


@pytest.mark.parametrize("module", [torch.nn.init, init], ids=["torch", "fanin"])
def test_a_captured_tensor_under_vmap(module):
    captured = torch.zeros(3)

    def fill_captured(x):
        return x + module.uniform_(captured)

    with pytest.raises(RuntimeError, match="randomness"):
        torch.vmap(fill_captured)(torch.zeros(2, 3))
    with pytest.raises(RuntimeError, match="different"):
        torch.vmap(fill_captured, randomness="different")(torch.zeros(2, 3))
    out = torch.vmap(fill_captured, randomness="same")(torch.zeros(2, 3))
    assert torch.equal(out[0], out[1])


def test_vmap_with_a_generator():
    fills = []
    for _ in range(2):
        generator = torch.Generator().manual_seed(3)
        fill = functools.partial(init.normal_, generator=generator)
        fills.append(torch.vmap(fill, randomness="different")(torch.empty(2, 5)))
    assert torch.equal(*fills)


def test_ensembles_with_stack_module_state():
    """pain 36: an ensemble of models is filled by one call for each parameter."""
    models = [nn.Linear(4, 3) for _ in range(5)]
    parameters, _ = torch.func.stack_module_state(models)
    weight = parameters["weight"].detach()
    torch.vmap(init.kaiming_normal_, randomness="different")(weight)
    assert weight.unique().numel() == 5 * 12


def test_grad_of_a_function_that_fills():
    def loss(x):
        return (x * init.uniform_(torch.empty(3))).sum()

    torch.manual_seed(0)
    gradient = torch.func.grad(loss)(torch.ones(3))
    torch.manual_seed(0)
    assert torch.equal(gradient, init.uniform_(torch.empty(3)))


@calls
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_without_a_break(call, backend):
    """pain 13; every call of the compiled function draws anew, as manual_seed says."""
    torch._dynamo.reset()
    compiled = torch.compile(call, fullgraph=True, backend=backend)
    torch.manual_seed(0)
    first, second = compiled(torch.empty(4, 6)), compiled(torch.empty(4, 6))
    torch.manual_seed(0)
    assert torch.equal(first, call(torch.empty(4, 6)))
    assert torch.equal(second, call(torch.empty(4, 6)))
    assert not torch.equal(first, second)


# Inductor's own modules use the scripting that torch deprecates.
@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")
@pytest.mark.parametrize("backend", ["eager", "aot_eager", "inductor"])
def test_compiled_for_any_size(backend):
    torch._dynamo.reset()
    compiled = torch.compile(init.kaiming_uniform_, fullgraph=True, backend=backend, dynamic=True)
    for shape in [(4, 6), (5, 7)]:
        torch.manual_seed(0)
        filled = compiled(torch.empty(shape))
        torch.manual_seed(0)
        assert torch.equal(filled, init.kaiming_uniform_(torch.empty(shape)))


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_for_a_parameter(backend):
    torch._dynamo.reset()
    parameter = nn.Parameter(torch.zeros(4, 6))
    version = parameter._version

    @torch.compile(fullgraph=True, backend=backend)
    def reset_and_sum(p):
        init.xavier_normal_(p)
        return (p * 2).sum()

    out = reset_and_sum(parameter)
    assert torch.allclose(out, parameter.sum() * 2)
    assert parameter._version > version
    assert parameter.is_leaf


@pytest.mark.parametrize("name", ["constant_", "ones_", "zeros_", "eye_", "dirac_"])
def test_fixed_fills_compile(name):
    torch._dynamo.reset()
    shape, extra = ((4, 2, 3), (2,)) if name == "dirac_" else ((4, 6), ())
    extra = (3.0,) if name == "constant_" else extra
    function = getattr(init, name)
    compiled = torch.compile(lambda t: function(t, *extra), fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(torch.empty(shape)), function(torch.empty(shape), *extra))


def test_a_generator_is_refused_inside_compile():
    torch._dynamo.reset()
    generator = torch.Generator()

    @torch.compile(fullgraph=True, backend="eager")
    def fill(tensor):
        return init.uniform_(tensor, generator=generator)

    with pytest.raises(Exception, match=r"default generator|NumberError"):
        fill(torch.empty(3))


@calls
@pytest.mark.filterwarnings("ignore")  # of torch: tracing is deprecated, and bakes shapes in
def test_a_traced_function_draws_at_every_call(call):
    traced = torch.jit.trace(lambda x: call(x * 1), torch.zeros(6, 4), check_trace=False)
    for seed in (0, 1):
        torch.manual_seed(seed)
        expected = call(torch.zeros(6, 4))
        torch.manual_seed(seed)
        assert torch.equal(traced(torch.zeros(6, 4)), expected)


def test_the_operator_satisfies_torch_s_checks():
    for name, numbers in [("uniform", [0.0, 1.0]), ("orthogonal", [1.0, 0.0])]:
        arguments = (torch.empty(3, 4), name, numbers)
        tests = ["test_schema", "test_autograd_registration", "test_faketensor"]
        torch.library.opcheck(fill_, arguments, test_utils=tests)


def test_a_bad_dtype_is_told_while_compiling_not_while_running():
    torch._dynamo.reset()
    compiled = torch.compile(init.uniform_, fullgraph=True, backend="eager")
    with pytest.raises(Exception, match="floating-point or complex"):
        compiled(torch.empty(3, dtype=torch.int32))
    assert torch.is_grad_enabled()


def test_the_import_brings_no_compiler():
    """torch._dynamo takes most of a second; registering the operator must not need it."""
    code = "import sys, fanin.init; sys.exit('torch._dynamo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_compiler_leaves_it_out_of_graphs_that_it_captures() -> None:
    """A captured graph would repeat the key of its capture; the tag is what Inductor asks."""
    assert torch.Tag.cudagraph_unsafe in torch.ops.fanin.fill_.default.tags
