"""Kubernetes manifests for ``lcve serve``: a Deployment with Service and autoscaler, and a KServe service.

They are plain values, written as JSON, which ``kubectl`` accepts like YAML.

Source: Kubernetes' API reference (apps/v1, v1, autoscaling/v2); KServe's ``InferenceService`` (v1beta1).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from lcve_deploy.artifact import PublicKey
from lcve_deploy.artifact.names import KEYS
from lcve_deploy.errors import ArtifactError

__all__ = ["QUEUE_METRIC", "KubernetesOptions", "manifests"]

QUEUE_METRIC: Final = "lcve_queue_seconds"
"""Mean time in the queue of each pod, which an adapter computes from Prometheus' sum and count."""

_LABEL: Final = re.compile(r"[a-z]([-a-z0-9]{0,40}[a-z0-9])?")
_PORTS: Final = {"http": 8000, "grpc": 8001, "metrics": 8002}
_USER: Final = 10001
_DRAIN: Final = 5
_GRACE: Final = 30
_READABLE: Final = 0o440
_KEYS_VOLUME: Final = "keys"
_MODELS, _TOKEN, _TLS, _PIN = "/models", "/etc/lcve/token", "/etc/lcve/tls", "/etc/lcve/pin"

Value = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class KubernetesOptions:
    """Settings of the cluster, chosen by the operator.

    Args:
        name: name of all objects.
        image: container image with ``lcve`` as its entry point and the extra ``serve``.
        claim: PersistentVolumeClaim with a model folder for each model, under the model's name.
        keys_claim: PersistentVolumeClaim with the key folders of each model, under the model's name, in place of
            ``keys/`` of the model folder. So keys can change on a volume of their own, without a restart.
        max_keys: keys whose tensors each pod keeps in memory; None for the default of ``lcve serve``.
        token_secret: Secret with the file ``tokens`` for ``lcve serve --tokens``; None for no tokens.
        tls_secret: Secret of type ``kubernetes.io/tls``; None for plain connections.
        cpus: CPUs per pod.
        memory: memory per pod, MiB.
        gpus: GPUs per pod.
        replicas: minimum and maximum number of pods.
        target_delay: mean time in the queue, seconds, above which pods are added.
        signed_by: the owner's public key, if pinned.

    Raises:
        ArtifactError: the name is invalid, or the numbers of pods are out of order.
    """

    name: str = "lcve"
    image: str = "lcve-server"
    claim: str = "lcve-models"
    keys_claim: str | None = None
    max_keys: int | None = None
    token_secret: str | None = None
    tls_secret: str | None = None
    cpus: int = 2
    memory: int = 2048
    gpus: int = 0
    replicas: tuple[int, int] = (1, 4)
    target_delay: float = 0.1
    signed_by: PublicKey | None = None

    def __post_init__(self) -> None:
        if not _LABEL.fullmatch(self.name):
            raise ArtifactError(f"expected a name of 1 to 42 characters from a-z 0-9 -, received {self.name!r}")
        if not 1 <= self.replicas[0] <= self.replicas[1]:
            raise ArtifactError(
                f"expected at least 1 pod, and a maximum not below the minimum, received {self.replicas}"
            )


def manifests(models: dict[str, str], options: KubernetesOptions) -> dict[str, Value]:
    """Return the manifests by path.

    Args:
        models: SHA-256 of each artifact's manifest, by model name. They are annotations of the pod, so that another
            artifact under the same name starts new pods.
        options: settings of the cluster.
    """
    labels = {"app.kubernetes.io/name": "lcve-serve", "app.kubernetes.io/instance": options.name}
    annotations = {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(_PORTS["metrics"]),
        "prometheus.io/path": "/metrics",
        "lcve-deploy/manifests": json.dumps(models),
    }
    pin = {"pin.json": _pin(options, labels)} if options.signed_by else {}
    return {
        "deployment.json": _deployment(models, options, labels, annotations),
        "service.json": _service(options, labels),
        "autoscaler.json": _autoscaler(options, labels),
        **pin,
        "kserve/inferenceservice.json": _inference_service(models, options, labels, annotations),
    }


def _object(version: str, kind: str, name: str, labels: Value, **fields: Any) -> Value:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "labels": labels}, **fields}


def _deployment(models: Mapping[str, str], options: KubernetesOptions, labels: Value, annotations: Value) -> Value:
    """Return the Deployment. The autoscaler sets its replicas; new pods are ready before old ones end."""
    pod = {"metadata": {"labels": labels, "annotations": annotations}, "spec": _pod(models, options, "lcve")}
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    spec = {"selector": {"matchLabels": labels}, "strategy": rolling, "template": pod}
    return _object("apps/v1", "Deployment", options.name, labels, spec=spec)


def _service(options: KubernetesOptions, labels: Value) -> Value:
    """Return the Service, without the metrics port, which needs no token."""
    ports = [{"name": name, "port": _PORTS[name], "targetPort": name} for name in ("http", "grpc")]
    return _object("v1", "Service", options.name, labels, spec={"selector": labels, "ports": ports})


