"""Shards: the ranks of a mesh make the tensor that one process would have made."""

import itertools
import math

import pytest
import torch
from ranks import launch, shards
from torch.distributed.tensor import Partial, Replicate, Shard

from initfast.init.placement import locate, shard_of

# ---- arithmetic ----


class Strided(Shard):
    """What FSDP2 places a dimension with that later mesh dimensions have cut before."""

    def __init__(self, dim, split_factor):
        super().__init__(dim)
        object.__setattr__(self, "split_factor", split_factor)


def by_chunks(shape, mesh, placements, order):
    """Start and size by torch.chunk itself, cutting in the order given."""
    result = {}
    for coordinate in itertools.product(*(range(n) for n in mesh)):
        index = torch.arange(math.prod(shape)).view(shape)
        for i in order:
            if placements[i].is_shard():
                pieces = index.chunk(mesh[i], placements[i].dim)
                empty = index.narrow(placements[i].dim, 0, 0)
                index = pieces[coordinate[i]] if coordinate[i] < len(pieces) else empty
        result[coordinate] = index
    return result


CUTS = [
    ((10, 4), (4,), (Shard(0),), (0,)),
    ((10, 7), (3,), (Shard(1),), (0,)),
    ((2, 5), (4,), (Shard(0),), (0,)),
    ((6, 6), (2, 2), (Replicate(), Shard(1)), (0, 1)),
    ((7, 9), (2, 3), (Shard(1), Shard(0)), (0, 1)),
    ((11, 3), (2, 3), (Shard(0), Shard(0)), (0, 1)),
    ((11, 3), (2, 3), (Strided(0, 3), Shard(0)), (1, 0)),
    ((13, 5), (2, 2, 2), (Shard(1), Strided(0, 2), Shard(0)), (0, 2, 1)),
    ((32, 5), (2, 2, 2), (Strided(0, 4), Shard(0), Shard(0)), (1, 2, 0)),
    ((32, 5), (2, 2, 2), (Strided(0, 2), Replicate(), Shard(0)), (2, 0, 1)),
]


@pytest.mark.parametrize("shape, mesh, placements, order", CUTS)
def test_locate_cuts_as_chunk_does(shape, mesh, placements, order):
    whole = torch.arange(math.prod(shape)).view(shape)
    for coordinate, expected in by_chunks(shape, mesh, placements, order).items():
        start, size = locate(shape, mesh, coordinate, placements)
        assert size == tuple(expected.shape)
        window = tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))
        assert torch.equal(whole[window], expected)


def test_locate_refuses_partial_sums():
    with pytest.raises(ValueError, match="expected Shard or Replicate"):
        locate((4, 4), (2,), (0,), (Partial(),))


def test_a_plain_tensor_is_whole():
    w = torch.empty(3, 4, 5)
    shard = shard_of(w)
    assert shard.local is w and shard.offset == 0 and shard.strides == (20, 5, 1)


# ---- real processes ----


@pytest.mark.parametrize("number", [1, 2, 4])
def test_ranks_make_the_whole(number, tmp_path):
    launch.run(shards.checks(number), number, tmp_path)
