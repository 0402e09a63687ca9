"""Which tensors count as measured."""

import torch

from initfast.recording.known_tensors import KnownTensors


def test_lent_memory_is_lent_for_as_long_as_it_is_the_same():
    measured, memory = KnownTensors(), bytearray(64)
    first = torch.frombuffer(memory, dtype=torch.float32)
    measured.keep(first, 1)
    assert measured.find(first) == 1
    measured.lend(first)
    assert measured.find(first) is None
    alias = torch.frombuffer(memory, dtype=torch.float32)
    measured.keep(alias, 2)
    assert measured.find(alias) is None
    del first  # whoever has the memory now is another
    assert measured.find(alias) == 2


def test_memory_given_away_is_not_lent_any_more():
    measured, first = KnownTensors(), torch.ones(1000)
    begin = first.data_ptr()
    measured.lend(first)
    first.untyped_storage().resize_(0)
    held = []
    while len(held) < 100 and (not held or held[-1].data_ptr() != begin):
        held.append(torch.ones(1000))
    measured.keep(held[-1], 3)
    assert measured.find(held[-1]) == 3


def test_what_lies_beyond_its_storage_is_not_read():
    for t in (torch.ones(1 << 22), torch.ones(1 << 22)[1 << 21 :], torch.ones(4, 1 << 20).T):
        t.untyped_storage().resize_(4)
        assert KnownTensors().row(t) is None
    assert KnownTensors().row(torch.ones(1).expand(3)) == 0
    assert KnownTensors().row(torch.ones(4)[4:]) == 0
