{{- /* A development server of one pod: its Service and its StatefulSet. Argument: see servers.yaml */}}
{{- define "joblease.devServer" }}
{{- $part := dict "root" .root "component" "dev" "server" .server }}
{{- $name := printf "%s-%s" (include "joblease.name" .root) .server }}
{{- $metadata := include "joblease.metadata" (dict "part" $part "name" $name) }}
{{- $context := dict "runAsNonRoot" true "runAsUser" .user "fsGroup" .user "seccompProfile" (dict "type" "RuntimeDefault") }}
---
apiVersion: v1
kind: Service
metadata: {{ $metadata | nindent 2 }}
spec:
  clusterIP: None
  publishNotReadyAddresses: true
  selector: {{ include "joblease.selector" $part | nindent 4 }}
  ports:
    {{- range $port, $number := .ports }}
    - {name: {{ $port }}, port: {{ $number }}}
    {{- end }}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {{ $metadata | nindent 2 }}
spec:
  replicas: 1
  serviceName: {{ $name | quote }}
  selector:
    matchLabels: {{ include "joblease.selector" $part | nindent 6 }}
  template:
    metadata:
      labels: {{ toYaml (merge (include "joblease.selector" $part | fromYaml) .root.Values.commonLabels) | nindent 8 }}
    spec:
      automountServiceAccountToken: false
      enableServiceLinks: false
      securityContext: {{ include "joblease.podSecurityContext" (dict "root" .root "context" $context) | nindent 8 }}
      {{- with .root.Values.dev.nodeSelector }}
      nodeSelector: {{ toYaml . | nindent 8 }}
      {{- end }}
      {{- with .root.Values.dev.tolerations }}
      tolerations: {{ toYaml . | nindent 8 }}
      {{- end }}
      {{- if .root.Values.dev.volumePermissions }}
      initContainers:
        - name: volume-permissions
          image: {{ .values.image | quote }}
          imagePullPolicy: {{ .root.Values.image.pullPolicy }}
          command: [chown, {{ printf "%d:%d" (int .user) (int .user) | quote }}, {{ .path }}]
          resources: {requests: {cpu: 10m, memory: 16Mi}, limits: {memory: 64Mi}}
          securityContext:
            runAsNonRoot: false
            runAsUser: 0
            allowPrivilegeEscalation: false
            capabilities: {drop: [ALL], add: [CHOWN]}
          volumeMounts:
            - {name: data, mountPath: {{ .path }}}
      {{- end }}
      volumes:
        - {name: home, emptyDir: {sizeLimit: 256Mi}}
      containers:
        - name: {{ .server }}
          image: {{ .values.image | quote }}
          imagePullPolicy: {{ .root.Values.image.pullPolicy }}
          {{- with .command }}
          command: {{ toJson . }}
          {{- end }}
          {{- with .env }}
          env: {{ toYaml . | nindent 12 }}
          {{- end }}
          ports:
            {{- range $port, $number := .ports }}
            - {name: {{ $port }}, containerPort: {{ $number }}}
            {{- end }}
          readinessProbe:
            tcpSocket: {port: {{ .probe }}}
            periodSeconds: 3
          resources: {{ toYaml .values.resources | nindent 12 }}
          securityContext:
            allowPrivilegeEscalation: false
            capabilities: {drop: [ALL]}
          volumeMounts:
            - {name: home, mountPath: {{ .home }}} # what it keeps to itself, such as RabbitMQ's cookie
            - {name: data, mountPath: {{ .path }}}
  volumeClaimTemplates:
    - metadata: {name: data}
      spec:
        accessModes: [ReadWriteOnce]
        resources: {requests: {storage: {{ .values.storage | quote }}}}
{{- end }}
