"""Options of engines and providers: those on the list, with the values on the list, and no others."""

from __future__ import annotations

from pathlib import Path

import pytest

from lcve_deploy.artifact.engine_options import option_problems, provider_option_problems
from lcve_deploy.artifact.engines import EngineKind
from lcve_deploy.errors import SessionError
from lcve_deploy.exporters.tensorrt import HardwareCompatibility, PlanOptions
from lcve_deploy.runtime import Provider, SessionOptions
from lcve_deploy.verbs.build import BuildOptions

ALLOWED = [
    ("cpu", "use_arena", "0"),
    ("cuda", "device_id", "0"),
    ("cuda", "device_id", "1023"),
    ("cuda", "gpu_mem_limit", "1"),
    ("cuda", "gpu_mem_limit", str(2**48)),
    ("cuda", "arena_extend_strategy", "kSameAsRequested"),
    ("cuda", "use_tf32", "0"),
    ("cuda", "use_tf32", "True"),
    ("cuda", "cudnn_conv_algo_search", "HEURISTIC"),
    ("tensorrt", "trt_builder_optimization_level", "5"),
    ("tensorrt", "trt_auxiliary_streams", "-1"),
    ("tensorrt", "trt_profile_opt_shapes", "clips:1x128x3072"),
    ("tensorrt", "trt_tactic_sources", "-CUDNN,+CUBLAS"),
    ("tensorrt", "trt_op_types_to_exclude", "MaxPool,Resize"),
    ("tensorrt-rtx", "nv_profile_max_shapes", "a:1x2,b:3"),
    ("tensorrt-rtx", "nv_max_workspace_size", "4096"),
]
REFUSED = [
    ("cpu", "device_id", "0", "device_id: not an allowed option of the provider cpu; allowed are: use_arena"),
    ("cuda", "use_arena", "0", "use_arena: not an allowed option of the provider cuda"),
    ("cuda", "device_id", "-1", "device_id: expected a whole number from 0 to 1023, received '-1'"),
    ("cuda", "device_id", "1024", "received '1024'"),
    ("cuda", "device_id", "1 ", "received '1 '"),
    ("cuda", "device_id", "0x1", "received '0x1'"),
    ("cuda", "device_id", "\u0661", "expected a whole number"),
    ("cuda", "gpu_mem_limit", "0", "expected a whole number from 1 to"),
    ("cuda", "gpu_mem_limit", str(2**48 + 1), "expected a whole number from 1 to"),
    ("cuda", "gpu_mem_limit", "9" * 5000, "expected a whole number from 1 to"),
    ("cuda", "use_tf32", "2", "expected one of 0, 1, true"),
    ("cuda", "use_tf32", "", "expected one of 0, 1, true"),
    ("tensorrt", "trt_profile_opt_shapes", "clips:1x;/a.so", "expected text such as clips:1x128x3072"),
    ("tensorrt", "trt_profile_opt_shapes", "clips:1\n", "expected text such as"),
    ("tensorrt", "trt_profile_opt_shapes", "a:" + "1" * 600, "expected text such as"),
    ("tensorrt", "trt_extra_plugin_lib_paths", "/a.so", "trt_extra_plugin_lib_paths: not an allowed option"),
    ("tensorrt", "trt_engine_decryption_lib_path", "/a.so", "not an allowed option"),
    ("tensorrt", "trt_engine_cache_path", "/a", "not an allowed option"),
    ("tensorrt", "trt_onnx_model_folder_path", "/a", "not an allowed option"),
    ("tensorrt", "trt_ep_context_file_path", "/a", "not an allowed option"),
    ("tensorrt", "trt_onnx_bytestream", "4096", "not an allowed option"),
    ("tensorrt", "trt_int8_calibration_table_name", "a", "not an allowed option"),
    ("tensorrt", "trt_bf16_enable", "1", "not an allowed option"),
    ("tensorrt-rtx", "nv_extra_plugin_lib_paths", "/a.so", "not an allowed option"),
    ("tensorrt-rtx", "user_compute_stream", "4096", "not an allowed option"),
    ("cuda", "gpu_external_free", "4096", "not an allowed option"),
    ("cuda", "a\nb" * 200, "0", "not an allowed option"),
]


RANGES = [
    ("cuda", "device_id", 0, 1023),
    ("cuda", "gpu_mem_limit", 1, 2**48),
    ("cuda", "sdpa_kernel", 0, 1023),
    ("cuda", "tunable_op_max_tuning_duration_ms", 0, 2**31 - 1),
    ("tensorrt", "device_id", 0, 1023),
    ("tensorrt", "trt_auxiliary_streams", -1, 64),
    ("tensorrt", "trt_builder_optimization_level", 0, 5),
    ("tensorrt", "trt_max_partition_iterations", 1, 2**31 - 1),
    ("tensorrt", "trt_max_workspace_size", 1, 2**48),
    ("tensorrt", "trt_min_subgraph_size", 1, 2**31 - 1),
    ("tensorrt-rtx", "device_id", 0, 1023),
    ("tensorrt-rtx", "nv_max_shared_mem_size", 1, 2**48),
    ("tensorrt-rtx", "nv_max_workspace_size", 1, 2**48),
]


