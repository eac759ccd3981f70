//! A19 and A29: every route with every method, as a stranger and as a node.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use drover_tests::attack::{Answer, Server};
use serde_json::{Value, json};

const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// What strangers may read: constants that tell nothing about the cluster.
const OPEN: [(&str, &str); 4] = [("/livez", "ok"), ("/readyz", "ok"), ("/healthz", "ok"), ("/version", "gitVersion")];

/// Every path that discovery tells of, with names filled in, and every other that the server is known to answer.
async fn paths(server: &Server) -> Result<BTreeSet<String>> {
    let mut paths: BTreeSet<String> = ["/", "/api", "/apis", "/openapi/v3", "/openapi/v2", "/metrics", "/livez/ping"]
        .into_iter()
        .chain([
            "/version/",
            "/livez?verbose",
            "/readyz/",
            "/logs",
            "/debug/pprof",
            "/configz",
            "/.well-known/openid-configuration",
        ])
        .chain(["/openid/v1/jwks", "/swagger.json", "/healthz/etcd", "/apis/drover.dev/v1alpha1/nodes/n1/tunnel", "/x"])
        .map(str::to_owned)
        .collect();
    let read = async |path: &str| -> Result<Value> {
        let answer = server.send("admin", "GET", path, None).await?;
        ensure!(answer.code == 200, "{path}: {}", answer.text());
        Ok(answer.json())
    };
    for path in read("/").await?["paths"].as_array().context("paths")? {
        paths.insert(path.as_str().context("a path")?.to_owned());
    }
    let mut versions = vec!["/api/v1".to_owned()];
    for group in read("/apis").await?["groups"].as_array().context("groups")? {
        for version in group["versions"].as_array().context("versions")? {
            versions.push(format!("/apis/{}", version["groupVersion"].as_str().context("a version")?));
        }
    }
    for version in versions {
        for resource in read(&version).await?["resources"].as_array().context("resources")? {
            let name = resource["name"].as_str().context("a name")?;
            let (plural, subresource) = name.split_once('/').unwrap_or((name, ""));
            let scope = if resource["namespaced"] == true { "/namespaces/default" } else { "" };
            let collection = format!("{version}{scope}/{plural}");
            paths.insert(match subresource {
                "" => format!("{collection}/x"),
                sub => format!("{collection}/x/{sub}"),
            });
            paths.insert(format!("{collection}?watch=1"));
            paths.insert(format!("{version}/{plural}"));
            paths.insert(collection);
        }
        paths.insert(version);
    }
    Ok(paths)
}

#[tokio::test]
async fn strangers_get_the_constant_health_answers_and_nothing_else() -> Result<()> {
    let server = Server::start().await?;
    let paths = paths(&server).await?;
    ensure!(paths.len() > 100, "discovery told of only {} paths", paths.len());
    let mut wrong = Vec::new();
    for path in &paths {
        for method in METHODS {
            let answer = server.send("anonymous", method, path, None).await?;
            let plain = path.split('?').next().unwrap_or_default().trim_end_matches('/');
            let open = OPEN.iter().find(|(open, _)| *open == plain && matches!(method, "GET" | "HEAD"));
            let right = match open {
                Some((_, says)) => answer.code == 200 && (method == "HEAD" || answer.text().contains(says)),
                None => answer.code == 401 && (method == "HEAD" || answer.json()["message"] == "Unauthorized"),
            };
            if !right {
                wrong.push(format!("{method} {path}: {} {}", answer.code, answer.text()));
            }
        }
    }
    println!("{} paths with {} methods", paths.len(), METHODS.len());
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    for (path, says) in OPEN {
        let first = server.send("anonymous", "GET", path, None).await?.text();
        server
            .create(&json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": path.trim_matches('/')}}))
            .await?;
        let second = server.send("anonymous", "GET", path, None).await?.text();
        ensure!(first == second && first.contains(says), "{path} says {first} and then {second}");
    }
    Ok(())
}

/// What a node without pods may reach.
fn is_nodes_own(method: &str, path: &str, node: &str) -> bool {
    let plain = path.split('?').next().unwrap_or_default();
    let reads = matches!(method, "GET" | "HEAD");
    let last: Vec<&str> = plain.rsplit('/').take(3).collect();
    match last.as_slice() {
        _ if OPEN.iter().any(|(open, _)| *open == plain.trim_end_matches('/')) => reads,
        // Reviews of oneself are everybody's.
        ["selfsubjectaccessreviews" | "selfsubjectrulesreviews" | "selfsubjectreviews", ..] => method == "POST",
        // The data plane of every node needs them; volumes are looked through for data of one's own.
        ["services" | "endpointslices" | "persistentvolumes", ..]
        | [_, "services" | "endpointslices" | "persistentvolumes", ..] => reads,
        // Creates, and Events by name, are judged by what is in them (A30, A32).
        ["events", ..] => method == "POST",
        // A node routes to the pods of all others.
        ["nodes", "v1", "api"] => reads || method == "POST",
        [_, "nodes", "v1"] => reads,
        [_, "events", ..] => matches!(method, "PUT" | "PATCH"),
        ["tunnel", name, ..] if *name == node => method == "POST",
        ["status", name, "nodes"] if *name == node => matches!(method, "GET" | "HEAD" | "PUT" | "PATCH"),
        // Discovery is everybody's.
        _ => {
            reads
                && matches!(plain.split('/').nth(1), Some("api" | "apis" | "openapi"))
                && plain.split('/').count() <= 4
        }
    }
}

/// Whether authorisation let a request through to what is served there.
fn is_reached(answer: &Answer) -> bool {
    match answer.code {
        401 | 403 | 405 => false,
        404 => !answer.text().contains("could not find the requested resource"),
        _ => true,
    }
}

#[tokio::test]
async fn a_node_without_pods_reaches_itself_and_what_every_node_must_read() -> Result<()> {
    let server = Server::start().await?;
    let paths = paths(&server).await?;
    let canary = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x", "namespace": "default"},
        "stringData": {"k": "CANARY"}});
    server.create(&canary).await?;
    let (mut wrong, mut reached) = (Vec::new(), 0);
    for path in paths.iter().filter(|path| !path.contains("watch=1")) {
        for method in METHODS.into_iter().filter(|method| *method != "OPTIONS") {
            let answer = server.send("node:n1", method, path, None).await?;
            let through = is_reached(&answer);
            reached += usize::from(through);
            if (through && !is_nodes_own(method, path, "n1")) || answer.text().contains("CANARY") {
                wrong.push(format!("{method} {path}: {} {}", answer.code, answer.text()));
            }
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    ensure!(reached > 20, "the node reached only {reached} routes: is it known at all?");
    Ok(())
}
