//! Requests to the API server, one function a verb.

use std::io;

use anyhow::Context as _;
use futures::{AsyncBufRead, AsyncBufReadExt as _, Stream, StreamExt as _};
use http::{Method, Request};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::{Error, Resource, config, resource::encode};
use crate::output::Output;

/// Asks for the columns that `get` shows instead of the objects.
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
const JSON: &str = "application/json";

/// Which kind of patch a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PatchType {
    /// Lists are merged by the keys of the schema.
    Strategic,
    /// RFC 7396.
    Merge,
}

impl PatchType {
    fn content_type(self) -> &'static str {
        match self {
            PatchType::Strategic => "application/strategic-merge-patch+json",
            PatchType::Merge => "application/merge-patch+json",
        }
    }
}

/// The parameters of a request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query(Vec<(&'static str, String)>);

impl Query {
    /// No parameters.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds a parameter.
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.0.push((name, value.into()));
        self
    }

    /// Adds a parameter unless its value is empty.
    pub(crate) fn with_some(self, name: &'static str, value: Option<&str>) -> Self {
        match value {
            Some(value) if !value.is_empty() => self.with(name, value),
            Some(_) | None => self,
        }
    }

    /// The path with the parameters behind it.
    pub(crate) fn on(&self, path: &str) -> String {
        let pairs: Vec<String> = self.0.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
        if pairs.is_empty() { path.to_owned() } else { format!("{path}?{}", pairs.join("&")) }
    }
}

/// How an object is to be deleted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Delete {
    /// Seconds the containers get; the object's own setting when `None`.
    pub(crate) grace_period_secs: Option<i64>,
    /// `Foreground`, `Background`, `Orphan`.
    pub(crate) propagation: Option<&'static str>,
    /// The object that is meant: another of the same name is not deleted.
    pub(crate) uid: Option<String>,
    /// Only say what would happen.
    pub(crate) dry_run: bool,
}

impl Delete {
    fn body(&self) -> Value {
        let mut body = json!({"apiVersion": "v1", "kind": "DeleteOptions"});
        if let Some(secs) = self.grace_period_secs {
            body["gracePeriodSeconds"] = secs.into();
        }
        if let Some(propagation) = self.propagation {
            body["propagationPolicy"] = propagation.into();
        }
        if let Some(uid) = &self.uid {
            body["preconditions"] = json!({"uid": uid});
        }
        if self.dry_run {
            body["dryRun"] = json!(["All"]);
        }
        body
    }
}

/// A connection to one cluster in one namespace.
#[derive(Clone)]
pub(crate) struct Cluster {
    client: kube::Client,
    output: Output,
    /// The namespace commands work in.
    pub(crate) namespace: String,
    /// The name of the context in use.
    pub(crate) context: String,
    /// The server's address.
    pub(crate) server: String,
    /// The certificate of the authority that the kubeconfig names, in DER.
    pub(crate) authority: Option<Vec<u8>>,
    pub(super) discovered: std::sync::Arc<OnceCell<Vec<Resource>>>,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster")
            .field("server", &self.server)
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

impl Cluster {
    /// Reads the kubeconfig; sends nothing yet.
    ///
    /// # Errors
    /// As [`config::load`], and for keys or certificates that cannot be used.
    pub(crate) async fn connect(access: &config::Access, output: Output) -> anyhow::Result<Self> {
        let config::Loaded { config, context, namespace } = config::load(access).await?;
        let server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let authority = config.root_cert.as_ref().and_then(|certificates| certificates.first().cloned());
        let client = kube::Client::try_from(config).context("kubeconfig")?;
        Ok(Self { client, output, namespace, context, server, authority, discovered: std::sync::Arc::default() })
    }

    /// The connection itself, for what kube does better: exec.
    pub(crate) fn client(&self) -> kube::Client {
        self.client.clone()
    }

