"""``lcve kubernetes``: manifests that Kubernetes and KServe take, and pods that may do little."""

from __future__ import annotations

import ast
import json
import re
import shutil
from pathlib import Path
from typing import Any, Final

import kubernetes_validate
import pytest

from lcve_deploy import PublicKey
from lcve_deploy.artifact import manifest_digest
from lcve_deploy.cli import lcve
from tests.conftest import run_error, run_ok
from tests.support.artifacts import flip_a_byte
from tests.triton.server import site_packages

ALL: Final = ("deployment.json", "service.json", "autoscaler.json", "pin.json", "kserve/inferenceservice.json")


@pytest.fixture
def written(artifact: Path, tmp_path: Path) -> dict[str, Any]:
    """With every option."""
    run_ok("keygen", "--signing", "-o", tmp_path / "signing.pem")
    run_ok("sign", artifact / "server", "--signing-key", tmp_path / "signing.pem")
    shown = run_ok(
        *("kubernetes", f"walking={artifact / 'server'}", artifact / "server", "-o", tmp_path / "manifests"),
        *("--name", "actions", "--image", "registry.example/lcve:1", "--claim", "claim", "--token-secret", "tokens"),
        *("--tls-secret", "tls", "--cpus", 4, "--memory", 4096, "--gpus", 1, "--min-replicas", 2, "--max-replicas", 9),
        *("--target-delay", 50, "--signed-by", tmp_path / "signing.pub", "--keys-claim", "cameras", "--max-keys", 200),
    )
    assert shown.splitlines() == [str(tmp_path / "manifests" / name) for name in ALL]
    return {name: json.loads((tmp_path / "manifests" / name).read_text()) for name in ALL}


@pytest.fixture
def plain(exported: Path, tmp_path: Path) -> dict[str, Any]:
    """With no option."""
    answer = json.loads(run_ok("kubernetes", exported / "server", "-o", tmp_path / "plain", "--json"))
    assert answer["manifests"] == [name for name in ALL if name != "pin.json"]
    return {name: json.loads((tmp_path / "plain" / name).read_text()) for name in answer["manifests"]}


def pods(manifests: dict[str, Any]) -> list[dict[str, Any]]:
    """The specification of the pod of each kind of manifest."""
    return [
        manifests["deployment.json"]["spec"]["template"]["spec"],
        manifests["kserve/inferenceservice.json"]["spec"]["predictor"],
    ]


@pytest.mark.parametrize("version", ["1.30", "1.33", "1.37"])
@pytest.mark.parametrize("fixture", ["written", "plain"])
def test_kubernetes_takes_them(request: pytest.FixtureRequest, fixture: str, version: str) -> None:
    """Its own schemas of these versions, in which no field may be there that has no place."""
    manifests = request.getfixturevalue(fixture)
    for name, manifest in manifests.items():
        if not name.startswith("kserve/"):
            kubernetes_validate.validate(manifest, version, strict=True)
    _, predictor = pods(manifests)
    kserve_only = {"minReplicas", "maxReplicas", "annotations"}
    pod = {name: value for name, value in predictor.items() if name not in kserve_only}
    kubernetes_validate.validate(
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": pod}, version, strict=True
    )


def test_the_schemas_find_a_field_that_has_no_place(plain: dict[str, Any]) -> None:
    plain["deployment.json"]["spec"]["template"]["spec"]["containers"][0]["securityContext"]["readOnlyRoot"] = True
    with pytest.raises(kubernetes_validate.ValidationError, match="readOnlyRoot"):
        kubernetes_validate.validate(plain["deployment.json"], "1.33", strict=True)


def kserve_fields(name: str) -> dict[str, str]:
    """JSON names and types of the fields of a class of KServe's SDK, which its developers generate of its schema."""
    path = site_packages() / "kserve/models" / f"{name}.py"
    (found,) = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef)]
    tables = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in found.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and isinstance(node.value, ast.Dict)
    }
    return {tables["attribute_map"][field]: kind for field, kind in tables["openapi_types"].items()}


