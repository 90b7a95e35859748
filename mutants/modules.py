"""Which tests belong to which module."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["MODULES", "Module", "chosen"]

_ROOT: Final = Path(__file__).parent.parent
_ALWAYS: Final = "house_rules"
_ORDERS: Final = ("geometry", "cipher", "schedule")


def _of(file: str, *tests: str) -> tuple[str, ...]:
    """Some tests of a file."""
    return tuple(f"{file}::test_{test}" for test in tests)


_ENGINES: Final = _of(
    "engines",
    "an_engine_that_is_not_there",
    "an_engine_that_does_not_hold_is_refused",
    "an_engine_of_another_model_is_refused",
    "an_engine_that_is_there_is_never_overwritten",
    "the_record_of_an_engine_is_replaced_in_one_step",
    "build_run_and_inspect",
)
_PROVIDERS: Final = _of(
    "engines",
    "a_provider_that_leaves_the_work_to_the_cpu_is_an_error",
    "a_provider_that_is_not_there_is_an_error_and_no_fallback",
    "a_provider_that_does_not_start_is_an_error",
    "options_of_the_provider_and_no_others_reach_it",
    "threads_reach_the_runtime",
)
_PROOFS: Final = _of(
    "engines",
    "verify_proves_an_engine_on_another_machine",
    "an_engine_that_answers_wrongly_loses_its_proof",
    "an_engine_that_answers_wrongly_where_it_was_proven_loses_its_proof_too",
    "a_proven_engine_is_verified_where_nothing_can_be_written",
    "an_engine_over_its_budget_is_not_kept",
    "an_engine_from_before_is_held_to_the_budget",
)
_SIGNATURES: Final = _of(
    "signing",
    "keys_are_those_of_the_format_and_of_rfc_8032",
    "the_files_read_back",
    "the_secret_does_not_show",
    "manifest_and_signature_that_come_as_bytes",
    "what_is_no_public_key_is_no_pin",
    "a_pin_that_is_not_there",
    "what_the_pinned_key_has_not_signed_is_refused_everywhere",
    "without_a_pin_a_signature_is_neither_trusted_nor_checked",
    "a_folder_with_the_name_of_the_signature_hides_nothing",
    "sign_writes_the_same_signature_once",
    "sign_overwrites_no_other_signature",
)
_GRAPHS: Final = (
    *_of(
        "export",
        "layouts_and_opsets_agree",
        "bytes_meet_no_node_but_a_cast",
        "the_graph_names_no_place_person_or_source",
    ),
    *_of("export", "the_batch_is_dynamic", "only_the_keyed_tensors_depend_on_the_secret"),
    *_of("families", "each_readout_is_exported_exactly"),
    *_of("checkpoints", "activations_of_an_exported_graph_answer_as_transformers_does"),
)
_WEIGHTS: Final = _of(
    "checkpoints",
    "every_wrong_weight_is_named",
    "the_builtin_reference_answers_as_the_original_implementation",
    "names_of_transformers_5_are_read_too",
    "wrappers_and_prefixes_are_taken_off",
)
_PICKLES: Final = _of(
    "fuzz",
    "a_pickle_that_asks_for_too_much_is_refused",
    "no_record_escapes_the_check_by_its_name",
    "an_archive_with_bytes_around_it_is_refused",
    "numbers_of_numpy_are_read_as_they_were",
    "other_values_of_numpy_are_refused",
    "tensors_that_hold_no_weights_are_refused",
    "a_negated_view_is_read_by_its_values",
    "views_beyond_their_storage_are_refused",
    "methods_that_a_pickle_overwrites_are_not_called",
    "shards_that_are_no_weights_are_refused",
    "every_real_checkpoint_passes_the_check",
)
_READERS: Final = _of(
    "checkpoints",
    "a_malicious_pickle_is_refused_and_not_run",
    "a_malicious_pickle_in_a_folder_is_refused_and_not_run",
    "damaged_files_are_one_clear_error",
    "a_truncated_file_is_one_clear_error",
    "bin_folders_are_read",
    "sharded_folders_are_read",
    "shards_stay_in_the_folder",
    "other_precisions_are_read",
    "legacy_files_without_a_zip_container_are_read",
    "what_is_downloaded_in_place_of_weights_is_named",
    "every_wrong_weight_is_named",
)
_FOLDERS: Final = _of(
    "checkpoints",
    "the_builtin_reference_answers_as_the_original_implementation",
    "videomae_without_a_processor_file_is_normalised_as_imagenet",
    "vivit_without_a_processor_file_must_be_told",
    "vivits_own_processor_is_expressed_exactly",
    "processor_files_are_expressed_as_one_formula",
    "configurations_that_make_no_model_are_one_clear_error",
    "other_activations_answer_as_transformers_does",
    "model_types_that_are_not_exported",
    "a_model_without_a_classifier_is_refused",
)
_POSITIONS: Final = _of(
    "families",
    "each_family_answers_as_its_own_code",
    "mvds_own_save_is_read_as_mvd",
    "positions_that_umt_would_have_saved_are_not_made_up",
    "mvds_positions_need_a_width_that_divides",
)

_TESTS: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "cipher": {"cipher/clips": ("cipher",), "cipher/coefficients": ("coefficients",)},
    "packing": {"packing": ("packing",)},
    "pairs": {"cipher/pairs": ("cipher",)},
    "orders": {"keys/orders": ("schedule", "cipher")},
    "geometry": {"geometry": _ORDERS},
    "weights": {"cipher/weights": ("scrambling", "graph", "common_form")},
    "rotation": {"cipher/rotation": ("rotation", "common_form")},
    "parity": {"model/parity": ("parity", "artifact")},
    "artifact": {
        "artifact/client_settings": ("client_settings",),
        "artifact/digests": ("digests",),
        "artifact/engine_mac": ("engine_mac",),
        "artifact/engine_options": ("engine_options",),
        "artifact/engine_secret": ("engine_secret",),
        "artifact/engines": ("engine_record", *_ENGINES),
        "artifact/external": ("external_data",),
        "artifact/format_1": ("keys",),
        "artifact/graph_files": ("external_data", "loaded_bytes"),
        "artifact/inlining": ("loaded_bytes", "engines"),
        "artifact/key_folder": ("key_folder",),
        "artifact/manifest": ("manifest",),
        "artifact/model_spec": ("manifest",),
        "artifact/names": ("artifact", "graph"),
        "artifact/probe": ("probe",),
        "artifact/profile": ("engine_record",),
        "artifact/record": ("record",),
        "artifact/signature": _SIGNATURES,
        "artifact/tensors": ("key_folder", "probe"),
        "artifact/wire": ("external_data",),
    },
    "runtime": {
        "runtime/bank": ("bank",),
        "runtime/banked": ("sessions_of_keys",),
        "runtime/key_folders": ("sessions_of_keys",),
        "runtime/boundary": ("serving_versions",),
        "runtime/cpu": ("cpu",),
        "runtime/backends/attention": ("attention",),
        "runtime/backends/onnxruntime": ("gpu_providers", "artifact", *_ENGINES, *_PROVIDERS),
        "runtime/backends/onnxruntime_rows": ("gpu_providers", "sessions_of_keys"),
        "runtime/opening": ("artifact", "engines"),
        "runtime/backends/openvino": ("engines",),
        "runtime/probe": ("probe", "artifact", *_PROOFS),
        "runtime/probing": ("probe", "artifact", "gpu_providers"),
        "runtime/session": ("artifact", "engines"),
        "runtime/backends/tensorrt": ("tensorrt",),
        "runtime/backends/pipeline": ("tensorrt",),
    },
    "model": {
        "model/config": ("common_form",),
        "model/keyed": ("common_form", "rotation", "scrambling"),
        "model/shapes": ("common_form", "assemble"),
    },
    "exporters/bank": {"exporters/bank": ("graph", "common_form")},
    "exporters/onnx": {"exporters/onnx": ("graph", *_GRAPHS)},
    "exporters/graph": {
        "exporters/graph/attention": ("common_form", "graph", "attention", *_GRAPHS),
        "exporters/graph/blocks": ("common_form", "graph", *_GRAPHS),
        "exporters/graph/mlp": ("common_form", "graph", *_GRAPHS),
        "exporters/graph/nodes": ("common_form", "graph", *_GRAPHS),
        "exporters/graph/pooling": ("common_form", "graph", *_GRAPHS),
        "exporters/graph/positions": ("common_form",),
        "exporters/graph/tokens": ("common_form", "graph", *_GRAPHS),
    },
    "exporters/checkpoints": {
        "exporters/checkpoints/arguments": ("arguments", "families", "checkpoints"),
        "exporters/checkpoints/assemble": ("assemble", *_WEIGHTS, "folders"),
        "exporters/checkpoints/class_vectors": ("class_vectors",),
        "exporters/checkpoints/families": ("families",),
        "exporters/checkpoints/hub": ("hub",),
        "exporters/checkpoints/huggingface": ("configurations", *_FOLDERS, "folders"),
        "exporters/checkpoints/layouts": ("assemble", *_WEIGHTS, "folders"),
        "exporters/checkpoints/load": ("checkpoints", "hub", "families"),
        "exporters/checkpoints/official": ("families", "checkpoints"),
        "exporters/checkpoints/options": ("families", "checkpoints"),
        "exporters/checkpoints/outer": ("outer",),
        "exporters/checkpoints/outputs": ("model_outputs", "class_vectors"),
        "exporters/checkpoints/pickles": ("pickles", *_PICKLES),
        "exporters/checkpoints/positions": ("positions", *_POSITIONS),
        "exporters/checkpoints/processors": ("processor_settings", "processors", "image_processors"),
        "exporters/checkpoints/reading": ("to_arrays", *_READERS, *_PICKLES),
        "exporters/checkpoints/recorded": ("recorded_options",),
        "exporters/checkpoints/refusals": ("checkpoints",),
        "exporters/checkpoints/folders": ("configurations", *_FOLDERS, "folders"),
        "exporters/checkpoints/image_families": ("image_families", "oracle_folders"),
        "exporters/checkpoints/image_layouts": ("image_families", "oracle_folders"),
        "exporters/checkpoints/image_tables": ("image_families", "oracle_folders"),
        "exporters/checkpoints/rotary": ("rotary", "oracle_folders"),
        "exporters/checkpoints/settings": ("configurations", "video_families"),
        "exporters/checkpoints/video_families": ("video_families", "oracle_folders"),
        "exporters/checkpoints/video_layouts": ("video_families", "oracle_folders"),
        "exporters/checkpoints/video_tables": ("video_families", "oracle_folders"),
        "exporters/checkpoints/refusal_table": ("models_page", "checkpoints"),
        "exporters/checkpoints/timm": ("timm",),
        "exporters/checkpoints/timm_families": ("timm",),
        "exporters/checkpoints/wrappers": ("wrappers", "families", "checkpoints"),
    },
}


@dataclass(frozen=True, kw_only=True)
class Module:
    """A module to mutate.

    Args:
        path: from the root of the tree.
        tests: files, and tests within files: the quickest and closest, as every survivor runs them all.
    """

    path: str
    tests: tuple[str, ...]


def _tests(name: str) -> str:
    """A folder of tests, or a file."""
    return f"tests/{name}" if (_ROOT / "tests" / name).is_dir() else f"tests/test_{name}.py"


def _modules(tests_of: dict[str, tuple[str, ...]]) -> Iterator[Module]:
    for name, tests in tests_of.items():
        place = _ROOT / "lcve_deploy" / name
        paths = sorted(place.glob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
        named = tuple(_argument(test) for test in (*tests, _ALWAYS))
        yield from (Module(path=path.relative_to(_ROOT).as_posix(), tests=named) for path in paths)


def _argument(test: str) -> str:
    """An argument of pytest for a file, a folder, or one test of either."""
    name, _, function = test.partition("::")
    place = _tests(name)
    if not function:
        return place
    if (_ROOT / place).is_dir():
        files = (path for path in (_ROOT / place).glob("test_*.py") if f"def {function}(" in path.read_text())
        place = next(files).relative_to(_ROOT).as_posix()
    return f"{place}::{function}"


MODULES: Final = {part: tuple(_modules(tests_of)) for part, tests_of in _TESTS.items()}
"""By the names that ``--only`` takes."""


def chosen(names: Sequence[str]) -> list[Module]:
    """Modules by the name of their part, or by their own path."""
    return [module for part, modules in MODULES.items() for module in modules if {part, module.path} & set(names)]
