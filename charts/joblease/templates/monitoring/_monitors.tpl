{{- /* The metrics of this installation and no other: the labels that both monitors give each series. */}}
{{- define "joblease.scope" -}}
namespace="{{ .Release.Namespace }}",app_kubernetes_io_name="{{ include "joblease.product" . }}",app_kubernetes_io_instance="{{ .Release.Name }}"
{{- end }}

{{- /* Argument: the root */}}
{{- define "joblease.monitored" -}}
podTargetLabels: [app.kubernetes.io/name, app.kubernetes.io/instance, app.kubernetes.io/component, joblease.dev/pool]
selector:
  matchLabels:
    app.kubernetes.io/name: {{ include "joblease.product" . | quote }}
    app.kubernetes.io/instance: {{ .Release.Name | quote }}
  matchExpressions:
    - {key: app.kubernetes.io/component, operator: In, values: [operator, worker, dashboard]}
{{- end }}

{{- /* Argument: .Values.metrics.serviceMonitor, or the other one */}}
{{- define "joblease.endpoints" -}}
- port: metrics
  interval: {{ .interval }}
  {{- with .relabelings }}
  relabelings: {{ toYaml . | nindent 4 }}
  {{- end }}
  {{- with .metricRelabelings }}
  metricRelabelings: {{ toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
