//! CIS sections 1 to 4: the server's files, doors, keys and logs, judged by its own report. Pure.

use serde_json::Value;

use super::{
    checks::{Check, Outcome, Verdict, fail, none_of, pass, warn},
    world::{World, items},
};

/// The longest that a token may live without a warning: an hour (CIS 1.2.30).
const TOKEN_LIFE_SECS: u64 = 3600;
/// CIS' numbers for the audit log: ten old files of 100 MiB.
const AUDIT_FILES: u64 = 10;
const AUDIT_FILE_BYTES: u64 = 100 << 20;

/// In the order of the benchmark.
pub(super) const CHECKS: &[Check] = &[
    Check { id: "1.1.1-1.1.21", title: "files are their owner's alone", decide: files },
    Check { id: "1.2.1", title: "only constants without credentials", decide: anonymous },
    Check { id: "1.2.16-1.2.19,3.2.1", title: "audit log on and rotated", decide: audit_log },
    Check { id: "3.2.2", title: "audit log complete", decide: audit_losses },
    Check { id: "1.2.20", title: "requests time out", decide: request_timeout },
    Check { id: "1.2.30", title: "tokens are short-lived", decide: token_life },
    Check { id: "1.2.24-1.2.25,1.2.29", title: "TLS 1.3 only", decide: tls },
    Check { id: "1.2.27-1.2.28", title: "secrets sealed at rest", decide: sealing },
    Check { id: "2.1-2.7", title: "store not reachable in the clear", decide: store },
    Check { id: "4.1", title: "engines without known holes", decide: engines },
];

/// Judges a part of the report; a server that tells nothing is a warning, not a pass.
fn told(part: &Value, decide: impl FnOnce(&Value) -> Outcome) -> Outcome {
    if part.is_null() { warn("the server does not tell") } else { decide(part) }
}

fn files(world: &World) -> Outcome {
    told(&world.report["files"], |_| {
        let owner = &world.report["processUid"];
        let bad = items(&world.report, &["files"]).filter(|file| {
            let mode = file["mode"].as_str().and_then(|mode| u32::from_str_radix(mode, 8).ok()).unwrap_or(0o777);
            let path = file["path"].as_str().unwrap_or_default();
            // Certificates are public.
            let public = path.ends_with(".crt");
            (mode & 0o077 != 0 && !public) || mode & 0o022 != 0 || (!owner.is_null() && &file["uid"] != owner)
        });
        let text = |file: &Value| {
            format!("{} ({})", file["path"].as_str().unwrap_or_default(), file["mode"].as_str().unwrap_or("?"))
        };
        let bad: Vec<&Value> = bad.collect();
        let inside = |file: &&Value| {
            file["path"].as_str().is_some_and(|path| path.contains("/pki/") || path.contains("/audit/"))
        };
        let verdict = if bad.iter().any(inside) { Verdict::Fail } else { Verdict::Warn };
        none_of(verdict, "files that others can reach", bad.into_iter().map(text).collect())
    })
}

fn anonymous(world: &World) -> Outcome {
    told(&world.report["anonymousPaths"], |_| {
        const EXPECTED: [&str; 4] = ["/livez", "/readyz", "/healthz", "/version"];
        let more = items(&world.report, &["anonymousPaths"])
            .filter_map(Value::as_str)
            .filter(|path| !EXPECTED.contains(path))
            .map(str::to_owned);
        none_of(Verdict::Fail, "other paths without credentials", more.collect())
    })
}

fn audit_log(world: &World) -> Outcome {
    told(&world.report["audit"], |audit| {
        if audit["enabled"] != true {
            return fail("the audit log is switched off");
        }
        let (bytes, files) = (audit["sink"]["fileBytesMax"].as_u64(), audit["sink"]["filesMax"].as_u64());
        match (bytes, files) {
            (Some(bytes), Some(files)) if bytes >= AUDIT_FILE_BYTES && files >= AUDIT_FILES => {
                pass(format!("{} old files of {} MiB", files, bytes >> 20))
            }
            (Some(bytes), Some(files)) => warn(format!("keeps only {} files of {} MiB", files, bytes >> 20)),
            (None, _) | (_, None) => warn("the server does not tell how much is kept"),
        }
    })
}

fn audit_losses(world: &World) -> Outcome {
    told(&world.report["audit"], |audit| match audit["dropped"].as_u64() {
        Some(0) => pass(format!("{} events written since the start, none lost", audit["written"])),
        Some(lost) => warn(format!("{lost} events lost since the start")),
        None => warn("the server does not tell"),
    })
}

fn request_timeout(world: &World) -> Outcome {
    told(&world.report["requestTimeoutSecs"], |secs| match secs.as_u64() {
        Some(secs @ 1..=60) => pass(format!("after {secs} s")),
        Some(_) | None => fail("requests may last too long"),
    })
}

fn token_life(world: &World) -> Outcome {
    told(&world.report["tokenLifeSecsMax"], |secs| match secs.as_u64() {
        Some(secs) if secs <= TOKEN_LIFE_SECS => pass(format!("at most {secs} s")),
        Some(secs) => warn(format!("one may ask for up to {} h; every token is bound to its account", secs / 3600)),
        None => warn("the server does not tell"),
    })
}

fn tls(world: &World) -> Outcome {
    told(&world.report["tlsVersions"], |_| {
        let old = items(&world.report, &["tlsVersions"]).filter(|version| *version != "1.3");
        none_of(Verdict::Fail, "older versions", old.map(ToString::to_string).collect())
    })
}

fn sealing(world: &World) -> Outcome {
    told(&world.report["sealing"], |sealing| {
        if let Some(error) = sealing["error"].as_str() {
            return fail(format!("unknown: {error}"));
        }
        let unreadable = items(sealing, &["unreadable"]).count();
        let plain = sealing["plain"].as_u64().unwrap_or_default();
        let old: u64 = items(sealing, &["keys"])
            .filter(|key| key["primary"] != true)
            .filter_map(|key| key["values"].as_u64())
            .sum();
        match (unreadable, plain, old) {
            (0, 0, 0) => pass(format!("{} keys", items(sealing, &["keys"]).count())),
            (0, 0, old) => warn(format!("{old} values are sealed with an old key")),
            (0, plain, _) => fail(format!("{plain} values are not sealed")),
            (unreadable, _, _) => fail(format!("{unreadable} values cannot be opened")),
        }
    })
}

fn store(world: &World) -> Outcome {
    told(&world.report["store"], |store| match store.as_str() {
        Some("embedded") => pass("the embedded store has no port"),
        Some("etcds") => pass("etcd over TLS"),
        Some("etcd") => fail("etcd without TLS: everybody on the network between reads and writes everything"),
        Some(other) => warn(format!("unknown store {other:?}")),
        None => warn("the server does not tell"),
    })
}

/// Engines before 29.3.1 let large bodies past authorisation plugins (CVE-2026-34040); before 25 their runc has the holes
/// of CVE-2024-21626.
fn engines(world: &World) -> Outcome {
    let old = world.nodes.iter().filter_map(|node| {
        let version = node["status"]["nodeInfo"]["containerRuntimeVersion"].as_str()?;
        let major: u32 = version.rsplit('/').next()?.split('.').next()?.parse().ok()?;
        (major < 25).then(|| format!("{} ({version})", drover_api::object::name(node)))
    });
    none_of(Verdict::Warn, "nodes with an engine older than 25", old.collect())
}
