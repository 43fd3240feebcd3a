"""Service accounts of a real API server, with rights on JobRequests."""

from collections.abc import Sequence
from pathlib import Path

import yaml
from joblease_local.control_plane import ControlPlane
from joblease_local.manifests import apply, apply_file
from joblease_local.settings import ROOT

RBAC = "rbac.authorization.k8s.io"
ACCESS = frozenset({"Namespace", "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"})


def program_kubeconfig(plane: ControlPlane, program: str, folder: Path) -> Path:
    """The operator, or the dashboard, with the rights of its manifest, and not as administrator."""
    apply_file(plane.kubeconfig, ROOT / "manifests" / "install.yaml", ACCESS)
    kubeconfig = folder / f"{program}.kubeconfig"
    plane.service_account_kubeconfig("joblease-system", f"joblease-{program}", kubeconfig)
    return kubeconfig


def account(
    plane: ControlPlane, folder: Path, namespace: str, name: str, verbs: Sequence[str], *, everywhere: bool = False
) -> str:
    """Make an account with these rights in its namespace, which is made too, or everywhere; its token."""
    kind = "ClusterRole" if everywhere else "Role"
    metadata = {"name": f"{namespace}-{name}", **({} if everywhere else {"namespace": namespace})}
    rules = [{"apiGroups": ["joblease.dev"], "resources": ["jobrequests"], "verbs": list(verbs)}]
    apply(
        plane.kubeconfig,
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}},
        {"apiVersion": f"{RBAC}/v1", "kind": kind, "metadata": metadata, "rules": rules},
        {
            "apiVersion": f"{RBAC}/v1", "kind": f"{kind}Binding", "metadata": metadata,
            "roleRef": {"apiGroup": RBAC, "kind": kind, "name": metadata["name"]},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
        },
    )  # fmt: skip
    plane.service_account_kubeconfig(namespace, name, folder / name)
    return str(yaml.safe_load((folder / name).read_text())["users"][0]["user"]["token"])