    /// GETs a path.
    pub(crate) async fn get(&self, path: &str) -> Result<Value, Error> {
        self.send(Method::GET, path, JSON, None).await
    }

    /// GETs an object or a list in the form of a Table.
    pub(crate) async fn get_table(&self, path: &str) -> Result<Value, Error> {
        self.send(Method::GET, path, TABLE, None).await
    }

    /// GETs an object that may be missing.
    pub(crate) async fn find(&self, path: &str) -> Result<Option<Value>, Error> {
        match self.get(path).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns the objects of a list.
    pub(crate) async fn list(&self, path: &str) -> Result<Vec<Value>, Error> {
        let mut list = self.get(path).await?;
        Ok(take_items(&mut list))
    }

    /// POSTs an object.
    pub(crate) async fn create(&self, path: &str, object: &Value) -> Result<Value, Error> {
        self.send(Method::POST, path, JSON, Some((JSON, object))).await
    }

    /// PATCHes an object.
    pub(crate) async fn patch(&self, path: &str, kind: PatchType, patch: &Value) -> Result<Value, Error> {
        self.send(Method::PATCH, path, JSON, Some((kind.content_type(), patch))).await
    }

    /// DELETEs an object.
    pub(crate) async fn delete(&self, path: &str, options: &Delete) -> Result<Value, Error> {
        self.send(Method::DELETE, path, JSON, Some((JSON, &options.body()))).await
    }

    /// GETs a path as plain text.
    pub(crate) async fn get_text(&self, path: &str) -> Result<String, Error> {
        self.client.request_text(self.bare(path)?).await.map_err(|error| Error::from_kube(&self.server, error))
    }

    /// GETs a path whose answer comes bit by bit.
    pub(crate) async fn stream(&self, path: &str) -> Result<impl AsyncBufRead + use<>, Error> {
        self.client.request_stream(self.bare(path)?).await.map_err(|error| Error::from_kube(&self.server, error))
    }

    /// Opens a watch and returns its events as they come, one JSON document each.
    pub(crate) async fn watch(
        &self,
        path: &str,
        table: bool,
    ) -> Result<impl Stream<Item = Result<Value, Error>> + use<>, Error> {
        let request = self.request(Method::GET, path, if table { TABLE } else { JSON }).body(Vec::new());
        let request = request.map_err(|error| Error::Protocol(error.to_string()))?;
        let server = self.server.clone();
        let reader = self.client.request_stream(request).await.map_err(|error| Error::from_kube(&server, error))?;
        Ok(reader.lines().map(move |line| parse_event(&server, line)))
    }

    fn bare(&self, path: &str) -> Result<Request<Vec<u8>>, Error> {
        self.request(Method::GET, path, "*/*").body(Vec::new()).map_err(|error| Error::Protocol(error.to_string()))
    }

    fn request(&self, method: Method, path: &str, accept: &str) -> http::request::Builder {
        Request::builder().method(method).uri(path).header(http::header::ACCEPT, accept)
    }

    /// POSTs bytes that are no object.
    pub(crate) async fn upload(&self, path: &str, bytes: Vec<u8>) -> Result<Value, Error> {
        let request = self.request(Method::POST, path, JSON);
        self.exchange(request.header(http::header::CONTENT_TYPE, "application/octet-stream"), bytes).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        accept: &str,
        body: Option<(&str, &Value)>,
    ) -> Result<Value, Error> {
        let mut request = self.request(method, path, accept);
        let mut bytes = Vec::new();
        if let Some((content_type, value)) = body {
            request = request.header(http::header::CONTENT_TYPE, content_type);
            bytes = serde_json::to_vec(value).map_err(|error| Error::Protocol(error.to_string()))?;
        }
        self.exchange(request, bytes).await
    }

    async fn exchange(&self, request: http::request::Builder, bytes: Vec<u8>) -> Result<Value, Error> {
        let request = request.body(Body::from(bytes)).map_err(|error| Error::Protocol(error.to_string()))?;
        let failed = |error| Error::from_kube(&self.server, error);
        let response = self.client.send(request).await.map_err(failed)?;
        for warning in response.headers().get_all(http::header::WARNING) {
            self.output.note(&format!("warning: {}", warning_text(&String::from_utf8_lossy(warning.as_bytes()))));
        }
        let status = response.status();
        let body = response.into_body().collect_bytes().await.map_err(failed)?;
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|error| Error::Protocol(error.to_string()));
        }
        Err(refusal(status.as_u16(), &body))
    }
}

