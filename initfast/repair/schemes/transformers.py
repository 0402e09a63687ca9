"""Schemes for transformers, as their libraries draw them.

In the formulas d is the width of the residual stream, N the number of blocks, l a block's place
from 0; "out" is a matrix that writes into the residual stream.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from initfast.repair.roles import Role
from initfast.repair.schemes.law import Law, constant, normal, truncated, uniform
from initfast.repair.schemes.scheme import DoesNotFit, Rule, Scheme, simple, transformer

Std = Callable[[Role], float]


def width(role: Role) -> int:
    """The width of the residual stream, for a scheme that asks for it."""
    if role.net.width is None:
        raise DoesNotFit("the width of the net is not known: it has no embedding and no branches")
    return role.net.width


def two_a_block(role: Role) -> float:
    """1 / √(2 N): each block adds two branches to the stream (Radford et al. 2019)."""
    return 1 / math.sqrt(2 * max(role.blocks, 1))


def by_depth(role: Role) -> float:
    """1 / √(2 (l + 1))."""
    return 1 / math.sqrt(2 * ((role.depth or 0) + 1))


def of_width(role: Role) -> float:
    """1 / √d."""
    return 1 / math.sqrt(width(role))


def of_fan_in(role: Role) -> float:
    """1 / √fan_in."""
    return 1 / math.sqrt(max(role.fan_in, 1))


def by_place(
    *,
    table: Callable[[Role], Law],
    inner: Callable[[Role], Law],
    out: Callable[[Role], Law],
    head: Callable[[Role], Law],
    up: Callable[[Role], Law] | None = None,
) -> Rule:
    """A rule that tells embeddings, what reads the stream, what writes to it and the head apart.

    Args:
        table: of embeddings, positions and tokens; padding rows are 0 besides.
        inner: of queries, keys, values, gates, and all weights that are none of the others.
        out: of what writes into the residual stream.
        head: of the last layer. A tied one is an embedding.
        up: of the second factor of a gated feed-forward part, where it is not inner.
    """

    def rule(role: Role) -> Law | None:
        known = simple(role)
        if known is not None:
            return known
        if role.use in ("embedding", "position", "token"):
            return table(role)
        if len(role.shape) < 2 or role.kind == "other":
            return None
        if role.ends_branch:
            return out(role)
        if role.use == "head":
            return head(role)
        return up(role) if up is not None and role.use == "up" else inner(role)

    return rule


def fixed(std: float, cut: float = math.inf) -> Callable[[Role], Law]:
    """A law of one std."""
    return lambda role: _normal(std, cut, f"{std:g}")


def scaled(std: float, factor: Std, cut: float = math.inf, why: str = "") -> Callable[[Role], Law]:
    """A law of a std times a factor of the role."""
    return lambda role: _normal(std * factor(role), cut, why)


def _normal(std: float, cut: float, why: str) -> Law:
    return normal(std, why) if math.isinf(cut) else truncated(std, cut, why)


def _plain(out: Std, cut: float = math.inf) -> Rule:
    inner = fixed(0.02, cut)
    why = "0.02" if out is one else "0.02 / √(2 N)"
    return by_place(table=inner, inner=inner, out=scaled(0.02, out, cut, why), head=inner)


def one(role: Role) -> float:
    """No factor."""
    return 1.0


def _t5(role: Role) -> Law | None:
    known = simple(role)
    if known is not None:
        return known
    d = width(role)
    if "relative_attention_bias" in role.name:
        return normal(d**-0.5, "1 / √d")
    if role.kind == "embedding" or role.use == "head":
        return normal(1.0, "1")
    if role.kind != "linear":
        return None
    if role.use == "query":
        if role.head_dim is None:
            raise DoesNotFit(f"{role.name}: the size of its heads is not known")
        return normal((d * role.head_dim) ** -0.5, "1 / √(d d_kv)")
    return normal(of_fan_in(role), "1 / √fan_in")


def _megatron_mup(base: int = 256) -> Rule:
    def m(role: Role) -> float:
        return 1 / math.sqrt(width(role) / base)

    return by_place(
        table=fixed(0.02),
        inner=scaled(0.02, m, why=f"0.02 / √(d / {base})"),
        out=scaled(0.02, lambda r: m(r) * two_a_block(r), why=f"0.02 / √(2 N d / {base})"),
        head=scaled(0.02, m, why=f"0.02 / √(d / {base})"),
    )


def _small(role: Role) -> float:
    return math.sqrt(2 / (5 * width(role)))


def _wang(role: Role) -> float:
    return 2 / (max(role.blocks, 1) * math.sqrt(width(role)))


_HEAD = scaled(1.0, of_width, 3, "1 / √d")
_FAN_IN = scaled(1.0, of_fan_in, 3, "1 / √fan_in")
_OUT = scaled(0.02, two_a_block, 3, "0.02 / √(2 N)")
_OUT_BY_DEPTH = scaled(0.02, by_depth, 3, "0.02 / √(2 (l + 1))")
_UNCUT_BY_DEPTH = scaled(0.02, by_depth, why="0.02 / √(2 (l + 1))")
_SMALL = scaled(1.0, _small, why="√(2 / (5 d))")


def _nanochat(role: Role) -> Law:
    return uniform(of_width(role) * (0.4 if role.use == "inner" else 1), "1 / √d, times .4 in c_fc")


def _half_width(role: Role) -> Law:
    return uniform(0.5 * of_width(role), "1 / (2 √d)")


def scheme(name: str, source: str, rule: Rule) -> Scheme:
    """A scheme for transformers."""
    return Scheme(name, "transformers", source, rule, transformer)


SCHEMES = (
    scheme("gpt2", "transformers, gpt2 _init_weights; nanoGPT", _plain(two_a_block)),
    scheme("hf", "transformers, modeling_utils _init_weights", _plain(one)),
    scheme("t5", "transformers, t5 _init_weights (factor 1)", _t5),
    scheme("megatron", "Megatron-LM, core/utils.py", _plain(two_a_block)),
    scheme("megatron_mup", "Megatron-LM, core/utils.py (base width 256)", _megatron_mup()),
    scheme("olmo_normal", "OLMo, model.py", _plain(one)),
    scheme(
        "olmo_mitchell",
        "OLMo, model.py",
        by_place(
            table=_HEAD,
            inner=_FAN_IN,
            out=scaled(1.0, lambda r: of_fan_in(r) * by_depth(r), 3, "1 / √(2 fan_in (l + 1))"),
            head=_HEAD,
        ),
    ),
    scheme(
        "llama2",
        "OLMo, model.py full_megatron",
        by_place(table=fixed(0.02, 3), inner=fixed(0.02, 3), out=_OUT, head=_HEAD),
    ),
    scheme("olmo_core", "OLMo-core 3.0, nn/transformer/init.py normal", _plain(one, 3)),
    scheme(
        "olmo_core_llama",
        "OLMo-core 3.0, nn/transformer/init.py llama",
        by_place(table=fixed(1.0), inner=fixed(0.02, 3), out=_OUT, up=_OUT, head=_HEAD),
    ),
    scheme(
        "olmo_core_llama_depth",
        "OLMo-core 3.0, nn/transformer/init.py llama_depth",
        by_place(
            table=fixed(1.0),
            inner=fixed(0.02, 3),
            out=_OUT_BY_DEPTH,
            up=_OUT_BY_DEPTH,
            head=_HEAD,
        ),
    ),
    scheme(
        "olmo_core_normalized",
        "OLMo-core 3.0, nn/transformer/init.py normalized (nGPT)",
        by_place(
            table=scaled(1.0, of_width, why="1 / √d"),
            inner=_HEAD,
            out=scaled(1.0, lambda r: of_width(r) * two_a_block(r), 3, "1 / √(2 N d)"),
            head=_HEAD,
        ),
    ),
    scheme(
        "olmo_core_fan_in",
        "OLMo-core 3.0, nn/transformer/init.py fan_in (embed_scale 1)",
        by_place(table=fixed(1.0), inner=_FAN_IN, out=_FAN_IN, head=_HEAD),
    ),
    scheme(
        "torchtitan",
        "torchtitan, llama3, deepseek_v3 and qwen3",
        by_place(
            table=fixed(1.0),
            inner=fixed(0.02),
            out=_UNCUT_BY_DEPTH,
            up=_UNCUT_BY_DEPTH,
            head=_HEAD,
        ),
    ),
    scheme(
        "lingua",
        "lingua, transformer.py (factor √(2 (l + 1)))",
        by_place(
            table=_HEAD,
            inner=_HEAD,
            out=scaled(1.0, lambda r: of_fan_in(r) * by_depth(r), 3, "1 / √(2 fan_in (l + 1))"),
            head=_HEAD,
        ),
    ),
    scheme(
        "open_lm",
        "open_lm, model.py",
        by_place(
            table=_HEAD,
            inner=_HEAD,
            out=scaled(1.0, lambda r: of_fan_in(r) * by_depth(r), 3, "1 / √(2 fan_in (l + 1))"),
            head=_HEAD,
        ),
    ),
    scheme(
        "small_init",
        "gpt-neox, init_functions.py; Nguyen & Salazar 2019",
        by_place(table=_SMALL, inner=_SMALL, out=_SMALL, head=_SMALL),
    ),
    scheme(
        "wang",
        "gpt-neox, init_functions.py: small_init_, wang_init_ for outputs",
        by_place(table=_SMALL, inner=_SMALL, out=scaled(1.0, _wang, why="2 / (N √d)"), head=_SMALL),
    ),
    scheme(
        "llm_foundry",
        "llm-foundry, param_init_fns.py neox_init_",
        by_place(
            table=_SMALL,
            inner=_SMALL,
            out=scaled(1.0, _wang, why="√(2 / (5 d)) √10 / N"),
            head=_SMALL,
        ),
    ),
    scheme("nanotron", "nanotron, scaling/parametrization.py", _plain(two_a_block)),
    scheme(
        "nanochat",
        "nanochat, gpt.py (2026-07)",
        by_place(
            table=fixed(0.8),
            inner=_nanochat,
            out=lambda r: constant(0.0, "writes to the stream"),
            head=fixed(0.001),
        ),
    ),
    scheme(
        "modded_nanogpt",
        "modded-nanogpt, train_gpt.py",
        by_place(
            table=fixed(0.005),
            inner=_half_width,
            out=lambda r: _half_width(r) if r.in_attention else constant(0.0, "feed-forward"),
            head=fixed(0.005),
        ),
    ),
)
