"""Finding the library and the GPU."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from lcve_deploy.errors import MissingDependencyError
from lcve_deploy.exporters.tensorrt import (
    check_graph,
)
from lcve_deploy.libraries import cuda
from lcve_deploy.libraries.cuda import Gpu, find_gpu
from lcve_deploy.libraries.tensorrt import (
    TENSORRT,
    TENSORRT_RTX,
    TensorRT,
    find_tensorrt,
    numeric_version,
)
from tests.tensorrt.helpers import (
    GPU,
    Graph,
)


@pytest.mark.parametrize("kind", [TENSORRT, TENSORRT_RTX])
def test_a_missing_library_says_what_to_install(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, kind.replace("-", "_"), None)
    with pytest.raises(MissingDependencyError, match="is not installed") as caught:
        find_tensorrt(kind)
    assert caught.value.hint == f"pip install 'lcve-deploy[{kind}]'"


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="expected one of tensorrt, tensorrt-rtx, received 'openvino'"):
        find_tensorrt("openvino")


def test_missing_onnx_ir_says_what_to_install(tiny: Graph, rtx: TensorRT, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx_ir", None)
    with pytest.raises(MissingDependencyError, match="onnx-ir") as caught:
        check_graph(tiny.model, library=rtx, spec=tiny.spec)
    assert caught.value.hint == "pip install 'lcve-deploy[tensorrt-rtx]'"


def test_a_library_has_one_log_for_all_its_objects(rtx: TensorRT) -> None:
    assert find_tensorrt(TENSORRT_RTX).log is rtx.log


@pytest.mark.parametrize(
    ("version", "numbers"), [("11.4.0.106", (11, 4, 0, 106)), ("10.14.1.48.post1", (10, 14, 1, 48)), ("?", ())]
)
def test_versions_are_compared_by_their_numbers(version: str, numbers: tuple[int, ...]) -> None:
    assert numeric_version(version) == numbers


class Driver:
    """A CUDA driver with the functions that are asked."""

    def __init__(self, *, initialised: int = 0, count: int = 1) -> None:
        self.initialised, self.count = initialised, count

    def cuInit(self, flags: int) -> int:  # noqa: N802
        return self.initialised

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
        count._obj.value = self.count
        return 0

    def cuDeviceGet(self, device: Any, number: int) -> int:  # noqa: N802
        device._obj.value = number
        return 0

    def cuDeviceGetName(self, name: Any, size: int, device: Any) -> int:  # noqa: N802
        name.value = b"NVIDIA Nonesuch" + (b" of number %d" % device.value if device.value else b"")
        return 0

    def cuDriverGetVersion(self, version: Any) -> int:  # noqa: N802
        version._obj.value = 12040
        return 0

    def cuDeviceGetAttribute(self, value: Any, number: int, device: object) -> int:  # noqa: N802
        value._obj.value = {75: 8, 76: 6}[number]
        return 0


@pytest.mark.parametrize(
    ("driver", "gpu"),
    [(None, None), (Driver(initialised=100), None), (Driver(count=0), None), (Driver(), GPU)],
)
def test_the_driver_says_which_gpu_there_is(
    driver: Driver | None, gpu: Gpu | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda, "load_driver", lambda: driver)
    assert find_gpu() == gpu


def test_gpus_are_found_by_number_and_the_driver_tells_its_cuda_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "load_driver", lambda: Driver(count=2))
    assert find_gpu(1) == Gpu(name="NVIDIA Nonesuch of number 1", capability="8.6")
    assert find_gpu(2) is None
    assert cuda.driver_version() == "12.4"
    monkeypatch.setattr(cuda, "load_driver", lambda: None)
    assert cuda.driver_version() == ""
