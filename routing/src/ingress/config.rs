//! HAProxy's configuration: a few files, in its own language (version 2.6 and newer).
//!
//! Whatever comes from a user is quoted for the place where it stands, and what cannot be quoted has been left out before.

use std::fmt::Write as _;

use drover_api::ingress::Balance;

use super::desired::{Backend, Desired, PathKind, Served};
use crate::digest;

/// What is said of a server that HAProxy watches itself, beside our probes: it takes part until three checks in a row fail.
pub(super) const CHECK: &str = "check inter 2s fall 3 rise 1";
/// The backend of what no rule leads anywhere.
const NONE: &str = "drover_none";
/// What begins the description by which a running HAProxy is known.
const DESCRIPTION: &str = "drover ";

/// Where HAProxy listens and finds its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// For HTTP, on all addresses.
    pub http_port: u16,
    /// For HTTPS, where there is a certificate.
    pub https_port: u16,
    /// For the stats page and `/metrics`, on the loopback address.
    pub stats_port: u16,
    /// The absolute directory of the files.
    pub dir: String,
    /// As whom requests are served, once the ports and files are open; `None` stays who it is.
    pub user: Option<String>,
}

/// The files of a configuration, and what it is known by.
#[derive(Clone, PartialEq, Eq)]
pub struct Files {
    /// Name in the directory and content; `haproxy.cfg` is the one to start with. Certificates hold keys.
    pub files: Vec<(String, String)>,
    /// Stands for all of it but the servers: while it stays, nothing needs a reload.
    pub structure: String,
}

impl std::fmt::Debug for Files {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Files").field("structure", &self.structure).finish_non_exhaustive()
    }
}

/// Writes the configuration.
pub fn files(desired: &Desired, settings: &Settings) -> Files {
    let mut files = vec![
        ("exact.map".to_owned(), map(desired, PathKind::Exact)),
        ("prefix.map".to_owned(), map(desired, PathKind::Prefix)),
    ];
    let mut list = String::new();
    for ((namespace, secret), certificate) in &desired.certificates {
        let name = format!("{namespace}_{secret}.pem");
        let hosts: Vec<&str> = certificate.hosts.iter().map(String::as_str).collect();
        put(&mut list, format_args!("{}/{name} {}", settings.dir, hosts.join(" ")));
        files.push((name, certificate.pem.clone()));
    }
    files.push(("certificates.list".to_owned(), list));
    let structure = digest(&(&files, text(desired, settings, "", false)));
    files.push(("haproxy.cfg".to_owned(), text(desired, settings, &structure, true)));
    Files { files, structure }
}

/// The structure of a running HAProxy, from its answer to `show info`.
pub fn structure_of(info: &str) -> Option<&str> {
    info.lines().find_map(|line| line.strip_prefix("description: ")?.strip_prefix(DESCRIPTION))
}

fn put(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{line}");
}

/// Lines of `host|path backend`. A prefix ends with a slash, as what is looked up does: `/a` is no prefix of `/ab`.
fn map(desired: &Desired, kind: PathKind) -> String {
    let slash = if kind == PathKind::Prefix { "/" } else { "" };
    let mut text = String::new();
    for route in desired.routes.iter().filter(|route| route.kind == kind) {
        put(&mut text, format_args!("{}|{}{slash} {}", route.host, route.path, route.backend));
    }
    text
}

/// What does not depend on any Ingress, up to the ports.
const DEFAULTS: &str = "
    hard-stop-after 1h
    ssl-default-bind-options ssl-min-ver TLSv1.2

defaults
    mode http
    timeout connect 2s
    timeout client 60s
    timeout server 60s
    timeout http-request 15s
    timeout http-keep-alive 60s
    timeout queue 5s
    timeout tunnel 1h
    # A reload closes a connection with its next answer, never under a request that is on its way.
    option idle-close-on-response
    option redispatch 1
    retries 3
    retry-on conn-failure empty-response
";

/// What every request meets first.
const REQUESTS: &str = "    # What a client says of itself is not believed.
    http-request del-header X-Forwarded-For
    option forwardfor
    http-request set-header X-Forwarded-Proto https if { ssl_fc }
    http-request set-header X-Forwarded-Proto http if !{ ssl_fc }
    http-request set-header X-Forwarded-Host %[req.hdr(host)]
    # Only what may be asked twice is tried on another server when one breaks off.
    http-request disable-l7-retry if !{ method GET HEAD OPTIONS }
    http-request set-var-fmt(txn.host) \"%[req.hdr(host),field(1,:),lower]\"
    http-request set-var-fmt(txn.wild) \"*.%[var(txn.host),field(2,.,0)]\"";

