"""Routing, capacity and the balancing loss against the published equations, evaluated token by token."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from torch import nn

pytest.importorskip("transformers")
from edgereverie.backbones._moe import Gate, Routing, SparseMoe, route


def layer(routing: Routing, experts: int = 4, hidden: int = 16) -> SparseMoe:
    """Experts that differ: each is a small network with weights of its own."""
    torch.manual_seed(3)
    moe = SparseMoe(nn.Sequential(nn.Linear(hidden, 24), nn.SiLU(), nn.Linear(24, hidden)), hidden, experts, routing)
    for parameter in moe.parameters():
        nn.init.normal_(parameter, std=0.5)
    return moe.eval()


def dense_gather(moe: SparseMoe, x: torch.Tensor) -> torch.Tensor:
    """Every expert on every token, then the two with the largest probability, g1 / (g1 + g2) and g2 / (g1 + g2)."""
    gates = torch.softmax(x @ moe.wg.weight.T, -1)
    outputs = torch.stack([expert(x) for expert in moe.experts], -2)
    top, index = gates.topk(moe.routing.top_k_experts, -1)
    weights = top / top.sum(-1, keepdim=True) if moe.routing.top_k_experts == 2 else top
    picked = outputs.gather(-2, index[..., None].expand(*index.shape, x.shape[-1]))
    return (weights[..., None] * picked).sum(-2)


def queue(logits: torch.Tensor, top_k: int, capacity: int) -> tuple[list[list[int]], list[list[float]]]:
    """DeepSpeed 0.9.5's top1gating and top2gating in plain Python: chosen experts and combine weights of each token."""
    gates = [[math.exp(v) for v in row] for row in logits.double().tolist()]
    gates = [[v / sum(row) for v in row] for row in gates]
    firsts = [max(range(len(row)), key=row.__getitem__) for row in gates]
    chosen = [[first] for first in firsts]
    if top_k == 2:
        for row, pair in zip(gates, chosen, strict=True):
            pair.append(max((e for e in range(len(row)) if e != pair[0]), key=row.__getitem__))
    standing: Counter[int] = Counter()
    weights = [[0.0] * top_k for _ in gates]
    for choice in range(top_k):  # all first choices stand in their queues before the first second choice does
        for token, pair in enumerate(chosen):
            if standing[pair[choice]] < capacity:
                weights[token][choice] = gates[token][pair[choice]]
            standing[pair[choice]] += 1
    if top_k == 2:
        weights = [[w / max(sum(pair), 1e-12) for w in pair] for pair in weights]
    return chosen, weights


@pytest.mark.parametrize("top_k", [1, 2])
def test_inference_is_the_dense_evaluation(top_k: int) -> None:
    moe = layer(Routing(top_k_experts=top_k))
    x = torch.randn(3, 11, 16)
    with torch.no_grad():
        torch.testing.assert_close(moe(x), dense_gather(moe, x), atol=1e-5, rtol=0)


def test_inference_drops_nothing_even_where_all_want_the_same_expert() -> None:
    moe = layer(Routing(capacity_factor=0.25))
    x = torch.randn(1, 16).expand(50, 16) + 0.01 * torch.randn(50, 16)
    with torch.no_grad():
        torch.testing.assert_close(moe(x), dense_gather(moe, x), atol=1e-5, rtol=0)
        assert not torch.allclose(moe.train()(x), dense_gather(moe, x), atol=1e-3), "training has no room for all"


@pytest.mark.parametrize("top_k", [1, 2])
@pytest.mark.parametrize(
    ("tokens", "experts", "factor"), [(40, 4, 1.5), (40, 4, 0.5), (37, 8, 0.4), (5, 2, 0.2), (1, 4, 1)]
)
def test_training_drops_as_published(top_k: int, tokens: int, experts: int, factor: float) -> None:
    torch.manual_seed(tokens)
    logits = torch.randn(tokens, experts) * 2
    logits[:, 0] += 1  # one expert is wanted more than it can serve
    routing = Routing(top_k_experts=top_k, capacity_factor=factor)
    capacity = math.ceil(tokens / experts * factor * top_k)
    found = route(logits, routing, limited=True)
    chosen, weights = queue(logits, top_k, capacity)
    assert found.experts.tolist() == chosen
    torch.testing.assert_close(found.weights, torch.tensor(weights), atol=1e-6, rtol=0)
    assert torch.equal(found.kept, torch.tensor(weights) > 0)
    assert int((found.experts[found.kept].bincount(minlength=experts)).max()) <= capacity


