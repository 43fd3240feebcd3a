{{- define "joblease.operatorRules" -}}
# Delete: what has outlived ttlSecondsAfterFinished.
- apiGroups: [joblease.dev]
  resources: [jobrequests]
  verbs: [get, list, watch, delete]
- apiGroups: [joblease.dev]
  resources: [jobrequests/status]
  verbs: [patch]
{{- end }}

{{- /* The Lease that says which operator leads. (A right to create cannot be bound to a name.) Argument: its name */}}
{{- define "joblease.electionRules" -}}
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [{{ . | quote }}]
  verbs: [get, update]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [create]
{{- end }}

{{- /* A role for an account of ours, bound to it. Argument: (dict "part" … "name" … "account" … "rules" YAML), with
"namespace" for a Role, without it for a ClusterRole, whose name says whose it is */}}
{{- define "joblease.boundRole" -}}
{{- $release := .part.root.Release.Namespace }}
{{- $cluster := empty .namespace }}
{{- $kind := $cluster | ternary "ClusterRole" "Role" }}
{{- $name := $cluster | ternary (printf "%s-%s" $release .name) .name }}
{{- $metadata := include "joblease.metadata" (dict "part" .part "name" $name "namespace" .namespace "cluster" $cluster) }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $kind }}
metadata: {{ $metadata | nindent 2 }}
rules: {{ .rules | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $kind }}Binding
metadata: {{ $metadata | nindent 2 }}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: {{ $kind }}, name: {{ $name | quote }}}
subjects:
  - {kind: ServiceAccount, name: {{ .account | quote }}, namespace: {{ $release | quote }}}
{{- end }}

{{- /* The same role in each namespace that is served, or in the whole cluster. Argument: as above */}}
{{- define "joblease.jobRoles" -}}
{{- range .part.root.Values.operator.namespaces | default (list "") }}
{{- include "joblease.boundRole" (merge (dict "namespace" .) $) }}
{{- end }}
{{- end }}
