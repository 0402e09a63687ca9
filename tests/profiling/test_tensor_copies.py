"""Copies of many tensors: right for every kind of tensor, and few operations for all."""

import torch

import initfast
from initfast.profiling.tensor_copies import copies, write


def _operators(body):
    """How often each operator ran, by its name."""
    with torch.autograd.profiler.profile() as seen:
        body()
    return {e.key: e.count for e in seen.key_averages()}


def _of_every_kind():
    strided = torch.arange(12.0).reshape(3, 4).t()
    return [
        torch.randn(5),
        torch.tensor(3),
        strided,
        torch.randn(5, requires_grad=True),
        torch.eye(3).to_sparse(),
        torch.quantize_per_tensor(torch.randn(5), 0.1, 0, torch.quint8),
        torch.empty(0),
        torch.tensor(4),
        torch.randn(4, 3),
        torch.randn(5).bfloat16(),
    ]


def _values(tensors):
    dense = (t.dequantize() if t.is_quantized else t.detach() for t in tensors)
    return [t.to_dense().tolist() for t in dense]


def _clear(t):
    if t.is_quantized:
        t.copy_(torch.zeros(t.shape))
    else:
        t.data.zero_()


def test_what_is_written_back_is_what_was_copied():
    tensors = _of_every_kind()
    before, kept = _values(tensors), copies(tensors)
    for t in tensors:
        _clear(t)
    assert _values(tensors) != before
    versions = [t._version for t in tensors]
    write(list(zip(tensors, kept, strict=True)))
    assert _values(tensors) == before
    assert [t._version for t in tensors] == versions


def test_no_copy_shares_the_memory_of_its_tensor():
    tensors = _of_every_kind()
    kept = copies(tensors)
    before = _values(kept)
    for t in tensors:
        _clear(t)
    assert _values(kept) == before


def test_a_tensor_whose_memory_was_given_away_gets_it_back():
    tensors = [torch.arange(3.0), torch.arange(3.0) + 5]
    kept = copies(tensors)
    tensors[0].untyped_storage().resize_(0)
    tensors[1].resize_(7)
    write(list(zip(tensors, kept, strict=True)))
    assert [t.tolist() for t in tensors] == [[0.0, 1.0, 2.0], [5.0, 6.0, 7.0]]
    tensors[0].add_(1)
    assert kept[0].tolist() == [0.0, 1.0, 2.0]


def test_tensors_alike_take_one_operation():
    tensors = [torch.randn(8) for _ in range(50)]
    kept = copies(tensors)
    found = _operators(lambda: write(list(zip(tensors, copies(tensors), strict=True))))
    assert (found["aten::stack"], found["aten::_foreach_copy_"]) == (1, 1)
    assert not found.keys() & {"aten::clone", "aten::empty_like"}
    assert _values(tensors) == _values(kept)


def test_a_profile_takes_no_more_copies_for_more_norms():
    def copied(depth):
        net = torch.nn.Sequential(*[torch.nn.BatchNorm1d(8) for _ in range(depth)])
        found = _operators(lambda: initfast.profile(net, torch.randn(4, 8)))
        return [found.get(f"aten::{n}") for n in ("clone", "stack", "_foreach_copy_")]

    assert copied(12) == copied(6)
