"""The callbacks and loggers, with the libraries themselves.

They run where these are installed. INITFAST_REAL_NETS=1 says that they are: a missing one
then fails.
"""

import importlib
import os
import sys
import types

import pytest
import torch
from torch import nn

import initfast
from initfast.report.scalars import scalars_of


def library(name):
    if os.environ.get("INITFAST_REAL_NETS") == "1":
        return importlib.import_module(name)
    return pytest.importorskip(name)


def scalars_in(folder):
    """Everything in TensorBoard's files: values by tag, then by step."""
    events = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    found = events.EventAccumulator(str(folder), size_guidance={"scalars": 0})
    found.Reload()
    return {
        tag: {event.step: event.value for event in found.Scalars(tag)}
        for tag in found.Tags()["scalars"]
    }


def test_tensorboard(tmp_path):
    library("tensorboard")
    loggers = importlib.import_module("initfast.integrations.tensorboard")
    report = initfast.profile(nn.Sequential(nn.Linear(4, 3), nn.ReLU()), torch.randn(5, 4))
    log = loggers.TensorBoardLogger(tmp_path)
    log(report, step=3)
    log({"other/tag": 2.0}, step=4)
    found = scalars_in(tmp_path)
    assert found.pop("other/tag") == {4: 2.0}
    known = scalars_of(report.layers)
    assert found.keys() == known.keys()
    assert all(found[tag][3] == pytest.approx(value, nan_ok=True) for tag, value in known.items())


def test_lightning_with_accumulation_and_tensorboard(tmp_path):
    lightning = library("lightning.pytorch")
    library("tensorboard")
    module = importlib.import_module("initfast.integrations.lightning")

    class Net(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))

        def training_step(self, batch, index):
            return self.layers(batch).square().mean()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    data = torch.randn(24, 4)
    callback = module.InitfastCallback(every=2)
    net = Net()
    start = [p.detach().clone() for p in net.parameters()]
    logger = lightning.loggers.TensorBoardLogger(tmp_path, name="", version="")
    trainer = lightning.Trainer(
        accelerator="cpu", max_steps=3, accumulate_grad_batches=2, callbacks=[callback],
        logger=logger, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(net, torch.utils.data.DataLoader(data, batch_size=4))
    found = scalars_in(tmp_path)
    ratios = found["initfast/updates/layers.0.weight/to_weight"]
    assert list(ratios) == [1, 3]  # steps 0 and 2, counted when they are done
    assert callback.steps.report["layers.2"].shape == (8, 1)
    for parameter, value in zip(net.parameters(), start, strict=True):
        parameter.data.copy_(value)
    net.zero_grad()
    (sum(net.layers(x).square().mean() for x in data[:8].split(4)) / 2).backward()
    weight = net.layers[0].weight
    expected = 0.1 * weight.grad.square().mean().sqrt() / weight.square().mean().sqrt()
    assert ratios[1] == pytest.approx(expected.item(), rel=1e-4)


def test_transformers_events_in_the_trainers_order():
    """Through the handler by which the Trainer calls its callbacks."""
    library("transformers")
    theirs = importlib.import_module("transformers.trainer_callback")
    module = importlib.import_module("initfast.integrations.transformers")
    logged = []
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    callback = module.InitfastCallback(every=2, log=lambda *given: logged.append(given))
    call = theirs.CallbackHandler([callback], net, None, optimizer, None)
    state, control = theirs.TrainerState(), theirs.TrainerControl()
    call.on_train_begin(None, state, control)
    for batches in torch.randn(3, 2, 5, 4):
        call.on_step_begin(None, state, control)
        for x in batches:
            (net(x).square().mean() / 2).backward()
            call.on_substep_end(None, state, control)
        call.on_pre_optimizer_step(None, state, control)
        optimizer.step()
        call.on_optimizer_step(None, state, control)
        optimizer.zero_grad()
        state.global_step += 1
        call.on_step_end(None, state, control)
    call.on_train_end(None, state, control)
    assert [step for _, step in logged] == [1, 3]
    assert callback.steps.report["2"].shape == (10, 1)
    assert logged[0][0]["initfast/updates/0.weight/to_weight"] > 0


def test_transformers_with_accumulation(tmp_path):
    transformers = library("transformers")
    library("accelerate")
    module = importlib.import_module("initfast.integrations.transformers")
    config = transformers.GPT2Config(
        n_layer=1, n_head=2, n_embd=16, vocab_size=50, n_positions=8, resid_pdrop=0.0,
        embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    model = transformers.GPT2LMHeadModel(config)
    ids = torch.randint(50, (12, 8))
    logged = []
    callback = module.InitfastCallback(every=2, log=lambda *given: logged.append(given))
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path), max_steps=3, per_device_train_batch_size=2, use_cpu=True,
        gradient_accumulation_steps=2, report_to=[], save_strategy="no", disable_tqdm=True,
        learning_rate=1e-3, logging_strategy="no",
    )  # fmt: skip
    transformers.Trainer(
        model, arguments, train_dataset=[{"input_ids": x, "labels": x} for x in ids],
        callbacks=[callback],
    ).train()  # fmt: skip
    assert [step for _, step in logged] == [1, 3]
    scalars, _ = logged[0]
    assert callback.steps.report["transformer.wte"].shape[0] == 4  # two batches of 2
    # Adam's first step moves every weight by the learning rate.
    ratio = scalars["initfast/updates/transformer.h.0.mlp.c_fc.weight/to_weight"]
    std = scalars["initfast/weights/transformer.h.0.mlp.c_fc/std"]
    assert ratio == pytest.approx(1e-3 / 0.02, rel=0.1) and std > 0


@pytest.fixture
def stand_in(monkeypatch):
    """A module with what the logger uses of wandb."""
    fake = types.ModuleType("wandb")
    fake.run = None
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.delitem(sys.modules, "initfast.integrations.wandb", raising=False)
    yield fake
    sys.modules.pop("initfast.integrations.wandb", None)


def test_wandb_is_called_once_a_step(stand_in):
    loggers = importlib.import_module("initfast.integrations.wandb")
    with pytest.raises(RuntimeError, match="no run is active; call wandb"):
        loggers.WandbLogger()
    calls = []
    stand_in.run = types.SimpleNamespace(log=lambda values, step: calls.append((values, step)))
    report = initfast.profile(nn.Linear(4, 3), torch.randn(5, 4))
    loggers.WandbLogger()(report, step=7)
    assert calls == [(scalars_of(report.layers), 7)]


def test_wandb_offline(tmp_path, monkeypatch):
    wandb = library("wandb")
    loggers = importlib.import_module("initfast.integrations.wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    run = wandb.init(project="initfast", dir=str(tmp_path))
    loggers.WandbLogger()({"initfast/activations/0/std": 0.5}, step=1)
    run.finish()
    (written,) = tmp_path.rglob("*.wandb")
    assert b"initfast/activations/0/std" in written.read_bytes()
