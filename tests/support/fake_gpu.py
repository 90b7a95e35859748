"""Stand-ins for CuPy and TensorRT, so that the code around them runs where there is no GPU.

They keep what makes the real ones hard: work is queued on streams and done only when a stream is
waited for, "device memory" is apart from the host's, and addresses are plain numbers. A session that
forgets to wait, or hands over the wrong address, gets wrong logits here too. What they cannot show
is that the real libraries take these calls: no engine has run on hardware yet.
"""

from __future__ import annotations

import ctypes
import enum
import shutil
import sys
import tempfile
import threading
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx_ir
import onnxruntime
import pytest

from lcve_deploy.libraries.cuda import Gpu
from tests.support.emulation import LOW, emulated

PLAN = b"plan of "


LOCK = threading.RLock()
"""Held while work is queued or done: threads share streams."""


class Event:
    """Waiting for it does all that is queued before it."""

    def __init__(self, stream: Stream) -> None:
        self.stream, self.before = stream, list(stream.queue)

    def __call__(self) -> None:
        with LOCK:
            while self.before:
                work = self.before.pop(0)
                if work in self.stream.queue:
                    self.stream.queue.remove(work)
                    work()

    synchronize = __call__


class Stream:
    """Work in order, done when somebody waits for it."""

    current: Stream
    by_address: ClassVar[dict[int, Stream]] = {}

    def __init__(self, non_blocking: bool = False) -> None:
        self.non_blocking, self.queue = non_blocking, list[Callable[[], None]]()
        self.ptr = 1000 + len(Stream.by_address)
        Stream.by_address[self.ptr] = self

    def __enter__(self) -> Stream:
        self.before, Stream.current = Stream.current, self
        return self

    def __exit__(self, *_: object) -> None:
        Stream.current = self.before

    def record(self) -> Event:
        with LOCK:
            return Event(self)

    def wait_event(self, event: Event) -> None:
        self.queue.append(event)

    def synchronize(self) -> None:
        with LOCK:
            while self.queue:
                self.queue.pop(0)()


Stream.current = Stream()


class Array:
    """Device memory."""

    owned: ClassVar[list[np.ndarray]] = []

    def __init__(self, memory: np.ndarray, device: int = 0) -> None:
        self.memory, self.device = memory, types.SimpleNamespace(id=device)
        self.shape, self.dtype, self.ndim = memory.shape, memory.dtype, memory.ndim
        self.data = types.SimpleNamespace(ptr=memory.ctypes.data)
        Array.owned.append(memory)

    def __getitem__(self, index: Any) -> Array:
        return Array(self.memory[index], self.device.id)

    def __setitem__(self, index: Any, values: Array) -> None:
        Stream.current.queue.append(lambda: np.copyto(self.memory[index], values.memory))

    def set(self, host: np.ndarray, stream: Stream) -> None:
        assert host.shape == self.shape
        assert host.dtype == self.dtype
        stream.queue.append(lambda: np.copyto(self.memory, host))

    def get(self, *, stream: Stream, out: np.ndarray, blocking: bool) -> np.ndarray:
        assert not blocking
        stream.queue.append(lambda: np.copyto(out, self.memory))
        return out


class OutOfMemoryError(MemoryError):
    pass


class CUDARuntimeError(RuntimeError):
    pass


def fake_cupy() -> dict[str, types.ModuleType]:
    """Modules ``cupy`` and ``cupyx``, for ``sys.modules``."""
    cupy: Any = types.ModuleType("cupy")
    cupyx: Any = types.ModuleType("cupyx")
    cupy.ndarray = Array
    cupy.empty = lambda shape, dtype: Array(np.full(shape, 77, dtype), Device.current())
    cupy.ascontiguousarray = lambda a: a if a.memory.flags.c_contiguous else Array(np.ascontiguousarray(a.memory))
    cupy.cuda = types.SimpleNamespace(
        Device=_device,
        Stream=Stream,
        get_current_stream=lambda: Stream.current,
        memory=types.SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
        runtime=types.SimpleNamespace(CUDARuntimeError=CUDARuntimeError),
    )
    cupyx.empty_pinned = lambda shape, dtype: np.full(shape, 99, dtype)
    return {"cupy": cupy, "cupyx": cupyx}


