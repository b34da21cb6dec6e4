"""Muon and AdamW in one optimiser."""

from __future__ import annotations

import copy

import torch
from core_toys import small_unet
from torch import nn

from training.muon import MuonAdamW, orthogonalised


def test_singular_values_become_one():
    for shape in ((8, 20), (20, 8), (16, 16)):
        matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        left, _, right = torch.linalg.svd(matrix, full_matrices=False)
        found = orthogonalised(matrix)
        assert torch.linalg.svdvals(found).sub(1).abs().max() < 0.35
        overlap = (found * (left @ right)).sum() / (found.norm() * (left @ right).norm())
        assert overlap > 0.95  # the iteration scatters them, on purpose


def test_what_is_no_matrix_learns_as_by_adamw():
    torch.manual_seed(0)
    norms = nn.ModuleList([nn.LayerNorm(6), nn.GroupNorm(2, 6)])
    expected = copy.deepcopy(norms)
    ours = MuonAdamW(norms, lr=1e-2, betas=(0.9, 0.99), weight_decay=0.1)
    theirs = torch.optim.AdamW(expected.parameters(), lr=1e-2, betas=(0.9, 0.99), weight_decay=0.1)
    for _ in range(5):
        for p, q in zip(norms.parameters(), expected.parameters(), strict=True):
            p.grad = torch.randn_like(p)
            q.grad = p.grad.clone()
        ours.step()
        theirs.step()
    for p, q in zip(norms.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(p, q)


def test_every_weight_of_the_network_learns_and_a_state_goes_on():
    network, other = small_unet(), small_unet()
    before = copy.deepcopy(network.state_dict())

    def trained(network, optimizer, steps):
        for step in steps:
            generator = torch.Generator().manual_seed(step)
            for parameter in network.parameters():
                parameter.grad = torch.randn(parameter.shape, generator=generator)
            optimizer.step()

    def made(network):
        return MuonAdamW(network, lr=1e-2, betas=(0.9, 0.99), weight_decay=0.01)

    optimizer = made(network)
    trained(network, optimizer, range(2))
    other.load_state_dict(network.state_dict())
    resumed = made(other)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    trained(network, optimizer, range(2, 4))
    trained(other, resumed, range(2, 4))
    for name, value in network.state_dict().items():
        assert not torch.equal(value, before[name])
        torch.testing.assert_close(value, other.state_dict()[name])
