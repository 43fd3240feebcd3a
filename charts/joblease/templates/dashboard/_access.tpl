{{- /* The settings of who comes in, as a map for joblease.environment. Argument: the root */}}
{{- define "joblease.access" -}}
{{- $access := .Values.dashboard.access }}
{{- $oidc := $access.oidc }}
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
{{- if $oidc.issuer }}
{{- with $oidc.clientSecret }}
JOBLEASE_DASHBOARD_OIDC_CLIENT_SECRET: {secretKeyRef: {name: {{ . | quote }}, key: client-secret}}
{{- end }}
{{- $settings := dict
    "JOBLEASE_DASHBOARD_OIDC_ISSUER" $oidc.issuer
    "JOBLEASE_DASHBOARD_OIDC_CLIENT_ID" $oidc.clientId
    "JOBLEASE_DASHBOARD_OIDC_SCOPES" $oidc.scopes
    "JOBLEASE_DASHBOARD_OIDC_ACT_WITH" $oidc.actWith
    "JOBLEASE_DASHBOARD_OIDC_USER_CLAIM" $oidc.userClaim
    "JOBLEASE_DASHBOARD_OIDC_GROUPS_CLAIM" $oidc.groupsClaim
    "JOBLEASE_DASHBOARD_OIDC_USER_PREFIX" $oidc.userPrefix
    "JOBLEASE_DASHBOARD_OIDC_GROUPS_PREFIX" $oidc.groupsPrefix }}
{{- range $name, $value := $settings }}
{{- with $value }}
{{ $name }}: {{ . | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
