"""Test that Muon orthogonalizes steps, uses Adam for all but wide kernels, and resumes exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from perceptual_style.core.errors import Cancelled, InputError
from perceptual_style.core.network.transform_net import build_network
from perceptual_style.core.training.optimizers import OPTIMIZERS, Muon, build_optimizer, orthogonalized
from perceptual_style.core.training.train_style import run_training
from safetensors.torch import load_file
from torch.nn import Parameter

WIDE = {"arch": "c3s1-16,d16,R16,n2,c3s1-3 padding=reflect", "optimizer": "muon", "learning_rate": 1e-3}


@pytest.fixture
def random() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("shape", [(16, 144), (144, 16), (64, 64)], ids=str)
def test_orthogonalized_keeps_singular_vectors_and_sets_values_near_one(shape, random):
    matrix = torch.randn(shape, generator=random)
    left, values, right = np.linalg.svd(matrix.double().numpy(), full_matrices=False)
    found = left.T @ orthogonalized(matrix).double().numpy() @ right.T
    kept = values > 0.05 * values[0]  # smaller values need more rounds
    assert np.abs(found - np.diag(np.diag(found))).max() < 1e-4
    assert np.diag(found)[kept].min() > 0.65 and np.diag(found).max() < 1.25


@pytest.mark.parametrize("scale", [1e-3, 1e6])
def test_orthogonalized_does_not_depend_on_scale_and_keeps_zero(scale, random):
    matrix = torch.randn(16, 27, generator=random)
    torch.testing.assert_close(orthogonalized(scale * matrix), orthogonalized(matrix), rtol=0, atol=1e-3)
    assert not orthogonalized(torch.zeros(16, 27)).any()


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon to compare with")
def test_kernel_steps_match_torchs_muon(random):
    start = torch.randn(32, 16, 3, 3, generator=random)
    ours, theirs = Parameter(start.clone()), Parameter(start.flatten(1).clone())
    # torch scales steps by 0.2 times the root of the longer side, and computes in bfloat16.
    other = torch.optim.Muon([theirs], lr=5e-3, weight_decay=0.0, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    optimizer = Muon([ours], lr=1e-3)
    for _ in range(4):
        before = ours.detach().flatten(1).clone(), theirs.detach().clone()
        ours.grad = torch.randn(start.shape, generator=random)
        theirs.grad = ours.grad.flatten(1).clone()
        optimizer.step()
        other.step()
        step, expected = ours.detach().flatten(1) - before[0], theirs.detach() - before[1]
        assert (step - expected).norm() < 0.03 * expected.norm()


def test_other_parameters_get_adam_steps(random):
    shapes = [(16,), (3, 16, 9, 9), (16, 3, 1, 1), (16, 16)]
    start = [torch.randn(shape, generator=random) for shape in shapes]
    ours, theirs = ([Parameter(tensor.clone()) for tensor in start] for _ in range(2))
    optimizer, adam = Muon(ours, lr=1e-2), torch.optim.Adam(theirs, lr=1e-2)
    for _ in range(3):
        for mine, other in zip(ours, theirs, strict=True):
            mine.grad = torch.randn(mine.shape, generator=random)
            other.grad = mine.grad.clone()
        optimizer.step()
        adam.step()
    assert all(torch.equal(mine, other) for mine, other in zip(ours, theirs, strict=True))


def test_step_keeps_gradients_and_skips_parameters_without_one(random):
    kernel, resting = (Parameter(torch.randn(16, 16, 3, 3, generator=random)) for _ in range(2))
    kernel.grad = gradient = torch.randn(kernel.shape, generator=random)
    before = kernel.detach().clone(), resting.detach().clone()
    Muon([kernel, resting]).step()
    assert kernel.grad is gradient and not torch.equal(kernel, before[0]) and torch.equal(resting, before[1])


def test_build_optimizer_knows_every_name_and_recipes_reject_others(new_run):
    parameters = list(build_network("c3s1-16,c3s1-3").parameters())
    assert [type(build_optimizer(name, parameters, 1e-3)) for name in OPTIMIZERS] == [torch.optim.Adam, Muon]
    with pytest.raises(InputError, match="optimizer is 'sgd'; expected one of adam, muon"):
        new_run(optimizer="sgd")


@pytest.mark.slow
def test_training_with_muon_learns_and_differs_from_adam(new_run):
    seen = []
    trained = run_training(
        new_run("muon", steps=30, **WIDE), lambda progress: seen.append(sum(progress.losses.values()))
    )
    assert np.mean(seen[-5:]) < 0.8 * np.mean(seen[:5])
    adams = load_file(run_training(new_run("adam", steps=30, **WIDE | {"optimizer": "adam"})))
    assert any(not torch.equal(tensor, adams[name]) for name, tensor in load_file(trained).items())


@pytest.mark.parametrize("step", [1, 5])
def test_training_with_muon_resumes_bit_for_bit(step, new_run, stop_at, same):
    whole = load_file(run_training(new_run("whole", **WIDE)))
    run = new_run("stopped", **WIDE)
    with pytest.raises(Cancelled):
        run_training(run, stop_at(step))
    assert same(run_training(run), whole)
