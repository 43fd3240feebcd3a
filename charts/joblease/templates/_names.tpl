{{- /* What the label app.kubernetes.io/name says: an alias of an umbrella chart is the chart's name here. */}}
{{- define "joblease.product" -}}
{{ .Values.nameOverride | default (lower .Chart.Name) }}
{{- end }}

{{- /* What every object's name begins with. A Service's name begins with a letter and, unlike a release's, has no dots. */}}
{{- define "joblease.name" -}}
{{- $product := include "joblease.product" . -}}
{{- $name := printf "%s-%s" .Release.Name $product -}}
{{- if regexMatch "^[0-9]" .Release.Name }}{{ $name = printf "%s-%s" $product .Release.Name }}
{{- else if contains $product .Release.Name }}{{ $name = .Release.Name }}
{{- end -}}
{{ .Values.fullnameOverride | default (replace "." "-" $name) | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- /* Argument: (dict "root" $ "account" .Values.operator.serviceAccount "component" "operator") */}}
{{- define "joblease.account" -}}
{{ .account.name | default (printf "%s-%s" (include "joblease.name" .root) .component) }}
{{- end }}

{{- /* Argument: (dict "root" $ "image" .Values.operator.image) */}}
{{- define "joblease.image" -}}
{{ .root.Values.image.registry }}{{ .image.repository }}:{{ .image.tag | default .root.Values.image.tag | default .root.Chart.AppVersion }}
{{- end }}
