//! A45: text from the cluster is shown, never obeyed: `droverctl` on a terminal spells out what a terminal would act on.

use anyhow::{Context, Result, ensure};
use drover_tests::{attack::Server, binary, run};
use serde_json::json;

/// Clears the screen, sets the title, goes back to the start of the line, turns text around.
const HOSTILE: &str = "\u{1b}[2J\u{1b}]0;owned\u{7}safe\rfake\u{202e}txt\u{9b}31m";

#[tokio::test]
async fn what_objects_say_cannot_drive_the_terminal() -> Result<()> {
    let server = Server::start().await?;
    let time = "2026-01-01T00:00:00Z";
    server.create(&json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}})).await?;
    server
        .create(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "annotations": {"note": HOSTILE}},
            "spec": {"containers": [{"name": "c", "image": "i", "command": [HOSTILE], "env": [{"name": "E", "value": HOSTILE}]}]}}))
        .await?;
    server
        .create(&json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e", "namespace": "default"},
            "involvedObject": {"kind": "Pod", "namespace": "default", "name": "p"}, "reason": "R", "type": "Warning",
            "message": HOSTILE, "source": {"component": "x"}, "firstTimestamp": time, "lastTimestamp": time, "count": 1}))
        .await?;
    let status = json!({"status": {"phase": "Failed", "reason": HOSTILE, "message": HOSTILE}}).to_string();
    let headers = [("content-type".to_owned(), "application/merge-patch+json".to_owned())];
    let path = "/api/v1/namespaces/default/pods/p/status";
    let patched = server.exchange("admin", "PATCH", path, &headers, status.as_bytes()).await?;
    ensure!(patched.first().is_some_and(|answer| answer.code == 200), "{patched:?}");
    let (kubeconfig, tool) = (server.data_dir().join("admin.kubeconfig"), binary("droverctl")?);
    for command in ["get pods", "get pods -o wide", "get pod p -o yaml", "describe pod p", "events", "why p"] {
        // `script` gives the tool a terminal.
        let line = format!("NO_COLOR=1 {} {command}", tool.display());
        let shown = run("script".as_ref(), &["-qec", &line, "/dev/null"], "", &[("KUBECONFIG", &kubeconfig)]).await?;
        let text = shown.stdout.clone();
        ensure!(!text.trim().is_empty(), "`{command}` printed nothing: {shown:?}");
        for bad in ["\u{1b}[2J", "\u{1b}]0;", "\u{7}", "safe\rfake", "\u{202e}", "\u{9b}"] {
            ensure!(!text.contains(bad), "`{command}` let {bad:?} through: {text:?}");
        }
    }
    let line = format!("NO_COLOR=1 {} describe pod p", tool.display());
    let shown = run("script".as_ref(), &["-qec", &line, "/dev/null"], "", &[("KUBECONFIG", &kubeconfig)]).await?;
    shown.stdout.find("^[[2J").context("the text is spelled out, not dropped")?;
    Ok(())
}
