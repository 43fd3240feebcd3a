{{- /* Argument: (dict "metadata" YAML "name" the Deployment's "scaling" its values) */}}
{{- define "joblease.hpa" -}}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {{ .metadata | nindent 2 }}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: {{ .name | quote }}}
  minReplicas: {{ int64 .scaling.minReplicas }}
  maxReplicas: {{ int64 .scaling.maxReplicas }}
  metrics:
    - type: Resource
      resource:
        name: cpu
        target: {type: Utilization, averageUtilization: {{ int64 .scaling.targetCPUUtilization }}}
{{- end }}
