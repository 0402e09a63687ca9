"""What a weight's dimensions are, and where a plain tensor lies in the whole that it is part of."""

import math

import pytest
import torch

from initfast import init
from initfast.init import Place
from initfast.init.axes import axes_of
from initfast.init.placement import shard_of

# ---- axes ----

SCALED = {
    "xavier_uniform_": lambda fan_in, fan_out: math.sqrt(2 / (fan_in + fan_out)),
    "xavier_normal_": lambda fan_in, fan_out: math.sqrt(2 / (fan_in + fan_out)),
    "kaiming_uniform_": lambda fan_in, _: math.sqrt(2 / fan_in),
    "kaiming_normal_": lambda fan_in, _: math.sqrt(2 / fan_in),
    "lecun_uniform_": lambda fan_in, _: math.sqrt(1 / fan_in),
    "lecun_normal_": lambda fan_in, _: math.sqrt(1 / fan_in),
    "variance_scaling_": lambda fan_in, _: math.sqrt(1 / fan_in),
}
LAYOUTS = [  # axes, shape, fan_in, fan_out
    ("out in", (60, 40), 40, 60),
    ("in out", (60, 40), 60, 40),
    ("(3 out) in", (90, 40), 40, 30),
    ("in (3 out)", (40, 90), 40, 30),
    ("(2 in) out", (90, 40), 45, 40),
    ("batch out in", (8, 30, 20), 20, 30),
    ("batch in out", (8, 30, 20), 30, 20),
    ("batch (2 out) in", (4, 60, 20), 20, 30),
    ("kernel kernel in out", (3, 3, 20, 30), 180, 270),
    ("out out in", (4, 10, 60), 60, 40),
]


@pytest.mark.parametrize("axes, shape, fan_in, fan_out", LAYOUTS)
def test_fans(axes, shape, fan_in, fan_out):
    assert init.fan_in_and_fan_out(torch.empty(shape), axes=axes) == (fan_in, fan_out)
    for name, std in SCALED.items():
        w = getattr(init, name)(torch.empty(shape), key=1, axes=axes)
        assert w.std().item() == pytest.approx(std(fan_in, fan_out), rel=5 / math.sqrt(w.numel()))


@pytest.mark.parametrize("name", [*SCALED, "orthogonal_"])
def test_torchs_own_layout_is_the_default(name):
    fill = getattr(init, name)
    for shape, axes in (((30, 20), "out in"), ((10, 6, 3, 3), "out in kernel kernel")):
        plain = fill(torch.empty(shape), key=3)
        assert torch.equal(fill(torch.empty(shape), key=3, axes=axes), plain)
    w = torch.empty(20, 10, 3, 3)
    transposed = init.fan_in_and_fan_out(w, axes="in out kernel kernel")
    assert transposed == init.fan_in_and_fan_out(w, transposed=True)


def test_every_weight_of_several_is_orthogonal_by_itself():
    experts = init.orthogonal_(torch.empty(5, 12, 8), 2.0, key=7, axes="batch out in")
    gram = experts.mT @ experts
    assert torch.allclose(gram, 4 * torch.eye(8).expand(5, 8, 8), atol=1e-5)
    assert len({round(w[0, 0].item(), 6) for w in experts}) == 5
    packed = init.orthogonal_(torch.empty(24, 8), 2.0, key=7, axes="(3 out) in")
    assert all(torch.allclose(q.T @ q, 4 * torch.eye(8), atol=1e-5) for q in packed.chunk(3))
    columns = init.orthogonal_(torch.empty(8, 24), 2.0, key=7, axes="in (3 out)")
    assert torch.equal(columns, packed.T)