fn text(desired: &Desired, settings: &Settings, structure: &str, with_servers: bool) -> String {
    let Settings { stats_port, https_port, user, .. } = settings;
    let user = user.as_ref().map_or(String::new(), |user| format!("\n    user {user}\n    group {user}"));
    let mut text = String::new();
    put(
        &mut text,
        format_args!(
            "# Written by Drover. What is changed here is lost.
global
    description {DESCRIPTION}{structure}{user}{DEFAULTS}
frontend stats
    bind 127.0.0.1:{stats_port}
    http-request use-service prometheus-exporter if {{ path /metrics }}
    stats enable
    stats uri /
    stats refresh 10s
"
        ),
    );
    frontend(&mut text, desired, settings);
    put(
        &mut text,
        format_args!(
            "
backend {NONE}
    http-request return status 404 content-type text/plain string \"no Ingress leads there\\n\""
        ),
    );
    for (name, served) in &desired.backends {
        backend(&mut text, name, served, *https_port, with_servers);
    }
    text
}

fn frontend(text: &mut String, desired: &Desired, settings: &Settings) {
    let Settings { http_port, https_port, dir, .. } = settings;
    put(text, format_args!("frontend ingress\n    bind *:{http_port}"));
    if !desired.certificates.is_empty() {
        let list = quoted(&format!("{dir}/certificates.list"));
        put(text, format_args!("    bind *:{https_port} ssl crt-list {list} alpn h2,http/1.1"));
    }
    put(text, format_args!("{REQUESTS}"));
    let (exact, prefix) = (format!("{dir}/exact.map"), format!("{dir}/prefix.map"));
    for host in ["%[var(txn.host)]", "%[var(txn.wild)]", ""] {
        for (slash, lookup, file) in [("", "map_str", &exact), ("/", "map_beg", &prefix)] {
            let unless = "if !{ var(txn.to) -m found }";
            put(text, format_args!("    http-request set-var-fmt(txn.key) \"{host}|%[path]{slash}\" {unless}"));
            put(text, format_args!("    http-request set-var(txn.to) var(txn.key),{lookup}({file}) {unless}"));
        }
    }
    put(text, format_args!("    use_backend %[var(txn.to)] if {{ var(txn.to) -m found }}\n    default_backend {NONE}"));
}

fn backend(text: &mut String, name: &str, served: &Served, https_port: u16, with_servers: bool) {
    let Served { backend, servers } = served;
    let options = &backend.options;
    put(text, format_args!("\nbackend {name}"));
    let mut line = |words: String| put(text, format_args!("    {words}"));
    line(format!("balance {}", options.balance));
    if options.balance == Balance::Source {
        line("hash-type consistent".to_owned());
    }
    for (what, seconds) in
        [("server", options.timeout_secs), ("connect", options.connect_secs), ("tunnel", options.tunnel_secs)]
    {
        if let Some(seconds) = seconds {
            line(format!("timeout {what} {seconds}s"));
        }
    }
    if backend.secure {
        let port = if https_port == 443 { String::new() } else { format!(":{https_port}") };
        line(format!(
            "http-request redirect location \"https://%[req.hdr(host),field(1,:)]{port}%[capture.req.uri]\" code 308 if !{{ ssl_fc }}"
        ));
    }
    if let Some(target) = &options.redirect {
        line(format!("http-request redirect location {} code 302", quoted(&target.replace('%', "%%"))));
    }
    if let Some(bytes) = options.body_bytes_max {
        line(format!("http-request deny status 413 if {{ req.body_size gt {bytes} }}"));
    }
    if let Some(check) = &options.health_check {
        line(format!("option httpchk GET {}", quoted(check)));
        line("http-check expect status 200-399".to_owned());
    }
    rewrite(backend).into_iter().for_each(&mut line);
    line(format!("default-server {CHECK}"));
    for server in servers.iter().filter(|_| with_servers) {
        line(format!("server {server} {server}"));
    }
}

/// Replaces the matched path; what follows it stays.
fn rewrite(backend: &Backend) -> Vec<String> {
    let Some((rewrite, (kind, path))) = backend.options.rewrite.as_ref().zip(backend.matched.as_ref()) else {
        return Vec::new();
    };
    let target = rewrite.replace('%', "%%");
    match kind {
        PathKind::Exact => vec![format!("http-request set-path {}", quoted(&target))],
        PathKind::Prefix => {
            let whole = quoted(if path.is_empty() { "/" } else { path });
            // Looked at before anything is replaced; HAProxy refuses a path that is empty even in between.
            let rest = (
                quoted(&format!("^{}/(.*)$", pattern(path))),
                quoted(&format!("{}/\\1", target.trim_end_matches('/'))),
            );
            vec![
                format!("http-request set-var(txn.whole) bool(1) if {{ path {whole} }}"),
                format!("http-request set-path {} if {{ var(txn.whole) -m bool }}", quoted(&target)),
                format!("http-request replace-path {} {} if !{{ var(txn.whole) -m bool }}", rest.0, rest.1),
            ]
        }
    }
}

/// A regular expression for exactly this text.
fn pattern(text: &str) -> String {
    let escaped = |letter: char| if letter.is_ascii_alphanumeric() { vec![letter] } else { vec!['\\', letter] };
    text.chars().flat_map(escaped).collect()
}

/// A word of the configuration: in quotes, where a backslash keeps what is special there from being so.
fn quoted(text: &str) -> String {
    let escaped = |letter: char| if "\\\"$".contains(letter) { vec!['\\', letter] } else { vec![letter] };
    format!("\"{}\"", text.chars().flat_map(escaped).collect::<String>())
}
