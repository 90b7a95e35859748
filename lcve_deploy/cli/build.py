"""``lcve build``: an engine from the graph of a server folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from click.core import ParameterSource

from lcve_deploy.artifact import Profile
from lcve_deploy.cli.options import (
    FASTEST,
    AnyPath,
    as_json,
    engine_options,
    provider_options,
    signed_by_option,
    to_engine_choice,
)
from lcve_deploy.cli.show import StageProgress, print_json, show_selection

if TYPE_CHECKING:
    from lcve_deploy.clips import EncryptedClip
    from lcve_deploy.verbs.build import BuildOptions
    from lcve_deploy.verbs.fastest import Selection

__all__ = ["command"]


class _Batch(click.ParamType):  # type: ignore[type-arg]
    """``MIN:OPT:MAX``."""

    name = "MIN:OPT:MAX"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Profile:
        """Read the batch sizes."""
        if isinstance(value, Profile):
            return value
        try:
            minimum, optimum, maximum = map(int, value.split(":"))
            return Profile(minimum=minimum, optimum=optimum, maximum=maximum)
        except ValueError:
            self.fail(f"expected batch sizes such as 1:4:16, rising, received {value!r}", param, ctx)


@click.command()
@click.argument("server", type=AnyPath)
@engine_options
@click.option(
    "--clips", type=AnyPath, multiple=True, help="Encrypted clip: for int8, and to compare on; may be repeated."
)
@click.option("--name", help="Of the engine.  [default: runtime and precision]")
@provider_options
@click.option("--batch", type=_Batch(), default="1:1:8", show_default=True, help="TensorRT: batch sizes.")
@click.option("--timing-cache", type=AnyPath, help="TensorRT: file to read timings from and add them to.")
@click.option("--version-compatible", is_flag=True, help="TensorRT: let later versions open the engine.")
@click.option(
    "--hardware",
    type=click.Choice(["none", "ampere-plus", "same-compute-capability"]),
    default="none",
    show_default=True,
    help="TensorRT: other GPUs than this one that the engine must run on.",
)
@click.option(
    "--compute-capability", multiple=True, metavar="X.Y", help="TensorRT-RTX: GPU to build for; may be repeated."
)
@click.option("--refittable", is_flag=True, help="TensorRT: let a new key replace weights without a build.")
@click.option("--stripped", is_flag=True, help="TensorRT: leave the weights out; opening puts them back.")
@click.option("--refit", metavar="NAME", help="TensorRT: put the weights into the plan of this engine; no build.")
@click.option("--workspace", type=click.IntRange(1, 2**24), help="TensorRT: largest scratch memory, MiB.")
@signed_by_option
@as_json
def command(server: Path, as_json: bool, **given: Any) -> None:
    """Build an engine in SERVER/engines, and let it answer the probe; needs no key.

    An engine whose logits are over the budget is not kept. One that cannot run on this machine is kept as
    unproven: it opens only after lcve verify has run it. Of several, the fastest is kept.
    """
    from lcve_deploy.verbs.fastest import Selection, build_fastest
    from lcve_deploy.verbs.refit import refit

    _refuse_what_has_no_effect(given)
    if given["refit"]:
        options = {"name": given["name"], "signed_by": given["signed_by"], "progress": StageProgress()}
        _show(Selection.of(refit(server, given["refit"], **options)), as_json)
        return
    choice = to_engine_choice({**given, "engine": given["engine"] or FASTEST}, _checked_options(given))
    _show(build_fastest(server, choice, clips=_read_clips(given["clips"]), progress=StageProgress()), as_json)


_FOR_TENSORRT: Final = (
    "batch",
    "timing_cache",
    "version_compatible",
    "hardware",
    "compute_capability",
    "refittable",
    "stripped",
    "workspace",
)


def _refuse_what_has_no_effect(given: dict[str, Any]) -> None:
    """Options of another runtime than the chosen one, and with --refit all that the engine itself says."""
    source = click.get_current_context().get_parameter_source
    named = [name for name in given if source(name) is ParameterSource.COMMANDLINE]
    kind = given["engine"] or FASTEST
    useless = {
        "--refit": [name for name in named if name not in ("refit", "name", "signed_by")] if given["refit"] else [],
        f"--engine {kind}": [
            *(name for name in named if name in _FOR_TENSORRT and kind in ("onnxruntime", "openvino")),
            *(name for name in named if name in ("provider", "provider_option") and kind != "onnxruntime"),
        ],
    }
    for reason, names in useless.items():
        if names:
            options = ", ".join("--" + name.replace("_", "-") for name in names)
            raise click.UsageError(f"no effect with {reason}: {options}")


def _show(selection: Selection, as_json: bool) -> None:
    if as_json:
        print_json(selection.to_json())
    else:
        show_selection(selection)


def _checked_options(given: dict[str, Any]) -> BuildOptions:
    cache = given["timing_cache"]
    if cache and not cache.parent.is_dir():
        raise click.UsageError(f"--timing-cache: the folder {cache.parent} does not exist")
    try:
        return _options(given)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _options(given: dict[str, Any]) -> BuildOptions:
    from lcve_deploy.exporters.tensorrt import HardwareCompatibility, PlanOptions
    from lcve_deploy.runtime.session import Provider
    from lcve_deploy.verbs.build import BuildOptions

    return BuildOptions(
        name=given["name"],
        budget=given["budget"],
        provider=Provider(given["provider"]),
        provider_options=dict(given["provider_option"]),
        plan=PlanOptions(
            profile=given["batch"],
            timing_cache=given["timing_cache"],
            version_compatible=given["version_compatible"],
            hardware=HardwareCompatibility(given["hardware"]),
            refittable=given["refittable"],
            stripped=given["stripped"],
            workspace=given["workspace"] and given["workspace"] * 2**20,
            compute_capabilities=given["compute_capability"],
        ),
        signed_by=given["signed_by"],
    )


def _read_clips(paths: tuple[Path, ...]) -> EncryptedClip | None:
    """All views of all files as one stack."""
    import numpy as np

    from lcve_deploy.clipfile import read_clip_file
    from lcve_deploy.clips import EncryptedClip

    clips = [read_clip_file(path).clip for path in paths]
    for clip in clips[1:]:
        clips[0].binding.require(clip.binding, here="first clip", there="clip")
    return EncryptedClip(values=np.concatenate([c.values for c in clips]), binding=clips[0].binding) if clips else None
