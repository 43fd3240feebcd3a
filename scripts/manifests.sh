#!/bin/bash
# Writes manifests/install.yaml: what the chart makes of its defaults, for those who do not use Helm.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
cat <<'HEAD'
# JobLease without Helm: the operator, three workers and the dashboard in the namespace joblease-system.
# Made from the chart by `make manifests`.
#
#   kubectl apply --server-side -f manifests/crd.yaml
#   kubectl create namespace joblease-system
#   kubectl create secret generic joblease --namespace joblease-system \
#     --from-literal=amqp-url='amqps://USER:PASSWORD@HOST:5671/' \
#     --from-literal=connection-string='DefaultEndpointsProtocol=https;AccountName=…;AccountKey=…;…'
#   kubectl apply --server-side -f manifests/install.yaml
#   kubectl port-forward --namespace joblease-system service/joblease-dashboard 8080:80
#
# RabbitMQ and the storage account are yours. The images are the ones that the Dockerfile builds; put your registry before
# their names.
apiVersion: v1
kind: Namespace
metadata:
  name: joblease-system
  labels:
    app.kubernetes.io/name: joblease
    pod-security.kubernetes.io/enforce: restricted
HEAD
helm template joblease charts/joblease --namespace joblease-system --skip-tests --set crd.install=false \
  --set broker.existingSecret=joblease --set storage.existingSecret=joblease |
  sed -E '/^# Source:/d; /helm.sh\/chart:/d; /app.kubernetes.io\/managed-by:/d; s/ +$//' | sed '/^$/d'
