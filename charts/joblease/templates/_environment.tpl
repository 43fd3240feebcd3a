{{- /* How a program reaches broker and storage, as a map: a text, or where it comes from. Argument: the root */}}
{{- define "joblease.connections" -}}
{{- $dev := printf "%s-dev" (include "joblease.name" .) }}
{{- $rabbitmq := .Values.dev.rabbitmq.enabled }}
{{- $azurite := .Values.dev.azurite.enabled }}
JOBLEASE_AMQP_URL:
  secretKeyRef:
    name: {{ $rabbitmq | ternary $dev .Values.broker.existingSecret | quote }}
    key: {{ $rabbitmq | ternary "amqp-url" .Values.broker.existingSecretKey | quote }}
{{- if .Values.broker.tls.existingSecret }}
JOBLEASE_AMQP_CA_FILE: /etc/joblease/amqp/ca.crt
{{- if .Values.broker.tls.clientCertificate }}
JOBLEASE_AMQP_CERT_FILE: /etc/joblease/amqp/tls.crt
JOBLEASE_AMQP_KEY_FILE: /etc/joblease/amqp/tls.key
{{- end }}
{{- end }}
{{- if .Values.storage.accountUrl }}
JOBLEASE_STORAGE_ACCOUNT_URL: {{ .Values.storage.accountUrl | quote }}
{{- else }}
JOBLEASE_STORAGE_CONNECTION_STRING:
  secretKeyRef:
    name: {{ $azurite | ternary $dev .Values.storage.existingSecret | quote }}
    key: {{ $azurite | ternary "connection-string" .Values.storage.existingSecretKey | quote }}
{{- end }}
JOBLEASE_LOG_FORMAT: {{ .Values.logFormat | quote }}
JOBLEASE_DEFER_SECONDS: {{ .Values.deferSeconds }}
JOBLEASE_METRICS_PORT: 9090
{{- end }}

{{- /* Variables that other objects depend on, and what to do instead of setting them. */}}
{{- define "joblease.reserved" -}}
JOBLEASE_DASHBOARD_ACCESS: set dashboard.access.mode
JOBLEASE_DASHBOARD_BASE_PATH: set dashboard.basePath
JOBLEASE_DASHBOARD_INSECURE: set dashboard.access.mode
JOBLEASE_DASHBOARD_OIDC_ISSUER: set dashboard.access.oidc.issuer
JOBLEASE_DASHBOARD_PORT: it stays 8080; set dashboard.service.port
JOBLEASE_DASHBOARD_TRUSTED_PROXIES: set dashboard.access.trustedProxies
JOBLEASE_METRICS_PORT: it stays 9090
JOBLEASE_OPERATOR_LEASE_NAME: the role of the operator's account names it
JOBLEASE_OPERATOR_LEASE_NAMESPACE: it stays the release's
JOBLEASE_OPERATOR_NAMESPACES: set operator.namespaces
{{- end }}

{{- /* A program's environment, as a container's `env` has it. Each name is there once: `extraEnv` wins over `env`, and
`env` over what the chart makes of its other values. Numbers are written in full: 4194304, not 4.194304e+06.
Argument: (dict "root" $ "own" a map like the one above "extra" …extraEnv) */}}
{{- define "joblease.environment" -}}
{{- $reserved := include "joblease.reserved" . | fromYaml }}
{{- $named := keys .root.Values.env }}
{{- range .extra }}{{ $named = append $named .name }}{{ end }}
{{- range $named }}
{{- if hasKey $reserved . }}{{ fail (printf "env, extraEnv: other objects depend on %s: %s" . (get $reserved .)) }}{{ end }}
{{- end }}
{{- $values := include "joblease.connections" .root | fromYaml }}
{{- range $more := list .own .root.Values.env }}
{{- range $name, $value := $more }}{{ $_ := set $values $name $value }}{{ end }}
{{- end }}
{{- range .extra }}{{ $_ := unset $values .name }}{{ end }}
{{- $variables := list }}
{{- range $name, $value := $values }}
{{- if kindIs "map" $value }}
{{- $variables = append $variables (dict "name" $name "valueFrom" $value) }}
{{- else }}
{{- $variables = append $variables (dict "name" $name "value" (kindIs "string" $value | ternary $value (toJson $value))) }}
{{- end }}
{{- end }}
{{- $extra := dict }}
{{- range .extra }}{{ $_ := set $extra .name . }}{{ end }}
{{- range .extra }}
{{- if hasKey $extra .name }}{{ $variables = append $variables (get $extra .name) }}{{ $_ := unset $extra .name }}{{ end }}
{{- end }}
{{- range $variables }}
{{- if and (eq .name "JOBLEASE_WORKER_IDENTITY") .value (not (contains "$(" (toString .value))) }}
{{- fail "env, extraEnv: JOBLEASE_WORKER_IDENTITY is the pod's UID, or empty; with one text for all, each worker that starts would take the others for dead" }}
{{- end }}
{{- end }}
{{- toYaml $variables }}
{{- end }}

{{- /* The value of one variable, for what the chart derives from it.
Argument: (dict "environment" a container's `env` "name" … "where" the value that people set) */}}
{{- define "joblease.setting" -}}
{{- range .environment }}
{{- if eq .name $.name }}{{ required (printf "%s: give %s as plain text, other objects depend on it" $.where $.name) .value }}{{ end }}
{{- end }}
{{- end }}