def test_identities_zeros_and_centres_follow_the_layout():
    eyes = init.eye_(torch.empty(3, 4, 5), axes="batch out in")
    assert torch.equal(eyes, torch.eye(4, 5).expand(3, 4, 5))
    wide = init.identity_(torch.empty(2, 6), axes="in out")
    assert torch.equal(wide, init.identity_(torch.empty(6, 2)).T)
    keras = init.dirac_(torch.empty(3, 3, 4, 6), axes="kernel kernel in out")
    assert torch.equal(keras.permute(3, 2, 0, 1), init.dirac_(torch.empty(6, 4, 3, 3)))
    delta = init.delta_orthogonal_(torch.empty(3, 2, 6), key=1, axes="kernel in out")
    assert torch.equal(delta.permute(2, 1, 0), init.delta_orthogonal_(torch.empty(6, 2, 3), key=1))
    sparse = init.sparse_(torch.empty(4, 10, 6), 0.25, key=1, axes="batch in out")
    assert torch.equal((sparse == 0).sum(2), torch.full((4, 10), 2))


@pytest.mark.parametrize(
    "axes, shape, message",
    [
        ("out", (4, 4), "expected a word for each dimension, out and in among them"),
        ("out width", (4, 4), "axes is 'out width'"),
        ("(0 out) in", (4, 4), "expected a word for each dimension"),
        (("out", "in"), (4, 4), "expected a word for each dimension"),
        ("batch out in", (4, 4), r"3 words, and the tensor has shape \(4, 4\)"),
        ("(3 out) in", (4, 4), r"expected 3 equal parts along \(3 out\)"),
    ],
)
def test_wrong_axes(axes, shape, message):
    for fill in (init.kaiming_normal_, init.orthogonal_):
        w = torch.full(shape, 7.0)
        with pytest.raises(ValueError, match=message):
            fill(w, key=1, axes=axes)
        assert bool((w == 7).all())


def test_axes_stand_in_the_place_of_groups_and_transposed():
    with pytest.raises(ValueError, match="groups is 2 and transposed is False; expected axes"):
        init.kaiming_normal_(torch.empty(4, 4), groups=2, axes="out in")
    with pytest.raises(ValueError, match="expected one dimension 'out' for this initialiser"):
        init.orthogonal_(torch.empty(4, 4, 4), axes="out out in")


# ---- places ----

WHOLE = (10, 7)
FILLS = {
    "uniform_": lambda w, **place: init.uniform_(w, -1, 2, key=5, **place),
    "normal_": lambda w, **place: init.normal_(w, key=5, **place),
    "trunc_normal_": lambda w, **place: init.trunc_normal_(w, key=5, **place),
    "xavier_uniform_": lambda w, **place: init.xavier_uniform_(w, key=5, **place),
    "xavier_normal_": lambda w, **place: init.xavier_normal_(w, key=5, **place),
    "kaiming_uniform_": lambda w, **place: init.kaiming_uniform_(w, key=5, **place),
    "kaiming_normal_": lambda w, **place: init.kaiming_normal_(w, key=5, **place),
    "lecun_uniform_": lambda w, **place: init.lecun_uniform_(w, key=5, **place),
    "lecun_normal_": lambda w, **place: init.lecun_normal_(w, key=5, **place),
    "variance_scaling_": lambda w, **place: init.variance_scaling_(w, key=5, **place),
    "orthogonal_": lambda w, **place: init.orthogonal_(w, key=5, **place),
    "sparse_": lambda w, **place: init.sparse_(w, 0.3, key=5, **place),
    "eye_": lambda w, **place: init.eye_(w, **place),
    "identity_": lambda w, **place: init.identity_(w, **place),
}


@pytest.mark.parametrize("name", FILLS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64])
def test_parts_make_the_whole(name, dtype):
    if dtype == torch.complex64 and name == "trunc_normal_":
        dtype = torch.float64
    fill = FILLS[name]
    whole = fill(torch.empty(WHOLE, dtype=dtype))

    def part(*shape):
        return torch.empty(shape, dtype=dtype)

    for at in range(0, 10, 5):  # Megatron: by columns of the transpose, then by rows
        place = Place(WHOLE, offset=7 * at)
        assert torch.equal(fill(part(5, 7), place=place), whole[at : at + 5])
    assert torch.equal(fill(part(10, 3), place=Place(WHOLE, offset=4)), whole[:, 4:])
    for at in range(0, 70, 14):  # ZeRO and FSDP: runs of the flat tensor, across rows
        run = fill(part(14), place=Place(WHOLE, offset=at))
        assert torch.equal(run, whole.flatten()[at : at + 14])
    assert torch.equal(fill(part(9), place=Place(WHOLE, offset=3)), whole.flatten()[3:12])
    every = Place(WHOLE, offset=1, strides=(14, 2))  # every other row and column
    assert torch.equal(fill(part(5, 3), place=every), whole[::2, 1::2])
    transposed = Place(WHOLE, strides=(1, 7))
    assert torch.equal(fill(part(7, 10), place=transposed), whole.T)


