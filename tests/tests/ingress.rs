//! Ingresses on two hosts: what they lead where, and that nobody notices when anything changes.

use anyhow::{Result, ensure};
use drover_tests::{Load, Web, engine_tests_enabled, eventually, run};

const ROLE: &str = "node-role.kubernetes.io/ingress";
const REQUESTS_MIN: u64 = 10_000;

/// Whole hosts, a path that is rewritten, a certificate, and something for everybody else.
const INGRESSES: &str = "
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: rewritten
  annotations: {ingress.drover.dev/rewrite: /}
spec:
  rules:
  - host: a.test
    http: {paths: [{path: /app, pathType: Prefix, backend: {service: {name: web, port: {name: http}}}}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: whole
  annotations: {ingress.drover.dev/balance: leastconn, ingress.drover.dev/health-check: /healthz}
spec:
  tls: [{hosts: [s.test], secretName: s-test}]
  rules:
  - host: '*.b.test'
    http: {paths: [{path: /healthz, pathType: Exact, backend: {service: {name: web, port: {number: 80}}}}]}
  - host: s.test
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}
";
const EVERYBODY: &str = "
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: everybody}
spec: {defaultBackend: {service: {name: web, port: {number: 80}}}}
";

#[tokio::test]
async fn an_ingress_leads_where_it_says_and_drops_nothing_while_all_changes() -> Result<()> {
    if !engine_tests_enabled("an_ingress") {
        return Ok(());
    }
    let mut web = Web::start(2).await?;
    web.pool.kubectl(&["apply", "-f", "-"], INGRESSES).await?.success()?;

    // Nobody serves it, and it says so.
    events(&web, "rewritten", "no node serves Ingresses").await?;
    let first = web.pool.agents[0].name.clone();
    web.pool.kubectl(&["label", "node", &first, &format!("{ROLE}=")], "").await?.success()?;
    let address = web.pool.agents[0].engine.address().to_owned();
    eventually("the Ingress has an address", async || {
        let path = "jsonpath={.status.loadBalancer.ingress[0].ip}";
        let shown = web.pool.kubectl(&["get", "ingress", "whole", "-o", path], "").await?;
        Ok(if shown.stdout == address { Ok(()) } else { Err(format!("{shown:?}")) })
    })
    .await?;
    for (host, path, answer) in [
        ("a.test", "/app", "200 hello"),
        ("A.test:8080", "/app/healthz", "200 ok"),
        ("a.test", "/apple", "404 no Ingress leads there"),
        ("a.test", "/", "404 no Ingress"),
        ("x.b.test", "/healthz", "200 ok"),
        ("x.b.test", "/healthz/", "404 no Ingress"),
        ("x.y.b.test", "/healthz", "404 no Ingress"),
        ("b.test", "/healthz", "404 no Ingress"),
        ("s.test", "/", "308 "),
    ] {
        let answered = ask(&address, host, path).await?;
        ensure!(answered.starts_with(answer), "{host}{path}: {answered}");
    }

    a_certificate_comes(&web, &address).await?;
    nothing_is_dropped(&mut web, &address).await?;

    // A node that is no longer chosen stops, and says nothing more of it.
    web.pool.kubectl(&["label", "node", &first, &format!("{ROLE}-")], "").await?.success()?;
    eventually("nobody listens", async || {
        let asked = ask(&address, "else.test", "/").await?;
        Ok(if asked.starts_with("000") { Ok(()) } else { Err(asked) })
    })
    .await?;
    events(&web, "everybody", "no node serves Ingresses").await?;

    // One that is chosen again and taken down takes its HAProxy along.
    web.pool.kubectl(&["label", "node", &first, &format!("{ROLE}=")], "").await?.success()?;
    eventually("it serves again", async || {
        let asked = ask(&address, "else.test", "/").await?;
        Ok(if asked.starts_with("200") { Ok(()) } else { Err(asked) })
    })
    .await?;
    ensure!(haproxies()? > 0, "it would be seen");
    web.pool.keep_quiet();
    eventually("no HAProxy of ours is left", async || Ok(if haproxies()? == 0 { Ok(()) } else { Err(()) })).await
}

