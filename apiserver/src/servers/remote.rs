//! The memory-only class of another server, asked over the connection between the two.

use std::sync::Arc;

use async_trait::async_trait;
use drover_store::{
    Backend, ChangeStream, Error, KeyValue, Range, RangeResult, Revision, Transaction, TransactionResult,
};
use futures::{StreamExt, TryStreamExt, stream};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    time::timeout,
};
use tokio_util::io::StreamReader;

use super::{
    PATIENCE,
    connection::{Peer, request},
    wire::{self, Call, Reply},
};
use crate::front::Body;

/// Where calls go.
pub(super) const VOLATILE: &str = "volatile";

/// A backend that is another server's.
#[derive(Debug)]
pub(super) struct Remote {
    peer: Arc<Peer>,
}

impl Remote {
    pub(super) fn new(peer: Arc<Peer>) -> Self {
        Self { peer }
    }

    async fn call(&self, call: &Call) -> Result<Reply, Error> {
        let answer = async {
            let body = self.send(call).await?.collect().await.map_err(|error| lost(&error))?.to_bytes();
            serde_json::from_slice(&body).map_err(|error| lost(&error))
        };
        match timeout(PATIENCE, answer).await {
            Ok(Ok(Reply::Failed(failure))) => Err(failure.into()),
            Ok(reply) => reply,
            Err(elapsed) => Err(lost(&elapsed)),
        }
    }

    async fn send(&self, call: &Call) -> Result<Incoming, Error> {
        let request = request(http::Method::POST, VOLATILE, Body::from(wire::line(call)));
        Ok(self.peer.send(request).await.map_err(|error| lost(&error))?.into_body())
    }
}

#[async_trait]
impl Backend for Remote {
    async fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, Error> {
        match self.call(&Call::Get(String::from_utf8_lossy(key).into_owned())).await? {
            Reply::Found(found) => Ok(found.map(KeyValue::from)),
            other => Err(unexpected(&other)),
        }
    }

    async fn range(&self, range: Range) -> Result<RangeResult, Error> {
        match self.call(&range.into()).await? {
            Reply::Page { rows, revision, more } => {
                Ok(RangeResult { items: rows.into_iter().map(KeyValue::from).collect(), revision, more })
            }
            other => Err(unexpected(&other)),
        }
    }

    async fn commit(&self, transaction: Transaction) -> Result<TransactionResult, Error> {
        match self.call(&transaction.into()).await? {
            Reply::Committed(revision) => Ok(TransactionResult::Committed { revision }),
            Reply::Conflict { current, revision } => {
                let current = current.into_iter().map(|found| found.map(KeyValue::from)).collect();
                Ok(TransactionResult::Conflict { current, revision })
            }
            other => Err(unexpected(&other)),
        }
    }

    async fn changes(&self, prefix: &[u8], after: Revision) -> Result<ChangeStream, Error> {
        let call = Call::Changes { prefix: String::from_utf8_lossy(prefix).into_owned(), after };
        let body = timeout(PATIENCE, self.send(&call)).await.map_err(|elapsed| lost(&elapsed))??;
        let reader = StreamReader::new(body.into_data_stream().map_err(std::io::Error::other));
        let mut lines = BufReader::new(reader).lines();
        let first = timeout(PATIENCE, lines.next_line()).await.map_err(|elapsed| lost(&elapsed))?;
        match read(first.map(Option::unwrap_or_default))? {
            Reply::Open => {}
            Reply::Failed(failure) => return Err(failure.into()),
            other => return Err(unexpected(&other)),
        }
        let lines = stream::unfold(lines, |mut lines| async move {
            let line = lines.next_line().await.transpose()?;
            Some((line, lines))
        });
        let batches = lines.map(|line| match read(line)? {
            Reply::Batch { revision, events } => Ok(wire::changes(revision, events)),
            Reply::Failed(failure) => Err(failure.into()),
            other => Err(unexpected(&other)),
        });
        let end = stream::once(async { Err(Error::Unavailable("the owner ended the stream".to_owned())) });
        Ok(batches.chain(end).boxed())
    }

    async fn revision(&self) -> Result<Revision, Error> {
        match self.call(&Call::Revision).await? {
            Reply::Revision(revision) => Ok(revision),
            other => Err(unexpected(&other)),
        }
    }

    async fn compact(&self, _revision: Revision) -> Result<(), Error> {
        Ok(())
    }
}

fn read(line: std::io::Result<String>) -> Result<Reply, Error> {
    let line = line.map_err(|error| lost(&error))?;
    serde_json::from_str(&line).map_err(|error| lost(&error))
}

fn lost(error: &dyn std::error::Error) -> Error {
    Error::Unavailable(format!("the server that owns Leases and Events cannot be asked: {error}"))
}

fn unexpected(reply: &Reply) -> Error {
    Error::Unavailable(format!("another server answered beside the question: {reply:?}"))
}
