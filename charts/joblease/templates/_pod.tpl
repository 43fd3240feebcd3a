{{- /* A map, with the keys of another one over it; null takes a key away. Argument: (dict "base" … "over" …) */}}
{{- define "joblease.overlay" -}}
{{- $merged := dict }}
{{- range $layer := list .base .over }}
{{- range $key, $value := $layer }}
{{- if kindIs "invalid" $value }}{{ $_ := unset $merged $key }}{{ else }}{{ $_ := set $merged $key $value }}{{ end }}
{{- end }}
{{- end }}
{{- toYaml $merged }}
{{- end }}

{{- /* Users and groups of a pod are OpenShift's to give: each namespace has a range of its own.
Argument: (dict "root" $ "context" a pod's securityContext) */}}
{{- define "joblease.podSecurityContext" -}}
{{- $mode := .root.Values.openshift }}
{{- $detected := .root.Capabilities.APIVersions.Has "security.openshift.io/v1" }}
{{- $adapt := or (eq $mode "always") (and (eq $mode "auto") $detected) }}
{{- toYaml ($adapt | ternary (omit .context "runAsUser" "runAsGroup" "fsGroup" "supplementalGroups") .context) }}
{{- end }}

{{- /* The parts of a pod that are the same for all. Argument: (dict "root" $ "values" … "account" …) */}}
{{- define "joblease.pod" -}}
{{- $context := include "joblease.overlay" (dict "base" .root.Values.podSecurityContext "over" .values.podSecurityContext) | fromYaml }}
serviceAccountName: {{ .account | quote }}
enableServiceLinks: false # Kubernetes would set JOBLEASE_DASHBOARD_PORT=tcp://… for the Service of that name
securityContext: {{ include "joblease.podSecurityContext" (dict "root" .root "context" $context) | nindent 2 }}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity: {{ toYaml . | nindent 2 }}
{{- end }}
volumes:
  - name: tmp
    emptyDir: {{ empty .values.tmpSizeLimit | ternary dict (dict "sizeLimit" .values.tmpSizeLimit) | toJson }}
  {{- if .root.Values.broker.tls.existingSecret }}
  - name: amqp-tls
    secret: {secretName: {{ .root.Values.broker.tls.existingSecret | quote }}}
  {{- end }}
  {{- with .values.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{- /* Constraints of the values, or else: over the nodes, as far as possible. Each revision is spread by itself, so that
a rollout does not leave its pods where there was room beside the old ones. Argument: (dict "values" … "part" …) */}}
{{- define "joblease.spread" -}}
topologySpreadConstraints:
  {{- with .values.topologySpreadConstraints }}
  {{- toYaml . | nindent 2 }}
  {{- else }}
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    matchLabelKeys: [pod-template-hash]
    labelSelector:
      matchLabels: {{ include "joblease.selector" .part | nindent 8 }}
  {{- end }}
{{- end }}

{{- /* What the kubelet asks. Argument: (dict "path" "/healthz" "base" …probes.startup "over" the program's own) */}}
{{- define "joblease.probe" -}}
httpGet: {path: {{ .path }}, port: metrics}
{{ include "joblease.overlay" . }}
{{- end }}

{{- /* The same for a program's container. Argument: (dict "root" $ "values" …) */}}
{{- define "joblease.container" -}}
{{- $probes := .root.Values.probes }}
{{- $own := .values.probes | default dict }}
image: {{ include "joblease.image" (dict "root" .root "image" .values.image) | quote }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext: {{ include "joblease.overlay" (dict "base" .root.Values.securityContext "over" .values.securityContext) | nindent 2 }}
resources: {{ toYaml .values.resources | nindent 2 }}
startupProbe: {{ include "joblease.probe" (dict "path" "/healthz" "base" $probes.startup "over" $own.startup) | nindent 2 }}
readinessProbe: {{ include "joblease.probe" (dict "path" "/readyz" "base" $probes.readiness "over" $own.readiness) | nindent 2 }}
livenessProbe: {{ include "joblease.probe" (dict "path" "/healthz" "base" $probes.liveness "over" $own.liveness) | nindent 2 }}
volumeMounts:
  - {name: tmp, mountPath: /tmp}
  {{- if .root.Values.broker.tls.existingSecret }}
  - {name: amqp-tls, mountPath: /etc/joblease/amqp, readOnly: true}
  {{- end }}
  {{- with .values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