def test_the_cases_of_dropping_do_drop() -> None:
    torch.manual_seed(40)
    logits = torch.randn(40, 4) * 2 + torch.tensor([1.0, 0, 0, 0])
    kept = route(logits, Routing(capacity_factor=0.5), limited=True).kept
    assert int((~kept[:, 0]).sum()) > 0 and bool((kept.sum(1) == 0).any())


def test_the_weight_of_a_dropped_expert_goes_to_the_other() -> None:
    """Room for one choice each. Of two experts: token 0 takes expert 0 first, token 1 comes too late there; and its second
    choice, expert 1, it finds taken by token 0's. Of three experts it has a second one to itself, which then gets all.
    """
    logits = torch.tensor([[2.0, 0.0], [1.0, 0.0]])
    found = route(logits, Routing(capacity_factor=0.5), limited=True)
    assert found.kept.tolist() == [[True, True], [False, False]]
    assert found.weights[1].tolist() == [0.0, 0.0]
    wider = route(torch.tensor([[2.0, 0.0, -9], [1.0, -9, 0.0]]), Routing(capacity_factor=0.7), limited=True)
    assert Routing(capacity_factor=0.7).capacity(2, 3) == 1
    assert wider.kept.tolist() == [[True, True], [False, True]]
    torch.testing.assert_close(wider.weights[1], torch.tensor([0.0, 1.0]))


def test_capacity_by_hand() -> None:
    """1.5 x 2 x 100 / 4 = 75: three quarters of the tokens; the published floor of 4 counts where it is more."""
    assert Routing().capacity(100, 4) == 75
    assert Routing().capacity(10, 4) == 8
    assert Routing(top_k_experts=1).capacity(10, 4) == 4
    assert Routing(min_capacity=4).capacity(1, 4) == 4


def test_the_balancing_loss_by_hand() -> None:
    """Switch Transformer's E x sum(f P), for top-2 as DeepSpeed writes it, E² x mean(f P). Balanced it is 1: f = P = 1/4.
    All tokens at one expert with certainty give E.
    """
    balanced = torch.eye(4).repeat(5, 1) * 1e-4
    assert float(route(balanced, Routing(), limited=True).auxiliary) == pytest.approx(1, abs=1e-4)
    one = torch.tensor([[50.0, 0, 0, 0]]).repeat(7, 1)
    assert float(route(one, Routing(), limited=True).auxiliary) == pytest.approx(4, abs=1e-4)
    # Two tokens, logits ln 3 and 0: probabilities (3/4, 1/4) twice, first choices all expert 0: 4 x mean(3/4, 0) = 1.5.
    lean = torch.tensor([[math.log(3), 0.0]] * 2)
    assert float(route(lean, Routing(capacity_factor=0.1), limited=True).auxiliary) == pytest.approx(1.5, abs=1e-6)


def test_the_second_expert_is_the_same_every_time_unless_noise_is_asked_for() -> None:
    logits = torch.tensor([[3.0, 1.0, 0.5, 0.0]]).repeat(4000, 1)
    plain = route(logits, Routing(), limited=False)
    assert plain.experts.unique(dim=0).tolist() == [[0, 1]]
    torch.manual_seed(0)
    noisy = route(logits, Routing(second_expert="gumbel"), limited=False)
    assert (noisy.experts[:, 0] == 0).all()
    # The largest of logits with Gumbel noise is a sample of their softmax: here of experts 1 to 3.
    wanted = torch.softmax(logits[0, 1:], -1)
    shares = noisy.experts[:, 1].bincount(minlength=4)[1:] / 4000
    assert (shares - wanted).abs().max() < 4 * (0.5 * 0.5 / 4000) ** 0.5
    # Weights come from the softmax without noise.
    gates = torch.softmax(logits[0], -1)
    row = int((noisy.experts[:, 1] == 3).nonzero()[0])
    torch.testing.assert_close(noisy.weights[row], gates[[0, 3]] / gates[[0, 3]].sum())