/// Takes the objects out of a list, each with the `apiVersion` and `kind` that lists leave out.
pub(super) fn take_items(list: &mut Value) -> Vec<Value> {
    let api_version = list["apiVersion"].clone();
    let kind = list["kind"].as_str().and_then(|kind| kind.strip_suffix("List")).unwrap_or_default().to_owned();
    let Value::Array(mut items) = list["items"].take() else { return Vec::new() };
    for item in &mut items {
        if let Some(fields) = item.as_object_mut()
            && !kind.is_empty()
        {
            fields.entry("apiVersion").or_insert_with(|| api_version.clone());
            fields.entry("kind").or_insert_with(|| kind.as_str().into());
        }
    }
    items
}

/// Reads the Status of an answer that is not a success, or makes one of what a proxy said.
fn refusal(code: u16, body: &[u8]) -> Error {
    if let Ok(mut status) = serde_json::from_slice::<kube::core::Status>(body) {
        status.code = code;
        return Error::Api(Box::new(status));
    }
    let text: String = String::from_utf8_lossy(body).trim().chars().take(500).collect();
    let message = if text.is_empty() { format!("the server answered {code}") } else { text };
    Error::Api(Box::new(kube::core::Status::failure(&message, "").with_code(code)))
}

/// `299 - "unknown field \"x\""` → `unknown field "x"`.
fn warning_text(header: &str) -> String {
    let quoted =
        header.split_once('"').map_or(header, |(_, rest)| rest.rsplit_once('"').map_or(rest, |(text, _)| text));
    quoted.replace("\\\"", "\"").replace("\\\\", "\\")
}

fn parse_event(server: &str, line: io::Result<String>) -> Result<Value, Error> {
    let line = line.map_err(|error| Error::Unreachable { server: server.to_owned(), reason: error.to_string() })?;
    let mut event: Value = serde_json::from_str(&line).map_err(|error| Error::Protocol(error.to_string()))?;
    if event["type"] == "ERROR" {
        let body = event["object"].take();
        let code = body["code"].as_u64().and_then(|code| u16::try_from(code).ok()).unwrap_or(500);
        return Err(refusal(code, body.to_string().as_bytes()));
    }
    Ok(event)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_encoded() {
        let query = Query::new().with("labelSelector", "a in (b,c)").with_some("fieldSelector", Some(""));
        assert_eq!(query.on("/api/v1/pods"), "/api/v1/pods?labelSelector=a%20in%20%28b%2Cc%29");
        assert_eq!(Query::new().on("/x"), "/x");
    }

    #[test]
    fn items_of_a_list_get_their_kind() {
        let mut list = json!({"apiVersion": "apps/v1", "kind": "DeploymentList", "items": [{"metadata": {}}]});
        assert_eq!(take_items(&mut list), [json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {}})]);
    }

    #[test]
    fn warnings_lose_their_code_and_quotes() {
        assert_eq!(warning_text(r#"299 - "unknown field \"spec.x\"""#), "unknown field \"spec.x\"");
    }

    #[test]
    fn an_answer_that_is_no_status_is_shown_as_it_is() {
        assert_eq!(refusal(502, b"bad gateway\n").to_string(), "bad gateway");
        assert_eq!(refusal(404, b"").to_string(), "the server answered 404");
    }
}
