"""The strongest exact variant computes what the plain model does, and attacks on variants solve planted cases."""

from __future__ import annotations

import json

import numpy as np
import torch

from benchmarks.common.files import EXAMPLE
from benchmarks.variants.__main__ import FIGURES
from benchmarks.variants.basis import rebased, run_blocks, secret_basis
from benchmarks.variants.controls import BOUNDS, controls_hold, run_controls
from benchmarks.variants.page import BEGIN, END, PAGE, SUBJECTS, render
from benchmarks.variants.subjects import DIGITS, digits
from examples.moving_digits.data import ACTIONS
from examples.moving_digits.model import SmallVideoMAE
from examples.moving_digits.train import normalise


def test_tokens_in_a_secret_basis_and_fresh_orders_give_the_logits_of_the_model() -> None:
    subject, rng = digits(), np.random.default_rng(5)
    state = torch.load(EXAMPLE / "moving_digits.pth", weights_only=True)["model"]
    model = SmallVideoMAE(classes=len(ACTIONS))
    model.load_state_dict(state)
    with torch.no_grad():
        plain_logits = model(normalise(DIGITS.from_cubes(subject.clips[:3], np))).numpy()
    basis = secret_basis(subject.positions.shape[1], rng)
    tokens = subject.tokens(subject.clips[:3]) @ basis
    sent = np.stack([rng.permutation(clip) for clip in tokens])
    pooled = run_blocks([rebased(block, basis, rng) for block in subject.blocks], sent) @ basis.T
    scale, shift, head, bias = (
        state[name].double().numpy() for name in ("fc_norm.weight", "fc_norm.bias", "head.weight", "head.bias")
    )
    logits = (pooled * scale + shift) @ head.T + bias
    np.testing.assert_allclose(logits, plain_logits, atol=2e-5)
    assert not np.allclose(sent, tokens)


def test_attacks_on_variants_solve_planted_cases_and_are_at_chance_otherwise() -> None:
    scores = run_controls(np.random.default_rng(11))
    assert controls_hold(scores), scores


def test_a_control_that_fails_is_seen() -> None:
    good = {name: (bound.planted, bound.chance) for name, bound in BOUNDS.items()}
    assert controls_hold(good)
    assert not controls_hold({**good, "sort tokens": (0.9, 0.0)})
    assert not controls_hold({**good, "sort tokens": (1.0, 0.2)})
    assert not controls_hold({})


def test_the_page_shows_the_recorded_figures() -> None:
    figures = json.loads(FIGURES.read_text())
    assert set(SUBJECTS) <= set(figures)
    made = PAGE.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0]
    assert made.strip() == render(figures).strip()