class Device:
    """The current GPU of a thread."""

    here = threading.local()

    @staticmethod
    def current() -> int:
        return getattr(Device.here, "number", 0)


@contextmanager
def _device(number: int) -> Iterator[None]:
    before, Device.here.number = Device.current(), number
    try:
        yield
    finally:
        Device.here.number = before


class Severity(enum.Enum):
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)


class DataType(enum.Enum):
    FLOAT, HALF, UINT8, INT64 = range(4)


class ILogger:
    Severity = Severity

    def __init__(self) -> None:
        pass


_DTYPES = {"FLOAT": DataType.FLOAT, "FLOAT16": DataType.HALF, "UINT8": DataType.UINT8, "INT64": DataType.INT64}


_NUMPY: dict[DataType, type] = {
    DataType.FLOAT: np.float32,
    DataType.HALF: np.float16,
    DataType.UINT8: np.uint8,
    DataType.INT64: np.int64,
}


def _tensor(value: onnx_ir.Value) -> types.SimpleNamespace:
    assert value.shape is not None
    assert value.dtype is not None
    shape = tuple(size if isinstance(size, int) else -1 for size in value.shape)
    return types.SimpleNamespace(name=value.name, dtype=_DTYPES[value.dtype.name], shape=shape)


def plan_of(model: Path, batches: Sequence[int] = (1, 2, 3)) -> bytes:
    """A "plan" that says which graph computes it."""
    return PLAN + f"{model}|{','.join(map(str, batches))}".encode()


class Engine:
    """Computes a graph with ONNX Runtime, from and to addresses, when its stream is waited for."""

    refittable = True
    keys = (1, 64, 64)
    """Sizes of the bank that it was built for."""

    def __init__(self, plan: bytes) -> None:
        path, batches = plan.removeprefix(PLAN).decode().split("|")
        self.model, self.batches = Path(path), [int(size) for size in batches.split(",")]
        graph = onnx_ir.load(path).graph
        self.tensors = {str(value.name): _tensor(value) for value in (*graph.inputs, *graph.outputs)}
        self.num_io_tensors = len(self.tensors)

    def get_tensor_name(self, i: int) -> str:
        return list(self.tensors)[i]

    def get_tensor_dtype(self, name: str) -> DataType:
        dtype: DataType = self.tensors[name].dtype
        return dtype

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        shape: tuple[int, ...] = self.tensors[name].shape
        return shape

    def get_tensor_profile_shape(self, name: str, index: int) -> list[tuple[int, ...]]:
        assert index == 0
        return [(size, *self.tensors[name].shape[1:]) for size in self.sizes(name)]

    def sizes(self, name: str) -> Sequence[int]:
        return self.keys if name.startswith("bank.") else self.batches

    def create_execution_context(self, config: RuntimeConfig | None = None) -> Context:
        return Context(self, config)

    def create_runtime_config(self) -> RuntimeConfig:
        return RuntimeConfig()

    def create_serialization_config(self) -> Config:
        return Config()

    def serialize_with_config(self, config: Config) -> bytes:
        self.serialized_with = config
        return plan_of(self.model, self.batches)


def _computed(model: Path) -> onnxruntime.InferenceSession:
    """ONNX Runtime; for fp16 and bf16 with values that are rounded as hardware rounds them."""
    low = any(value.dtype in LOW for value in onnx_ir.load(model).graph.initializers.values())
    return emulated(model) if low else onnxruntime.InferenceSession(model)


class RuntimeCache:
    """Kernels of batch sizes; those of another "GPU" are refused."""

    def __init__(self) -> None:
        self.kernels = set[int]()

    def serialize(self) -> bytes | None:
        return b"kernels " + bytes(sorted(self.kernels))

    def deserialize(self, content: bytes) -> bool:
        fits = content.startswith(b"kernels ")
        self.kernels |= set(content.removeprefix(b"kernels ")) if fits else set()
        return fits


