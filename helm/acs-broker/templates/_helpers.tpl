{{/* Names, labels, and the checks that need more than one value at a time. */}}

{{- define "acs-broker.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "acs-broker.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "acs-broker.selectorLabels" -}}
app.kubernetes.io/name: {{ include "acs-broker.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "acs-broker.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "acs-broker.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Without the chart's version: a new chart alone is no reason to restart pods. */}}
{{- define "acs-broker.podLabels" -}}
{{ include "acs-broker.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- with merge (dict) .Values.podLabels .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "acs-broker.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "acs-broker.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "acs-broker.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{- define "acs-broker.claimName" -}}
{{- default (include "acs-broker.fullname" .) .Values.store.embedded.persistence.existingClaim }}
{{- end }}

{{- define "acs-broker.redisUrlFromSecret" -}}
{{- if and (eq .Values.store.backend "redis") .Values.store.redis.existingSecret .Values.store.redis.urlKey (not .Values.store.redis.url) }}yes{{ end }}
{{- end }}

{{- define "acs-broker.workloadIdentity" -}}
{{- if and .Values.acs.entra.endpoint (eq .Values.acs.entra.kind "workload") }}yes{{ end }}
{{- end }}

{{- define "acs-broker.sealKeys" -}}
{{- if and .Values.store.seal.existingSecret .Values.store.seal.keysKey }}yes{{ end }}
{{- end }}

{{- define "acs-broker.hashKey" -}}
{{- if and .Values.store.seal.existingSecret .Values.store.seal.hashKeyKey }}yes{{ end }}
{{- end }}

{{- define "acs-broker.redisPasswordFromSecret" -}}
{{- if and (eq .Values.store.backend "redis") .Values.store.redis.existingSecret .Values.store.redis.passwordKey }}yes{{ end }}
{{- end }}

{{- define "acs-broker.terminationGracePeriodSeconds" -}}
{{- if kindIs "invalid" .Values.shutdown.terminationGracePeriodSeconds }}
{{- add (int .Values.shutdown.drainSeconds) (int .Values.shutdown.preStopSeconds) 10 }}
{{- else }}
{{- int .Values.shutdown.terminationGracePeriodSeconds }}
{{- end }}
{{- end }}

{{/* One section of the settings file. Whole numbers stay whole: YAML hands every number over as a fraction. */}}
{{- define "acs-broker.toml" -}}
{{- range $key, $value := . }}
{{- if kindIs "string" $value }}
{{ $key }} = {{ $value | toJson }}
{{- else if and (kindIs "float64" $value) (eq (float64 (int64 $value)) $value) }}
{{ $key }} = {{ int64 $value }}
{{- else }}
{{ $key }} = {{ $value }}
{{- end }}
{{- end }}
{{- end }}

{{/* Everything that is wrong with the values, said at once. */}}
{{- define "acs-broker.check" -}}
{{- $problems := list }}
{{- $replicas := int .Values.replicaCount }}
{{- if not (or .Values.acs.existingSecret .Values.acs.entra.endpoint) }}
{{- $problems = append $problems "acs.existingSecret: name the Secret that holds the ACS connection string (key acs.key), or sign in with Entra (acs.entra.endpoint)" }}
{{- end }}
{{- if and .Values.acs.existingSecret .Values.acs.entra.endpoint }}
{{- $problems = append $problems "acs.entra.endpoint: and acs.existingSecret are both set; keep one of them" }}
{{- end }}
{{- if and (eq .Values.auth.mode "unauthenticated") (not .Values.auth.allowOffLoopback) }}
{{- $problems = append $problems "auth.allowOffLoopback: unauthenticated mode lets anybody who can connect issue tokens for every user; set it to true only behind an authenticating mesh or a NetworkPolicy" }}
{{- end }}
{{- if eq .Values.auth.mode "policy" }}
{{- if not (or .Values.auth.policy .Values.auth.existingPolicyConfigMap) }}
{{- $problems = append $problems "auth.policy: mode policy needs one; give its text, or name a ConfigMap with the key policy.toml (auth.existingPolicyConfigMap)" }}
{{- end }}
{{- if and .Values.auth.policy .Values.auth.existingPolicyConfigMap }}
{{- $problems = append $problems "auth.existingPolicyConfigMap: and auth.policy are both set; keep one of them" }}
{{- end }}
{{- if and .Values.auth.shadow (not .Values.auth.allowOffLoopback) }}
{{- $problems = append $problems "auth.shadow: lets in whom the policy would refuse; set auth.allowOffLoopback to true only behind an authenticating mesh or a NetworkPolicy" }}
{{- end }}
{{- end }}
{{- if eq .Values.store.backend "embedded" }}
{{- if or .Values.autoscaling.enabled (gt $replicas 1) }}
{{- $problems = append $problems "replicaCount: the embedded store belongs to one process; set replicaCount to 1 and autoscaling.enabled to false, or store.backend to redis" }}
{{- end }}
{{- if not .Values.store.embedded.persistence.enabled }}
{{- $problems = append $problems "store.embedded.persistence.enabled: without a volume every new pod forgets which user has which identity; set it to true, or store.backend to redis" }}
{{- end }}
{{- else }}
{{- with .Values.store.redis }}
{{- if and (not .url) (not (and .existingSecret .urlKey)) }}
{{- $problems = append $problems "store.redis: say where Redis is, by url, or by existingSecret and urlKey" }}
{{- end }}
{{- if and .passwordKey (not .existingSecret) }}
{{- $problems = append $problems "store.redis.passwordKey: name the Secret it is a key of (store.redis.existingSecret)" }}
{{- end }}
{{- if contains "@" .url }}
{{- $problems = append $problems "store.redis.url: holds a password or user; put the URL into a Secret (store.redis.existingSecret), or the password there (passwordKey) and the user into config.redis.username" }}
{{- end }}
{{- end }}
{{- end }}
{{- $least := add (int .Values.shutdown.drainSeconds) (int .Values.shutdown.preStopSeconds) }}
{{- if le (int (include "acs-broker.terminationGracePeriodSeconds" .)) (int $least) }}
{{- $problems = append $problems (printf "shutdown.terminationGracePeriodSeconds: must be longer than drainSeconds + preStopSeconds (%d), or calls are cut while they drain" (int $least)) }}
{{- end }}
{{- if and .Values.autoscaling.enabled (gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas)) }}
{{- $problems = append $problems "autoscaling.minReplicas: is more than maxReplicas" }}
{{- end }}
{{- if eq (int .Values.ports.grpc) (int .Values.ports.admin) }}
{{- $problems = append $problems "ports: grpc and admin must differ" }}
{{- end }}
{{- if and .Values.tls.clientCaSecret (not .Values.tls.existingSecret) }}
{{- $problems = append $problems "tls.existingSecret: name the Secret with the server's certificate; without TLS no client certificate (tls.clientCaSecret) can be asked for" }}
{{- end }}
{{- if .Values.tls.existingSecret }}
{{- if has (int .Values.ports.probe) (list (int .Values.ports.grpc) (int .Values.ports.admin)) }}
{{- $problems = append $problems "ports: probe must differ from grpc and admin" }}
{{- end }}
{{- if and .Values.webhook.enabled (eq (int .Values.ports.probe) (int .Values.ports.webhook)) }}
{{- $problems = append $problems "ports: probe must differ from webhook" }}
{{- end }}
{{- end }}
{{- if .Values.webhook.enabled }}
{{- if not (or .Values.webhook.existingSecret .Values.webhook.entra.tenant) }}
{{- $problems = append $problems "webhook.existingSecret: name the Secret that holds what Event Grid must bring (key webhook.key), or set webhook.entra.tenant; without either anybody could forge delivery reports" }}
{{- end }}
{{- if and .Values.webhook.entra.tenant (not .Values.webhook.entra.audience) }}
{{- $problems = append $problems "webhook.entra.audience: name the application whose tokens Event Grid brings; without it no token is for the broker" }}
{{- end }}
{{- if has (int .Values.ports.webhook) (list (int .Values.ports.grpc) (int .Values.ports.admin)) }}
{{- $problems = append $problems "ports: webhook must differ from grpc and admin" }}
{{- end }}
{{- end }}
{{- if $problems }}
{{- fail (printf "\n\nThese values cannot work:\n  - %s\n" (join "\n  - " $problems)) }}
{{- end }}
{{- end }}