@pytest.mark.parametrize("name", ["orthogonal_", "sparse_", "kaiming_normal_", "eye_"])
def test_parts_of_several_weights(name):
    fill, shape, axes = FILLS[name], (4, 6, 5), "batch out in"
    whole = fill(torch.empty(shape), axes=axes)
    assert torch.equal(fill(torch.empty(2, 6, 5), axes=axes, place=Place(shape, 60)), whole[2:])
    cut = Place(shape, 30 + 3)
    assert torch.equal(fill(torch.empty(3, 6, 2), axes=axes, place=cut), whole[1:, :, 3:])
    run = fill(torch.empty(50), axes=axes, place=Place(shape, 37))
    assert torch.equal(run, whole.flatten()[37:87])
    packed = fill(torch.empty(12, 5), axes="(3 out) in")
    rows = fill(torch.empty(5, 5), axes="(3 out) in", place=Place((12, 5), 15))  # of two parts
    assert torch.equal(rows, packed[3:8])


def test_convolutions_are_cut_too():
    shape = (6, 4, 3, 3)
    for fill in (init.dirac_, lambda w, **o: init.delta_orthogonal_(w, key=2, **o)):
        whole = fill(torch.empty(shape))
        part = fill(torch.empty(3, 4, 3, 3), place=Place(shape, 3 * 36))
        assert torch.equal(part, whole[3:])


def test_a_part_takes_one_key_as_the_whole_does():
    """So that ranks which are seeded alike stay in step, though one of them has nothing."""
    made = []
    for elements in (70, 5, 0):
        torch.manual_seed(3)
        init.normal_(torch.empty(elements), place=Place(WHOLE))
        made.append(init.normal_(torch.empty(4)))
    assert torch.equal(made[0], made[1]) and torch.equal(made[0], made[2])


def test_places_under_a_compiler_and_a_transform():
    place = Place(WHOLE, offset=11)
    for fill in (init.kaiming_normal_, init.orthogonal_):
        plain = fill(torch.empty(9), key=1, place=place)
        seen = torch.func.functionalize(lambda w: fill(w, key=1, place=place))(torch.empty(9))  # noqa: B023
        assert torch.equal(seen, plain)
    experts = init.orthogonal_(torch.empty(2, 4, 3), key=1, axes="batch out in")
    seen = torch.func.functionalize(lambda w: init.orthogonal_(w, key=1, axes="batch out in"))
    assert torch.equal(seen(torch.empty(2, 4, 3)), experts)


@pytest.mark.parametrize(
    "shape, place, message",
    [
        (
            (5, 7),
            Place(WHOLE, 42),
            "last element would be number 76; expected numbers from 0 to 69",
        ),
        ((5, 7), Place(WHOLE, -1), "expected numbers from 0"),
        ((5, 5), Place(WHOLE, 4), "expected a block that lies within the rows"),
        ((2, 2, 2), Place(WHOLE), "expected strides, one for each dimension"),
        ((5, 7), Place(WHOLE, 0, (1,)), "expected a positive stride for each dimension"),
        ((5, 7), Place(WHOLE, 0, (0, 1)), "expected a positive stride for each dimension"),
    ],
)
def test_wrong_places(shape, place, message):
    for fill in (init.normal_, init.orthogonal_):
        w = torch.full(shape, 7.0)
        with pytest.raises(ValueError, match=message):
            fill(w, key=1, place=place)
        assert bool((w == 7).all())


def test_axes_and_shards_by_themselves():
    assert axes_of("batch out in") is axes_of("batch out in")
    shard = shard_of(torch.empty(5, 7), Place(WHOLE, 35))
    assert shard.start == (5, 0) and shard.steps is None and shard.strides == (7, 1)