def _autoscaler(options: KubernetesOptions, labels: Value) -> Value:
    minimum, maximum = options.replicas
    target = {"type": "AverageValue", "averageValue": f"{round(options.target_delay * 1000)}m"}
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": options.name},
        "minReplicas": minimum,
        "maxReplicas": maximum,
        "metrics": [{"type": "Pods", "pods": {"metric": {"name": QUEUE_METRIC}, "target": target}}],
    }
    return _object("autoscaling/v2", "HorizontalPodAutoscaler", options.name, labels, spec=spec)


def _pin(options: KubernetesOptions, labels: Value) -> Value:
    key = options.signed_by.to_bytes().decode() if options.signed_by else ""
    return _object("v1", "ConfigMap", f"{options.name}-pin", labels, data={"signing.pub": key})


def _inference_service(
    models: Mapping[str, str], options: KubernetesOptions, labels: Value, annotations: Value
) -> Value:
    """Return the same pod for KServe, in its mode without Knative, which allows only one port."""
    minimum, maximum = options.replicas
    predictor = {"minReplicas": minimum, "maxReplicas": maximum, "annotations": annotations}
    service = _object(
        "serving.kserve.io/v1beta1",
        "InferenceService",
        options.name,
        labels,
        spec={"predictor": {**predictor, **_pod(models, options, "kserve-container")}},
    )
    service["metadata"]["annotations"] = {"serving.kserve.io/deploymentMode": "RawDeployment"}
    return service


def _pod(models: Mapping[str, str], options: KubernetesOptions, container: str) -> Value:
    """Return a pod with minimal permissions: no root, no service account token, and only ``/tmp`` is writable."""
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": _DRAIN + _GRACE + _DRAIN,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "fsGroup": _USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(models, options, container)],
        "volumes": [{"name": name, **source} for name, source, _ in _volumes(options)],
    }


def _container(models: Mapping[str, str], options: KubernetesOptions, name: str) -> Value:
    resources = {"cpu": str(options.cpus), "memory": f"{options.memory}Mi"}
    if options.gpus:
        resources["nvidia.com/gpu"] = str(options.gpus)
    return {
        "name": name,
        "image": options.image,
        "args": _arguments(models, options),
        "ports": [{"name": port, "containerPort": number} for port, number in _PORTS.items()],
        "resources": {"requests": resources, "limits": resources},
        "startupProbe": {**_probe("ready"), "failureThreshold": 60},
        "readinessProbe": _probe("ready"),
        "livenessProbe": {**_probe("live"), "periodSeconds": 10},
        # While the pod sleeps, it is removed from the service, so that no new requests arrive during shutdown.
        "lifecycle": {"preStop": {"sleep": {"seconds": _DRAIN}}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "privileged": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            *(
                {"name": volume, "mountPath": path, **({} if volume == "tmp" else {"readOnly": True})}
                for volume, _, path in _volumes(options)
                if volume != _KEYS_VOLUME
            ),
            *_key_mounts(models, options),
        ],
    }


def _key_mounts(models: Mapping[str, str], options: KubernetesOptions) -> list[Value]:
    """Return the mounts of the key folders, each within the mount of its model."""
    if options.keys_claim is None:
        return []
    return [
        {"name": _KEYS_VOLUME, "mountPath": f"{_MODELS}/{name}/{KEYS}", "subPath": name, "readOnly": True}
        for name in models
    ]


def _probe(check: str) -> Value:
    return {"httpGet": {"path": f"/v2/health/{check}", "port": "metrics"}, "periodSeconds": 5, "timeoutSeconds": 3}


def _arguments(models: Mapping[str, str], options: KubernetesOptions) -> list[str]:
    token = ["--tokens", f"{_TOKEN}/tokens"] if options.token_secret else []
    tls = ["--tls-cert", f"{_TLS}/tls.crt", "--tls-key", f"{_TLS}/tls.key"] if options.tls_secret else []
    pin = ["--signed-by", f"{_PIN}/signing.pub"] if options.signed_by else []
    provider = ["--provider", "cuda"] if options.gpus else []
    keys = ["--max-keys", str(options.max_keys)] if options.max_keys else []
    sources = [f"{name}={_MODELS}/{name}" for name in models]
    fixed = ["--host", "0.0.0.0", "--grace", str(_GRACE)]  # noqa: S104
    return ["serve", *sources, *fixed, *token, *tls, *pin, *provider, *keys]


def _volumes(options: KubernetesOptions) -> list[tuple[str, Value, str]]:
    """Return name, source and mount path of every volume. Secrets are files, because variables leak into logs."""
    volumes: list[tuple[str, Value, str]] = [
        ("models", {"persistentVolumeClaim": {"claimName": options.claim, "readOnly": True}}, _MODELS),
        ("tmp", {"emptyDir": {"sizeLimit": "256Mi"}}, "/tmp"),  # noqa: S108
    ]
    if options.keys_claim:
        claim = {"persistentVolumeClaim": {"claimName": options.keys_claim, "readOnly": True}}
        volumes.append((_KEYS_VOLUME, claim, ""))
    for name, secret, path in (("token", options.token_secret, _TOKEN), ("tls", options.tls_secret, _TLS)):
        if secret:
            volumes.append((name, {"secret": {"secretName": secret, "defaultMode": _READABLE}}, path))
    if options.signed_by:
        volumes.append(("pin", {"configMap": {"name": f"{options.name}-pin"}}, _PIN))
    return volumes
