"""Helm 3 and Helm 4 make the same of the chart."""

import pytest
from support.chart import DEV, ROOT, SECRETS, need_helm, need_helm3, objects, template

PREVIOUS = ROOT / "tests" / "e2e" / "values-0.1.0.yaml"


@pytest.fixture(autouse=True, scope="module")
def helm3() -> str:
    need_helm()
    return need_helm3()


@pytest.mark.parametrize(
    "values",
    [
        [*SECRETS],
        [*DEV, "env.A=4194304", "networkPolicy.enabled=true", "metrics.podMonitor.enabled=true"],
        [*DEV, "workerDefaults.autoscaling.mode=keda", "workerDefaults.podSecurityContext.runAsUser=null"],
        [*DEV, "metrics.prometheusRule.enabled=true", "metrics.grafanaDashboard.enabled=true", "commonLabels.a=b"],
    ],
)
def test_both_render_the_same(helm3: str, values: list[str]) -> None:
    assert objects(*values, helm=helm3) == objects(*values)


def test_both_accept_the_previous_releases_values(helm3: str) -> None:
    assert objects(files=[PREVIOUS], helm=helm3) == objects(files=[PREVIOUS])


@pytest.mark.parametrize("values", [[], [*DEV, "operater.x=1"], [*DEV, "operator.namespaces={a,a}"]])
def test_both_refuse_the_same(helm3: str, values: list[str]) -> None:
    for helm in ("helm", helm3):
        assert "values don't meet the specifications of the schema" in template(*values, expect=1, helm=helm)