def test_keys_are_on_a_volume_of_their_own_if_there_is_one(written: dict[str, Any], plain: dict[str, Any]) -> None:
    for pod in pods(written):
        (container,) = pod["containers"]
        mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
        for name in ("walking", "service"):
            expected = {"name": "keys", "mountPath": f"/models/{name}/keys", "subPath": name, "readOnly": True}
            assert mounts[f"/models/{name}/keys"] == expected
        (volume,) = [volume for volume in pod["volumes"] if volume["name"] == "keys"]
        assert volume["persistentVolumeClaim"] == {"claimName": "cameras", "readOnly": True}
        assert container["args"][-2:] == ["--max-keys", "200"]
    for pod in pods(plain):
        assert "keys" not in {volume["name"] for volume in pod["volumes"]}
        assert "--max-keys" not in pod["containers"][0]["args"]


@pytest.mark.parametrize("fixture", ["written", "plain"])
def test_kserve_takes_it(request: pytest.FixtureRequest, fixture: str) -> None:
    service = request.getfixturevalue(fixture)["kserve/inferenceservice.json"]
    assert (service["apiVersion"], service["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    assert set(service) <= set(kserve_fields("v1beta1_inference_service"))
    assert set(service["spec"]) <= set(kserve_fields("v1beta1_inference_service_spec"))
    predictor, fields = service["spec"]["predictor"], kserve_fields("v1beta1_predictor_spec")
    kinds = {"int": int, "str": str, "bool": bool, "list": list, "dict": dict}
    for name, value in predictor.items():
        kind = re.match(r"\w+", fields[name])
        assert kind
        assert isinstance(value, kinds.get(kind.group(), dict)), name
    assert predictor["containers"][0]["name"] == "kserve-container"  # the one that KServe looks for


@pytest.mark.parametrize("fixture", ["written", "plain"])
def test_pods_may_do_little(request: pytest.FixtureRequest, fixture: str) -> None:
    for pod in pods(request.getfixturevalue(fixture)):
        (container,) = pod["containers"]
        assert pod["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC", "serviceAccountName"} & set(pod)
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "privileged": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"] == container["resources"]["requests"]
        assert [mount["name"] for mount in container["volumeMounts"] if not mount.get("readOnly")] == ["tmp"]
        assert "env" not in container
        paths = {
            probe: (container[f"{probe}Probe"]["httpGet"]["path"], container[f"{probe}Probe"]["httpGet"]["port"])
            for probe in ("startup", "readiness", "liveness")
        }
        ready, live = ("/v2/health/ready", "metrics"), ("/v2/health/live", "metrics")
        assert paths == {"startup": ready, "readiness": ready, "liveness": live}
        grace = int(container["args"][container["args"].index("--grace") + 1])
        assert pod["terminationGracePeriodSeconds"] > grace + container["lifecycle"]["preStop"]["sleep"]["seconds"]


@pytest.mark.parametrize("fixture", ["written", "plain"])
def test_lcve_serve_takes_the_arguments(request: pytest.FixtureRequest, fixture: str) -> None:
    serve = lcve.get_command(None, "serve")  # type: ignore[arg-type]
    assert serve
    for pod in pods(request.getfixturevalue(fixture)):
        (container,) = pod["containers"]
        mounts = tuple(mount["mountPath"] for mount in container["volumeMounts"])
        command, *arguments = container["args"]
        assert command == "serve"
        served = [argument for argument in arguments if "=" in argument]
        assert all(argument.partition("=")[2].startswith(mounts) for argument in served)
        named = [argument for argument in arguments if argument.startswith("--")]
        known = {option for parameter in serve.params for option in parameter.opts}
        assert set(named) <= known
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        defaults = {parameter.name: parameter.default for parameter in serve.params}
        assert ports == {name: defaults[f"{name}_port"] for name in ("http", "grpc", "metrics")}


def test_options_are_in_the_manifests(written: dict[str, Any], artifact: Path, tmp_path: Path) -> None:
    deployment, autoscaler = written["deployment.json"], written["autoscaler.json"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    volumes = {volume["name"]: volume for volume in deployment["spec"]["template"]["spec"]["volumes"]}
    assert all(manifest["metadata"]["name"].startswith("actions") for manifest in written.values())
    assert container["image"] == "registry.example/lcve:1"
    assert container["resources"]["limits"] == {"cpu": "4", "memory": "4096Mi", "nvidia.com/gpu": "1"}
    assert volumes["models"]["persistentVolumeClaim"] == {"claimName": "claim", "readOnly": True}
    assert (volumes["token"]["secret"]["secretName"], volumes["tls"]["secret"]["secretName"]) == ("tokens", "tls")
    arguments = " ".join(container["args"])
    for part in (
        "walking=/models/walking service=/models/service",
        "--tokens /etc/lcve/token/tokens",
        "--tls-cert /etc/lcve/tls/tls.crt --tls-key /etc/lcve/tls/tls.key",
        "--signed-by /etc/lcve/pin/signing.pub",
        "--provider cuda",
    ):
        assert part in arguments
    assert (autoscaler["spec"]["minReplicas"], autoscaler["spec"]["maxReplicas"]) == (2, 9)
    (metric,) = autoscaler["spec"]["metrics"]
    assert metric["pods"]["metric"]["name"] == "lcve_queue_seconds"
    assert metric["pods"]["target"] == {"type": "AverageValue", "averageValue": "50m"}
    key = PublicKey.from_bytes(written["pin.json"]["data"]["signing.pub"].encode())
    assert key == PublicKey.read(tmp_path / "signing.pub")
    about = deployment["spec"]["template"]["metadata"]["annotations"]["lcve-deploy/manifests"]
    assert json.loads(about) == dict.fromkeys(("walking", "service"), manifest_digest(artifact / "server"))


def test_selectors_find_the_pods(plain: dict[str, Any]) -> None:
    labels = plain["deployment.json"]["spec"]["template"]["metadata"]["labels"]
    assert plain["deployment.json"]["spec"]["selector"]["matchLabels"] == labels
    assert plain["service.json"]["spec"]["selector"] == labels
    assert plain["autoscaler.json"]["spec"]["scaleTargetRef"]["name"] == plain["deployment.json"]["metadata"]["name"]
    assert {port["name"] for port in plain["service.json"]["spec"]["ports"]} == {"http", "grpc"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--name", "Not A Name"), "expected a name of 1 to 42"),
        (("--min-replicas", 5), "expected at least 1 pod"),
        (("--target-delay", 0), "target-delay"),
        (("--memory", 0), "memory"),
    ],
)
def test_a_bad_option_is_one_clear_error(
    exported: Path, tmp_path: Path, options: tuple[object, ...], said: str
) -> None:
    assert said in run_error("kubernetes", exported / "server", "-o", tmp_path / "m", *options)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_does_not_hold_leaves_nothing(artifact: Path, exported: Path, tmp_path: Path) -> None:
    server, key = artifact / "server", tmp_path / "signing.pub"
    run_ok("keygen", "--signing", "-o", tmp_path / "signing.pem")
    assert "is not signed" in run_error("kubernetes", server, "-o", tmp_path / "m", "--signed-by", key)
    flip_a_byte(server / "model.onnx")
    assert "a different SHA-256" in run_error("kubernetes", server, "-o", tmp_path / "m")
    shutil.rmtree(artifact)
    assert "expected manifest.json" in run_error("kubernetes", server, "-o", tmp_path / "m")
    assert {path.name for path in tmp_path.iterdir()} == {"signing.pem", "signing.pub"}
    assert "two models are called" in run_error(
        "kubernetes", exported / "server", exported / "server", "-o", tmp_path / "m"
    )
