"""Find the weights in the content of a training script's file, inside wrappers, prefixes and averages."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lcve_deploy.errors import CheckpointError
from lcve_deploy.model.assumptions import Assumption, Fact

__all__ = ["SavedWeights", "find_weights"]

_WRAPPERS: Final = ("model", "module", "state_dict", "model_state_dict", "model_state", "net", "network", "")
_AVERAGES: Final = ("model_ema", "ema", "ema_state_dict", "state_dict_ema", "ema_model")
_PREFIXES: Final = frozenset({"module", "model", "backbone", "encoder", "net", "network"})
_INFIXES: Final = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_fpw_module", "_checkpoint_wrapped_module"})
_AVERAGED: Final = re.compile(
    r"(?i:(?:^|[._-])(?:ema\d?|swa|avg|averaged?|shadow)(?:$|[._-]))|[a-z](?:Ema|EMA)(?![a-z])"
)
_COUNTERS: Final = frozenset({"n_averaged", "num_updates", "initted", "step", "decay"})
_FLATTENED: Final = re.compile(r"(?:^|\.)_?flat_param")
_EMBEDDING: Final = "patch_embed.proj.weight"
_MAX_DEPTH: Final = 3


@dataclass(frozen=True, kw_only=True)
class SavedWeights:
    """Named tensors of one model.

    Args:
        tensors: tensors by their names in the model, without wrappers and prefixes.
        place: names of the wrappers around them, from the outermost, joined by dots.
        assumptions: assumptions, if the file has several sets of weights or only an average.
    """

    tensors: Mapping[str, Any]
    place: str = ""
    assumptions: tuple[Assumption, ...] = ()


def find_weights(content: Any, path: Path, chosen: str | None = None) -> SavedWeights:
    """Find the weights in the content of a file.

    Args:
        content: content that ``torch.save`` wrote.
        path: path of the file, for errors.
        chosen: name of the wrapper to take the weights from; by default, trained weights are preferred to an average.

    Raises:
        CheckpointError: the file has no named weights, several sets of them without a clear choice, or no wrapper of
            this name; or its weights are empty or flattened.
    """
    if not isinstance(content, dict):
        raise CheckpointError(f"expected named weights in {path}, received {type(content).__name__}")
    found = dict(_models(content, ""))
    if chosen is not None:
        if chosen not in found:
            raise CheckpointError(f"there are no weights {chosen!r} in {path}", hint=f"it has {_listed(found)}")
        return SavedWeights(tensors=_in_model(_require_values(found[chosen])), place=chosen)
    if not found:  # another architecture, which the caller rejects with the reason
        return SavedWeights(tensors=_in_model(_any_weights(content, path)))
    taken = _preferred(found, path)
    tensors = _in_model(_require_values(found[taken]))
    return SavedWeights(tensors=tensors, place=taken, assumptions=_assumed(found, taken))


def _any_weights(content: dict[Any, Any], path: Path) -> dict[Any, Any]:
    """Named tensors of a layout that is not known.

    Raises:
        CheckpointError: there are none.
    """
    inner = (dict.get(content, name) for name in (*_WRAPPERS, *_AVERAGES))
    weights = next((entry for entry in inner if isinstance(entry, dict)), content)
    if weights and not any(hasattr(value, "numel") for value in dict.values(weights)):
        raise CheckpointError(
            f"there are no weights in {path}; it has {', '.join(str(name)[:40] for name in list(weights)[:8])}",
            hint="pass the file with the model's weights; with DeepSpeed: mp_rank_00_model_states.pt",
        )
    return weights


def _require_values(weights: dict[str, Any]) -> dict[str, Any]:
    """Reject weights whose values are in other files, and return the others unchanged."""
    empty = [name for name, tensor in weights.items() if tuple(getattr(tensor, "shape", ())) == (0,)]
    if any(name.endswith(_EMBEDDING) for name in empty):
        raise CheckpointError(
            f"{len(empty)} of {len(weights)} weights are empty (seen: {empty[0][:80]}), because DeepSpeed's ZeRO "
            "stage 3 saves their values in the other files of the checkpoint",
            hint="merge them with DeepSpeed's zero_to_fp32.py, and pass the file that it writes",
        )
    return weights


def _models(content: dict[Any, Any], place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every model in a file, with the names of the wrappers around it, joined by dots."""
    named = {str(name): value for name, value in dict.items(content)}  # a pickled dict can override "items"
    prefixes = [name.removesuffix(_EMBEDDING) for name in named if name.endswith(_EMBEDDING)]
    for prefix in prefixes:
        longer = tuple(other for other in prefixes if len(other) > len(prefix))
        own = {n.removeprefix(prefix): v for n, v in named.items() if n.startswith(prefix) and not n.startswith(longer)}
        single = len(prefixes) == 1
        yield place if single else _joined(place, prefix.rstrip(".")), named if single else own
    if place.count(".") < _MAX_DEPTH - 1:
        for name, value in named.items():
            if isinstance(value, dict):
                yield from _models(value, _joined(place, name))


