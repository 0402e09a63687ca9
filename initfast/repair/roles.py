"""What a parameter of a net is for: its role, which decides what a scheme draws for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from initfast.diagnosis.advice import Act


class NetFacts(NamedTuple):
    """What a scheme asks of the net as a whole.

    width: of the residual stream, or of the embeddings; None where neither is known. branches: how
    many residual branches end in a weight. attention, convolutions, norms: whether it has such.
    tied: whether an embedding has another use. encoder, decoder: how many blocks each has, of a net
    that has both. branch_layers: how many weights a residual branch has, on average. sine: the ω of
    the last sine, where all activations are sines; else 0.
    """

    width: int | None = None
    branches: int = 0
    attention: bool = False
    convolutions: bool = False
    norms: bool = False
    tied: bool = False
    encoder: int = 0
    decoder: int = 0
    branch_layers: float = 0.0
    sine: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Role:
    """What a parameter is for.

    Attributes:
        name: its first qualified name, wrappers' parts left out.
        kind: "linear", "conv", "embedding", "norm", "recurrent" or "other": what owns it.
        part: "weight" or "bias".
        use: "query", "key", "value", "qkv", "gate", "up", "gate_up", "inner", "out", "head",
            "embedding", "position", "token", "input" (a recurrent net's), "state" (likewise),
            "norm", or "hidden".
        shape: of the parameter.
        fan_in, fan_out: how many inputs an output sums over and how many outputs, of one part of
            a packed weight, an input reaches; of a bias, its layer's. 0 where there are none.
        parts: how many weights are packed in it along the first dimension.
        inputs_first: whether it is laid out [in, out].
        transposed, groups: of a convolution.
        stride: of a transposed one, in all dimensions together: of so many of its products that
            fan_in counts, an output sums one. Else 1.
        depth, blocks: which block of its stack it is in, from 0, and how many that has; None, 0.
        attention: whether its block has attention.
        in_attention: whether it is part of that itself.
        torchs_attention: whether nn.MultiheadAttention has it for its queries, keys and values.
        head_dim: the size of an attention head; None where it is not known.
        follows: the activation after it; None where none does, or it is not known.
        sine: the ω where sin(ω z) follows, as in a SIREN; else 0.
        next: "activation", "norm", "sum", "layer" or "end": what takes its output; "" if unknown.
        ends_branch: whether its output is added to the residual stream.
        first: whether it takes the net's input.
        has_bias: whether its layer has a bias.
        padding: the row of an embedding that stands for nothing; None.
        tied: whether a later linear layer has it too, as a head has an embedding.
        offset: of a norm's weight, what it is added to as the norm runs: 0, or 1 (Gemma's).
        gates: how many gates its recurrent layer has.
        net: of the whole net.
    """

    name: str
    kind: str
    part: str = "weight"
    use: str = "hidden"
    shape: tuple[int, ...] = ()
    fan_in: int = 0
    fan_out: int = 0
    parts: int = 1
    inputs_first: bool = False
    transposed: bool = False
    groups: int = 1
    stride: int = 1
    depth: int | None = None
    blocks: int = 0
    attention: bool = False
    in_attention: bool = False
    torchs_attention: bool = False
    head_dim: int | None = None
    follows: Act | None = None
    sine: float = 0.0
    next: str = ""
    ends_branch: bool = False
    first: bool = False
    has_bias: bool = False
    padding: int | None = None
    tied: bool = False
    offset: float = 0.0
    gates: int = 1
    net: NetFacts = field(default_factory=NetFacts)
