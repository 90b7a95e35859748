"""Single options shared by several commands."""

from __future__ import annotations

from typing import Final

import cloup

from lcve_deploy.cli.options.types import ABOVE_ZERO, PATH, PATH_OR_PIPE, POSITIVE, SaltBytes

__all__ = [
    "as_json",
    "client_option",
    "engine_secret_option",
    "key_name_option",
    "key_option",
    "logits_out_option",
    "salt_option",
    "thorough_option",
    "tolerance_option",
    "top_option",
    "verify_clip_option",
]

key_option: Final = cloup.option("--key", "key_file", type=PATH, required=True, metavar="FILE", help="Key file.")
client_option: Final = cloup.option(
    "--client", "client_folder", type=PATH, required=True, metavar="DIR", help="client/ of the artifact."
)
key_name_option: Final = cloup.option(
    "--key-name", default="main", show_default=True, metavar="NAME", help="Name of the key folder in server/keys."
)
engine_secret_option: Final = cloup.option(
    "--engine-secret",
    type=PATH,
    envvar="LCVE_ENGINE_SECRET",
    show_envvar=True,
    metavar="FILE",
    help="Secret by which this machine knows its own engines.  [default: in the user's state folder]",
)
as_json: Final = cloup.option("--json", "as_json", is_flag=True, help="Print JSON.")
top_option: Final = cloup.option(
    "--top", type=POSITIVE, default=5, show_default=True, metavar="N", help="Number of classes to show."
)
logits_out_option: Final = cloup.option(
    "--logits-out",
    type=PATH_OR_PIPE,
    metavar="FILE",
    help="Write the model's output, float32, as .npy: logits, features or tokens. - for standard output.",
)
salt_option: Final = cloup.option(
    "--salt", type=SaltBytes(), help="Salt of 16 bytes, to reproduce a key, or to let two artifacts share clips."
)
tolerance_option: Final = cloup.option(
    "--tolerance", type=ABOVE_ZERO, metavar="FLOAT", help="Maximum |Δlogit| of the graph to accept as equal."
)
thorough_option: Final = cloup.option(
    "--thorough", is_flag=True, help="Compare in float64 instead of float32, and on more built-in clips; slower."
)
verify_clip_option: Final = cloup.option(
    "--verify-clip",
    "verify_clips",
    type=PATH,
    multiple=True,
    metavar="FILE",
    help="Video for the comparison; may be repeated.",
)
