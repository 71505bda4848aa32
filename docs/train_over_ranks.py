"""Train an encoder whose tokens lie on several processes.

    torchrun --nproc-per-node 2 docs/train_over_ranks.py

Every token is to be labelled with the mark that the first eighth of its sequence carries, which only the first rank
has: nothing is learnt of the others' tokens unless attention carries it from rank to rank, forward and backward.  On
GPUs a process a device and ``nccl``; else ``gloo``.
"""

from __future__ import annotations

import argparse
from datetime import timedelta

import torch
import torch.distributed as dist

from nystrom_numerics.nn import NystromAttention, PreNormEncoder

DIM, MARKS = 32, 4


def shard(tokens: int, rank: int, ranks: int) -> slice:
    """This rank's tokens: as many as the others have, up to one."""
    return slice(tokens * rank // ranks, tokens * (rank + 1) // ranks)


def batch(
    tokens: int, own: slice, device: torch.device, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """This rank's part of 16 sequences, and their marks; the same draws on every rank."""
    marks = torch.randint(MARKS, (16,), generator=generator)
    states = 0.1 * torch.randn(16, tokens, DIM, generator=generator)
    states[:, : tokens // 8, :MARKS] += 3.0 * torch.nn.functional.one_hot(marks, MARKS)[:, None]
    return states[:, own].to(device), marks.to(device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--tokens", type=int, default=1024)
    options = parser.parse_args()

    backend = "nccl" if torch.cuda.is_available() else "gloo"
    # a rank that dies ends the others by then
    dist.init_process_group(backend, timeout=timedelta(seconds=60))
    rank, ranks = dist.get_rank(), dist.get_world_size()
    device = torch.device("cpu")
    if backend == "nccl":
        device = torch.device("cuda", rank % torch.cuda.device_count())
        torch.cuda.set_device(device)

    torch.manual_seed(0)  # the same weights on every rank
    attentions = [NystromAttention(DIM, heads=4, landmarks=16, conv_kernel=3, group=dist.group.WORLD)]
    encoder = PreNormEncoder(attentions, dim=DIM, feed_forward=64).to(device)
    head = torch.nn.Linear(DIM, MARKS).to(device)
    weights = [*encoder.parameters(), *head.parameters()]
    optimiser = torch.optim.Adam(weights, lr=1e-2)
    generator, own = torch.Generator().manual_seed(1), shard(options.tokens, rank, ranks)

    for step in range(options.steps):
        states, marks = batch(options.tokens, own, device, generator)
        scores = head(encoder(states))
        wanted = marks[:, None].expand(scores.shape[:-1])
        # this rank's share of the mean over all tokens: the shares of all ranks add up to the loss
        loss = torch.nn.functional.cross_entropy(scores.flatten(0, 1), wanted.flatten(), reduction="sum")
        loss = loss / (16 * options.tokens)
        optimiser.zero_grad()
        loss.backward()
        total = loss.detach().clone()
        dist.all_reduce(total)
        for weight in weights:  # shares too
            dist.all_reduce(weight.grad)
        optimiser.step()
        if rank == 0 and step in (0, options.steps - 1):
            print(f"step {step}: loss {total.item():.4f}", flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
