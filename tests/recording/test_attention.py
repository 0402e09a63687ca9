"""Attention's logits against plain float64: masks, grouped heads, scales, dtypes and blocks."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.attention.bias import causal_lower_right

import initfast
from initfast.recording import attention
from initfast.stats.attention import Attention
from initfast.stats.moments import Moments


def plainly(logits):
    """Of logits in float64, masked ones minus infinity: max, std, relative entropy, rows."""
    seen = logits != -math.inf
    values = logits[seen]
    weights = logits.softmax(-1)
    entropy = -torch.where(weights > 0, weights * weights.log(), 0.0).sum(-1)
    rows = seen.sum(-1) > 1
    relative = (entropy[rows] / seen.sum(-1)[rows].log()).mean().item() if rows.any() else math.nan
    return values.max().item(), values.std().item(), relative, int(rows.sum()), values.numel()


def assert_is(found, logits, tolerance=1e-5):
    largest, std, entropy, rows, count = plainly(logits.double())
    assert (found.rows, found.logits.count) == (rows, count)
    assert found.largest_logit == pytest.approx(largest, rel=tolerance, abs=tolerance)
    assert found.logit_std == pytest.approx(std, rel=tolerance)
    assert found.entropy == pytest.approx(entropy, rel=tolerance, abs=1e-6)


def logits_of(q, k, mask=None, is_causal=False, scale=None):
    """What `F.scaled_dot_product_attention` documents, in float64."""
    q, k = q.double(), k.double()
    if k.dim() > 2 and q.shape[-3] > k.shape[-3]:
        k = k.repeat_interleave(q.shape[-3] // k.shape[-3], -3)
    z = q @ k.transpose(-1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if is_causal:
        z = z.masked_fill(torch.ones(z.shape[-2:]).triu(1).bool(), -math.inf)
    if mask is None:
        return z
    return z.masked_fill(~mask, -math.inf) if mask.dtype is torch.bool else z + mask


class Attends(nn.Module):
    def __init__(self, **arguments):
        super().__init__()
        self.arguments = arguments

    def forward(self, q, k, v):
        return F.scaled_dot_product_attention(q, k, v, **self.arguments)


BIAS = torch.linspace(-1, 1, 7 * 9).view(7, 9)
SEEN = torch.arange(63).view(7, 9) % 3 > 0
PADDED = (torch.arange(9) < torch.tensor([9, 4])[:, None])[:, None, None]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"is_causal": True},
        {"scale": 3.0},
        {"dropout_p": 0.5},
        {"attn_mask": SEEN},
        {"attn_mask": PADDED},
        {"attn_mask": BIAS},
        {"attn_mask": BIAS.masked_fill(~SEEN, -math.inf), "scale": 0.1},
    ],
    ids=["plain", "causal", "scale", "dropout", "mask", "padding", "bias", "bias and scale"],
)
def test_attention_is_that_of_float64(arguments, dtype):
    q, k, v = (torch.randn(2, 4, n, 8).to(dtype) for n in (7, 9, 9))
    mask = arguments.get("attn_mask")
    if mask is not None and mask.is_floating_point():
        arguments = arguments | {"attn_mask": mask.to(dtype)}
    layer = initfast.profile(Attends(**arguments), (q, k, v), measure="attention")[0]
    assert layer.op == "scaled_dot_product_attention" and layer.shape == (2, 4, 7, 8)
    known = {"mask" if n == "attn_mask" else n: v for n, v in arguments.items()}
    known.pop("dropout_p", None)
    assert_is(layer.attention, logits_of(q, k, **known))


def test_grouped_heads_share_keys():
    q, k, v = torch.randn(3, 8, 5, 4), torch.randn(3, 2, 6, 4), torch.randn(3, 2, 6, 4)
    net = Attends(enable_gqa=True, is_causal=True)
    layer = initfast.profile(net, (q, k, v), measure="attention")[0]
    assert_is(layer.attention, logits_of(q, k, is_causal=True))


@pytest.mark.parametrize("block", [1, 7, 40, 300, 10**6])
@pytest.mark.parametrize(
    "shapes",
    [
        ((6, 4), (8, 4)),
        ((3, 6, 4), (3, 8, 4)),
        ((2, 3, 4, 6, 4), (2, 3, 2, 8, 4)),
        ((2, 1, 6, 4), (3, 8, 4)),
    ],
    ids=str,
)
def test_blocks_of_any_size_are_the_whole(block, shapes, monkeypatch):
    monkeypatch.setitem(attention.BLOCK, "cpu", block)
    q, k = map(torch.randn, shapes)
    mask = torch.rand(q.shape[-2], k.shape[-2]) < 0.7
    lines = attention.of_product(q, k, mask, scale=2.0)
    assert_is(attention.read(lines), logits_of(q, k, mask, scale=2.0))
    whole = logits_of(q, k, mask, scale=2.0).float()
    lines = attention.of_logits(whole.transpose(0, -1), 0)
    assert_is(attention.read(lines), whole)


def test_queries_times_keys_are_never_held(monkeypatch):
    """Of 2048 x 2048 logits, no more than a block's are made at a time."""
    most = 0
    moments = attention.ops.moments

    def seen(x):
        nonlocal most
        most = max(most, x.numel())
        return moments(x)

    monkeypatch.setattr(attention.ops, "moments", seen)
    q, k = torch.randn(2, 1, 2048, 2)
    attention.of_product(q, k, is_causal=True)
    assert 0 < most <= attention.BLOCK["cpu"]


