"""``lcve build``: build an engine from the graph of a server folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import cloup

from lcve_deploy.artifact import Profile
from lcve_deploy.cli.command import command as lcve_command
from lcve_deploy.cli.options.common import as_json, engine_secret_option
from lcve_deploy.cli.options.engine import AUTO, EngineRequest, engine_options
from lcve_deploy.cli.options.groups import as_usage_error, named_options, value_from_options
from lcve_deploy.cli.options.session import PROVIDER_OPTIONS
from lcve_deploy.cli.options.signing import signed_by_option
from lcve_deploy.cli.options.types import PATH, BatchSizes
from lcve_deploy.cli.progress import StageProgress
from lcve_deploy.cli.show import print_json, show_selection

if TYPE_CHECKING:
    from lcve_deploy.artifact import PublicKey
    from lcve_deploy.clips import EncryptedClip
    from lcve_deploy.exporters.tensorrt import PlanOptions
    from lcve_deploy.verbs.fastest import EngineChoice, Selection

__all__ = ["command"]


@dataclass(frozen=True, kw_only=True)
class _Provider:
    """An execution provider of ONNX Runtime."""

    name: str
    options: Mapping[str, str]


def _make_provider(*, provider: str, provider_option: tuple[tuple[str, str], ...]) -> _Provider:
    return _Provider(name=provider, options=dict(provider_option))


def _make_plan(
    *,
    batch: Profile,
    timing_cache: Path | None,
    version_compatible: bool,
    hardware: str,
    compute_capability: tuple[str, ...],
    max_keys: int,
    stripped: bool,
    tf32: bool,
    cuda_graphs: bool,
    workspace: int | None,
) -> PlanOptions:
    from lcve_deploy.exporters.tensorrt import HardwareCompatibility, PlanOptions

    if timing_cache and not timing_cache.parent.is_dir():
        raise ValueError(f"--timing-cache: the folder {timing_cache.parent} does not exist")
    return PlanOptions(
        profile=batch,
        timing_cache=timing_cache,
        version_compatible=version_compatible,
        hardware=HardwareCompatibility(hardware),
        max_keys=max_keys,
        stripped=stripped,
        tf32=tf32,
        cuda_graphs=cuda_graphs,
        workspace=workspace and workspace * 2**20,
        compute_capabilities=compute_capability,
    )


_TENSORRT_OPTIONS: Final = (
    "batch",
    "timing_cache",
    "version_compatible",
    "hardware",
    "compute_capability",
    "max_keys",
    "stripped",
    "tf32",
    "cuda_graphs",
    "workspace",
)
_PLAN: Final = cloup.option_group(
    "TensorRT",
    cloup.option(
        "--batch",
        type=BatchSizes(),
        default="1:1:8",
        show_default=True,
        help="Minimum, optimum and maximum batch size.",
    ),
    cloup.option("--timing-cache", type=PATH, metavar="FILE", help="Timing cache to read and to update."),
    cloup.option("--version-compatible", is_flag=True, help="Let later TensorRT versions open the engine."),
    cloup.option(
        "--hardware",
        type=click.Choice(["none", "ampere-plus", "same-compute-capability"]),
        default="none",
        show_default=True,
        help="Other GPUs that the engine must also run on.",
    ),
    cloup.option(
        "--compute-capability",
        multiple=True,
        metavar="X.Y",
        help="GPU to build for, with TensorRT-RTX; may be repeated.",
    ),
    cloup.option(
        "--max-keys",
        type=click.IntRange(1, 2**16),
        default=64,
        show_default=True,
        help="Largest number of keys that the engine holds at a time.",
    ),
    cloup.option(
        "--stripped", is_flag=True, help="Leave the weights out of the plan; they are restored when it is opened."
    ),
    cloup.option("--tf32", is_flag=True, help="Let float32 products round their inputs to 10 bits; needs a --budget."),
    cloup.option("--cuda-graphs", is_flag=True, help="Launch all kernels of a batch at once, with TensorRT-RTX."),
    cloup.option("--workspace", type=click.IntRange(1, 2**24), metavar="MIB", help="Maximum scratch memory."),
)


@lcve_command(
    "lcve build server --precision auto --budget 0.05 --clip clip.lcve",
    "lcve build server --runtime tensorrt --precision fp16 --batch 1:8:32",
)
@cloup.argument("server", type=PATH, metavar="DIR", help="server/ of an artifact.")
@cloup.option(
    "--clip",
    "clips",
    type=PATH,
    multiple=True,
    metavar="FILE",
    help="Encrypted clip of a key in DIR/keys, for int8 calibration and for comparison; may be repeated.",
)
@cloup.option("--name", metavar="NAME", help="Name of the engine.  [default: runtime and precision]")
@signed_by_option
@engine_secret_option
@as_json
@engine_options
@value_from_options("provider", _make_provider, cloup.option_group("ONNX Runtime", *PROVIDER_OPTIONS))
@value_from_options("plan", _make_plan, _PLAN)
def command(
    server: Path,
    clips: tuple[Path, ...],
    name: str | None,
    signed_by: PublicKey | None,
    engine_secret: Path | None,
    engine: EngineRequest,
    provider: _Provider,
    plan: PlanOptions,
    as_json: bool,
) -> None:
    """Build an engine in DIR/engines and prove it with the probe. Needs no key.

    The engine serves every key of the model. An engine that exceeds its budget is not kept. An engine that cannot run
    on this machine is kept as unproven: it does not open until lcve verify has run it. Of several engines, the fastest
    is kept.

    Engines open only on machines that have the secret of the machine that built them.
    """
    from lcve_deploy.verbs.fastest import build_fastest

    _refuse_unused_options(engine)
    choice = _choice(engine, name=name, provider=provider, plan=plan, signed_by=signed_by, engine_secret=engine_secret)
    _show(build_fastest(server, choice, clips=_read_clips(clips), progress=StageProgress()), as_json=as_json)


def _refuse_unused_options(engine: EngineRequest) -> None:
    """Refuse options of other runtimes."""
    named, runtime = named_options(), engine.runtime or AUTO
    names = [
        *(name for name in named if name in _TENSORRT_OPTIONS and runtime in ("onnxruntime", "openvino")),
        *(name for name in named if name in ("provider", "provider_option") and runtime != "onnxruntime"),
    ]
    if names:
        raise click.UsageError(f"no effect with --runtime {runtime}: {', '.join(named[name] for name in names)}")


def _choice(
    engine: EngineRequest,
    *,
    name: str | None,
    provider: _Provider,
    plan: PlanOptions,
    signed_by: PublicKey | None,
    engine_secret: Path | None,
) -> EngineChoice:
    from lcve_deploy.runtime.session import Provider
    from lcve_deploy.verbs.build import BuildOptions

    with as_usage_error():
        options = BuildOptions(
            name=name,
            budget=engine.budget,
            provider=Provider(provider.name),
            provider_options=provider.options,
            plan=plan,
            signed_by=signed_by,
            engine_secret=engine_secret,
        )
        return engine.choice(options)


def _show(selection: Selection, *, as_json: bool) -> None:
    if as_json:
        print_json(selection.to_json())
    else:
        show_selection(selection)


def _read_clips(paths: tuple[Path, ...]) -> EncryptedClip | None:
    """Read all views of all files as one stack."""
    import numpy as np

    from lcve_deploy.clipfile import read_clip_file
    from lcve_deploy.clips import EncryptedClip

    clips = [read_clip_file(path).clip for path in paths]
    for clip in clips[1:]:
        clips[0].binding.require(clip.binding, here="first clip", there="clip")
    return EncryptedClip(values=np.concatenate([c.values for c in clips]), binding=clips[0].binding) if clips else None