class RuntimeConfig:
    """As TensorRT-RTX has it."""

    dynamic_shapes_kernel_specialization_strategy: Any = None
    cuda_graph_strategy: Any = None
    cache: RuntimeCache | None = None

    def create_runtime_cache(self) -> RuntimeCache:
        return RuntimeCache()

    def set_runtime_cache(self, cache: RuntimeCache) -> bool:
        self.cache = cache
        return True


class Context:
    def __init__(self, engine: Engine, config: RuntimeConfig | None = None) -> None:
        self.config, self.device, self.compiled = config, Device.current(), list[int]()
        self.enqueued = list[tuple[int, int]]()
        self.engine, self.addresses, self.shapes = engine, dict[str, int](), dict[str, tuple[int, ...]]()
        self.session = _computed(engine.model)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shapes[name] = shape
        return self.engine.sizes(name)[0] <= shape[0] <= self.engine.sizes(name)[2]

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return address in {memory.ctypes.data for memory in Array.owned}

    def execute_async_v3(self, stream: int) -> bool:
        shapes, addresses = dict(self.shapes), dict(self.addresses)
        batch = shapes["clips"][0]
        assert Device.current() == self.device, "enqueued on another GPU than the context's"
        assert shapes["key"] == (batch,)
        self.enqueued.append((batch, addresses["clips"]))
        if self.config is not None and self.config.cache is not None and batch not in self.config.cache.kernels:
            self.config.cache.kernels.add(batch)
            self.compiled.append(batch)
        (output,) = addresses.keys() - shapes.keys()
        dtypes = {name: _NUMPY[self.engine.get_tensor_dtype(name)] for name in shapes}

        def work() -> None:
            feed = {name: _at(addresses[name], shape, dtypes[name]) for name, shape in shapes.items()}
            (logits,) = self.session.run([output], feed)
            np.copyto(_at(addresses[output], logits.shape, np.float32), logits)

        Stream.by_address[stream].queue.append(work)
        return True


