{{- define "rdnscache.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* Room for what is appended, as names of Services end after 63 characters. */}}
{{- define "rdnscache.fullname" -}}
{{- $name := include "rdnscache.name" . -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- default $full .Values.fullnameOverride | trunc 48 | trimSuffix "-" -}}
{{- end -}}

{{/* What finds pods of a part: (list . "node"). */}}
{{- define "rdnscache.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ include "rdnscache.name" $root }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "rdnscache.labels" -}}
{{- $root := index . 0 -}}
{{ include "rdnscache.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* name and labels of an object: (list . "part" "suffix") */}}
{{- define "rdnscache.metadata" -}}
name: {{ include "rdnscache.fullname" (index . 0) }}{{ index . 2 }}
namespace: {{ (index . 0).Release.Namespace }}
labels:
  {{- include "rdnscache.labels" . | nindent 2 }}
{{- end -}}

{{/* repository:tag@digest: (list image defaultTag) */}}
{{- define "rdnscache.image" -}}
{{- $image := index . 0 -}}
{{- printf "%s:%s" $image.repository (default (index . 1) $image.tag) -}}
{{- with $image.digest }}@{{ . }}{{ end -}}
{{- end -}}

{{- define "rdnscache.serviceAccount" -}}
{{- $default := ternary (include "rdnscache.fullname" .) "default" .Values.serviceAccount.create -}}
{{- default $default .Values.serviceAccount.name -}}
{{- end -}}

{{- define "rdnscache.secret" -}}
{{- default (include "rdnscache.fullname" .) .Values.secrets.existingSecret -}}
{{- end -}}

{{- define "rdnscache.bundled" -}}
{{- if not .Values.redis.url }}yes{{ end -}}
{{- end -}}

{{/* The names of the files of secrets by what they are, as YAML: those that there are. */}}
{{- define "rdnscache.keys" -}}
{{- $secrets := .Values.secrets -}}
{{- if $secrets.existingSecret -}}
{{- range $name, $key := $secrets.keys }}{{ if $key }}
{{ $name }}: {{ $key }}
{{- end }}{{ end -}}
{{- else -}}
{{- $made := dict "redisPassword" "redis-password" "operatorPassword" "operator-password" "sentinelPassword" "sentinel-password" "signing" "signing" "adminToken" "admin-token" "readToken" "read-token" -}}
{{- $bundled := include "rdnscache.bundled" . -}}
{{- range $name, $key := $made }}{{ if or (index $secrets $name) (and $bundled (has $name (list "redisPassword" "operatorPassword"))) }}
{{ $name }}: {{ $key }}
{{- end }}{{ end -}}
{{- end -}}
{{- end -}}

{{/* --redis for a user: (list . user nameOfPassword) */}}
{{- define "rdnscache.redis" -}}
{{- $root := index . 0 -}}{{- $redis := $root.Values.redis -}}
{{- $keys := include "rdnscache.keys" $root | fromYaml -}}
{{- $url := default (printf "redis://%s-redis:6379/0" (include "rdnscache.fullname" $root)) $redis.url -}}
{{- $with := list -}}
{{- if $url | ne "none" -}}
{{- if hasKey $keys (index . 2) -}}
{{- with index . 1 }}{{ $with = append $with (printf "username=%s" (urlquery .)) }}{{ end -}}
{{- $with = append $with (printf "password_file=/run/secrets/rdnscache/%s" (index $keys (index . 2))) -}}
{{- end -}}
{{- if hasKey $keys "sentinelPassword" -}}
{{- with $redis.sentinelUser }}{{ $with = append $with (printf "sentinel_username=%s" (urlquery .)) }}{{ end -}}
{{- $with = append $with (printf "sentinel_password_file=/run/secrets/rdnscache/%s" $keys.sentinelPassword) -}}
{{- end -}}
{{- if $redis.tls.existingSecret -}}
{{- range $option, $key := dict "ssl_ca_certs" $redis.tls.ca "ssl_certfile" $redis.tls.cert "ssl_keyfile" $redis.tls.key -}}
{{- if $key }}{{ $with = append $with (printf "%s=/run/secrets/redis-tls/%s" $option $key) }}{{ end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $url }}{{ if $with }}{{ ternary "&" "?" (contains "?" $url) }}{{ join "&" $with }}{{ end -}}
{{- end -}}

{{/* Options that nodes and the operator pod have in common, as variables: (list . user nameOfPassword) */}}
{{- define "rdnscache.env" -}}
{{- $keys := include "rdnscache.keys" (index . 0) | fromYaml -}}
- {name: RDNSCACHE_REDIS, value: {{ include "rdnscache.redis" . | quote }}}
{{- with $keys.signing }}
- {name: RDNSCACHE_SECRET, value: {{ printf "file:/run/secrets/rdnscache/%s" . | quote }}}
{{- end }}
{{- end -}}

{{/* Their secrets, as volumes: (list . nameOfPassword…) */}}
{{- define "rdnscache.volumes" -}}
{{- $root := index . 0 -}}
{{- $keys := include "rdnscache.keys" $root | fromYaml -}}
{{- $files := list -}}
{{- range concat (rest .) (list "sentinelPassword" "signing") }}{{ with get $keys . }}{{ $files = append $files . }}{{ end }}{{ end -}}
{{- if $files }}
- name: secrets
  secret:
    secretName: {{ include "rdnscache.secret" $root }}
    defaultMode: 0440
    items:
      {{- range $files }}
      - {key: {{ . }}, path: {{ . }}}
      {{- end }}
{{- end }}
{{- with $root.Values.redis.tls.existingSecret }}
- name: redis-tls
  secret: {secretName: {{ . }}, defaultMode: 0440}
{{- end }}
{{- end -}}

{{- define "rdnscache.mounts" -}}
{{- $volumes := include "rdnscache.volumes" . -}}
{{- if contains "name: secrets" $volumes }}
- {name: secrets, mountPath: /run/secrets/rdnscache, readOnly: true}
{{- end }}
{{- if contains "name: redis-tls" $volumes }}
- {name: redis-tls, mountPath: /run/secrets/redis-tls, readOnly: true}
{{- end }}
{{- end -}}

{{/* A value in TOML, on one line. Numbers of YAML come as floats; those of TOML's options are mostly whole. */}}
{{- define "rdnscache.toml" -}}
{{- if kindIs "map" . -}}
{ {{- $pairs := list -}}
{{- range $key, $value := . }}{{ $pairs = append $pairs (printf "%s = %s" (toJson $key) (include "rdnscache.toml" $value)) }}{{ end -}}
{{ join ", " $pairs -}} }
{{- else if kindIs "slice" . -}}
[ {{- $items := list -}}
{{- range . }}{{ $items = append $items (include "rdnscache.toml" .) }}{{ end -}}
{{ join ", " $items -}} ]
{{- else if and (kindIs "float64" .) (eq (floor .) .) -}}
{{ int64 . }}
{{- else -}}
{{ toJson . }}
{{- end -}}
{{- end -}}

{{- define "rdnscache.configuration" -}}
{{- range $key, $value := .Values.config }}
{{ $key }} = {{ include "rdnscache.toml" $value }}
{{- end }}
{{- end -}}

{{/* What all pods have. */}}
{{- define "rdnscache.pod" -}}
automountServiceAccountToken: false
# Else the variables of a Service, RDNSCACHE_…, would be read as options.
enableServiceLinks: false
serviceAccountName: {{ include "rdnscache.serviceAccount" . }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{- define "rdnscache.placement" -}}
{{- range $key := list "nodeSelector" "tolerations" "affinity" }}
{{- with index $ $key }}
{{ $key }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end -}}