@pytest.mark.parametrize(("provider", "name", "minimum", "maximum"), RANGES)
def test_numbers_have_bounds(provider: str, name: str, minimum: int, maximum: int) -> None:
    for value in (minimum, minimum + 1, maximum - 1, maximum):
        assert provider_option_problems(provider, {name: str(value)}) == []
    for value in (minimum - 1, maximum + 1, -(2**60), 2**59):
        assert provider_option_problems(provider, {name: str(value)}) == [
            f"{name}: expected a whole number from {minimum} to {maximum}, received '{value}'"
        ]


def test_texts_have_a_length() -> None:
    for length, ok in ((511, True), (512, True), (513, False)):
        shapes = "a:" + "1" * (length - 2)
        assert (provider_option_problems("tensorrt", {"trt_profile_min_shapes": shapes}) == []) is ok
        assert (option_problems("openvino", {"budget": "0." + "1" * (length - 2)}) == []) is ok


def test_what_was_received_is_shown_in_part() -> None:
    (problem,) = provider_option_problems("cuda", {"device_id": "x" * 100})
    assert problem.endswith(f"received '{'x' * 80}'")
    for length in (80, 81):
        (problem,) = provider_option_problems("cuda", {"y" * length: ""})
        assert problem.startswith("y" * 80 + ": " if length == 80 else f"'{'y' * 80}': ")


@pytest.mark.parametrize(("provider", "name", "value"), ALLOWED)
def test_an_option_on_the_list_is_allowed(provider: str, name: str, value: str) -> None:
    assert provider_option_problems(provider, {name: value}) == []
    assert option_problems("onnxruntime", {"provider": provider, "budget": "0.5", name: value}) == []
    assert SessionOptions(provider=Provider(provider), provider_options={name: value}).provider_options
    assert BuildOptions(provider=Provider(provider), provider_options={name: value}).provider_options


@pytest.mark.parametrize(("provider", "name", "value", "message"), REFUSED, ids=range(len(REFUSED)))
def test_any_other_option_or_value_is_refused_by_name(provider: str, name: str, value: str, message: str) -> None:
    (problem,) = provider_option_problems(provider, {name: value})
    assert message in problem
    assert problem.isprintable()
    assert len(problem) < 1200
    (of_record,) = option_problems("onnxruntime", {"provider": provider, name: value})
    assert of_record.partition(";")[0] == problem.partition(";")[0]
    for options in (SessionOptions, BuildOptions):
        with pytest.raises(SessionError) as caught:
            options(provider=Provider(provider), provider_options={name: value})
        assert str(caught.value) == problem


def test_all_problems_are_named_at_once() -> None:
    with pytest.raises(SessionError, match=r"(?s)device_id: expected .*; user_compute_stream: not an allowed"):
        SessionOptions(provider=Provider.CUDA, provider_options={"device_id": "x", "user_compute_stream": "1"})


@pytest.mark.parametrize("kind", EngineKind)
def test_no_runtime_takes_an_option_that_is_unknown(kind: EngineKind) -> None:
    (problem,) = option_problems(kind, {"CACHE_DIR": "/a"})
    assert problem.startswith("CACHE_DIR: not an allowed option of ")
    assert option_problems(kind, {"budget": "0.25"}) == []
    assert option_problems(kind, {}) == []


def test_a_provider_that_is_unknown_is_named() -> None:
    (problem,) = option_problems("onnxruntime", {"provider": "azure"})
    assert problem == "provider: expected one of cpu, cuda, tensorrt, tensorrt-rtx, received 'azure'"
    assert option_problems("openvino", {"provider": "cpu"})


@pytest.mark.parametrize("kind", [EngineKind.TENSORRT, EngineKind.TENSORRT_RTX])
def test_all_that_a_plan_is_built_with_is_allowed(kind: EngineKind) -> None:
    for hardware in HardwareCompatibility:
        plan = PlanOptions(
            version_compatible=True,
            hardware=hardware,
            max_keys=100,
            stripped=True,
            tf32=True,
            workspace=1,
            compute_capabilities=("8.6", "12.0"),
        )
        assert option_problems(kind, plan.to_text()) == []
    for name, value in (
        *(("version_compatible", "1"), ("workspace", "0"), ("hardware", "none"), ("compute_capabilities", "8")),
        *(("max_keys", "0"), ("budget", "inf"), ("budget", "0"), ("budget", "nan"), ("budget", "1" * 600)),
    ):
        (problem,) = option_problems(kind, {name: value})
        assert problem.startswith(f"{name}: expected ")


@pytest.mark.parametrize("provider", Provider)
def test_every_provider_has_a_list(provider: Provider) -> None:
    assert provider_option_problems(provider, {}) == []


def test_the_page_lists_what_is_allowed() -> None:
    page = (Path(__file__).parent.parent / "docs/guides/engines.md").read_text()
    for provider in Provider:
        (problem,) = provider_option_problems(provider, {"?": ""})
        allowed = problem.partition("allowed are: ")[2].split(", ")
        assert f"| `{provider}` | {', '.join(f'`{name}`' for name in allowed)} |\n" in page