def _joined(place: str, name: str) -> str:
    return f"{place}.{name}" if place and name else place or name


def _preferred(found: Mapping[str, Mapping[str, Any]], path: Path) -> str:
    """Return the name of the trained weights, or of their average if there are none."""
    trained = [name for name, weights in found.items() if not _is_average(name, weights)]
    for group, order in ((trained, _WRAPPERS), ([name for name in found if name not in trained], _AVERAGES)):
        if len(group) == 1:
            return group[0]
        if known := [name for name in order if name in group]:
            return known[0]
        if group:
            break
    raise CheckpointError(f"{path} has several sets of weights: {_listed(found)}", hint="choose one: --weights NAME")


def _assumed(found: Mapping[str, Mapping[str, Any]], taken: str) -> tuple[Assumption, ...]:
    """Return an assumption about the choice of weights; empty if there was a single set that is not an average."""
    others = {name: weights for name, weights in found.items() if name != taken}
    average = _is_average(taken, found[taken])
    if not others and not average:
        return ()
    value = f"{_shown(taken)}{', a moving average (EMA) of the trained ones' * average}"
    value += f"; the file also has {_listed(others)}" if others else ""
    return (Assumption(fact=Fact.WEIGHTS, value=value, option="--weights", arguments={"--weights": taken}),)


def _is_average(name: str, weights: Mapping[str, Any]) -> bool:
    places = [name, *(own for own in weights if own.endswith(_EMBEDDING))]
    return any(map(_AVERAGED.search, places)) or "n_averaged" in weights


def _listed(found: Mapping[str, Any]) -> str:
    return ", ".join(map(_shown, found)) or "none"


def _shown(name: str) -> str:
    return repr(name[:80]) if name else "those at the top level of the file"


def _in_model(weights: dict[Any, Any]) -> dict[str, Any]:
    """Return weights by their names in the model, without prefixes and counters.

    Raises:
        CheckpointError: two weights have the same name without prefixes, or weights are flattened into one tensor.
    """
    tensors: dict[str, Any] = {}
    for name, tensor in dict.items(weights):  # a pickled dict can override "items"
        if _FLATTENED.search(str(name)):
            raise CheckpointError(
                f"the weights are in the flattened form of FSDP (seen: {str(name)[:80]}), without their names",
                hint="save them with FullStateDictConfig, or with torch.distributed.checkpoint, as a full state dict",
            )
        parts = [part for part in str(name).split(".") if part not in _INFIXES]
        while len(parts) > 1 and parts[0] in _PREFIXES:
            parts = parts[1:]
        short = ".".join(parts)
        if short in _COUNTERS and _is_number(tensor):
            continue
        if short in tensors:
            raise CheckpointError(f"the checkpoint has two weights named {short} after prefixes are removed")
        tensors[short] = tensor
    return _strip_unknown_prefix(tensors)


def _strip_unknown_prefix(tensors: dict[str, Any]) -> dict[str, Any]:
    """Remove a prefix that no table lists, such as ``vit.``; names without the prefix are unchanged."""
    prefixes = [name.removesuffix(_EMBEDDING) for name in tensors if name.endswith(f".{_EMBEDDING}")]
    if len(prefixes) != 1 or _EMBEDDING in tensors:
        return tensors
    inner = {name.removeprefix(prefixes[0]): tensor for name, tensor in tensors.items()}
    if len(inner) < len(tensors):
        raise CheckpointError(
            f"the checkpoint has two weights of the same name after the prefix {prefixes[0][:80]} is removed"
        )
    return inner


def _is_number(value: Any) -> bool:
    """Tell whether a value is a single number, plain or as a tensor."""
    count = getattr(value, "numel", None)
    return count() == 1 if callable(count) else isinstance(value, int | float)
