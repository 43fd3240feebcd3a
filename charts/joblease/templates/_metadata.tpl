{{- /* Labels and names are built as maps and written by toYaml, which quotes what YAML would take for something else
(`007`, `1e5`, `on`), and in which each key is there once.
A part is (dict "root" $ "component" "worker"), of one pool with "pool", of one development server with "server". */}}

{{- /* The labels that find a part's pods: they never change. Argument: a part */}}
{{- define "joblease.selector" -}}
{{- $labels := dict "app.kubernetes.io/name" (include "joblease.product" .root) "app.kubernetes.io/instance" .root.Release.Name }}
{{- $_ := set $labels "app.kubernetes.io/component" .component }}
{{- with .pool }}{{ $_ = set $labels "joblease.dev/pool" . }}{{ end }}
{{- with .server }}{{ $_ = set $labels "joblease.dev/server" . }}{{ end }}
{{- toYaml $labels }}
{{- end }}

{{- /* Those of a pod do not name the chart: a new version of it alone is no reason to start every pod anew.
Argument: (dict "part" … "labels" more of them) */}}
{{- define "joblease.podLabels" -}}
{{- $labels := include "joblease.selector" .part | fromYaml }}
{{- $version := dict "app.kubernetes.io/version" .part.root.Chart.AppVersion }}
{{- toYaml (merge $labels $version (deepCopy (.labels | default dict)) (deepCopy .part.root.Values.commonLabels)) }}
{{- end }}

{{- /* Metadata of an object. Argument: (dict "part" … "name" …), with "namespace" or "cluster" true for those that are
not in the release's, "labels" and "annotations" */}}
{{- define "joblease.metadata" -}}
{{- $root := .part.root }}
{{- $labels := include "joblease.podLabels" . | fromYaml }}
{{- $_ := set $labels "helm.sh/chart" (printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_") }}
{{- $_ = set $labels "app.kubernetes.io/managed-by" $root.Release.Service }}
{{- $metadata := dict "name" .name "labels" $labels }}
{{- if not .cluster }}{{ $_ = set $metadata "namespace" (.namespace | default $root.Release.Namespace) }}{{ end }}
{{- with .annotations }}{{ $_ = set $metadata "annotations" . }}{{ end }}
{{- toYaml $metadata }}
{{- end }}

{{- /* An account for pods. Argument: (dict "part" … "name" … "account" .Values.operator.serviceAccount) */}}
{{- define "joblease.serviceAccount" -}}
apiVersion: v1
kind: ServiceAccount
metadata: {{ include "joblease.metadata" (merge (dict "annotations" .account.annotations) .) | nindent 2 }}
{{- end }}

{{- /* A headless Service, through which Prometheus finds the pods of a part. Argument: (dict "part" … "name" …) */}}
{{- define "joblease.metricsService" -}}
apiVersion: v1
kind: Service
metadata: {{ include "joblease.metadata" . | nindent 2 }}
spec:
  clusterIP: None
  selector: {{ include "joblease.selector" .part | nindent 4 }}
  ports:
    - {name: metrics, port: 9090, targetPort: metrics}
{{- end }}

{{- /* `from` or `to` of a NetworkPolicy's rule; none means everybody. Argument: (dict "key" "from" "peers" …) */}}
{{- define "joblease.peers" -}}
{{- with .peers }}
{{ $.key }}: {{ toYaml . | nindent 2 }}
{{- end }}
{{- end }}
