#!/bin/bash
# JobLease on a kind cluster of its own (kind-config.yaml), with RabbitMQ and Azurite inside. Again is quick: what is
# there is kept, and what has changed is rolled out.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
for tool in docker kind kubectl helm; do
  command -v $tool >/dev/null || { echo "error: 'make kind' needs $tool" >&2; exit 1; }
done
docker version >/dev/null 2>&1 || { echo "error: the Docker engine does not answer; is it running?" >&2; exit 1; }

kind get clusters 2>/dev/null | grep -qx joblease || kind create cluster --config kind-config.yaml --wait 120s
kubectl() { command kubectl --context kind-joblease "$@"; }

images=()
for program in operator worker dashboard; do
  echo "Image: joblease-$program"
  docker build --quiet --build-arg PROGRAM=$program --tag joblease-$program . >/dev/null
  images+=("joblease-$program")
done
# One tag, made from what is in the images: the same again changes nothing, anything else is rolled out.
tag=$(docker image inspect --format '{{.Id}}' "${images[@]}" | sha256sum | cut -c1-12)
for image in "${images[@]}"; do docker tag "$image" "$image:$tag"; done
servers=(rabbitmq:4-management mcr.microsoft.com/azure-storage/azurite:latest)
for image in "${servers[@]}"; do
  docker image inspect "$image" >/dev/null 2>&1 || docker pull --quiet "$image"
done
for image in "${images[@]/%/:$tag}" "${servers[@]}"; do
  echo "Loading: $image"
  kind load docker-image --quiet --name joblease "$image"
done

kubectl create namespace joblease --dry-run=client --output yaml | kubectl apply --filename - >/dev/null
kubectl label namespace joblease pod-security.kubernetes.io/enforce=baseline --overwrite >/dev/null
helm upgrade joblease charts/joblease --install --kube-context kind-joblease --namespace joblease \
  --values charts/joblease/ci/kind-values.yaml --set image.tag="$tag" "$@" >/dev/null
for server in rabbitmq azurite; do
  kubectl rollout status --namespace joblease --timeout 300s statefulset/joblease-$server
done
for program in operator dashboard worker-default; do
  kubectl rollout status --namespace joblease --timeout 300s deployment/joblease-$program
done

# Somebody to sign in as.
kubectl create serviceaccount developer --namespace joblease --dry-run=client --output yaml | kubectl apply --filename - >/dev/null
kubectl create clusterrolebinding joblease-developer --clusterrole joblease-joblease-editor \
  --serviceaccount joblease:developer --dry-run=client --output yaml | kubectl apply --filename - >/dev/null

cat <<'TEXT'

JobLease runs on the kind cluster "joblease". The dashboard: http://127.0.0.1:8088
Sign in with a token: kubectl --context kind-joblease --namespace joblease create token developer
Try:
  kubectl config use-context kind-joblease
  kubectl apply -f manifests/samples/demo.yaml
  kubectl get jr -w
  helm test joblease --namespace joblease
End it with `make kind-down`.
TEXT
