"""What a weight is for, told by the names that transformers and their like give their modules."""

from __future__ import annotations

import re

_USES = (
    ("qkv", r"qkv|qkv_proj|c_attn|in_proj|in_proj_weight|query_key_value|w_?qkv|to_qkv"),
    ("query", r"q|q_proj|query|query_proj|w_?q|to_q|q_lin|q_proj_weight"),
    ("key", r"k|k_proj|key|key_proj|w_?k|to_k|k_lin|k_proj_weight"),
    ("value", r"v|v_proj|value|value_proj|w_?v|to_v|v_lin|v_proj_weight"),
    ("gate", r"gate_proj|wi_0|w_gate"),
    ("up", r"up_proj|w3|wi_1|w_up"),
    ("gate_up", r"gate_up_proj"),
    ("inner", r"fc1|c_fc|linear1|linear_1|dense_h_to_4h|wi|lin1|w1|fc_in|intermediate|up"),
    (
        "out",
        r"o|o_proj|out_proj|c_proj|w_?o|to_out|out_lin|fc2|linear2|linear_2|dense_4h_to_h|lin2|w2"
        r"|down_proj|fc_out|down",
    ),
)
_BY_NAME = tuple((use, re.compile(f"(?:{pattern})$", re.IGNORECASE)) for use, pattern in _USES)
_ATTENTION = re.compile(r"att(n|ention)|(^|\.)mha$", re.IGNORECASE)
_HEAD = re.compile(
    r"(lm_|pred_|score_)?heads?|classifier|fc|score|logits|output|readout|unembed", re.I
)
_POSITION = re.compile(r"pos(ition)?s?_?(emb|encod)|^wpe$|relative_|pos_emb", re.IGNORECASE)
_TOKEN = re.compile(r"(cls|dist|reg|mask|class)_?(token|embedding)s?$", re.IGNORECASE)


def use_in_block(path: str, siblings: frozenset[str] = frozenset()) -> str:
    """What a linear layer, or a weight, of a repeated block is for.

    Args:
        path: of the module within its block, or of a weight that is no module's only one.
        siblings: the names of the modules beside it.

    Returns:
        "query", "key", "value", "qkv", "gate", "up", "gate_up", "inner", "out", or "hidden" where
        the name does not tell.

    Example:
        >>> use_in_block("attn.c_attn"), use_in_block("mlp.down_proj"), use_in_block("conv1")
        ('qkv', 'out', 'hidden')
    """
    parent, _, name = re.sub(r"\.\d+$", "", path).rpartition(".")
    in_attention = bool(_ATTENTION.search(parent))
    if name in ("dense", "proj"):  # BERT's output.dense and intermediate.dense, timm's attn.proj
        if in_attention or parent.rpartition(".")[2] == "output":
            return "out"
        return "inner" if parent.endswith("intermediate") else "hidden"
    if name == "w1" and "w3" in siblings:
        return "gate"
    found = next((use for use, pattern in _BY_NAME if pattern.match(name)), "hidden")
    short = len(name) == 1 and not in_attention
    return "hidden" if short else found


def is_attention(path: str) -> bool:
    """Whether a path goes through attention."""
    return bool(_ATTENTION.search(path))


def is_head(path: str) -> bool:
    """Whether a linear layer outside all blocks is called as a net's last one is."""
    return bool(_HEAD.fullmatch(re.sub(r"\.\d+$", "", path).rpartition(".")[2]))


def use_of_table(name: str) -> str | None:
    """Whether a parameter that no known module owns, or an embedding, is of positions or tokens."""
    last = name.removesuffix(".weight").rpartition(".")[2]
    if _POSITION.search(last):
        return "position"
    return "token" if _TOKEN.search(last) else None
