//! `backups` and `restores` of `drover.dev`: who asks for what, and how it is answered.

use std::{sync::Arc, time::Duration};

use drover_api::{
    backup::{Decoder, Header, Item, Record, Summary},
    status::ApiError,
};
use futures::StreamExt;
use http::{HeaderValue, header};
use serde_json::{Value, json};

use super::{
    Error,
    export::Export,
    gate::Gate,
    is_ours_to_back_up,
    marker::{Applying, Confirmed, File, Marker},
    merge::Merge,
    plan, staging,
};
use crate::{
    front::{Body, Request, Response, json_response},
    registry::{Environment, Registry, format_time, from_store},
    request::{RequestInfo, User, method_not_allowed},
};

/// An upload that sends nothing for so long is given up.
const UPLOAD_PATIENCE: Duration = Duration::from_secs(60);
/// How long the answer to a restore waits for this server's own caches to show it.
const SHOWN_WITHIN: Duration = Duration::from_secs(30);

/// Answers requests about backups and restores.
pub(crate) struct Restores {
    pub(crate) gate: Arc<Gate>,
    pub(crate) registry: Arc<Registry>,
    /// The cluster's name; files of other clusters are refused.
    pub(crate) cluster: String,
    pub(crate) environment: Arc<dyn Environment>,
}

/// What a query asks of a restore.
#[derive(Debug, Clone, Copy)]
struct Options {
    dry_run: bool,
    force: bool,
}

impl Restores {
    /// Whether a request is for this module.
    pub(crate) fn serves(info: &RequestInfo) -> bool {
        let group = (info.api_group.as_str(), info.api_version.as_str()) == ("drover.dev", "v1alpha1");
        group && matches!(info.resource.as_str(), "backups" | "restores") && info.namespace.is_empty()
    }

    /// Answers an authorised request.
    pub(crate) async fn answer(&self, user: &User, info: &RequestInfo, request: Request) -> Result<Response, ApiError> {
        if !info.tail.is_empty() {
            return Err(not_served());
        }
        match (info.resource.as_str(), info.verb, info.name.as_str(), info.subresource.as_str()) {
            ("backups", "get", "cluster", "") => self.backup(user).await,
            ("restores", "get", "cluster", "") => self.state().await.map(|state| json_response(200, &state)),
            ("restores", "create", "", "") => {
                let dry_run = info.query_all("dryRun").next().is_some();
                let options = Options { dry_run, force: info.flag("force")? };
                let restored = self.restore(user, options, request.into_body()).await;
                restored.map(|state| json_response(200, &state)).map_err(|error| told(&error))
            }
            ("restores", "create", "cluster", "confirm") => {
                self.confirm(user).await.map(|state| json_response(200, &state))
            }
            (_, _, "cluster", "" | "confirm") | (_, _, "", "") => Err(method_not_allowed()),
            _ => Err(not_served()),
        }
    }

