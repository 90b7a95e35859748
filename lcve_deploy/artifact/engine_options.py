"""Options that an engine or a provider may have: by name, with the values that each may take.

Everything else is refused. Providers of ONNX Runtime also have options that load a library, that read or write a
file, or that take an address in memory, such as ``trt_extra_plugin_lib_paths``. None of these is here, and none that
changes the precision, which only the graph decides; ``use_tf32`` has to be asked for.

Source: documentation of ONNX Runtime's execution providers; format of scheme ``lcve-1``, section "engine.json".
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

__all__ = ["BUDGET", "DEVICE", "PROVIDER", "TF32", "allows_tf32", "option_problems", "provider_option_problems"]

BUDGET: Final = "budget"
PROVIDER: Final = "provider"
"""Our own entries in the options of an engine."""

DEVICE: Final = "device_id"
"""Number of the GPU, in the options of ONNX Runtime's providers."""

TF32: Final = "use_tf32"
"""Whether a GPU may round the inputs of float32 products to 10 bits; only ONNX Runtime's CUDA provider has it."""

MAX_DEVICE: Final = 1023
_MAX_BYTES: Final = 2**48
_MAX_SHOWN: Final = 80
_MAX_TEXT: Final = 512
_NAME: Final = re.compile(rf"[A-Za-z0-9_]{{1,{_MAX_SHOWN}}}")


@dataclass(frozen=True, kw_only=True)
class _Rule:
    """Values that an option may have: what is said of them, and the check."""

    expected: str
    allows: Callable[[str], bool]


def _number(minimum: int, maximum: int) -> _Rule:
    def allows(text: str) -> bool:
        return re.fullmatch(r"-?[0-9]{1,18}", text, re.ASCII) is not None and minimum <= int(text) <= maximum

    return _Rule(expected=f"a whole number from {minimum} to {maximum}", allows=allows)


def _one_of(*values: str) -> _Rule:
    return _Rule(expected=f"one of {', '.join(values)}", allows=values.__contains__)


def _text(pattern: str, example: str) -> _Rule:
    def allows(text: str) -> bool:
        return len(text) <= _MAX_TEXT and re.fullmatch(pattern, text, re.ASCII) is not None

    return _Rule(expected=f"text such as {example}", allows=allows)


def _is_budget(text: str) -> bool:
    try:
        return len(text) <= _MAX_TEXT and 0 < float(text) < math.inf
    except ValueError:
        return False


_ON: Final = ("1", "true", "True")
_FLAG: Final = _one_of("0", "1", "true", "false", "True", "False")
_TRUE: Final = _one_of("true")
_ORDINAL: Final = _number(0, MAX_DEVICE)
_BYTES: Final = _number(1, _MAX_BYTES)
_COUNT: Final = _number(1, 2**31 - 1)
_SHAPES: Final = _text(r"[A-Za-z0-9_.]+:[0-9]+(x[0-9]+)*(,[A-Za-z0-9_.]+:[0-9]+(x[0-9]+)*)*", "clips:1x128x3072")
_OP_TYPES: Final = _text(r"[A-Za-z0-9_]+(,[A-Za-z0-9_]+)*", "MaxPool,Resize")

