//! The text of a kubeconfig with everything embedded.

use base64::{Engine, engine::general_purpose::STANDARD};

use super::Identity;

/// What goes into it.
pub(super) struct Kubeconfig<'a> {
    /// Names the cluster and the context.
    pub(super) cluster: &'a str,
    pub(super) url: &'a str,
    pub(super) ca_pem: &'a str,
    pub(super) user: &'a str,
    pub(super) identity: &'a Identity,
}

/// Renders YAML. Strings are quoted as JSON, which YAML reads alike.
pub(super) fn render(config: &Kubeconfig<'_>) -> String {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let (cluster, user, url) = (quoted(config.cluster), quoted(config.user), quoted(config.url));
    let ca = STANDARD.encode(config.ca_pem);
    let certificate = STANDARD.encode(&config.identity.certificate_pem);
    let key = STANDARD.encode(&config.identity.key_pem);
    format!(
        "apiVersion: v1
kind: Config
current-context: {cluster}
clusters:
- name: {cluster}
  cluster:
    server: {url}
    certificate-authority-data: {ca}
contexts:
- name: {cluster}
  context:
    cluster: {cluster}
    user: {user}
users:
- name: {user}
  user:
    client-certificate-data: {certificate}
    client-key-data: {key}
preferences: {{}}
"
    )
}
