"""The weights within what a training script saved, without a file: wrappers, prefixes, averages and counters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lcve_deploy.errors import CheckpointError
from lcve_deploy.exporters.checkpoints.wrappers import find_weights

PLACE = Path("model.pth")
EMBEDDING = "patch_embed.proj.weight"
ONE = torch.ones(2)


def weights(front: str = "", *, value: float = 1.0) -> dict[str, Any]:
    return {f"{front}{EMBEDDING}": torch.full((2,), value), f"{front}head.weight": torch.full((3,), value)}


def shown(content: Any, chosen: str | None = None) -> str:
    """What is assumed of a file; empty if nothing is."""
    return "; ".join(assumption.value for assumption in find_weights(content, PLACE, chosen).assumptions)


def refusal(content: Any, chosen: str | None = None) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        find_weights(content, PLACE, chosen)
    return caught.value


@pytest.mark.parametrize("wrapper", ["", "model", "module", "state_dict", "model_state", "net", "a.b", "a.b.c"])
@pytest.mark.parametrize(
    "front", ["", "module.", "module.model.", "backbone.", "_orig_mod.", "module._orig_mod.", "vit."]
)
def test_wrappers_and_prefixes_are_taken_off(wrapper: str, front: str) -> None:
    content: dict[str, Any] = weights(front)
    for name in reversed(wrapper.split(".") if wrapper else []):
        content = {name: content, "epoch": 7}
    found = find_weights(content, PLACE)
    assert list(found.tensors) == [EMBEDDING, "head.weight"]
    assert found.place == wrapper
    assert found.assumptions == ()


def test_weights_within_four_wrappers_are_too_deep() -> None:
    assert "there are no weights" in str(refusal({"a": {"b": {"c": {"d": weights()}}}}))


def test_an_infix_is_taken_off_anywhere() -> None:
    content = {"blocks.0._checkpoint_wrapped_module.mlp.weight": ONE, EMBEDDING: ONE}
    assert list(find_weights(content, PLACE).tensors) == ["blocks.0.mlp.weight", EMBEDDING]


def test_a_name_that_is_only_a_prefix_stays() -> None:
    assert "model" in find_weights(weights() | {"module.model": ONE}, PLACE).tensors


@pytest.mark.parametrize("value", [torch.tensor(7), torch.tensor([7]), 7, 0.5])
@pytest.mark.parametrize("name", ["n_averaged", "num_updates", "decay", "module.step"])
def test_counters_are_no_weights(name: str, value: Any) -> None:
    assert list(find_weights(weights() | {name: value}, PLACE).tensors) == [EMBEDDING, "head.weight"]


@pytest.mark.parametrize("value", [torch.ones(2), torch.ones(0), "text"])
def test_a_counter_is_one_number(value: Any) -> None:
    assert "step" in find_weights(weights() | {"step": value}, PLACE).tensors


@pytest.mark.parametrize(
    ("content", "taken", "value"),
    [
        ({"model": weights(value=1), "model_ema": weights(value=2)}, 1, "'model'; the file also has 'model_ema'"),
        ({"model_ema": weights(value=2), "module": weights(value=1)}, 1, "'module'; the file also has 'model_ema'"),
        ({"module": weights(value=2), "model": weights(value=1)}, 1, "'model'; the file also has 'module'"),
        ({"other": weights(value=2), "net": weights(value=1), "more": weights(value=3)}, 1, "'net'; the file also has"),
        ({"model_ema": weights()}, 1, "'model_ema', a moving average (EMA) of the trained ones"),
        (
            {"ema": weights(value=2), "model_ema": weights(value=1)},
            1,
            "'model_ema', a moving average (EMA) of the trai",
        ),
        ({"modelEma": weights()}, 1, "'modelEma', a moving average (EMA) of the trained ones"),
        ({"swa": weights()}, 1, "'swa', a moving average (EMA)"),
        ({"model": weights() | {"n_averaged": 5}}, 1, "'model', a moving average (EMA)"),
        (weights() | {"n_averaged": 5}, 1, "those at the top level of the file, a moving average (EMA)"),
        (
            weights(value=1) | {"old": weights(value=2)},
            1,
            "those at the top level of the file; the file also has 'old'",
        ),
        (weights("ema_model."), 1, "those at the top level of the file, a moving average (EMA)"),
        (weights("net.", value=1) | weights("net_ema.", value=2), 1, "'net'; the file also has 'net_ema'"),
    ],
)
def test_what_is_taken_is_said_if_there_is_a_choice(content: dict[str, Any], taken: float, value: str) -> None:
    assert find_weights(content, PLACE).tensors["head.weight"][0] == taken
    assert shown(content).startswith(value)


@pytest.mark.parametrize("name", ["model", "schema", "emanuel", "swallow", "pavg"])
def test_other_names_are_no_averages(name: str) -> None:
    assert shown({name: weights()}) == ""


def test_several_sets_that_nothing_tells_apart() -> None:
    error = refusal({"a": weights(), "b": weights()})
    assert str(error) == "model.pth has several sets of weights: 'a', 'b'"
    assert "--weights NAME" in error.hint
    assert "several sets of weights" in str(refusal({"a_ema": weights(), "b_ema": weights()}))
    assert "several sets of weights" in str(refusal({"a": weights(), "b": weights(), "model_ema": weights()}))


def test_the_owner_chooses() -> None:
    content = {"a": weights(value=1), "b": weights(value=2), "model_ema": weights(value=3)}
    for name, value in (("a", 1), ("b", 2), ("model_ema", 3)):
        found = find_weights(content, PLACE, name)
        assert found.tensors["head.weight"][0] == value
        assert (found.place, found.assumptions) == (name, ())
    error = refusal(content, "c")
    assert str(error) == "there are no weights 'c' in model.pth"
    assert error.hint == "it has 'a', 'b', 'model_ema'"
    assert refusal({}, "c").hint == "it has none"


def test_long_names_are_shown_in_part() -> None:
    assert f"{'a' * 80!r}, " in str(refusal({"a" * 300: weights(), "b": weights()}))
    assert f"it has {'a' * 40}" in str(refusal({"a" * 300: 1}))
    assert str(refusal({"x" * 300 + ".flat_param": ONE})).startswith(
        f"the weights are in the flattened form of FSDP (seen: {'x' * 80})"
    )
    front = "x" * 300 + "."
    clash = weights(front) | {"head.weight": ONE}
    assert f"the prefix {'x' * 80} is removed" in str(refusal(clash))


def test_a_file_without_weights_says_what_it_has() -> None:
    error = refusal({f"entry{i}": i for i in range(12)})
    assert str(error) == f"there are no weights in model.pth; it has {', '.join(f'entry{i}' for i in range(8))}"
    assert "expected named weights in model.pth, received list" in str(refusal([]))


@pytest.mark.parametrize("content", [{}, {"model": {}}, {"model": {"other": ONE}}, {"other": ONE}, {"ema": {"x": ONE}}])
def test_other_layouts_are_for_the_caller(content: dict[str, Any]) -> None:
    inner = content.get("model", content.get("ema", content))
    assert find_weights(content, PLACE).tensors == inner


@pytest.mark.parametrize(
    "name", ["flat_param", "_flat_param", "module.flat_param_0", "_fsdp_wrapped_module._flat_param"]
)
def test_flattened_weights_are_refused(name: str) -> None:
    assert f"(seen: {name})" in str(refusal(weights() | {name: ONE}))


def test_a_name_with_those_letters_is_a_weight() -> None:
    assert "inflat_param" in find_weights(weights() | {"inflat_param": ONE}, PLACE).tensors


def test_weights_that_are_elsewhere_are_refused() -> None:
    empty = {name: torch.ones(0) for name in weights()}
    assert str(refusal(empty)).startswith(f"2 of 2 weights are empty (seen: {EMBEDDING}), because DeepSpeed")
    assert f"1 of 2 weights are empty (seen: {EMBEDDING})" in str(refusal(weights() | {EMBEDDING: torch.ones(0)}))
    assert "x" in find_weights(weights() | {"x": torch.ones(0)}, PLACE).tensors
    assert "DeepSpeed" in str(refusal({"model": empty}, "model"))
    find_weights({EMBEDDING: torch.ones(0, 3)}, PLACE)


@pytest.mark.parametrize("front", ["module.", "_orig_mod.", "model.backbone."])
def test_two_weights_of_one_name_are_refused(front: str) -> None:
    assert "two weights named head.weight after prefixes" in str(refusal(weights() | {f"{front}head.weight": ONE}))


def test_what_has_no_prefix_keeps_its_name() -> None:
    assert set(find_weights(weights("vit.") | {"fc.weight": ONE}, PLACE).tensors) == {
        EMBEDDING,
        "head.weight",
        "fc.weight",
    }


def test_a_counter_may_come_before_the_weights() -> None:
    assert list(find_weights({"step": 7} | weights(), PLACE).tensors) == [EMBEDDING, "head.weight"]


@pytest.mark.parametrize(("inner", "outer"), [("ema.", ""), ("net.ema.", "net.")])
def test_two_models_in_one_dictionary_keep_their_own_weights(inner: str, outer: str) -> None:
    content = weights(outer, value=1) | weights(inner, value=2) | {f"{outer}more": ONE, "rest": ONE}
    for front, value in ((outer, 1), (inner, 2)):
        tensors = find_weights(content, PLACE, front.rstrip(".")).tensors
        more = {"more", "rest"} if not outer else {"more"}
        assert set(tensors) == {EMBEDDING, "head.weight"} | (more if front == outer else set())
        assert tensors["head.weight"][0] == value


def test_a_long_name_of_an_empty_weight_is_shown_in_part() -> None:
    assert f"(seen: {'x' * 80}), because DeepSpeed" in str(refusal({f"{'x' * 300}.{EMBEDDING}": torch.ones(0)}))
