"""profile() of nets of every kind, written in plain torch."""

import pytest
import torch
import torch.nn.functional as F
from cases.any_net import faithful
from cases.profiles import batch
from torch import nn
from torch.utils.checkpoint import checkpoint

from initfast.profiling.profile import profile

# ---- nets ----


class UNet(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.down1 = self.block(3, width)
        self.down2 = self.block(width, 2 * width)
        self.middle = self.block(2 * width, 4 * width)
        self.up2 = nn.ConvTranspose2d(4 * width, 2 * width, 2, 2)
        self.join2 = self.block(4 * width, 2 * width)
        self.up1 = nn.Upsample(scale_factor=2)
        self.join1 = self.block(3 * width, width)
        self.head = nn.Conv2d(width, 2, 1)

    @staticmethod
    def block(n_in, n_out):
        return nn.Sequential(
            nn.Conv2d(n_in, n_out, 3, padding=1),
            nn.GroupNorm(4, n_out),
            nn.SiLU(inplace=True),
            nn.Conv2d(n_out, n_out, 3, padding=1),
            nn.LeakyReLU(0.1),
        )

    def forward(self, x):
        one = self.down1(x)
        two = self.down2(F.max_pool2d(one, 2))
        low = self.middle(F.max_pool2d(two, 2))
        two = self.join2(torch.cat([self.up2(low), two], 1))
        return self.head(self.join1(torch.cat([self.up1(two), one], 1)))


class MixerBlock(nn.Module):
    def __init__(self, patches, width):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.tokens = nn.Sequential(nn.Linear(patches, 12), nn.GELU(), nn.Linear(12, patches))
        self.channels = nn.Sequential(nn.Linear(width, 20), nn.GELU(), nn.Linear(20, width))

    def forward(self, x):
        x = x + self.tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.channels(self.norm2(x))


class Mixer(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 10, 4, 4)
        self.blocks = nn.Sequential(MixerBlock(16, 10), MixerBlock(16, 10))
        self.norm = nn.LayerNorm(10)
        self.head = nn.Linear(10, 4)

    def forward(self, x):
        x = self.stem(x).flatten(2).transpose(1, 2)
        return self.head(self.norm(self.blocks(x)).mean(1))


class Tagger(nn.Module):
    """Embedding, two-layer bidirectional LSTM and GRU, a linear layer."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(20, 6)
        self.lstm = nn.LSTM(6, 5, num_layers=2, batch_first=True, bidirectional=True, dropout=0.3)
        self.gru = nn.GRU(10, 7, batch_first=True)
        self.head = nn.Linear(7, 3)

    def forward(self, tokens):
        y, (h, c) = self.lstm(self.embedding(tokens))
        return self.head(self.gru(y)[0]), h, c


class CellLoop(nn.Module):
    """A recurrent cell that is one module, called once for each step."""

    def __init__(self):
        super().__init__()
        self.cell = nn.LSTMCell(4, 6)
        self.norm = nn.LayerNorm(6)

    def forward(self, x):
        h = c = x.new_zeros(x.shape[1], 6)
        for step in x:
            h, c = self.cell(step, (self.norm(h), c))
        return h


class EarlyExit(nn.Module):
    """Data decide how often a shared block runs, and which branch is taken."""

    def __init__(self):
        super().__init__()
        self.block = nn.Sequential(nn.Linear(6, 6), nn.Tanh())
        self.small, self.large = nn.Linear(6, 2), nn.Linear(6, 2)

    def forward(self, x):
        for _ in range(10):
            x = self.block(x)
            if x.std() < 0.2:
                break
        return self.small(x) if x.mean() < 5 else self.large(x)


class Checkpointed(nn.Module):
    def __init__(self, reentrant):
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Dropout(0.5)) for _ in range(3)
        )
        self.reentrant = reentrant

    def forward(self, x):
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=self.reentrant)
        return x


class Autocast(nn.Module):
    def __init__(self, dtype):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(96, 5)
        )
        self.dtype = dtype

    def forward(self, x):
        with torch.autocast("cpu", dtype=self.dtype):
            return F.softmax(torch.tanh(self.net(x)), -1)


class Attending(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.bilinear = nn.Bilinear(8, 8, 3)

    def forward(self, x, memory):
        y, weights = self.attention(x, memory, value=memory)
        return {"y": self.bilinear(y, x), "weights": weights}


class WideResNet(nn.Module):
    """Norm and activation before the convolution, activations in place, residual sums in place."""

    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.conv1 = nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, x):
        y = self.conv1(F.relu(self.norm1(x), inplace=True))
        y = self.conv2(F.relu_(self.norm2(y)))
        y += x
        return self.pool(F.relu(y, inplace=True))


IMAGES, TOKENS = batch(2, 3, 16, 16), torch.arange(12).reshape(2, 6)

NETS = {
    "U-Net": (UNet, IMAGES),
    "MLP-Mixer": (Mixer, IMAGES),
    "LSTM": (Tagger, TOKENS),
    "LSTM cell": (CellLoop, batch(3, 2, 4)),
    "data-dependent": (EarlyExit, 3 * batch(5, 6)),
    "checkpointing": (lambda: Checkpointed(False), batch(4, 6)),
    "reentrant checkpointing": (lambda: Checkpointed(True), batch(4, 6)),
    "bfloat16 autocast": (lambda: Autocast(torch.bfloat16), batch(4, 3, 6, 6)),
    "attention": (Attending, (batch(2, 3, 8), batch(2, 5, 8))),
    "pre-activation": (WideResNet, batch(2, 4, 5, 5)),
    "transformer": (
        lambda: nn.Transformer(8, 2, 2, 2, 16, batch_first=True),
        (batch(2, 3, 8), batch(2, 4, 8)),
    ),
    "gelu transformer": (
        lambda: nn.TransformerEncoder(
            nn.TransformerEncoderLayer(8, 2, 16, activation="gelu", norm_first=True), 2
        ),
        batch(3, 2, 8),
    ),
    "channels last": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).to(memory_format=torch.channels_last),
        IMAGES.contiguous(memory_format=torch.channels_last),
    ),
    "dense": (
        lambda: nn.Sequential(
            *(nn.Conv1d(3, 6, 3, groups=3), nn.InstanceNorm1d(6), nn.ReLU(), nn.MaxPool1d(2)),
            *(nn.ConvTranspose1d(6, 4, 3), nn.PReLU(), nn.Dropout1d(0.5), nn.GLU(1), nn.Softmax(2)),
        ),
        batch(2, 3, 12),
    ),
}


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("name", NETS)
@pytest.mark.filterwarnings("ignore:.*enable_nested_tensor.*", "ignore:.*requires_grad=True.*")
def test_every_call_of_every_module(name, training):
    make, x = NETS[name]
    torch.manual_seed(0)
    net = make().train(training)
    tolerance = 2e-2 if "autocast" in name else 1e-4
    faithful(net, x, tolerance)


def test_a_compiled_net_is_profiled_eagerly_and_the_report_says_so():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.LayerNorm(6))
    x = batch(3, 6)
    assert profile(net, x).notes == []
    plain = profile(net, x)
    wrapped = torch.compile(net, backend="eager")
    wrapped(x)  # hooks that are added after this are not seen by what was compiled
    report = profile(wrapped, x)
    assert [(layer.op, layer.post) for layer in report] == [(p.op, p.post) for p in plain]
    assert "compiled" in report.notes[0] and report.notes[0].split(";")[0] in str(report)
    net.compile(backend="eager")
    report = profile(nn.Sequential(net, nn.Linear(6, 2)), x)
    assert [layer.op for layer in report] == ["linear + tanh", "LayerNorm", "linear"]
    assert len(report.notes) == 1
    assert torch.allclose(wrapped(x), plain_forward(net, x))


def plain_forward(net, x):
    with torch.compiler.set_stance("force_eager"):
        return net(x)


def test_distributed_data_parallel(tmp_path):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    try:
        net = nn.Sequential(nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4), nn.ReLU(), nn.Flatten())
        net.append(nn.Linear(24, 3))
        x = batch(5, 2, 8)
        ours = profile(nn.parallel.DistributedDataParallel(net), x)
        plain = profile(net, x)
        assert [(one.op, one.post) for one in ours] == [(one.op, one.post) for one in plain]
        assert (ours.root, plain.root) == ("net.module", "net")
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize("length", [1, 16])
def test_a_recurrent_subclass_with_a_parameter_of_its_own(kind, length):
    class Scaled(kind):
        def __init__(self):
            super().__init__(4, 4)
            self.gain = nn.Parameter(torch.ones(length))

    assert profile(Scaled(), torch.randn(5, 2, 4))[0].post.count == 5 * 2 * 4
