"""The table of all attacks: what each needs and finds, and the planted case that it must solve to be meaningful."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from lcve_deploy.attacks.clips import (
    ask_chosen,
    equal_in_known,
    first_known,
    known_clips,
    match_known,
    plant_chosen,
    plant_known,
)
from lcve_deploy.attacks.coefficients.chosen import ask_chosen_coefficients, plant_chosen_coefficients
from lcve_deploy.attacks.coefficients.columns import (
    match_signed_keys,
    match_signed_reference,
    plant_signed_keys,
    plant_signed_reference,
)
from lcve_deploy.attacks.coefficients.known import match_known_coefficients, plant_known_coefficients
from lcve_deploy.attacks.coefficients.seams import (
    first_encrypted,
    place_by_seams,
    plant_mosaic,
    plant_seams,
    show_mosaic,
)
from lcve_deploy.attacks.coefficients.series import lay_out_coefficient_series, plant_coefficient_series
from lcve_deploy.attacks.cube_series import lay_out_series, plant_series
from lcve_deploy.attacks.embedding import lay_out_filters, plant_filters
from lcve_deploy.attacks.holdings import HELD, Estimate, Holdings, Planted
from lcve_deploy.attacks.inversion import invert_likeliest, invert_minimum_norm, plant_tokens
from lcve_deploy.attacks.jigsaw import (
    plant_jigsaw,
    plant_jigsaw_with_filters,
    solve_jigsaw,
    solve_jigsaw_with_filters,
)
from lcve_deploy.attacks.known_classes import match_classes, plant_classes
from lcve_deploy.attacks.positions import lay_out_positions, match_sinusoid, plant_positions, plant_sinusoid
from lcve_deploy.attacks.reference import add_drift, match_keys, match_reference, plant_keys, plant_reference
from lcve_deploy.attacks.relative_positions import plant_relative, read_relative
from lcve_deploy.attacks.rotary import plant_rotary, read_rotary
from lcve_deploy.attacks.thumbnail import plant_thumbnail, show_thumbnail
from lcve_deploy.attacks.value_order import ciphertexts_held, first_ciphertexts, lay_out_texture, plant_texture
from lcve_deploy.clips import Scheme
from lcve_deploy.model.shapes import RELATIVE_INDEX, ROTARY_COS, ROTARY_SIN

__all__ = ["ATTACKS", "Attack", "Curve"]

_BOTH: Final = frozenset(Scheme)
_LCVE: Final = frozenset({Scheme.LCVE})
_DCT: Final = frozenset({Scheme.DCT})


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A parameter at whose levels an attack is repeated.

    Args:
        axis: name of the parameter.
        levels: levels, in order.
        at: returns the holdings at a level.
        maximum: returns the highest level that the holdings allow.
    """

    axis: str
    levels: tuple[float, ...]
    at: Callable[[Holdings, float, np.random.Generator], Holdings]
    maximum: Callable[[Holdings], float] = field(default=lambda holdings: math.inf)


@dataclass(frozen=True, kw_only=True)
class Attack:
    """One attack.

    Args:
        name: identifier.
        title: title for people.
        needs: required fields of ``Holdings``.
        tensors: keyed tensors that the artifact must have; not every model has them.
        finds: fields of ``Estimate`` that it fills, and the minimum score of each on the planted case.
        measure: kind of score: ``exact`` or ``neighbours`` for an order, ``ssim`` or ``light`` for a clip.
        symmetric: whether its orders are scored up to the symmetries of the grid.
        relative: whether it finds the orders of one key relative to another key of the model.
        run: runs the attack.
        plant: creates the planted case with a random generator.
        curve: parameter at whose levels the attack is repeated.
        schemes: schemes whose artifacts and clips it is run on.
        unfit: why it is not run on a scheme, for the report.
        within: whether it compares values within a cube, which a cube of one pixel does not have.
        blind: returns why no attack with these holdings could find an order, by field of an estimate.
    """

    name: str
    title: str
    needs: tuple[str, ...]
    finds: Mapping[str, float]
    run: Callable[[Holdings], Estimate]
    plant: Callable[[np.random.Generator], Planted]
    measure: str = "exact"
    symmetric: bool = False
    relative: bool = False
    curve: Curve | None = None
    tensors: tuple[str, ...] = ()
    schemes: frozenset[Scheme] = _BOTH
    unfit: Mapping[Scheme, str] = field(default_factory=dict)
    within: bool = False
    blind: Callable[[Holdings], Mapping[str, str]] = field(default=lambda holdings: {})

    def reason_not_to_run(self, holdings: Holdings) -> str:
        """Return why the attack cannot be run with these holdings; empty if it can."""
        if holdings.scheme in self.unfit:
            return self.unfit[holdings.scheme]
        if self.within and math.prod(holdings.geometry.cube) == 1:
            return "needs cubes of several pixels"
        fields = [HELD[need] for need in self.needs if getattr(holdings, need) is None]
        absent = fields or [f"a model with {name}" for name in self.tensors if name not in (holdings.artifact or {})]
        return f"needs {', '.join(absent)}" if absent else ""


