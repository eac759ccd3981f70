//! The writer with real files and with disks that fail, fill up and hang.

use std::{io, os::unix::fs::PermissionsExt, path::Path, sync::atomic::AtomicBool};

use async_trait::async_trait;
use drover_api::audit::{Verdict, Verifier};
use http::Method;
use jiff::Timestamp;

use super::*;
use crate::request::{RequestInfo, User};

fn record(user: &str, path: &str) -> Record {
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    let user = (!user.is_empty()).then(|| User::new(user, &[]));
    Record {
        id: "id".to_owned(),
        who: Who { user, user_agent: "kubectl\n{\"kind\":\"Event\"}".to_owned(), ..Who::default() },
        info: Some(RequestInfo::parse(&Method::POST, path, query).unwrap()),
        streams: false,
        named: Some("made".to_owned()),
        code: 201,
        reason: None,
        at: (Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH),
    }
}

/// Runs a log over `sink`, leaves the records, and waits until all are written or lost.
async fn run_log(sink: Box<dyn Sink>, records: Vec<Record>) -> Audit {
    let shutdown = CancellationToken::new();
    let (audit, writer) = Audit::start(sink, shutdown.clone());
    for record in records {
        audit.record(record);
    }
    shutdown.cancel();
    writer.await.unwrap();
    audit
}

fn verify(text: &[u8]) -> Verdict {
    let mut verifier = Verifier::default();
    text.strip_suffix(b"\n")
        .into_iter()
        .flat_map(|text| text.split(|byte| *byte == b'\n'))
        .for_each(|line| verifier.line(line));
    verifier.finish(None)
}

async fn read_all(dir: &Path) -> Vec<u8> {
    let mut text = Vec::new();
    for path in file::files(dir.to_owned()).await {
        text.extend(std::fs::read(path).unwrap());
    }
    text
}

#[tokio::test]
async fn a_line_says_who_did_what_and_never_a_command_line_or_a_body() {
    let dir = tempfile::tempdir().unwrap();
    let sink = FileSink::new(Limits::new(dir.path().join("audit")));
    let path = "/api/v1/namespaces/a/pods/p/exec?command=psql&command=secret-password&container=c";
    let audit = run_log(Box::new(sink), vec![record("jane", path), record("", "/api/v1/namespaces/a/secrets")]).await;
    let text = String::from_utf8(read_all(&dir.path().join("audit")).await).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2, "the line break of a user agent makes no line: {text}");
    assert_eq!(lines[0]["user"]["username"], "jane");
    assert_eq!(
        lines[0]["objectRef"],
        json!({
            "resource": "pods", "apiVersion": "v1", "namespace": "a", "name": "p", "subresource": "exec"
        })
    );
    assert_eq!(lines[0]["requestReceivedTimestamp"], "1970-01-01T00:00:00.000000Z");
    assert!(!text.contains("secret-password") && text.contains("container=c"), "{text}");
    assert_eq!(lines[1]["user"]["username"], "system:anonymous");
    assert_eq!(lines[1]["objectRef"]["name"], "made");
    assert!(verify(text.as_bytes()).is_intact());
    assert_eq!(audit.report()["sequence"], 2);
    let mode = |path: &str| std::fs::metadata(dir.path().join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("audit"), mode("audit/audit.log")), (0o700, 0o600));
}

#[tokio::test]
async fn the_chain_goes_on_over_restarts_torn_lines_and_old_files_within_bounded_disk() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { dir: dir.path().join("audit"), bytes_max: 4096, files_max: 3 };
    for round in 0..40 {
        let records = (0..3).map(|_| record("jane", "/api/v1/namespaces/a/pods")).collect();
        run_log(Box::new(FileSink::new(limits.clone())), records).await;
        if round % 7 == 3 {
            // A crash in the middle of a line.
            let path = limits.dir.join("audit.log");
            let length = std::fs::metadata(&path).unwrap().len();
            std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(length - 40).unwrap();
        }
    }
    let files = file::files(limits.dir.clone()).await;
    assert_eq!(files.len(), 4, "{files:?}");
    let verdict = verify(&read_all(&limits.dir).await);
    assert!(verdict.is_intact(), "{verdict:?}");
    assert!(verdict.chain.sequence >= 120 && verdict.lines < 120, "the oldest lines have gone: {verdict:?}");
}

#[tokio::test]
async fn a_directory_that_others_can_read_is_not_written_to() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let error = FileSink::new(Limits::new(dir.path().to_owned())).open().await.unwrap_err();
    assert!(error.to_string().contains("has mode 0755"), "{error}");
}

/// A disk that takes lines, refuses them, or never answers.
#[derive(Debug, Clone, Default)]
struct Disk {
    text: Arc<Mutex<Vec<u8>>>,
    full: Arc<AtomicBool>,
    hangs: bool,
}

#[async_trait]
impl Sink for Disk {
    fn describe(&self) -> Value {
        Value::Null
    }

    async fn open(&mut self) -> io::Result<Chain> {
        let text = self.text.lock().unwrap().clone();
        Ok(Chain::resume(text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())))
    }

    async fn append(&mut self, lines: &[u8], _: u64) -> io::Result<()> {
        if self.hangs {
            std::future::pending::<()>().await;
        }
        if self.full.load(Ordering::Relaxed) {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        self.text.lock().unwrap().extend_from_slice(lines);
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_loses_lines_and_the_next_one_says_how_many() {
    let disk = Disk::default();
    disk.full.store(true, Ordering::Relaxed);
    let shutdown = CancellationToken::new();
    let (audit, writer) = Audit::start(Box::new(disk.clone()), shutdown.clone());
    for _ in 0..10 {
        audit.record(record("jane", "/api/v1/namespaces/a/pods"));
    }
    while audit.report()["dropped"] != 10 {
        tokio::task::yield_now().await;
    }
    disk.full.store(false, Ordering::Relaxed);
    audit.record(record("jane", "/api/v1/namespaces/a/pods"));
    while audit.report()["written"] != 1 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    shutdown.cancel();
    writer.await.unwrap();
    let verdict = verify(&disk.text.lock().unwrap());
    assert_eq!((verdict.lines, verdict.dropped, verdict.is_intact()), (1, 10, true));
    assert!(audit.render().contains("apiserver_audit_error_total{plugin=\"log\"} 10\n"));
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_hangs_holds_nobody_up_and_costs_bounded_memory() {
    let shutdown = CancellationToken::new();
    let (audit, writer) = Audit::start(Box::new(Disk { hangs: true, ..Disk::default() }), shutdown.clone());
    for round in 0..3 {
        for _ in 0..QUEUE {
            audit.record(record("jane", "/api/v1/namespaces/a/pods")); // Returns, or the test would not end.
        }
        if round == 0 {
            tokio::task::yield_now().await; // The writer takes its first batch.
        }
    }
    assert!(audit.counts.dropped.load(Ordering::Relaxed) >= QUEUE as u64, "{audit:?}");
    shutdown.cancel();
    writer.await.unwrap();
}

#[tokio::test]
async fn strangers_cannot_push_the_log_out() {
    let disk = Disk::default();
    let mut records: Vec<Record> = (0..1000).map(|_| record("", "/api/v1/namespaces/a/secrets")).collect();
    records.push(record("jane", "/api/v1/namespaces/a/pods"));
    let audit = run_log(Box::new(disk.clone()), records).await;
    let verdict = verify(&disk.text.lock().unwrap());
    assert_eq!(verdict.lines, STRANGERS_PER_SECOND + 1);
    assert_eq!(audit.report()["dropped"], 1000 - STRANGERS_PER_SECOND);
}
