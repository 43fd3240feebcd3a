{{- /* The pools, each with what the templates need of it: its `values` with the defaults, its `part`, its objects' `name`
and the `environment` of its pods. Fails where values of one pool contradict each other. Argument: the root */}}
{{- define "joblease.pools" -}}
{{- $seen := dict }}
{{- $pools := list }}
{{- range .Values.workers }}
{{- $values := mustMergeOverwrite (deepCopy $.Values.workerDefaults) . }}
{{- $where := printf "workers[%s]" .name }}
{{- $scaling := $values.autoscaling }}
{{- if hasKey $seen .name }}{{ fail (printf "workers: two pools are named %s" .name) }}{{ end }}
{{- $_ := set $seen .name true }}
{{- if and (eq $scaling.mode "hpa") (lt (int $scaling.minReplicas) 1) }}
{{- fail (printf "%s.autoscaling.minReplicas: hpa needs at least 1; without pods there is no CPU to measure" $where) }}
{{- end }}
{{- if and $scaling.mode (gt (int $scaling.minReplicas) (int $scaling.maxReplicas)) }}
{{- fail (printf "%s.autoscaling.minReplicas: is greater than maxReplicas" $where) }}
{{- end }}
{{- if and (eq $scaling.mode "keda") (not $.Values.dev.rabbitmq.enabled) (not $scaling.managementSecret) }}
{{- fail (printf "%s.autoscaling.managementSecret: keda needs RabbitMQ's management address" $where) }}
{{- end }}
{{- $own := dict
    "JOBLEASE_WORKER_NAME" (dict "fieldRef" (dict "fieldPath" "metadata.name"))
    "JOBLEASE_WORKER_IDENTITY" (dict "fieldRef" (dict "fieldPath" "metadata.uid"))
    "JOBLEASE_WORKER_QUEUE" (.queue | default .name)
    "JOBLEASE_WORKER_CONCURRENCY" $values.concurrency
    "JOBLEASE_LEASE_SECONDS" $values.leaseSeconds
    "JOBLEASE_DRAIN_GRACE_SECONDS" $values.drainGraceSeconds
    "JOBLEASE_CANCEL_GRACE_SECONDS" $values.cancelGraceSeconds
    "JOBLEASE_JOB_MEMORY_LIMIT_MIB" $values.jobMemoryLimitMib
    "JOBLEASE_JOBS_PER_PROCESS" $values.jobsPerProcess
    "JOBLEASE_PROCESS_MEMORY_MIB" $values.processMemoryMib
    "JOBLEASE_IMPORT_TIMEOUT_SECONDS" $values.importTimeoutSeconds
    "JOBLEASE_HANDLERS" (join "," $values.handlers)
    "JOBLEASE_COMMANDS" $values.commands }}
{{- $environment := include "joblease.environment" (dict "root" $ "own" $own "extra" $values.extraEnv) | fromYamlArray }}
{{- $name := printf "%s-worker-%s" (include "joblease.name" $) .name }}
{{- $pools = append $pools (dict "pool" .name "name" $name "where" $where "values" $values "environment" $environment) }}
{{- end }}
{{- toYaml $pools }}
{{- end }}

{{- /* One variable of a pool's environment. Argument: (dict "pool" … "name" …) */}}
{{- define "joblease.poolSetting" -}}
{{ include "joblease.setting" (dict "environment" .pool.environment "name" .name "where" (printf "%s.extraEnv" .pool.where)) }}
{{- end }}