/// What can be served only then.
async fn a_certificate_comes(web: &Web, address: &str) -> Result<()> {
    let made = rcgen::generate_simple_self_signed(["s.test".to_owned()])?;
    let (certificate, key) = (web.pool.data_dir().join("s.crt"), web.pool.data_dir().join("s.key"));
    std::fs::write(&certificate, made.cert.pem())?;
    std::fs::write(&key, made.signing_key.serialize_pem())?;
    let secret = ["create", "secret", "tls", "s-test", "--cert"];
    let files = [&*certificate.display().to_string(), "--key", &*key.display().to_string()];
    web.pool.kubectl(&[&secret[..], &files].concat(), "").await?.success()?;
    eventually("HTTPS", async || {
        let (resolve, ca) = (format!("s.test:443:{address}"), certificate.display().to_string());
        let arguments = ["-sS", "--max-time", "5", "--resolve", &resolve, "--cacert", &ca, "https://s.test/"];
        let asked = run("curl".as_ref(), &arguments, "", &[]).await?;
        Ok(if asked.code == 0 && asked.stdout.starts_with("hello") { Ok(()) } else { Err(format!("{asked:?}")) })
    })
    .await?;

    // Who runs HAProxy themselves gets what they need.
    let dir = web.pool.data_dir().join("haproxy");
    let out = dir.display().to_string();
    web.pool.droverctl(&["lb", "render", "haproxy", "--output", &out]).await?.success()?;
    let config = dir.join("haproxy.cfg").display().to_string();
    run("haproxy".as_ref(), &["-c", "-f", &config], "", &[]).await?.success()?;
    Ok(())
}

/// Connections that never end by themselves and new ones, while everything changes.
async fn nothing_is_dropped(web: &mut Web, address: &str) -> Result<()> {
    web.pool.kubectl(&["apply", "-f", "-"], EVERYBODY).await?.success()?;
    eventually("everybody is led", async || {
        let answered = ask(address, "else.test", "/").await?;
        Ok(if answered.starts_with("200 hello") { Ok(()) } else { Err(answered) })
    })
    .await?;
    let load = Load::start_with(&format!("http://{address}/"), 500, REQUESTS_MIN, &["--keep-alive-max", "4000000000"])?;
    for version in [2, 3] {
        web.rolled_to(version).await?;
        // A new route needs a reload, in which another agent takes over.
        web.pool.kubectl(&["delete", "ingress", "rewritten", "--ignore-not-found"], "").await?.success()?;
        web.pool.agents[0].kill().await?;
        web.pool.agents[0].start(&[])?;
        web.pool.kubectl(&["apply", "-f", "-"], INGRESSES).await?.success()?;
        eventually("the route is back", async || {
            let answered = ask(address, "a.test", "/app").await?;
            Ok(if answered.contains(&format!("version {version}")) { Ok(()) } else { Err(answered) })
        })
        .await?;
    }
    web.settled().await?;
    let report = load.finish().await?;
    eprintln!("{}", report.json);
    ensure!(report.failed == 0 && report.sent >= REQUESTS_MIN, "{}", report.json);
    Ok(())
}

/// How many processes have been started for a pool's agent.
fn haproxies() -> Result<usize> {
    let mut found = 0;
    for entry in std::fs::read_dir("/proc")? {
        // A process that ends meanwhile is none.
        let words = std::fs::read(entry?.path().join("cmdline")).unwrap_or_default();
        found += usize::from(String::from_utf8_lossy(&words).contains("/run/drover/drvpool0/ingress"));
    }
    Ok(found)
}

/// Status and body; `000` where nobody listens.
async fn ask(address: &str, host: &str, path: &str) -> Result<String> {
    let (host, url) = (format!("Host: {host}"), format!("http://{address}{path}"));
    let arguments = ["-sS", "--max-time", "5", "-H", &host, "-o", "-", "-w", "\n%{http_code}", &url];
    let asked = run("curl".as_ref(), &arguments, "", &[]).await?;
    let (body, status) = asked.stdout.rsplit_once('\n').unwrap_or_default();
    Ok(format!("{status} {body}"))
}

async fn events(web: &Web, ingress: &str, text: &str) -> Result<()> {
    eventually(&format!("{ingress} says: {text}"), async || {
        let shown = web.pool.kubectl(&["describe", "ingress", ingress], "").await?;
        Ok(if shown.stdout.contains(text) { Ok(()) } else { Err(format!("{shown:?}")) })
    })
    .await
}