class ByHand(nn.Module):
    """softmax(q k^T) as people write it."""

    def __init__(self, product="matmul", mask="-inf", dim=-1):
        super().__init__()
        self.product, self.mask, self.dim = product, mask, dim
        self.q, self.k = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x):
        q, k, length = self.q(x), self.k(x), x.shape[-2]
        if self.product == "matmul":
            z = torch.matmul(q, k.transpose(-1, -2))
        elif self.product == "einsum":
            z = torch.einsum("bid,bjd->bij", q, k)
        else:
            z = torch.baddbmm(torch.zeros(()), q, k.mT, beta=0)
        z = z / math.sqrt(8)
        hidden = torch.ones(length, length).triu(1).bool()
        if self.mask == "-inf":
            z.masked_fill_(hidden, -math.inf)
        elif self.mask == "where":
            z = torch.where(hidden, torch.finfo(z.dtype).min, z)
        else:
            z = z + hidden * self.mask
        z = 50 * torch.tanh(z[:, None] / 50)[:, 0] if self.mask == 0 else z
        return F.softmax(z if self.dim == -1 else z.mT, dim=self.dim, dtype=torch.float32)


@pytest.mark.parametrize(
    "how",
    [
        *({}, {"product": "einsum"}, {"product": "baddbmm"}),
        *({"mask": "where"}, {"mask": -1e4}, {"mask": -1e9}, {"mask": 0}, {"dim": 1}),
    ],
    ids=str,
)
def test_attention_by_hand_is_seen_by_its_softmax(how):
    net, x = ByHand(**how), torch.randn(2, 6, 8)
    softmax = initfast.profile(net, x, measure="attention")[-1]
    q, k = (x.double() @ p.weight.double().T + p.bias.double() for p in (net.q, net.k))
    expected = logits_of(q[:, None], k[:, None], is_causal=how.get("mask") != 0)
    expected = 50 * torch.tanh(expected / 50) if how.get("mask") == 0 else expected
    assert softmax.op == "softmax"
    assert_is(softmax.attention, expected.detach())


class Classifies(nn.Module):
    """Softmaxes over classes and experts, of products with weights: none is attention."""

    def __init__(self):
        super().__init__()
        self.embedding, self.linear = nn.Embedding(5, 8), nn.Linear(8, 5)
        self.router = nn.Parameter(torch.randn(8, 5))

    def forward(self, x):
        a = (x @ self.embedding.weight.t()).softmax(-1)
        b = F.softmax(self.linear(x), -1)
        c = torch.softmax(torch.matmul(x, self.router) / 2, -1)
        return a + b + c + F.softmax(x[..., :5], -1)


def test_a_softmax_over_classes_is_no_attention():
    report = initfast.profile(Classifies(), torch.randn(2, 3, 8), measure="attention")
    assert [layer.op for layer in report].count("softmax") == 4
    assert not any(layer.attention for layer in report)


