"""Modules over ranks are those of one process: outputs, derivatives of states and weights; the example trains."""

from __future__ import annotations

import subprocess
import sys
from itertools import accumulate
from pathlib import Path

import pytest
import torch

from nystrom_numerics import nn
from nystrom_numerics.errors import ArgumentError, RangeError
from tests.distributed.workers import group, started

SHARDS = (9, 0, 14)
B, DIM = 2, 8


@pytest.fixture(scope="module")
def workers():
    with started(3, (3,)) as made:
        yield made


def tokens(masked: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
    rng = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 20, (B, sum(SHARDS)), generator=rng)
    mask = torch.rand(B, sum(SHARDS), generator=rng) < 0.7
    mask[0, : SHARDS[0]] = False  # the first real token of this item is on the last rank
    return ids, mask if masked else None


def built(kind: str, options: dict[str, object], of_group: object = None) -> torch.nn.Module:
    torch.manual_seed(1)
    if kind == "pre-norm":
        layers = [nn.NystromAttention(DIM, heads=2, group=of_group, **options) for _ in range(2)]
        return nn.PreNormEncoder(layers, dim=DIM, feed_forward=12).double()
    config = nn.NystromformerConfig(
        vocabulary=20, dim=DIM, depth=2, heads=2, feed_forward=12, dropout=0.0, group=of_group, **options
    )
    made = (
        nn.NystromformerForClassification(config, 3)
        if kind == "classes"
        else nn.NystromformerForMaskedLM(config)
    )
    return made.double()


def run(kind: str, options: dict[str, object], masked: bool, rank: int | None) -> dict[str, torch.Tensor]:
    """In one process, or this rank's part."""
    model = built(kind, options, None if rank is None else group(3))
    ids, mask = tokens(masked)
    states = torch.randn(B, sum(SHARDS), DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    weights = torch.randn(B, sum(SHARDS), 20, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    if rank is not None:
        start, stop = (list(accumulate(SHARDS, initial=0))[i] for i in (rank, rank + 1))
        ids, states, weights = ids[:, start:stop], states[:, start:stop], weights[:, start:stop]
        mask = None if mask is None else mask[:, start:stop]
    states.requires_grad_()
    out = model(states if kind == "pre-norm" else ids, mask=mask)
    if kind == "classes":
        loss = (out * torch.arange(6.0).reshape(2, 3)).sum() / (1 if rank is None else 3)  # each rank has it
    else:
        if mask is not None:
            out = torch.where(mask[..., None], out, 0.0)
        loss = (out * weights[..., : out.shape[-1]]).sum()
    loss.backward()
    found = {"out": out.detach()} | {name: p.grad for name, p in model.named_parameters()}
    return found | ({"states": states.grad} if kind == "pre-norm" else {})


def run_on_rank(rank: int, **arguments: object) -> dict[str, object]:
    return {name: x if x is None else x.numpy() for name, x in run(rank=rank, **arguments).items()}


OPTIONS = {
    "nystrom": {"landmarks": 4, "conv_kernel": 5},
    "near": {"landmarks": 4, "near": 4, "conv_kernel": 33},
    "exact": {"exact": True, "conv_kernel": None},
    "short": {"landmarks": 40, "conv_kernel": 3},
}


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("kind", ["pre-norm", "classes", "masked LM"])
def test_a_model_over_ranks(workers, kind, options, masked):
    given = {"kind": kind, "options": OPTIONS[options], "masked": masked}
    whole = run(rank=None, **given)
    parts = workers(run_on_rank, 3, **given)
    for name, expected in whole.items():
        shares = [torch.as_tensor(part[name]) for part in parts if part[name] is not None]
        if expected is None:
            assert not shares
        elif name == "out" and kind == "classes":
            assert all(torch.equal(shares[0], x) for x in shares)
            torch.testing.assert_close(shares[0], expected, rtol=1e-9, atol=1e-10)
        elif name in ("out", "states"):
            torch.testing.assert_close(torch.cat(shares, dim=1), expected, rtol=1e-9, atol=1e-10)
        else:
            size = expected.abs().max()
            assert (sum(shares) - expected).abs().max() <= 1e-10 * max(1.0, float(size)), name


def too_long(rank: int) -> None:
    config = nn.NystromformerConfig(vocabulary=20, dim=8, depth=1, heads=2, max_positions=20, group=group(3))
    model = nn.Nystromformer(config)
    model(tokens(False)[0][:, :9])


def test_what_is_refused(workers):
    for error in workers.errors(too_long, 3):
        assert isinstance(error, ArgumentError)
        assert error.argument == "ids"
        assert "27 tokens on all ranks" in str(error)
    for error in workers.errors(another_rule, 3):
        assert isinstance(error, RangeError)
        assert error.argument == "group"


def another_rule(rank: int) -> None:
    from nystrom_numerics import landmarks

    nn.NystromAttention(8, rule=landmarks.kmeans, group=group(3))


def test_the_example_trains():
    """With torchrun, on two processes."""
    root = Path(__file__).parents[2]
    found = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
            *(str(root / "docs" / "train_over_ranks.py"), "--steps", "30", "--tokens", "256"),
        ],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert found.returncode == 0, found.stderr[-2000:]
    first, last = (float(line.split()[-1]) for line in found.stdout.splitlines() if line.startswith("step"))
    assert last < first / 2, found.stdout