    async fn backup(&self, user: &User) -> Result<Response, ApiError> {
        let header = Header {
            cluster: self.cluster.clone(),
            revision: 0,
            taken_at: format_time(self.environment.now()),
            server_version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let export = Export::begin(Arc::clone(&self.gate), header).await.map_err(|error| from_store(&error))?;
        tracing::info!(user = %user.name, "a backup is being taken");
        let mut response = Response::new(Body::from_stream(export.into_stream()));
        let octets = HeaderValue::from_static("application/octet-stream");
        response.headers_mut().insert(header::CONTENT_TYPE, octets);
        Ok(response)
    }

    async fn state(&self) -> Result<Value, ApiError> {
        let known = self.gate.refresh().await.map_err(|error| from_store(&error))?;
        known.marker.to_object().ok_or_else(never_restored)
    }

    async fn confirm(&self, user: &User) -> Result<Value, ApiError> {
        loop {
            let known = self.gate.refresh().await.map_err(|error| from_store(&error))?;
            if known.is_closed() {
                return Err(from_store(&super::gate::closed()));
            }
            let mut marker = known.marker.clone();
            let restored = marker.restored.as_mut().ok_or_else(never_restored)?;
            if restored.confirmed.is_none() {
                restored.confirmed = Some(Confirmed { by: user.name.clone(), at: format_time(self.environment.now()) });
                if !self.gate.mark(&known, marker.clone()).await.map_err(|error| from_store(&error))? {
                    continue;
                }
                tracing::warn!(user = %user.name, "the restore is confirmed; what the backup does not know may go");
            }
            return marker.to_object().ok_or_else(never_restored);
        }
    }

    async fn restore(&self, user: &User, options: Options, body: Body) -> Result<Value, Error> {
        let mut upload = Upload::new(body);
        let header = upload.header().await?;
        if header.cluster != self.cluster && !options.force {
            return Err(Error::Refused(format!(
                "the backup is of cluster {:?} and this is {:?}; force=true restores it all the same",
                header.cluster, self.cluster
            )));
        }
        if options.dry_run {
            return self.dry_run(header, upload).await;
        }
        self.take_in(user, header, upload).await?;
        self.gate.eager.notify_one();
        let mut known = self.gate.known.subscribe();
        // The sender lives as long as the gate.
        let _ = known.wait_for(|known| !known.is_closed()).await;
        self.shown().await;
        let object = self.gate.known().marker.to_object();
        object.ok_or_else(|| Error::Busy("the restore has vanished".to_owned()))
    }

    /// Takes the upload in and closes the gate, or leaves everything as it was.
    async fn take_in(&self, user: &User, header: Header, mut upload: Upload) -> Result<(), Error> {
        let id = self.environment.uid();
        let begun = self.stage(user, &id, header, &mut upload).await;
        if begun.is_err() {
            // The first error is the one to tell; what stays behind is removed by the next restore.
            if let Err(error) = staging::give_up(&self.gate, &id).await {
                tracing::warn!(%error, "a refused upload is left in the store for now");
            }
        }
        begun
    }

    /// Begins a restore without waiting for its end.
    #[cfg(test)]
    pub(super) async fn stage_file(&self, user: &User, body: Body) -> Result<(), Error> {
        let mut upload = Upload::new(body);
        let header = upload.header().await?;
        self.take_in(user, header, upload).await
    }

    /// Writes the upload down, proves it, and closes the gate.
    async fn stage(&self, user: &User, id: &str, header: Header, upload: &mut Upload) -> Result<(), Error> {
        let mut staged = staging::Writer::begin(&self.gate, id.to_owned()).await?;
        let summary = loop {
            match upload.next().await? {
                Found::Record(record) => staged.push(&record).await?,
                Found::End(summary) => break summary,
            }
        };
        let (chunks, mut known) = staged.finish().await?;
        let file = file_of(header, &summary);
        loop {
            let store_revision = self.gate.inner.revision().await?;
            let applying = Applying {
                staged: id.to_owned(),
                chunks,
                file: file.clone(),
                by: user.name.clone(),
                begun_at: format_time(self.environment.now()),
                offset: plan::next_offset(known.marker.offset, store_revision, file.revision),
            };
            let marker = Marker { staging: None, applying: Some(applying), ..known.marker.clone() };
            if self.gate.mark(&known, marker).await? {
                tracing::warn!(user = %user.name, backup.revision = file.revision, "a backup is being restored");
                return Ok(());
            }
            known = self.gate.refresh().await?;
            if known.marker.staging.as_deref() != Some(id) {
                return Err(Error::Busy("another restore has begun".to_owned()));
            }
        }
    }

    /// Says what a restore would change.
    async fn dry_run(&self, header: Header, mut upload: Upload) -> Result<Value, Error> {
        let mut merge = Merge::new(self.gate.clone(), None);
        let summary = loop {
            match upload.next().await? {
                Found::Record(record) => {
                    let mut wanted = Some(record);
                    while wanted.is_some() {
                        merge.next(&mut wanted).await?;
                    }
                }
                Found::End(summary) => break summary,
            }
        };
        while merge.next(&mut None).await?.is_some() {}
        Ok(json!({
            "kind": "Restore",
            "apiVersion": "drover.dev/v1alpha1",
            "metadata": {"name": "cluster"},
            "spec": file_of(header, &summary),
            "status": {"phase": "DryRun", "changes": merge.counts},
        }))
    }

    /// Waits until this server serves what was restored.
    async fn shown(&self) {
        let kind = drover_api::kinds::by_resource("", "v1", "namespaces");
        let shown = async {
            while let Some(kind) = kind
                && self.registry.synchronise(kind).await.is_err()
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(SHOWN_WITHIN, shown).await.is_err() {
            tracing::warn!("the restore is complete, and this server does not show it yet");
        }
    }
}

/// The body of a restore, item by item.
struct Upload {
    body: axum::body::BodyDataStream,
    decoder: Decoder,
}

enum Found {
    Record(Record),
    End(Summary),
}

impl Upload {
    fn new(body: Body) -> Self {
        Self { body: body.into_data_stream(), decoder: Decoder::file() }
    }

    async fn header(&mut self) -> Result<Header, Error> {
        match self.item().await? {
            Item::Header(header) => Ok(header),
            Item::Record(_) | Item::Void | Item::End(_) => Err(Error::Refused("the file has no header".to_owned())),
        }
    }

    async fn next(&mut self) -> Result<Found, Error> {
        match self.item().await? {
            Item::Record(record) if !is_ours_to_back_up(&record.key) => {
                Err(Error::Refused(format!("the file holds {:?}", String::from_utf8_lossy(&record.key))))
            }
            Item::Record(record) => Ok(Found::Record(record)),
            Item::End(summary) if summary.records == 0 => {
                Err(Error::Refused("the file holds no object at all".to_owned()))
            }
            Item::End(summary) => {
                // Whatever follows the trailer was not written by us.
                while let Some(bytes) = self.bytes().await? {
                    self.decoder.push(&bytes);
                    self.decoder.finish()?;
                }
                self.decoder.finish()?;
                Ok(Found::End(summary))
            }
            Item::Header(_) | Item::Void => Err(Error::Refused("the file begins twice".to_owned())),
        }
    }

    async fn item(&mut self) -> Result<Item, Error> {
        loop {
            if let Some(item) = self.decoder.next()? {
                return Ok(item);
            }
            match self.bytes().await? {
                Some(bytes) => self.decoder.push(&bytes),
                None => {
                    self.decoder.finish()?;
                    return Err(Error::Refused("the file has no trailer".to_owned()));
                }
            }
        }
    }

    async fn bytes(&mut self) -> Result<Option<bytes::Bytes>, Error> {
        match tokio::time::timeout(UPLOAD_PATIENCE, self.body.next()).await {
            Ok(next) => next.transpose().map_err(|error| Error::Upload(error.to_string())),
            Err(_) => Err(Error::Upload(format!("nothing came for {} s", UPLOAD_PATIENCE.as_secs()))),
        }
    }
}

fn file_of(header: Header, summary: &Summary) -> File {
    File {
        cluster: header.cluster,
        revision: header.revision,
        taken_at: header.taken_at,
        records: summary.records,
        digest: summary.digest.clone(),
    }
}

/// What the client is told.
fn told(error: &Error) -> ApiError {
    match error {
        Error::Store(error) => from_store(error),
        Error::File(error) => ApiError::new(422, "Invalid", format!("the backup cannot be restored: {error}")),
        Error::Refused(message) => ApiError::new(422, "Invalid", format!("the backup is refused: {message}")),
        Error::Busy(message) => ApiError::new(409, "Conflict", format!("{message}; try again")),
        Error::Upload(message) => ApiError::bad_request(format!("the upload broke off: {message}")),
    }
}

fn never_restored() -> ApiError {
    ApiError::new(404, "NotFound", "nothing was ever restored into this cluster")
}

fn not_served() -> ApiError {
    ApiError::new(404, "NotFound", "the server could not find the requested resource")
}
