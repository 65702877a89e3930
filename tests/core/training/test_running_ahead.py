"""Training as on a GPU, where results are read only every few steps: the same weights, also after failures."""

from __future__ import annotations

import pytest
import torch
from perceptual_style.core.errors import Cancelled, TrainingError
from perceptual_style.core.training import gradients, optimizers, trainer
from perceptual_style.core.training.train_style import run_training


@pytest.fixture(autouse=True)
def ahead(monkeypatch):
    monkeypatch.setattr(trainer, "_runs_ahead", lambda device: True)
    monkeypatch.setattr(trainer, "_UNWATCHED", 3)


def failing_at(monkeypatch, *calls: int) -> None:
    """Let gradients be nan at these calls, counted from 0."""
    original, count = gradients.Gradients.__call__, iter(range(10_000))

    def call(self, batch, step):
        result = original(self, batch, step)
        if next(count) in calls:
            for parameter in self.network.parameters():
                if parameter.grad is not None:
                    parameter.grad.fill_(float("nan"))
        return result

    monkeypatch.setattr(gradients.Gradients, "__call__", call)


def test_weights_and_losses_are_those_of_watched_steps(new_run, uninterrupted, same):
    seen = []
    assert same(run_training(new_run(), seen.append), uninterrupted)
    assert [one.done for one in seen] == list(range(1, 9)) and len(seen[-1].losses) == 4


def test_interrupted_run_resumes_exactly(new_run, uninterrupted, same, stop_at):
    run = new_run()
    for step in (1, 5):
        with pytest.raises(Cancelled):
            run_training(run, stop_at(step))
    assert same(run_training(run), uninterrupted)


def test_failed_step_is_skipped_as_in_watched_steps(new_run, same, monkeypatch):
    with monkeypatch.context() as watched:
        watched.setattr(trainer, "_runs_ahead", lambda device: False)
        failing_at(watched, 4)
        from safetensors.torch import load_file

        expected = load_file(run_training(new_run("watched")))
    # Steps 3 to 5 are done, read and found to have failed; they are done again at calls 6 to 8.
    failing_at(monkeypatch, 4, 7)
    assert same(run_training(new_run("ahead")), expected)


def test_lasting_failure_is_reported(new_run, monkeypatch):
    monkeypatch.setattr(trainer, "_PATIENCE", 4)
    failing_at(monkeypatch, *range(2, 1000))
    with pytest.raises(TrainingError, match="non-finite for 4 steps"):
        run_training(new_run())


def test_matrices_are_orthogonalized_together_as_singly():
    matrices = torch.randn(4, 6, 9), torch.randn(2, 9, 5)
    for several in matrices:
        together = optimizers.orthogonalized(several)
        for one, other in zip(together, several, strict=True):
            torch.testing.assert_close(one, optimizers.orthogonalized(other))
