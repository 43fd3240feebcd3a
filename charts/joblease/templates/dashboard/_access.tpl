{{- /* The settings of who comes in, as a map for joblease.environment. Argument: the root */}}
{{- define "joblease.access" -}}
{{- $access := .Values.dashboard.access }}
JOBLEASE_DASHBOARD_ACCESS: {{ $access.mode }}
{{- if eq $access.mode "none" }}
JOBLEASE_DASHBOARD_INSECURE: true
{{- end }}
{{- with $access.trustedProxies }}
JOBLEASE_DASHBOARD_TRUSTED_PROXIES: {{ toJson . | quote }}
{{- end }}
{{- if eq $access.mode "proxy" }}
JOBLEASE_DASHBOARD_USER_HEADER: {{ $access.userHeader | quote }}
JOBLEASE_DASHBOARD_GROUPS_HEADER: {{ $access.groupsHeader | quote }}
{{- with $access.proxySecret }}
JOBLEASE_DASHBOARD_PROXY_SECRET: {secretKeyRef: {name: {{ . | quote }}, key: proxy-secret}}
{{- end }}
{{- end }}
{{- with $access.sessionSecret }}
JOBLEASE_DASHBOARD_SESSION_KEY: {secretKeyRef: {name: {{ . | quote }}, key: session-key}}
{{- end }}
{{- end }}