@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("trains", [False, True])
def test_multihead_attention(need_weights, batch_first, trains):
    net = nn.MultiheadAttention(8, 2, batch_first=batch_first)
    x = torch.randn(3, 5, 8)
    mask = torch.ones(*2 * (x.shape[batch_first],)).triu(1).bool()
    given = {"query": x, "key": x, "value": x, "attn_mask": mask, "need_weights": need_weights}
    report = initfast.profile(
        net, given, measure="attention", loss=(lambda y: y[0].square().mean()) if trains else None
    )
    of_net = [layer.attention for layer in report if layer.attention]
    b = x if batch_first else x.transpose(0, 1)
    q, k, _ = F.linear(b.double(), net.in_proj_weight.double(), net.in_proj_bias.double()).chunk(
        3, -1
    )
    q, k = (t.unflatten(-1, (2, 4)).transpose(1, 2).detach() for t in (q, k))
    assert len(of_net) == 1
    assert_is(of_net[0], logits_of(q, k, ~mask))
    assert report[0].attention is of_net[0] and report[0].op.startswith("MultiheadAttention")


def test_shared_and_repeated_attention_has_numbers_at_each_call():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x):
            y = self.attention(x, x, x, need_weights=False)[0]
            return self.attention(9 * y, 9 * y, y, need_weights=False)[0]

    report = initfast.profile(Twice(), torch.randn(2, 5, 8), measure="attention")
    first, second = (layer.attention for layer in report)
    assert first.rows == second.rows == 20 and first != second


def test_a_mask_that_only_says_what_it_is():
    q = torch.randn(1, 2, 4, 8)
    net = Attends(attn_mask=causal_lower_right(4, 4))
    found = [x.attention for x in initfast.profile(net, (q, q, q), measure="attention")]
    assert found and all(x is None or x.logits.count == 20 for x in found)


def test_rows_that_see_nothing_or_nothing_finite_do_not_count():
    z = torch.tensor(
        [
            [0.0, 0.0, -math.inf],  # counts: equal weights
            [-math.inf] * 3,  # masked all over
            [torch.finfo(torch.float32).min] * 3,
            [1.0, -math.inf, -math.inf],  # one key
            [math.nan, 0.0, -math.inf],
            [math.inf, 0.0, 1.0],  # overflown
        ]
    )
    found = attention.read(attention.of_logits(z))
    assert (found.rows, found.entropy) == (1, 1.0)
    assert (found.logits.count, found.logits.nonfinite, found.logits.nan) == (8, 2, 1)
    nothing = attention.read(attention.of_product(torch.zeros(2, 0, 4), torch.zeros(2, 3, 4)))
    assert nothing.rows == nothing.logits.count == 0 and math.isnan(nothing.entropy)


def test_large_logits_are_not_taken_for_masked():
    z = 3e3 * torch.randn(64, 256)
    found = attention.read(attention.of_logits(z))
    assert found.logits.count == z.numel() and found.rows == 64 and found.entropy < 0.02


def test_it_is_none_where_it_was_not_asked_for():
    q = torch.randn(1, 2, 4, 8)
    report = initfast.profile(Attends(), (q, q, q), measure="histograms")
    assert all(layer.attention is None for layer in report) and report[0].histogram is not None
    usual = initfast.profile(Attends(), (q, q, q))
    assert all(x.attention is None and x.histogram is None for x in usual)


def test_a_profiler_merges_it_and_changes_no_bit():
    net = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.1)
    batches = torch.randn(3, 2, 5, 8)

    def outputs():
        torch.manual_seed(7)
        return [net(x) for x in batches]

    plain = outputs()
    with initfast.Profiler(net, measure="attention") as p:
        measured = outputs()
    assert all(map(torch.equal, plain, measured))
    found = p.report()["self_attn"].attention
    assert found.rows == 3 * 2 * 2 * 5 and found.logits.count == 5 * found.rows
    kept = type(p.report()).from_dict(p.report().to_dict())
    assert kept["self_attn"].attention == found


def test_merging_weighs_rows():
    nothing = Attention(Moments(), 0, math.nan)
    some = Attention(Moments(4, mean=1.0), 2, 0.5)
    assert nothing.merge(some) == some.merge(nothing) == some
    assert math.isnan(nothing.merge(nothing).entropy)
