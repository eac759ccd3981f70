//! Several logs at once, line by line, each with its own colour.

use std::collections::HashSet;

use drover_api::object::{self, str_at};
use futures::{AsyncBufRead, AsyncBufReadExt as _};
use serde_json::Value;
use tokio::{sync::mpsc, task::JoinSet};

use crate::{
    cluster::{Cluster, Error, Event, Query, follow},
    output::{Output, Style, Text},
};

/// Lines that may wait to be printed before the streams wait.
const QUEUED_MAX: usize = 1024;
/// Colours of prefixes, in turn.
const COLOURS: [Style; 5] = [Style::Cyan, Style::Green, Style::Yellow, Style::Magenta, Style::Blue];

/// One container's log.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Source {
    namespace: String,
    pod: String,
    container: String,
    uid: String,
    /// How often the container had been restarted: each run is a log of its own.
    restarts: i64,
}

impl Source {
    /// The log of a container of a pod.
    pub(super) fn new(pod: &Value, container: String) -> Self {
        let statuses = object::at(pod, &["status", "containerStatuses"]).and_then(Value::as_array);
        let status = statuses.into_iter().flatten().find(|status| str_at(status, &["name"]) == container);
        Self {
            namespace: object::namespace(pod).to_owned(),
            pod: object::name(pod).to_owned(),
            container,
            uid: object::uid(pod).to_owned(),
            restarts: status.and_then(|status| status["restartCount"].as_i64()).unwrap_or(0),
        }
    }

    fn path(&self, query: &Query) -> String {
        let pods = format!("/api/v1/namespaces/{}/pods/{}/log", self.namespace, self.pod);
        query.clone().with("container", self.container.clone()).on(&pods)
    }

    /// The start of each line, coloured by the pod's name so that it is the same in every run.
    fn prefix(&self) -> Text {
        let sum: usize = self.pod.bytes().chain(self.container.bytes()).map(usize::from).sum();
        Text::styled(COLOURS[sum % COLOURS.len()], format!("[{}/{}] ", self.pod, self.container))
    }
}

/// A line of a log, or why there are no more.
struct Line {
    source: Source,
    content: Result<String, Error>,
}

/// Prints logs until they end. Without a prefix a single log is passed on as it is.
pub(super) async fn print_all(
    cluster: &Cluster,
    output: Output,
    query: &Query,
    sources: Vec<Source>,
    prefix: bool,
) -> anyhow::Result<u8> {
    let (tx, mut rx) = mpsc::channel(QUEUED_MAX);
    let mut readers = JoinSet::new();
    if query.on("").contains("follow=true") {
        for source in sources {
            readers.spawn(read(cluster.clone(), source, query.clone(), tx.clone()));
        }
        drop(tx);
    } else {
        // One after the other, so that the lines of each stay together.
        let (cluster, query) = (cluster.clone(), query.clone());
        readers.spawn(async move {
            for source in sources {
                read(cluster.clone(), source, query.clone(), tx.clone()).await;
            }
        });
    }
    let mut failed = None;
    while let Some(line) = rx.recv().await {
        if let Some(error) = print(output, line, prefix)? {
            failed.get_or_insert(error);
        }
    }
    match failed {
        Some(error) => Err(error),
        None => Ok(0),
    }
}

/// Follows the logs of all pods that a selector finds, now and later, until interrupted.
pub(super) async fn follow_new(
    cluster: &Cluster,
    output: Output,
    query: &Query,
    selector: &str,
    prefix: bool,
    choose: impl Fn(&Value) -> Vec<String>,
) -> anyhow::Result<u8> {
    let pods = format!("/api/v1/namespaces/{}/pods", cluster.namespace);
    let mut changes = follow(cluster, pods, Query::new().with("labelSelector", selector));
    let (tx, mut lines) = mpsc::channel(QUEUED_MAX);
    let mut readers = JoinSet::new();
    let mut known: HashSet<Source> = HashSet::new();
    loop {
        tokio::select! {
            // Cancel-safe: receiving from a channel loses nothing.
            change = changes.recv() => {
                let seen = match change {
                    Some(Event::Listed(listed)) => listed,
                    Some(Event::Changed(pod)) => vec![pod],
                    Some(Event::Deleted(_)) => Vec::new(),
                    Some(Event::Lost(error)) => return Err(error.into()),
                    None => return Ok(0),
                };
                for pod in seen.iter().filter(|pod| has_logs(pod)) {
                    for source in choose(pod).into_iter().map(|container| Source::new(pod, container)) {
                        if known.insert(source.clone()) {
                            readers.spawn(read(cluster.clone(), source, query.clone(), tx.clone()));
                        }
                    }
                }
            }
            // Cancel-safe: receiving from a channel loses nothing.
            Some(line) = lines.recv() => {
                if let Some(error) = print(output, line, prefix)? {
                    output.note(&format!("warning: {error}"));
                }
            }
        }
    }
}

