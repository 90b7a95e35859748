"""The tests and types of ``clients/js/`` itself."""

from __future__ import annotations

import json
import os
import re
import subprocess

import pytest

from tests.support.node import CLIENT, require_node


def test_its_own_tests_pass() -> None:
    command = [require_node(), "--test", *map(str, sorted((CLIENT / "test").glob("*.test.js")))]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_its_types_are_right() -> None:
    compiler = CLIENT / "node_modules/typescript/bin/tsc"
    if not compiler.exists():
        if os.environ.get("LCVE_REQUIRE_NODE"):
            pytest.fail("LCVE_REQUIRE_NODE is set, and the compiler is not installed: npm ci --prefix clients/js")
        pytest.skip("the compiler of TypeScript is not installed: npm ci --prefix clients/js")
    done = subprocess.run([require_node(), str(compiler), "-p", str(CLIENT)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_it_has_no_dependencies_at_run_time_and_is_not_published() -> None:
    package = json.loads((CLIENT / "package.json").read_text(encoding="utf-8"))
    assert package["private"] is True
    assert not {"dependencies", "optionalDependencies", "peerDependencies"} & set(package)
    for module in (CLIENT / "src").rglob("*.js"):
        sources = re.findall(r'\b(?:from|import)\b[ (]*"([^"]+)"', module.read_text(encoding="utf-8"))
        assert all((module.parent / source).resolve().is_relative_to(CLIENT / "src") for source in sources), module
