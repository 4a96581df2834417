{{- define "m2m-operator.labels" -}}
app.kubernetes.io/name: m2m-operator
{{- with . }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end }}

{{- define "m2m-operator.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag }}
{{- end -}}
{{- end -}}
{{- end }}

{{- /* The objects of files, as they are in config, in the namespaces of this release.
Takes root and glob; namespace, where the objects are to be in one. */}}
{{- define "m2m-operator.shipped" -}}
{{- $root := .root }}
{{- $namespace := .namespace }}
{{- $more := .labels | default dict }}
{{- $runbooks := .runbooks }}
{{- range $path, $content := $root.Files.Glob .glob }}
{{- $text := toString $content | replace "m2m-system" $root.Release.Namespace | replace "m2m-api" $root.Values.api.namespace }}
{{- if $runbooks }}
{{- $text = replace "runbook_url: docs/runbooks.md#" (printf "runbook_url: %s#" $runbooks) $text }}
{{- end }}
{{- range $document := regexSplit "(?m)^---$" $text -1 }}
{{- $object := fromYaml $document }}
{{- if $object.kind }}
{{- $labels := get $object.metadata "labels" | default dict }}
{{- $_ := set $object.metadata "labels" (merge (dict "app.kubernetes.io/name" "m2m-operator") $more $labels) }}
{{- if $namespace }}
{{- $_ := set $object.metadata "namespace" $namespace }}
{{- end }}
{{- if or (eq $object.kind "Namespace") (and (eq $object.kind "CustomResourceDefinition") $root.Values.crds.keep) }}
{{- $annotations := get $object.metadata "annotations" | default dict }}
{{- $_ := set $object.metadata "annotations" (merge (dict "helm.sh/resource-policy" "keep") $annotations) }}
{{- end }}
{{- if and (eq $object.kind "ClusterRoleBinding") $root.Values.namespaces (not (contains "token-review" $path)) }}
{{- $_ := set $object.roleRef "name" (printf "%s-cluster" $object.roleRef.name) }}
{{- end }}
---
{{ toYaml $object }}
{{ end }}
{{- end }}
{{- end }}
{{- end }}

{{- /* The namespaces that the operator is limited to, with commas; empty: all. What the
management API makes is looked after in any case. */}}
{{- define "m2m-operator.namespaces" -}}
{{- $namespaces := .Values.namespaces }}
{{- if and $namespaces .Values.api.enabled }}
{{- $namespaces = append $namespaces .Values.api.namespace }}
{{- end }}
{{- $namespaces | uniq | sortAlpha | join "," }}
{{- end }}

{{- /* The flags that all roles have. */}}
{{- define "m2m-operator.commonArgs" -}}
{{- with include "m2m-operator.namespaces" . }}
- --namespaces={{ . }}
{{- end }}
{{- if ne .Values.logLevel "info" }}
- --log-level={{ .Values.logLevel }}
{{- end }}
{{- with .Values.tracing.endpoint }}
- --otlp-endpoint={{ . }}
{{- end }}
{{- end }}

{{- /* Where pods may go: DNS and the API server. */}}
{{- define "m2m-operator.egress" -}}
- ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
- ports:
  {{- range .Values.networkPolicy.apiServerPorts }}
    - {port: {{ . }}, protocol: TCP}
  {{- end }}
{{- with .Values.networkPolicy.extraEgress }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "m2m-operator.metricsIngress" -}}
- ports:
    - {port: 8081, protocol: TCP}
  {{- with .Values.networkPolicy.metricsFrom }}
  from:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{- /* The Deployment of a role. Takes root, role, values (of the role), args and serves. */}}
{{- define "m2m-operator.deployment" -}}
{{- $root := .root }}
{{- $labels := include "m2m-operator.labels" .role }}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: m2m-operator-{{ .role }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- $labels | nindent 4 }}
spec:
  {{- if not (dig "autoscaling" "enabled" false .values) }}
  replicas: {{ .values.replicas }}
  {{- end }}
  revisionHistoryLimit: 3
  {{- if .serves }}
  minReadySeconds: 5
  {{- end }}
  selector:
    matchLabels:
      {{- $labels | nindent 6 }}
  strategy:
    type: RollingUpdate
    rollingUpdate:
      maxSurge: 1
      maxUnavailable: 0
  template:
    metadata:
      labels:
        {{- with .values.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
        {{- $labels | nindent 8 }}
      annotations:
        kubectl.kubernetes.io/default-container: {{ .role }}
        {{- with .values.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      serviceAccountName: m2m-operator-{{ .role }}
      automountServiceAccountToken: true
      enableServiceLinks: false
      {{- with $root.Values.priorityClass.name }}
      priorityClassName: {{ . }}
      {{- end }}
      {{- with $root.Values.image.pullSecrets }}
      imagePullSecrets:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      terminationGracePeriodSeconds: {{ .serves | ternary 40 30 }}
      securityContext:
        runAsNonRoot: true
        runAsUser: 65532
        runAsGroup: 65532
        seccompProfile:
          type: RuntimeDefault
      topologySpreadConstraints:
        {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
        - maxSkew: 1
          topologyKey: {{ . }}
          whenUnsatisfiable: ScheduleAnyway
          matchLabelKeys: [pod-template-hash]
          labelSelector:
            matchLabels:
              {{- $labels | nindent 14 }}
        {{- end }}
      {{- with .values.nodeSelector }}
      nodeSelector:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .values.tolerations }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .values.affinity }}
      affinity:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      containers:
        - name: {{ .role }}
          image: {{ include "m2m-operator.image" $root | quote }}
          imagePullPolicy: {{ $root.Values.image.pullPolicy }}
          args:
            - {{ .role }}
            - --namespace=$(POD_NAMESPACE)
            {{- range .args }}
            - {{ . | quote }}
            {{- end }}
            {{- with include "m2m-operator.commonArgs" $root | trim }}
            {{- . | nindent 12 }}
            {{- end }}
            {{- range .values.extraArgs }}
            - {{ . | quote }}
            {{- end }}
          env:
            - name: POD_NAMESPACE
              valueFrom:
                fieldRef:
                  fieldPath: metadata.namespace
            {{- with .values.goMemoryLimit }}
            - name: GOMEMLIMIT
              value: {{ . }}
            {{- end }}
          ports:
            {{- if .serves }}
            - name: https
              containerPort: 8443
            {{- end }}
            - name: ops
              containerPort: 8081
          startupProbe:
            httpGet:
              path: /healthz
              port: ops
            periodSeconds: 1
            failureThreshold: 60
          livenessProbe:
            httpGet:
              path: /healthz
              port: ops
            periodSeconds: 10
            timeoutSeconds: 5
            failureThreshold: 3
          readinessProbe:
            httpGet:
              path: /readyz
              port: ops
            periodSeconds: 5
            timeoutSeconds: 3
            failureThreshold: 2
          {{- if .serves }}
          lifecycle:
            preStop:
              sleep:
                seconds: 5
          {{- end }}
          {{- with .values.resources }}
          resources:
            {{- toYaml . | nindent 12 }}
          {{- end }}
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities:
              drop: [ALL]
          terminationMessagePolicy: FallbackToLogsOnError
{{- end }}

{{- /* The PodDisruptionBudget of a role. Takes root and role. */}}
{{- define "m2m-operator.disruptionBudget" -}}
{{- if .root.Values.podDisruptionBudget.enabled }}
{{- $labels := include "m2m-operator.labels" .role }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: m2m-operator-{{ .role }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- $labels | nindent 4 }}
spec:
  maxUnavailable: {{ .root.Values.podDisruptionBudget.maxUnavailable }}
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- $labels | nindent 6 }}
{{- end }}
{{- end }}
