"""Run by `test_distributed.py` as one of two processes, with RANK PORT KIND."""

import json
import os
import sys
import warnings

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Replicate, distribute_tensor
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

import etastar
from etastar.errors import EtastarError
from etastar.models import build

EXAMPLE = torch.zeros(1, 12, dtype=torch.long)
BATCH = 8


def convolutions(depth, width):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.head = nn.Conv1d(1, width, 3, padding=1), nn.Linear(width, 5)
            self.blocks = nn.ModuleList(nn.Conv1d(width, width, 3, padding=1) for _ in range(depth))

        def forward(self, x):
            x = self.stem(x.unsqueeze(1).to(self.head.weight.dtype) / 30)
            for block in self.blocks:
                x = x + block(x.relu())
            return self.head(x.mean(-1))

    return Net()


def gpt(depth, width):
    return build("gpt", depth=depth, width=width, vocabulary=31, context=12)


MAKES = {"gpt": gpt, "convolutions": convolutions}


def loss_of(output, targets):
    if output.ndim == 2:
        return F.cross_entropy(output, targets[:, 0] % output.shape[1])
    return F.cross_entropy(output.flatten(0, 1), targets.flatten())


def data(step):
    generator = torch.Generator().manual_seed(step)
    tokens = torch.randint(31, (BATCH, 13), generator=generator)
    return tokens[:, :-1], tokens[:, 1:]


def sharded(model):
    for block in model.blocks:
        fully_shard(block, mesh=init_device_mesh("cpu", (2,)))
    return fully_shard(model, mesh=init_device_mesh("cpu", (2,)))


def parallelized(model):
    """Columns and rows of each block's two linear layers, or the rows of the head."""
    mesh, blocks = init_device_mesh("cpu", (2,)), model.blocks
    if not hasattr(blocks[0], "mlp"):
        parallelize_module(model.head, mesh, RowwiseParallel(input_layouts=Replicate()))
        return model
    for block in blocks:
        ways = {"mlp.fc": ColwiseParallel(), "mlp.proj": RowwiseParallel()}
        parallelize_module(block, mesh, ways)
    return model


SHARD = {"fsdp2": sharded, "tp": parallelized}


def materialized(make, shard, whole):
    """Sharded on the meta device, then given memory, then initialized."""
    with torch.device("meta"):
        model = shard(make().double())
    model.to_empty(device="cpu")
    with torch.no_grad():
        for own, drawn in zip(model.parameters(), whole.parameters(), strict=True):
            mesh = getattr(own, "device_mesh", None)
            own.copy_(drawn if mesh is None else distribute_tensor(drawn, mesh, own.placements))
    return model


def planned(name, shard=None):
    """The plan from the meta device, the model rescaled on the CPU, whole or in parts."""
    make = MAKES[name]
    with torch.device("meta"):
        base, target = make(2, 16), make(3, 32)
        example = torch.zeros(1, 12, dtype=torch.long)
    tuned = etastar.Tuned((base, example), lr=3e-3, weight_decay=0.1)
    plan = etastar.plan_transfer(tuned, (target, example), optimizer="adamw", law="constant")
    torch.manual_seed(0)
    model = make(3, 32).double()
    if shard is not None:
        model = materialized(lambda: make(3, 32), shard, model)
    plan.rescale_(model)
    return plan, model


def train(plan, wrapped, rank, size):
    optimizer = torch.optim.AdamW(plan.param_groups(wrapped))
    schedule = etastar.warmup_cosine(optimizer, 10, warmup_steps=2)
    etastar.check_schedule(schedule)
    losses = []
    for _ in range(10):
        own = [part.chunk(size)[rank] for part in data(0)]
        optimizer.zero_grad()  # before the forward pass, which unshards
        loss = loss_of(wrapped(own[0]), own[1])
        loss.backward()
        optimizer.step()
        schedule.step()
        mean = loss.detach().clone()
        if size > 1:
            dist.all_reduce(mean)
        losses.append(mean.item() / size)
    return losses


def measured(name, wrap):
    """One model's own figures, and a check over widths, on the whole batch in every process."""
    torch.manual_seed(0)
    report = etastar.measure_update(wrap(MAKES[name](2, 16)), data(0), loss_of, optimizer="adamw")
    sizes = [{"depth": 2, "width": width} for width in (16, 32)]
    check = etastar.coordinate_check(
        lambda **size: wrap(MAKES[name](**size)),
        sizes,
        data(0),
        loss_of,
        optimizer="adamw",
        lr=1e-3,
    )
    return [report.as_dict(), check.as_dict()]


def refused(name, shard):
    """What is said where parts of tensors are all that there is to measure."""
    said, optimizer = [], {"optimizer": "adamw"}
    for call in (
        lambda make: etastar.measure_update(make(), data(0), loss_of, **optimizer),
        lambda make: etastar.coordinate_check(
            make, [{"depth": 2}, {"depth": 3}], data(0), loss_of, lr=1e-3, **optimizer
        ),
        lambda make: etastar.check_stability(make(), data(0), loss_of),
    ):
        try:
            call(lambda depth=2: shard(MAKES[name](depth, 16)))
        except EtastarError as error:
            said.append(str(error))
    return said


def run(kind, rank, size):
    found = {}
    for name in MAKES:
        if kind in SHARD:
            own = (0, 1) if kind == "tp" else (rank, size)  # there each sees the whole batch
            plan, model = planned(name, SHARD[kind])
            found[name] = {"losses": train(plan, model, *own)}
            plan, model = planned(name)
            found[name]["rescaled whole"] = train(plan, SHARD[kind](model), *own)
            found[name]["refused"] = refused(name, SHARD[kind])
        else:
            plan, model = planned(name)
            wrap = DistributedDataParallel if kind == "ddp" else lambda net: net
            found[name] = {"losses": train(plan, wrap(model), rank, size)}
            found[name]["measured"] = measured(name, wrap)
    return found


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    rank, port, kind = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    dist.init_process_group("gloo", rank=rank, world_size=2)
    found = run(kind, rank, 2)
    dist.barrier()
    if rank == 0:
        sys.stdout.write(json.dumps(found))
        sys.stdout.flush()
    os._exit(0)  # gloo's threads may outlive its group: then an ordinary exit aborts, now and then
