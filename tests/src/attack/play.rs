//! Playing a case and judging the answers.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tokio::time::Instant;

use super::{
    Answer, Case, Server,
    case::{Expect, Request},
};

/// What a case cost.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Milliseconds from the first byte to the last.
    pub millis: u128,
    /// How much more memory the server occupies than before, in KiB.
    pub grown_kib: i64,
    /// How many requests were sent.
    pub requests: usize,
}

/// Plays one case.
///
/// # Errors
/// The first expectation that was not met, with what came instead.
pub async fn play(server: &Server, case: &Case) -> Result<Outcome> {
    for object in &case.setup {
        server.create(object).await?;
    }
    // Who asks exists before the clock runs.
    server.credentials(&case.role).await?;
    let before = server.resident_kib()?;
    let started = Instant::now();
    let each: Vec<Option<&Value>> =
        if case.each.is_empty() { vec![None] } else { case.each.iter().map(Some).collect() };
    for value in &each {
        let with = || value.map(|value| shortened(&value.to_string())).unwrap_or_default();
        one(server, &case.role, &case.request, &case.expect, *value).await.with_context(with)?;
    }
    let millis = started.elapsed().as_millis();
    let grown_kib = i64::try_from(server.resident_kib()?)? - i64::try_from(before)?;
    if let Some(limit) = case.grows_mib {
        ensure!(grown_kib <= i64::try_from(limit)? * 1024, "the server grew by {grown_kib} KiB, more than {limit} MiB");
    }
    for check in &case.then {
        let role = check.role.as_deref().unwrap_or("admin");
        for value in &each {
            one(server, role, &check.request, &check.expect, *value).await.context("afterwards")?;
        }
    }
    Ok(Outcome { millis, grown_kib, requests: each.len() })
}

async fn one(server: &Server, role: &str, request: &Request, expect: &Expect, each: Option<&Value>) -> Result<()> {
    let answers = if let Some(raw) = &request.raw {
        let text = String::from_utf8_lossy(&raw.bytes(each)?).replace("$HOST", &server.address);
        server.raw(role, text.as_bytes()).await?
    } else {
        let path = request.path.as_ref().context("a case has a path")?.bytes(each)?;
        let body = request.body.as_ref().map(|body| body.bytes(each)).transpose()?.unwrap_or_default();
        let word = each.and_then(Value::as_str).unwrap_or_default();
        let headers: Vec<(String, String)> =
            request.headers.iter().map(|(name, value)| (name.clone(), value.replace("$EACH", word))).collect();
        let method = request.method.as_deref().unwrap_or("GET").replace("$EACH", word);
        server.exchange(role, &method, &String::from_utf8(path)?, &headers, &body).await?
    };
    judge(expect, &answers)
}

fn judge(expect: &Expect, answers: &[Answer]) -> Result<()> {
    let closed = Answer::default();
    let answer = answers.first().unwrap_or(&closed);
    let seen = || format!("{} {}", answer.code, shortened(&answer.text()));
    ensure!(expect.code.contains(&answer.code), "expected {:?}, got {}", expect.code, seen());
    let wanted = expect.answers.unwrap_or_else(|| usize::from(answer.code != 0));
    ensure!(answers.len() == wanted, "expected {wanted} answers, got {}: {}", answers.len(), seen());
    let (body, text) = (answer.json(), answer.text());
    if let Some(reason) = &expect.reason {
        ensure!(body["reason"] == reason.as_str(), "expected reason {reason}: {}", seen());
    }
    if let Some(says) = &expect.says {
        ensure!(text.contains(says.as_str()), "expected to read {says:?}: {}", seen());
    }
    for answer in answers {
        let all = format!("{:?} {}", answer.headers, answer.text());
        if let Some(secret) = expect.never_says.iter().find(|secret| all.contains(secret.as_str())) {
            bail!("the answer holds {secret:?}: {}", seen());
        }
    }
    if let Some(field) = &expect.field {
        let causes = body.pointer("/details/causes").and_then(Value::as_array).into_iter().flatten();
        let fields: Vec<&str> = causes.filter_map(|cause| cause["field"].as_str()).collect();
        ensure!(fields.iter().any(|found| found == field), "expected the field {field}, found {fields:?}: {}", seen());
    }
    for (pointer, value) in &expect.values {
        let found = body.pointer(pointer).unwrap_or(&Value::Null);
        ensure!(found == value, "expected {value} at {pointer}, found {found}: {}", seen());
    }
    if let Some(header) = &expect.header {
        ensure!(answer.headers.iter().any(|(name, _)| name == header), "expected the header {header}: {}", seen());
    }
    Ok(())
}

fn shortened(text: &str) -> String {
    text.chars().take(600).collect()
}