def test_top_1_is_weighted_with_its_probability_or_with_one() -> None:
    logits = torch.tensor([[2.0, 1.0], [0.0, 3.0]], requires_grad=True)
    published = route(logits, Routing(top_k_experts=1), limited=False)
    torch.testing.assert_close(published.weights[:, 0], torch.softmax(logits, -1).amax(-1))
    one = route(logits, Routing(top_k_experts=1, normalise_top1=True), limited=False)
    assert one.weights.tolist() == [[1.0], [1.0]]
    (gradient,) = torch.autograd.grad(one.weights[0, 0], logits)
    (wanted,) = torch.autograd.grad(torch.log_softmax(logits, -1)[0, 0], logits)
    torch.testing.assert_close(gradient, wanted)
    assert gradient.abs().max() > 0.1, "the gate learns although its weight is always one"


def test_the_gate_computes_in_32_bits_in_whatever_surroundings() -> None:
    """Two experts whose logits differ by one part in 2,000: bfloat16 has 8 bits of mantissa and cannot tell them apart."""
    gate = Gate(2, 2)
    gate.weight.data = torch.tensor([[1.0, 0.0], [1.0005, 0.0]])
    x = torch.ones(1, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = gate(x)
    assert logits.dtype == torch.float32
    assert float((logits[0, 1] - logits[0, 0]).detach()) == pytest.approx(5e-4, rel=1e-3)
    weight = layer(Routing()).wg.weight
    moe = layer(Routing()).to(torch.bfloat16)
    assert moe(torch.randn(5, 16, dtype=torch.bfloat16)).dtype == torch.bfloat16
    assert torch.equal(moe.half().wg.weight, weight), "nothing was rounded on the way"
    assert moe.to("meta").wg.weight.device.type == "meta"


def test_equal_experts_give_the_dense_output_back_in_16_bits_too() -> None:
    expert = nn.Sequential(nn.Linear(16, 24), nn.SiLU(), nn.Linear(24, 16))
    moe = SparseMoe(expert, 16, 4, Routing()).eval()
    x = torch.randn(200, 16)
    torch.testing.assert_close(moe(x), expert(x), atol=1e-6, rtol=0)
    moe, x = moe.to(torch.bfloat16), x.to(torch.bfloat16)
    assert (moe(x) == expert(x)).float().mean() > 0.999


def test_training_notes_loss_and_load_inference_does_not() -> None:
    moe = layer(Routing(capacity_factor=0.5))
    x = torch.randn(40, 16)
    moe(x)
    assert moe.auxiliary is None and moe.take_load() is None
    moe.train()
    moe(x)
    moe(x[:8])
    wanted = route(moe.wg(x), moe.routing, limited=True), route(moe.wg(x[:8]), moe.routing, limited=True)
    assert moe.auxiliary.item() == pytest.approx(wanted[1].auxiliary.item()), "that of the last forward"
    shares, dropped = moe.take_load()
    counts = sum(routes.experts.flatten().bincount(minlength=4) for routes in wanted)
    assert shares == pytest.approx((counts / 96).tolist(), abs=1e-4) and sum(shares) == pytest.approx(1, abs=1e-3)
    assert dropped == pytest.approx(sum(int((~routes.kept).sum()) for routes in wanted) / 96, abs=1e-4) and dropped > 0
    assert moe.take_load() is None


def test_gradients_reach_experts_and_gate_of_served_tokens() -> None:
    """Against autograd through the dense evaluation, where nothing is dropped."""
    moe = layer(Routing(capacity_factor=4.0)).train()
    x = torch.randn(30, 16, requires_grad=True)
    direction = torch.randn(30, 16)
    names = [name for name, _ in moe.named_parameters()]
    found = torch.autograd.grad((moe(x) * direction).sum(), [x, *moe.parameters()])
    wanted = torch.autograd.grad((dense_gather(moe, x) * direction).sum(), [x, *moe.parameters()])
    for name, a, b in zip(["x", *names], found, wanted, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4, msg=name)
        assert b.abs().max() > 1e-3, name