ATTACKS: Final = (
    Attack(
        name="sinusoid",
        title="match position rows with the public sinusoid table",
        needs=("artifact",),
        finds={"cubes": 0.99},
        tensors=("positional_encoding",),
        run=match_sinusoid,
        plant=plant_sinusoid,
    ),
    Attack(
        name="positions",
        title="arrange learned position rows by similarity",
        needs=("artifact",),
        finds={"cubes": 0.9},
        measure="neighbours",
        symmetric=True,
        tensors=("positional_encoding",),
        run=lay_out_positions,
        plant=plant_positions,
    ),
    Attack(
        name="rotary",
        title="read positions from the angles of rotary tables",
        needs=("artifact",),
        finds={"cubes": 0.99},
        symmetric=True,
        tensors=(ROTARY_COS, ROTARY_SIN),
        run=read_rotary,
        plant=plant_rotary,
    ),
    Attack(
        name="relative",
        title="read offsets from the index of relative positions",
        needs=("artifact",),
        finds={"cubes": 0.99},
        tensors=(RELATIVE_INDEX,),
        run=read_relative,
        plant=plant_relative,
    ),
    Attack(
        name="filters",
        title="arrange embedding columns by similarity of filters",
        needs=("artifact",),
        finds={"values": 0.5},
        measure="neighbours",
        symmetric=True,
        run=lay_out_filters,
        within=True,
        plant=plant_filters,
        unfit={Scheme.DCT: "columns are frequencies, and neighbouring frequencies do not have similar filters"},
    ),
    Attack(
        name="reference",
        title="match all rows and columns with a reference checkpoint",
        needs=("artifact", "reference"),
        finds={"cubes": 0.99, "values": 0.99, "labels": 0.99},
        run=match_reference,
        plant=plant_reference,
        curve=Curve(
            axis="drift of the reference (deviations of its weights)",
            levels=(0.1, 0.5, 1.0, 2.0, 4.0, 8.0),
            at=add_drift,
        ),
        schemes=_LCVE,
    ),
    Attack(
        name="reference",
        title="match all rows and columns with a reference checkpoint",
        needs=("artifact", "reference"),
        finds={"cubes": 0.99, "values": 0.99, "labels": 0.99, "signs": 0.99},
        run=match_signed_reference,
        plant=plant_signed_reference,
        curve=Curve(
            axis="drift of the reference (deviations of its weights)",
            levels=(0.1, 0.5, 1.0, 2.0, 4.0, 8.0),
            at=add_drift,
        ),
        schemes=_DCT,
    ),
    Attack(
        name="texture",
        title="arrange values by texture over many cubes",
        needs=("ciphertexts",),
        finds={"values": 0.9},
        symmetric=True,
        run=lay_out_texture,
        within=True,
        plant=plant_texture,
        curve=Curve(axis="encrypted clips", levels=(1, 4, 16, 64, 256), at=first_ciphertexts, maximum=ciphertexts_held),
        unfit={Scheme.DCT: "coefficients do not resemble those of neighbouring frequencies"},
    ),
    Attack(
        name="jigsaw",
        title="assemble cubes like a jigsaw puzzle",
        needs=("ciphertexts",),
        finds={"cubes": 0.9},
        symmetric=True,
        run=solve_jigsaw,
        plant=plant_jigsaw,
        unfit={Scheme.DCT: "cubes have no edges before their coefficients are known"},
    ),
    Attack(
        name="filters-jigsaw",
        title="assemble cubes, with the values laid out by filters",
        needs=("artifact", "ciphertexts"),
        finds={"cubes": 0.9},
        symmetric=True,
        run=solve_jigsaw_with_filters,
        within=True,
        plant=plant_jigsaw_with_filters,
        unfit={Scheme.DCT: "cubes have no edges before their coefficients are known"},
    ),
    Attack(
        name="series",
        title="arrange cubes by statistics over many clips",
        needs=("ciphertexts",),
        finds={"cubes": 0.2},
        measure="neighbours",
        symmetric=True,
        run=lay_out_series,
        plant=plant_series,
        schemes=_LCVE,
    ),
    Attack(
        name="thumbnail",
        title="fill every cube with its mean, in the order found so far",
        needs=("artifact", "ciphertexts"),
        finds={"clip": 0.7},
        measure="light",
        symmetric=True,
        run=show_thumbnail,
        plant=plant_thumbnail,
        schemes=_LCVE,
    ),
    Attack(
        name="series",
        title="arrange cubes by light, colour and texture over all clips",
        needs=("ciphertexts",),
        finds={"cubes": 0.2},
        measure="neighbours",
        symmetric=True,
        run=lay_out_coefficient_series,
        plant=plant_coefficient_series,
        schemes=_DCT,
    ),
    Attack(
        name="thumbnail",
        title="show the mean light of every cube, in the order found",
        needs=("artifact", "ciphertexts"),
        finds={"clip": 0.7},
        measure="light",
        symmetric=True,
        run=show_mosaic,
        plant=plant_mosaic,
        schemes=_DCT,
    ),
    Attack(
        name="seams",
        title="place coefficients by continuity across cubes",
        needs=("artifact", "ciphertexts"),
        finds={"values": 0.99, "signs": 0.99},
        measure="energy",
        symmetric=True,
        run=place_by_seams,
        within=True,
        plant=plant_seams,
        curve=Curve(axis="encrypted clips", levels=(1, 2, 4), at=first_encrypted, maximum=ciphertexts_held),
        schemes=_DCT,
    ),
    Attack(
        name="linking",
        title="match the rows and columns of two keys of one model",
        needs=("artifact", "other"),
        finds={"cubes": 0.99, "values": 0.99, "labels": 0.99},
        relative=True,
        run=match_keys,
        plant=plant_keys,
        schemes=_LCVE,
    ),
    Attack(
        name="linking",
        title="match the rows and columns of two keys of one model",
        needs=("artifact", "other"),
        finds={"cubes": 0.99, "values": 0.99, "labels": 0.99, "signs": 0.99},
        relative=True,
        run=match_signed_keys,
        plant=plant_signed_keys,
        schemes=_DCT,
    ),
    Attack(
        name="known",
        title="match cubes and values of known clips",
        needs=("known",),
        finds={"cubes": 0.99, "values": 0.99},
        run=match_known,
        blind=equal_in_known,
        plant=plant_known,
        curve=Curve(axis="known clips", levels=(1, 2, 4, 8, 16), at=first_known, maximum=known_clips),
        schemes=_LCVE,
    ),
    Attack(
        name="known",
        title="match cubes and values of known clips",
        needs=("known",),
        finds={"cubes": 0.99, "values": 0.99, "signs": 0.99},
        run=match_known_coefficients,
        blind=equal_in_known,
        plant=plant_known_coefficients,
        curve=Curve(axis="known clips", levels=(1, 2, 4, 8, 16), at=first_known, maximum=known_clips),
        schemes=_DCT,
    ),
    Attack(
        name="classes",
        title="match logits with the known classes of clips",
        needs=("classified",),
        finds={"labels": 0.95},
        run=match_classes,
        plant=plant_classes,
    ),
    Attack(
        name="chosen",
        title="encrypt chosen clips that encode every index",
        needs=("oracle",),
        finds={"cubes": 1.0, "values": 1.0},
        run=ask_chosen,
        plant=plant_chosen,
        schemes=_LCVE,
    ),
    Attack(
        name="chosen",
        title="encrypt chosen clips that encode every index",
        needs=("oracle",),
        finds={"cubes": 1.0, "values": 1.0, "signs": 1.0},
        run=ask_chosen_coefficients,
        plant=plant_chosen_coefficients,
        schemes=_DCT,
    ),
    Attack(
        name="minimum-norm",
        title="invert tokens: minimum-norm clip",
        needs=("embedding", "tokens"),
        finds={"clip": 0.3},
        measure="ssim",
        run=invert_minimum_norm,
        plant=plant_tokens,
    ),
    Attack(
        name="likeliest",
        title="invert tokens: most probable clip",
        needs=("embedding", "tokens"),
        finds={"clip": 0.9},
        measure="ssim",
        run=invert_likeliest,
        plant=plant_tokens,
    ),
)