_PROVIDERS: Final[Mapping[str, Mapping[str, _Rule]]] = MappingProxyType(
    {
        "cpu": {"use_arena": _FLAG},
        "cuda": {
            DEVICE: _ORDINAL,
            "gpu_mem_limit": _BYTES,
            "arena_extend_strategy": _one_of("kNextPowerOfTwo", "kSameAsRequested"),
            "cudnn_conv_algo_search": _one_of("EXHAUSTIVE", "HEURISTIC", "DEFAULT"),
            "cudnn_conv_use_max_workspace": _FLAG,
            "cudnn_conv1d_pad_to_nc1d": _FLAG,
            "do_copy_in_default_stream": _FLAG,
            "enable_cuda_graph": _FLAG,
            "enable_skip_layer_norm_strict_mode": _FLAG,
            "fuse_conv_bias": _FLAG,
            "prefer_nhwc": _FLAG,
            "sdpa_kernel": _number(0, 1023),
            "tunable_op_enable": _FLAG,
            "tunable_op_max_tuning_duration_ms": _number(0, 2**31 - 1),
            "tunable_op_tuning_enable": _FLAG,
            "use_ep_level_unified_stream": _FLAG,
            TF32: _FLAG,
        },
        "tensorrt": {
            DEVICE: _ORDINAL,
            "trt_auxiliary_streams": _number(-1, 64),
            "trt_build_heuristics_enable": _FLAG,
            "trt_builder_optimization_level": _number(0, 5),
            "trt_context_memory_sharing_enable": _FLAG,
            "trt_cuda_graph_enable": _FLAG,
            "trt_detailed_build_log": _FLAG,
            "trt_engine_hw_compatible": _FLAG,
            "trt_force_sequential_engine_build": _FLAG,
            "trt_layer_norm_fp32_fallback": _FLAG,
            "trt_max_partition_iterations": _COUNT,
            "trt_max_workspace_size": _BYTES,
            "trt_min_subgraph_size": _COUNT,
            "trt_op_types_to_exclude": _OP_TYPES,
            "trt_profile_max_shapes": _SHAPES,
            "trt_profile_min_shapes": _SHAPES,
            "trt_profile_opt_shapes": _SHAPES,
            "trt_sparsity_enable": _FLAG,
            "trt_tactic_sources": _text(r"[+-][A-Z_]+(,[+-][A-Z_]+)*", "-CUDNN,+CUBLAS"),
            TF32: _FLAG,
        },
        "tensorrt-rtx": {
            DEVICE: _ORDINAL,
            "enable_cuda_graph": _FLAG,
            "nv_cuda_graph_enable": _FLAG,
            "nv_detailed_build_log": _FLAG,
            "nv_max_shared_mem_size": _BYTES,
            "nv_max_workspace_size": _BYTES,
            "nv_multi_profile_enable": _FLAG,
            "nv_op_types_to_exclude": _OP_TYPES,
            "nv_profile_max_shapes": _SHAPES,
            "nv_profile_min_shapes": _SHAPES,
            "nv_profile_opt_shapes": _SHAPES,
            TF32: _FLAG,
        },
    }
)
"""Options of ONNX Runtime's execution providers, by our short names of these."""

_OWN: Final[Mapping[str, _Rule]] = MappingProxyType(
    {BUDGET: _Rule(expected="a finite number above 0", allows=_is_budget)}
)
_PLAN: Final[Mapping[str, _Rule]] = MappingProxyType(
    {
        "version_compatible": _TRUE,
        "max_keys": _COUNT,
        "stripped": _TRUE,
        "tf32": _TRUE,
        "cuda_graphs": _TRUE,
        "hardware": _one_of("ampere-plus", "same-compute-capability"),
        "workspace": _BYTES,
        "compute_capabilities": _text(r"[1-9][0-9]*\.[0-9](,[1-9][0-9]*\.[0-9])*", "8.6,12.0"),
    }
)
"""How a TensorRT plan was built, and how it is opened."""


def provider_option_problems(provider: str, options: Mapping[str, str]) -> list[str]:
    """Return what is wrong with options of an execution provider; nothing if all are allowed.

    Args:
        provider: ``cpu``, ``cuda``, ``tensorrt`` or ``tensorrt-rtx``.
        options: by the names of ONNX Runtime.
    """
    return _problems(f"the provider {provider}", _PROVIDERS[provider], options)


def allows_tf32(options: Mapping[str, str]) -> bool:
    """Return whether the options of a provider ask for TF32."""
    return options.get(TF32, "0") in _ON


def option_problems(kind: str, options: Mapping[str, str]) -> list[str]:
    """Return what is wrong with the options in the record of an engine; nothing if all are allowed.

    Args:
        kind: runtime of the engine.
        options: from ``engine.json``.
    """
    if kind != "onnxruntime":
        return _problems(f"an engine of {kind}", {**_OWN, **(_PLAN if kind != "openvino" else {})}, options)
    provider = options.get(PROVIDER, "cpu")
    if provider not in _PROVIDERS:
        return [f"{PROVIDER}: expected one of {', '.join(_PROVIDERS)}, received {_shown(provider)}"]
    rest = {name: value for name, value in options.items() if name != PROVIDER}
    return _problems(f"the provider {provider}", {**_OWN, **_PROVIDERS[provider]}, rest)


def _problems(owner: str, rules: Mapping[str, _Rule], options: Mapping[str, str]) -> list[str]:
    problems = []
    for name, value in options.items():
        rule = rules.get(name)
        if rule is None:
            allowed = ", ".join(sorted(rules)) or "none"
            shown = name if _NAME.fullmatch(name) else _shown(name)
            problems.append(f"{shown}: not an allowed option of {owner}; allowed are: {allowed}")
        elif not rule.allows(value):
            problems.append(f"{name}: expected {rule.expected}, received {_shown(value)}")
    return problems


def _shown(text: str) -> str:
    return repr(text[:_MAX_SHOWN])