/// Whether a container of the pod has been started.
fn has_logs(pod: &Value) -> bool {
    matches!(str_at(pod, &["status", "phase"]), "Running" | "Succeeded" | "Failed")
}

fn print(output: Output, line: Line, prefix: bool) -> anyhow::Result<Option<anyhow::Error>> {
    match line.content {
        Ok(text) => {
            let start = if prefix { line.source.prefix() } else { Text::new() };
            output.line(start.plain(text))?;
            Ok(None)
        }
        Err(error) => {
            let Source { pod, container, .. } = &line.source;
            let whose = format!("logs of {pod}/{container}");
            Ok(Some(anyhow::Error::from(error).context(whose)))
        }
    }
}

async fn read(cluster: Cluster, source: Source, query: Query, tx: mpsc::Sender<Line>) {
    if let Err(error) = copy(&cluster, &source, &query, &tx).await {
        // The receiver is gone only when the command is over.
        let _ = tx.send(Line { source, content: Err(error) }).await;
    }
}

async fn copy(cluster: &Cluster, source: &Source, query: &Query, tx: &mpsc::Sender<Line>) -> Result<(), Error> {
    let mut reader = std::pin::pin!(cluster.stream(&source.path(query)).await?);
    let mut bytes = Vec::new();
    while let Some(text) =
        next_line(&mut reader, &mut bytes).await.map_err(|error| Error::Protocol(error.to_string()))?
    {
        if tx.send(Line { source: source.clone(), content: Ok(text) }).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// Reads a line of whatever bytes; what is not UTF-8 is replaced.
async fn next_line(reader: &mut (impl AsyncBufRead + Unpin), bytes: &mut Vec<u8>) -> std::io::Result<Option<String>> {
    bytes.clear();
    if reader.read_until(b'\n', bytes).await? == 0 {
        return Ok(None);
    }
    // The ends of lines, also those of a terminal, are ours to write.
    for end in [b'\n', b'\r'] {
        if bytes.last() == Some(&end) {
            bytes.pop();
        }
    }
    Ok(Some(String::from_utf8_lossy(bytes).into_owned()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn lines_of_any_bytes_are_read_whole() {
        let mut reader = futures::io::Cursor::new(b"one\n\xfftwo\r\n\nlast".to_vec());
        let mut bytes = Vec::new();
        let mut lines = Vec::new();
        while let Some(line) = next_line(&mut reader, &mut bytes).await.unwrap() {
            lines.push(line);
        }
        assert_eq!(lines, ["one", "\u{fffd}two", "", "last"]);
    }

    #[test]
    fn a_restarted_container_is_another_log() {
        let pod = |restarts: i64| {
            json!({"metadata": {"name": "web-1", "namespace": "shop", "uid": "u"},
                "status": {"containerStatuses": [{"name": "c", "restartCount": restarts}]}})
        };
        assert_ne!(Source::new(&pod(0), "c".to_owned()), Source::new(&pod(1), "c".to_owned()));
        let source = Source::new(&pod(0), "c".to_owned());
        let path = source.path(&Query::new().with("tailLines", "5"));
        assert_eq!(path, "/api/v1/namespaces/shop/pods/web-1/log?tailLines=5&container=c");
        assert_eq!(source.prefix().bare(), "[web-1/c] ");
    }
}
