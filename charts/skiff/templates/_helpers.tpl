{{/* Names, labels and arguments that several templates share. */}}

{{- define "skiff.name" -}}
{{- printf "%s" .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{/* Of objects that no namespace keeps apart. */}}
{{- define "skiff.clusterName" -}}
{{- printf "%s-%s" .Release.Namespace (include "skiff.name" .) | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "skiff.selector" -}}
app.kubernetes.io/name: skiff
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "skiff.labels" -}}
{{ include "skiff.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "skiff.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* The enabled handlers as engine=name, one below the other, in a fixed order. */}}
{{- define "skiff.handlers" -}}
{{- $handlers := list -}}
{{- range $engine := list "wasmtime" "wasmedge" "skiff" -}}
{{- $handler := index $.Values.handlers $engine -}}
{{- if $handler.enabled -}}
{{- $handlers = append $handlers (printf "%s=%s" $engine $handler.name) -}}
{{- end -}}
{{- end -}}
{{- if not $handlers -}}
{{- fail "no handler is enabled: set handlers.wasmtime.enabled, handlers.skiff.enabled or handlers.wasmedge.enabled" -}}
{{- end -}}
{{- join "\n" $handlers -}}
{{- end -}}

{{/* What the agent is told of the node, whatever it does there. */}}
{{- define "skiff.nodeArguments" -}}
{{- with .Values.install.prefix }}
- --prefix={{ . }}
{{- end }}
{{- with .Values.install.containerdAddress }}
- --address={{ . }}
{{- end }}
{{- with .Values.install.restartCommand }}
- {{ printf "--restart-command=%s" . | quote }}
{{- end }}
{{- if gt (int .Values.install.patience) 0 }}
- --patience={{ int .Values.install.patience }}
{{- end }}
{{- end -}}

{{/* What is to be installed. */}}
{{- define "skiff.installArguments" -}}
{{- range splitList "\n" (include "skiff.handlers" .) }}
- --handler={{ . }}
{{- end }}
{{- if .Values.install.takeOver }}
- --take-over
{{- end }}
{{- if .Values.install.localPull }}
- --local-pull
{{- end }}
{{- include "skiff.nodeArguments" . }}
{{- end -}}

{{/* Both containers of the agent: see docs/kubernetes.md, "Why the agent is privileged". */}}
{{- define "skiff.container" -}}
image: {{ include "skiff.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
env:
  - name: NODE_NAME
    valueFrom:
      fieldRef:
        fieldPath: spec.nodeName
securityContext:
  privileged: true
  runAsUser: 0
  readOnlyRootFilesystem: true
volumeMounts:
  - name: host
    mountPath: /host
    # What the node mounts later is seen too: a restarted k3s mounts its own folders anew.
    mountPropagation: HostToContainer
{{- end -}}
