"""One rank of the PyTorch side of the training comparison (bench/training.py starts it).

A GPT-2 style model (pre-norm, learned positions, tanh gelu, untied head) in plain eager PyTorch, trained
in fp32 with AdamW, clipping and cross entropy, in the way that PyTorch's documentation recommends for
each kind of parallelism:

  single    one process
  ddp       DistributedDataParallel
  fsdp      FSDP2: fully_shard on each block, then on the model
  tp        parallelize_module: column-wise and row-wise linears, loss_parallel off
  pp        torch.distributed.pipelining: one stage a rank, Schedule1F1B

Prints one JSON object on rank 0: {"step_time_s": [...], "tokens_per_step": n, "loss": last}.
"""

import argparse
import json
import os
import time

import torch
import torch.distributed as dist
import torch.nn as nn
import torch.nn.functional as F


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.head_size = width // heads
        self.q = nn.Linear(width, width)
        self.k = nn.Linear(width, width)
        self.v = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, x):
        batch, sequence, _ = x.shape
        # -1: under tensor parallelism a rank holds its share of the heads.
        q, k, v = (
            f(x).view(batch, sequence, -1, self.head_size).transpose(1, 2)
            for f in (self.q, self.k, self.v)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(y.transpose(1, 2).reshape(batch, sequence, -1))


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


class Model(nn.Module):
    """Layers first..last of a model; the embedding with the first, the head with the last."""

    def __init__(self, args, first=0, last=None, is_first=True, is_last=True):
        super().__init__()
        last = args.layers if last is None else last
        self.tokens = nn.Embedding(args.vocabulary, args.width) if is_first else None
        self.positions = nn.Embedding(args.sequence, args.width) if is_first else None
        self.blocks = nn.ModuleList(Block(args.width, args.heads) for _ in range(first, last))
        self.norm = nn.LayerNorm(args.width) if is_last else None
        self.head = nn.Linear(args.width, args.vocabulary, bias=False) if is_last else None

    def forward(self, x):
        if self.tokens is not None:
            x = self.tokens(x) + self.positions(torch.arange(x.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)) if self.head is not None else x


def loss_function(logits, targets):
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def parallel_model(model, mode, world):
    if mode == "ddp":
        return nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=True)
    if mode == "fsdp":
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh("cpu", (world,))
        for block in model.blocks:
            fully_shard(block, mesh=mesh)
        fully_shard(model, mesh=mesh)
        return model
    if mode == "tp":
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.tensor.parallel import (
            ColwiseParallel,
            RowwiseParallel,
            parallelize_module,
        )

        mesh = init_device_mesh("cpu", (world,))
        for block in model.blocks:
            parallelize_module(
                block,
                mesh,
                {
                    "attention.q": ColwiseParallel(),
                    "attention.k": ColwiseParallel(),
                    "attention.v": ColwiseParallel(),
                    "attention.out": RowwiseParallel(),
                    "up": ColwiseParallel(),
                    "down": RowwiseParallel(),
                },
            )
        return model
    return model


def clip_gradients(model, limit):
    """clip_grad_norm_ for models that mix sharded (DTensor) and plain parameters."""
    from torch.distributed.tensor import DTensor

    groups = {True: [], False: []}
    for parameter in model.parameters():
        if parameter.grad is not None:
            groups[isinstance(parameter.grad, DTensor)].append(parameter)
    norms = []
    for parameters in groups.values():
        if parameters:
            norm = torch.nn.utils.get_total_norm([p.grad for p in parameters])
            norms.append(norm.full_tensor() if isinstance(norm, DTensor) else norm)
    total = torch.linalg.vector_norm(torch.stack(norms))
    for parameters in groups.values():
        if parameters:
            torch.nn.utils.clip_grads_with_norm_(parameters, limit, total)


def pipeline_step(args, rank, world):
    from torch.distributed.pipelining import PipelineStage, Schedule1F1B

    first = args.layers * rank // world
    last = args.layers * (rank + 1) // world
    model = Model(args, first, last, rank == 0, rank == world - 1)
    micro = args.batch // args.microbatches
    if rank == 0:
        example = torch.zeros(micro, args.sequence, dtype=torch.long)
    else:
        example = torch.zeros(micro, args.sequence, args.width)
    stage = PipelineStage(model, rank, world, torch.device("cpu"), input_args=example)
    schedule = Schedule1F1B(stage, args.microbatches, loss_fn=loss_function)
    losses = []

    def run(tokens, targets):
        if rank == 0:
            schedule.step(tokens)
        elif rank == world - 1:
            losses.clear()
            schedule.step(target=targets, losses=losses)
        else:
            schedule.step()
        return torch.stack(losses).mean().item() if losses else 0.0

    return model, run


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mode", choices=["single", "ddp", "fsdp", "tp", "pp"], required=True)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--vocabulary", type=int, default=256)
    parser.add_argument("--sequence", type=int, default=256)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--microbatches", type=int, default=4)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args()

    torch.set_num_threads(1)
    torch.manual_seed(1)
    rank = int(os.environ.get("RANK", "0"))
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if args.mode != "single":
        dist.init_process_group("gloo")

    if args.mode == "pp":
        model, pipeline = pipeline_step(args, rank, world)
    else:
        model = parallel_model(Model(args), args.mode, world)
        if args.compile:
            model = torch.compile(model)
    # The fused optimizer takes no list that mixes sharded and plain parameters.
    from torch.distributed.tensor import DTensor

    groups = [
        [p for p in model.parameters() if isinstance(p, DTensor) is sharded]
        for sharded in (True, False)
    ]
    optimizer = torch.optim.AdamW(
        [{"params": group} for group in groups if group], lr=3e-4, weight_decay=0.1, fused=True
    )

    splits_batch = args.mode in ("ddp", "fsdp")
    own_batch = args.batch // world if splits_batch else args.batch
    generator = torch.Generator().manual_seed(1 + (rank if splits_batch else 0))
    times = []
    loss = 0.0
    for step in range(args.warmup + args.steps):
        data = torch.randint(
            args.vocabulary, (own_batch, args.sequence + 1), generator=generator
        )
        tokens, targets = data[:, :-1].contiguous(), data[:, 1:].contiguous()
        if world > 1:
            dist.barrier()
        begin = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        if args.mode == "pp":
            loss = pipeline(tokens, targets)
        else:
            value = loss_function(model(tokens), targets)
            value.backward()
            loss = value.item()
        if args.mode == "tp":
            clip_gradients(model, 1.0)
        else:
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if world > 1:
            dist.barrier()
        if step >= args.warmup:
            times.append(time.perf_counter() - begin)
    if rank == 0:
        print(
            json.dumps(
                {"step_time_s": times, "tokens_per_step": args.batch * args.sequence, "loss": loss}
            ),
            flush=True,
        )
    if args.mode != "single":
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
