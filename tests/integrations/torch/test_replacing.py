"""Another attention in place of Torch's: for the code and the thread that asked, and as long as the context lasts."""

from __future__ import annotations

import asyncio
import threading

import pytest
import torch
from torch import nn
from torch.nn import functional

from nystrom_numerics import attention
from nystrom_numerics.errors import KindError
from nystrom_numerics.integrations.torch import UnservedArgumentError, replaced_sdpa, sdpa

KERNEL = functional.scaled_dot_product_attention


class Attention(nn.Module):
    """Attention as timm's vision transformers have it."""

    def __init__(self, dim: int = 16, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x):
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        x = functional.scaled_dot_product_attention(q, k, v, dropout_p=0.0)
        return self.proj(x.transpose(1, 2).reshape(b, n, c))


def tokens(seed=0):
    return torch.randn(3, 2, 50, 8, generator=torch.Generator().manual_seed(seed)).unbind()


@pytest.fixture(autouse=True)
def nothing_is_left():
    yield
    assert functional.scaled_dot_product_attention is KERNEL


def current():
    return functional.scaled_dot_product_attention(*tokens())


def test_a_model_that_calls_torchs_attention_by_itself():
    torch.manual_seed(0)
    model, x = nn.Sequential(Attention(), Attention()).eval(), torch.randn(2, 50, 16)
    own = model(x)
    with replaced_sdpa(sdpa(m=50)):
        torch.testing.assert_close(model(x), own)
    with replaced_sdpa(sdpa(m=4)):
        out = model(x)
        out.sum().backward()
    assert (out - own).abs().max() > 1e-4
    assert all(p.grad is not None for p in model.parameters())
    assert torch.equal(model(x), own)


def test_multihead_attention_in_training():
    torch.manual_seed(0)
    layer, x = nn.MultiheadAttention(16, 4, batch_first=True), torch.randn(2, 50, 16)
    own, _ = layer(x, x, x, need_weights=False)
    with replaced_sdpa(sdpa(m=4)):
        out, _ = layer(x, x, x, need_weights=False)
    assert (out - own).abs().max() > 1e-4


def test_what_attention_itself_calls_is_torchs():
    """The estimators' own calls, and those of an attention that is made of Torch's; it would not end otherwise."""
    calls = []

    def attend(*args, **options):
        calls.append(args)
        return functional.scaled_dot_product_attention(*args, **options)

    with replaced_sdpa(attend):
        assert torch.equal(current(), KERNEL(*tokens()))
    assert len(calls) == 1
    with replaced_sdpa(sdpa(m=4)):
        assert torch.equal(current(), attention.nystrom(*tokens(), 4))


def test_contexts_nest():
    few, many = sdpa(m=4), sdpa(m=8)
    with replaced_sdpa(few):
        with replaced_sdpa(many):
            assert torch.equal(current(), many(*tokens()))
        assert torch.equal(current(), few(*tokens()))
    assert torch.equal(current(), KERNEL(*tokens()))


def test_an_exception_undoes_it():
    q, k, v = tokens()
    with pytest.raises(UnservedArgumentError), replaced_sdpa(sdpa(m=4)):
        functional.scaled_dot_product_attention(q, k, v, dropout_p=0.5)
    assert torch.equal(current(), KERNEL(q, k, v))
    with replaced_sdpa(sdpa(m=4)):
        with pytest.raises(UnservedArgumentError):
            functional.scaled_dot_product_attention(q, k, v, dropout_p=0.5)
        assert torch.equal(current(), attention.nystrom(q, k, v, 4))


def test_other_threads_keep_torchs():
    """Two threads with attentions of their own and one with none, of which each leaves before the next has looked."""
    at, found = threading.Barrier(3), {}

    def run(name, m):
        if m is None:
            at.wait()
            found[name] = current()
            at.wait()
            return
        with replaced_sdpa(sdpa(m=m)):
            at.wait()
            found[name] = current()
            at.wait()

    threads = [threading.Thread(target=run, args=a) for a in (("four", 4), ("eight", 8), ("none", None))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    q, k, v = tokens()
    assert torch.equal(found["four"], attention.nystrom(q, k, v, 4))
    assert torch.equal(found["eight"], attention.nystrom(q, k, v, 8))
    assert torch.equal(found["none"], KERNEL(q, k, v))


def test_the_first_to_come_may_be_the_first_to_leave():
    q, k, v = tokens()
    inside, left = threading.Event(), threading.Event()

    def run():
        with replaced_sdpa(sdpa(m=8)):
            inside.set()
            left.wait(10)
            kept.append(current())

    kept: list[torch.Tensor] = []
    thread = threading.Thread(target=run)
    with replaced_sdpa(sdpa(m=4)):
        thread.start()
        inside.wait(10)
    assert torch.equal(current(), KERNEL(q, k, v))
    left.set()
    thread.join()
    assert torch.equal(kept[0], attention.nystrom(q, k, v, 8))


def test_tasks_have_their_own():
    async def run(m):
        with replaced_sdpa(sdpa(m=m)):
            await asyncio.sleep(0)
            return current()

    async def both():
        return await asyncio.gather(run(4), run(8))

    q, k, v = tokens()
    for m, found in zip((4, 8), asyncio.run(both()), strict=True):
        assert torch.equal(found, attention.nystrom(q, k, v, m))


def test_what_stood_there_before_comes_back(monkeypatch):
    def other(*args, **options):
        return KERNEL(*args, **options) + 1

    monkeypatch.setattr(functional, "scaled_dot_product_attention", other)
    expected = attention.nystrom(*tokens(), 4)  # which calls it
    with replaced_sdpa(sdpa(m=4)):
        assert torch.equal(current(), expected)
    assert functional.scaled_dot_product_attention is other
    monkeypatch.undo()


def test_what_cannot_be_called():
    with pytest.raises(KindError) as caught:
        replaced_sdpa(64)
    assert caught.value.argument == "attend"
