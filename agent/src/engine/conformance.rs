//! What every [`Engine`] must do: run on the one in memory always, and on Docker where there is one.

use std::{collections::BTreeMap, time::Duration};

use futures::StreamExt as _;

use super::{ContainerConfig, ContainerPhase, Engine, ErrorKind, EventKind, VolumeRequest, run_exec};
use crate::ids::ContainerId;

/// Runs the suite with a long-running `image`; `unique` names what it makes and is the value of a label.
pub(crate) async fn check(engine: &dyn Engine, image: &str, unique: &str) {
    engine.ping().await.expect("ping");
    assert!(!engine.info().await.expect("info").version.is_empty());
    check_images(engine, image).await;
    check_containers(engine, image, unique).await;
    check_absent(engine).await;
    check_volumes(engine, unique).await;
}

async fn check_images(engine: &dyn Engine, image: &str) {
    let details = engine.inspect_image(image).await.expect("the image is there");
    let listed = engine.list_images().await.expect("list");
    assert!(listed.iter().any(|listed| listed.id == details.summary.id), "the listing has it");
    let absent = engine.inspect_image("drover.invalid/absent:1").await.expect_err("absent");
    assert_eq!(absent.kind, ErrorKind::NoSuchImage);
}

async fn check_containers(engine: &dyn Engine, image: &str, unique: &str) {
    let labels: BTreeMap<_, _> = [("dev.drover.test".to_owned(), unique.to_owned())].into();
    let filter: Vec<_> = labels.clone().into_iter().collect();
    let config = ContainerConfig {
        image: image.to_owned(),
        labels,
        network_mode: "none".to_owned(),
        command: Some(vec!["/bin/sh".to_owned(), "-c".to_owned(), "sleep 1000".to_owned()]),
        ..Default::default()
    };
    let mut events = engine.events();
    let name = format!("drover-conformance-{unique}");
    let id = engine.create_container(&name, &config).await.expect("create");
    let again = engine.create_container(&name, &config).await.expect_err("the name is taken");
    assert_eq!(again.kind, ErrorKind::Conflict);
    let by_name = engine.inspect_container(&name).await.expect("inspect by name");
    assert_eq!((by_name.summary.id, by_name.summary.phase), (id.clone(), ContainerPhase::Created));
    let idle = engine.kill_container(&id, "SIGTERM").await.expect_err("no process yet");
    assert_eq!(idle.kind, ErrorKind::NotRunning);

    engine.start_container(&id).await.expect("start");
    engine.start_container(&id).await.expect("a running one may be started");
    let details = engine.inspect_container(id.as_str()).await.expect("inspect");
    assert_eq!(details.summary.phase, ContainerPhase::Running);
    assert!(details.started_at.is_some() && details.pid.is_some());
    let command: Vec<_> = ["/bin/sh", "-c", "exit 0"].map(str::to_owned).into();
    let (code, _) = run_exec(engine, &id, &command, Duration::from_secs(20), 100).await.expect("exec");
    assert_eq!(code, 0);

    engine.kill_container(&id, "SIGKILL").await.expect("kill");
    assert_eq!(next_end(&mut events, &id).await, Some(137));
    let details = engine.inspect_container(id.as_str()).await.expect("inspect");
    assert_eq!((details.summary.phase, details.exit_code), (ContainerPhase::Exited, 137));
    let listed = engine.list_containers(&filter).await.expect("list");
    let listed: Vec<_> = listed.into_iter().map(|summary| (summary.name, summary.phase)).collect();
    assert_eq!(listed, [(name, ContainerPhase::Exited)], "exited containers are listed");

    engine.remove_container(&id).await.expect("remove");
    engine.remove_container(&id).await.expect("removing twice is fine");
    assert_eq!(engine.list_containers(&filter).await.expect("list"), []);
}

async fn next_end(
    events: &mut futures::stream::BoxStream<'static, Result<super::EngineEvent, super::EngineError>>,
    wanted: &ContainerId,
) -> Option<i64> {
    let end = async {
        while let Some(Ok(event)) = events.next().await {
            if let EventKind::Died { id, exit_code, .. } = event.kind
                && id == *wanted
            {
                return exit_code;
            }
        }
        None
    };
    tokio::time::timeout(Duration::from_secs(30), end).await.expect("the end is an event")
}

async fn check_absent(engine: &dyn Engine) {
    let absent = ContainerId::new(&"0".repeat(64)).expect("an id");
    assert_eq!(engine.start_container(&absent).await.expect_err("absent").kind, ErrorKind::NotFound);
    assert_eq!(engine.kill_container(&absent, "SIGTERM").await.expect_err("absent").kind, ErrorKind::NotFound);
    assert_eq!(engine.inspect_container(absent.as_str()).await.expect_err("absent").kind, ErrorKind::NotFound);
    let config = ContainerConfig { image: "drover.invalid/absent:1".to_owned(), ..Default::default() };
    let error = engine.create_container("drover-conformance-absent", &config).await.expect_err("no image");
    assert_eq!(error.kind, ErrorKind::NoSuchImage);
}

async fn check_volumes(engine: &dyn Engine, unique: &str) {
    let name = format!("drover-conformance-{unique}");
    let request = VolumeRequest { name: name.clone(), driver: "local".to_owned(), ..Default::default() };
    assert_eq!(engine.create_volume(&request).await.expect("create").name, name);
    assert_eq!(engine.create_volume(&request).await.expect("the same again").name, name);
    assert_eq!(engine.inspect_volume(&name).await.expect("inspect").driver, "local");
    engine.remove_volume(&name).await.expect("remove");
    engine.remove_volume(&name).await.expect("removing twice is fine");
    assert_eq!(engine.inspect_volume(&name).await.expect_err("gone").kind, ErrorKind::NotFound);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::Clock,
        engine::{
            DockerEngine,
            fake::{Behaviour, FakeEngine},
        },
        testing::RealEngine,
    };

    #[tokio::test(start_paused = true)]
    async fn the_engine_in_memory_conforms() {
        let engine = FakeEngine::new(Clock::runtime(jiff::Timestamp::UNIX_EPOCH));
        engine.add_image("web:1", Behaviour::default());
        check(&engine, "web:1", "fake").await;
    }

    #[tokio::test]
    async fn docker_conforms() {
        let Some(real) = RealEngine::prepare() else { return };
        check(&DockerEngine::new(RealEngine::ENDPOINT), real.image(), real.unique()).await;
    }

    #[tokio::test]
    async fn an_engine_that_is_not_there_is_unavailable() {
        let engine = DockerEngine::new("unix:///nonexistent/docker.sock");
        assert_eq!(engine.ping().await.expect_err("absent").kind, ErrorKind::Unavailable);
    }
}
