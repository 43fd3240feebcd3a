{{- define "joblease.name" -}}
{{- if contains "joblease" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-joblease" .Release.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- /* Labels of everything. Argument: (dict "root" $ "component" "worker") */}}
{{- define "joblease.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
{{ include "joblease.selector" . }}
{{- end }}

{{- define "joblease.selector" -}}
app.kubernetes.io/name: joblease
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- /* Those of a pod do not name the chart: a new version of it alone is no reason to start every pod anew. */}}
{{- define "joblease.podLabels" -}}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
{{ include "joblease.selector" . }}
{{- end }}

{{- /* Argument: (dict "root" $ "image" .Values.operator.image) */}}
{{- define "joblease.image" -}}
{{ .root.Values.image.registry }}{{ .image.repository }}:{{ .image.tag | default .root.Values.image.tag | default .root.Chart.AppVersion }}
{{- end }}

{{- /* Argument: (dict "root" $ "account" … "component" …) */}}
{{- define "joblease.account" -}}
{{ .account.name | default (printf "%s-%s" (include "joblease.name" .root) .component) }}
{{- end }}

{{- define "joblease.devPassword" -}}
{{ printf "%s/%s" .Release.Namespace .Release.Name | sha256sum | trunc 24 }}
{{- end }}

{{- /* What every program needs to reach broker and storage. Argument: the root */}}
{{- define "joblease.env" -}}
{{- $name := include "joblease.name" . }}
- name: JOBLEASE_AMQP_URL
  valueFrom:
    secretKeyRef:
      {{- if .Values.dev.rabbitmq.enabled }}
      name: {{ $name }}-dev
      key: amqp-url
      {{- else }}
      name: {{ required "broker.existingSecret: name the Secret with RabbitMQ's address (or set dev.rabbitmq.enabled)" .Values.broker.existingSecret }}
      key: {{ .Values.broker.existingSecretKey }}
      {{- end }}
{{- if .Values.broker.tls.existingSecret }}
- {name: JOBLEASE_AMQP_CA_FILE, value: /etc/joblease/amqp/ca.crt}
{{- if .Values.broker.tls.clientCertificate }}
- {name: JOBLEASE_AMQP_CERT_FILE, value: /etc/joblease/amqp/tls.crt}
- {name: JOBLEASE_AMQP_KEY_FILE, value: /etc/joblease/amqp/tls.key}
{{- end }}
{{- end }}
{{- if .Values.storage.accountUrl }}
- {name: JOBLEASE_STORAGE_ACCOUNT_URL, value: {{ .Values.storage.accountUrl | quote }}}
{{- else }}
- name: JOBLEASE_STORAGE_CONNECTION_STRING
  valueFrom:
    secretKeyRef:
      {{- if .Values.dev.azurite.enabled }}
      name: {{ $name }}-dev
      key: connection-string
      {{- else }}
      name: {{ required "storage: set accountUrl, or existingSecret with a connection string (or dev.azurite.enabled)" .Values.storage.existingSecret }}
      key: {{ .Values.storage.existingSecretKey }}
      {{- end }}
{{- end }}
- {name: JOBLEASE_LOG_FORMAT, value: {{ .Values.logFormat | quote }}}
- {name: JOBLEASE_DEFER_SECONDS, value: {{ .Values.deferSeconds | quote }}}
{{- range $key, $value := .Values.env }}
- {name: {{ $key }}, value: {{ $value | quote }}}
{{- end }}
{{- end }}

{{- /* The parts of a pod that are the same for all. Argument: (dict "root" $ "values" … "account" …) */}}
{{- define "joblease.pod" -}}
serviceAccountName: {{ .account }}
enableServiceLinks: false # Kubernetes would set JOBLEASE_DASHBOARD_PORT=tcp://… for the Service of that name
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile: {type: RuntimeDefault}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
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
  - {name: tmp, emptyDir: {}}
  {{- if .root.Values.broker.tls.existingSecret }}
  - {name: amqp-tls, secret: {secretName: {{ .root.Values.broker.tls.existingSecret }}}}
  {{- end }}
  {{- with .values.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{- /* Constraints of the values, or else: over the nodes, as far as possible. Each revision is spread by itself, so that
a rollout does not leave its pods where there was room beside the old ones.
Argument: (dict "values" … "selector" labels as text) */}}
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
      matchLabels: {{ .selector | nindent 8 }}
  {{- end }}
{{- end }}

{{- /* The same for a container; `port` is where its probes are. Argument: (dict "root" $ "values" … "port" "metrics") */}}
{{- define "joblease.container" -}}
image: {{ include "joblease.image" (dict "root" .root "image" .values.image) }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
resources: {{ toYaml .values.resources | nindent 2 }}
startupProbe:
  httpGet: {path: /healthz, port: {{ .port }}}
  periodSeconds: 2
  timeoutSeconds: 3
  failureThreshold: 60
readinessProbe:
  httpGet: {path: /readyz, port: {{ .port }}}
  periodSeconds: 5
  timeoutSeconds: 3
livenessProbe:
  httpGet: {path: /healthz, port: {{ .port }}}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
volumeMounts:
  - {name: tmp, mountPath: /tmp}
  {{- if .root.Values.broker.tls.existingSecret }}
  - {name: amqp-tls, mountPath: /etc/joblease/amqp, readOnly: true}
  {{- end }}
  {{- with .values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