def _at(address: int, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = memoryview((ctypes.c_byte * size).from_address(address))
    values: np.ndarray = np.frombuffer(memory, np.dtype(dtype)).reshape(shape)
    return values


class Config:
    """A builder's or a serialiser's configuration; remembers what was set."""

    def __init__(self) -> None:
        self.flags, self.cleared, self.pools = set[str](), set[str](), dict[str, int]()
        self.profiles: list[Any] = []
        self.cache: TimingCache | None = None

    def set_flag(self, flag: enum.Enum) -> None:
        self.flags.add(flag.name)

    def clear_flag(self, flag: enum.Enum) -> None:
        self.cleared.add(flag.name)

    def set_memory_pool_limit(self, pool: enum.Enum, size: int) -> None:
        self.pools[pool.name] = size

    def add_optimization_profile(self, profile: Any) -> int:
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def create_timing_cache(self, content: bytes) -> TimingCache:
        return TimingCache(content)

    def set_timing_cache(self, cache: TimingCache, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        self.cache = cache
        return not cache.content or cache.content.startswith(b"times")


class TimingCache:
    def __init__(self, content: bytes) -> None:
        self.content = content

    def serialize(self) -> bytes:
        return self.content


class Profile:
    def __init__(self) -> None:
        self.by_name = dict[str, tuple[tuple[int, ...], ...]]()

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Those of the clips."""
        return self.by_name["clips"]

    def set_shape(self, name: str, *shapes: tuple[int, ...]) -> None:
        self.by_name[name] = shapes


class Runtime:
    def __init__(self, logger: Any) -> None:
        self.logger = logger

    def deserialize_cuda_engine(self, content: bytes) -> Engine | None:
        if content.startswith(PLAN):
            return Engine(content)
        self.logger.log(Severity.ERROR, "magic tag does not match\n")
        return None


class Builder:
    built: ClassVar[list[tuple[int, Config]]]

    def __init__(self, logger: Any) -> None:
        self.logger = logger

    def create_network(self, flags: int) -> types.SimpleNamespace:
        return types.SimpleNamespace(flags=flags)

    def create_builder_config(self) -> Config:
        return Config()

    def create_optimization_profile(self) -> Profile:
        return Profile()

    def build_serialized_network(self, network: Any, config: Config) -> bytes:
        self.built.append((network.flags, config))
        if config.cache is not None:
            config.cache.content += b"times"
        return plan_of(network.model, tuple(shape[0] for shape in config.profiles[0].shapes))


class OnnxParser:
    num_errors = 0

    def __init__(self, network: Any, logger: Any) -> None:
        self.network = network

    def parse_from_file(self, path: str) -> bool:
        kept = _kept(Path(path))
        graph = onnx_ir.load(kept).graph
        self.network.model = kept
        for name, values in (("input", graph.inputs), ("output", graph.outputs)):
            tensors = [_tensor(value) for value in values]
            setattr(self.network, f"num_{name}s", len(tensors))
            setattr(self.network, f"get_{name}", tensors.__getitem__)
        return True


class Refitter:
    def __init__(self, engine: Engine, logger: Any) -> None:
        self.engine = engine

    def refit_cuda_engine(self) -> bool:
        return True

    def get_missing_weights(self) -> list[str]:
        return []


class OnnxParserRefitter:
    num_errors = 0

    def __init__(self, refitter: Refitter, logger: Any) -> None:
        self.refitter = refitter

    def refit_from_file(self, path: str) -> bool:
        self.refitter.engine.model = _kept(Path(path))
        return True


def _kept(model: Path) -> Path:
    """A copy of a graph and its files; the caller's folder goes once they are read."""
    kept = Path(tempfile.mkdtemp()) / "weights"
    shutil.copytree(model.parent, kept)
    return kept / model.name


_STRATEGIES = {
    "DynamicShapesKernelSpecializationStrategy": "LAZY EAGER NONE",
    "CudaGraphStrategy": "DISABLED WHOLE_GRAPH_CAPTURE",
}
"""Enums that TensorRT-RTX alone has."""


def fake_tensorrt_rtx(version: str = "1.7.1.116") -> types.ModuleType:
    """A module ``tensorrt_rtx``, as ``fake_tensorrt``."""
    module = fake_tensorrt(version)
    module.__name__ = "tensorrt_rtx"
    for name, members in _STRATEGIES.items():
        setattr(module, name, enum.Enum(name, members))
    return module


def fake_tensorrt(version: str = "11.4.0.106") -> types.ModuleType:
    """A module ``tensorrt``; ``module.built`` lists (network flags, configuration) of every build.

    Its classes are its own, so that a test can change them.
    """
    module = types.ModuleType("tensorrt")
    content: Any = module
    content.__version__, content.ILogger, content.DataType, content.built = version, ILogger, DataType, []
    for name, members in _ENUMS.items():
        setattr(module, name, enum.Enum(name, members) if name in _PLAIN else enum.IntEnum(name, members, start=0))
    for kind in (Runtime, Builder, OnnxParser, Refitter, OnnxParserRefitter):
        setattr(module, kind.__name__, type(kind.__name__, (kind,), {"built": content.built}))
    return module


GPU = Gpu(name="NVIDIA Nonesuch", capability="8.6")
_LOOKING = (
    "runtime.backends.tensorrt",
    "exporters.tensorrt.plan",
    "verbs.fastest",
)
"""Modules that look for a GPU."""


def install(patch: pytest.MonkeyPatch) -> None:
    """Let this package see a GPU, CuPy and both TensorRTs, for as long as the patch lasts."""
    modules = {"tensorrt": fake_tensorrt(), "tensorrt_rtx": fake_tensorrt_rtx(), **fake_cupy()}
    for name, module in modules.items():
        patch.setitem(sys.modules, name, module)
    for place in _LOOKING:
        patch.setattr(f"lcve_deploy.{place}.find_gpu", lambda number=0: None if number else GPU)


_ENUMS = {
    "NetworkDefinitionCreationFlag": "EXPLICIT_BATCH STRONGLY_TYPED",
    "BuilderFlag": "REFIT TF32 VERSION_COMPATIBLE STRIP_PLAN",
    "HardwareCompatibilityLevel": "NONE AMPERE_PLUS",
    "MemoryPoolType": "WORKSPACE",
    "SerializationFlag": "EXCLUDE_WEIGHTS INCLUDE_REFIT",
}
_PLAIN = ("BuilderFlag", "MemoryPoolType", "SerializationFlag", "HardwareCompatibilityLevel")
