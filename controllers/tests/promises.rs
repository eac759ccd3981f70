//! What every controller rests on: writes with preconditions, whole lists, and no pass over a view that is older than
//! one's own writes.

#![expect(clippy::unwrap_used, clippy::or_fun_call, reason = "a failed test says enough by where it stops")]

#[allow(dead_code, unused_imports, reason = "every test binary uses a part of the fake")]
mod fake;

use drover_controllers::runtime::{Environment, Error, ObjectKey, Resource, resource::DeleteOptions};
use fake::{Fake, Faults, client};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const CONFIG_MAPS: &str = "/configmaps";
const PODS: &str = "/pods";

fn config_maps(fake: &Fake) -> Resource<ConfigMap> {
    Resource::new(client(fake), (), vec![], None)
}

fn create(fake: &Fake, name: &str) -> Value {
    fake.create(CONFIG_MAPS, json!({"metadata": {"name": name, "namespace": "shop"}, "data": {"k": "1"}})).unwrap()
}

fn object(value: &Value) -> ConfigMap {
    serde_json::from_value(value.clone()).unwrap()
}

fn key(name: &str) -> (String, String, String) {
    (CONFIG_MAPS.to_owned(), "shop".to_owned(), name.to_owned())
}

#[tokio::test(start_paused = true)]
async fn a_write_over_a_version_that_is_gone_is_a_conflict() {
    let fake = Fake::new();
    let seen = object(&create(&fake, "a"));
    fake.patch(&key("a"), &json!({"data": {"k": "2"}}), None).unwrap();
    let written = config_maps(&fake).patch(&seen, json!({"data": {"k": "3"}}), None).await;
    assert!(written.is_err_and(|error| error.is_conflict()));
    assert_eq!(fake.get(CONFIG_MAPS, "shop", "a").unwrap()["data"]["k"], "2");
}

#[tokio::test(start_paused = true)]
async fn a_deletion_spares_the_next_object_of_the_name() {
    let fake = Fake::new();
    let old = object(&create(&fake, "a")).metadata.uid.unwrap();
    fake.delete(&key("a"), &Value::Null).unwrap();
    create(&fake, "a");
    config_maps(&fake).delete(&ObjectKey::new("shop", "a"), &DeleteOptions::uid(old)).await.unwrap();
    assert!(fake.get(CONFIG_MAPS, "shop", "a").is_some(), "another object of the same name was deleted");
}

#[tokio::test(start_paused = true)]
async fn a_pass_waits_until_the_cache_shows_its_own_last_write() {
    let fake = Fake::new();
    let config_maps = config_maps(&fake);
    config_maps.caught_up().await.unwrap();
    let made = json!({"metadata": {"name": "a", "namespace": "shop"}});
    config_maps.create(&object(&made)).await.unwrap();
    assert!(matches!(config_maps.caught_up().await, Err(Error::Stale { .. })), "no informer runs: nothing was seen");
    let shutdown = CancellationToken::new();
    let informer =
        tokio::spawn(config_maps.clone().run_informer(Environment::system(), watch::Sender::new(0), shutdown.clone()));
    config_maps.caught_up().await.unwrap();
    assert!(config_maps.cache().get(&ObjectKey::new("shop", "a")).is_some());
    shutdown.cancel();
    informer.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_pass_waits_until_the_cache_shows_what_a_failed_write_met_or_did() {
    let fake = Fake::new();
    let pod = |name: &str| json!({"metadata": {"name": name, "namespace": "shop"}});
    let seen: Pod = serde_json::from_value(fake.create(PODS, pod("a")).unwrap()).unwrap();
    let pods: Resource<Pod> = Resource::new(client(&fake), (), vec![], None);
    follow_once(&pods).await;
    pods.caught_up().await.unwrap();

    let a = (PODS.to_owned(), "shop".to_owned(), "a".to_owned());
    fake.patch(&a, &json!({"metadata": {"labels": {"k": "2"}}}), None).unwrap();
    pods.patch(&seen, json!({"metadata": {"labels": {"k": "3"}}}), None).await.unwrap_err();
    assert!(matches!(pods.caught_up().await, Err(Error::Stale { .. })), "after a conflict");
    follow_once(&pods).await;
    pods.caught_up().await.unwrap();

    fake.set_faults(Faults { lose_reply_of_create: Some(1), ..Faults::default() });
    pods.create(&serde_json::from_value(pod("b")).unwrap()).await.unwrap_err();
    assert!(matches!(pods.caught_up().await, Err(Error::Stale { .. })), "after a reply that was lost");
    follow_once(&pods).await;
    pods.caught_up().await.unwrap();

    fake.delete(&a, &Value::Null).unwrap();
    pods.patch(&seen, json!({"metadata": {"labels": {"k": "3"}}}), None).await.unwrap_err();
    assert!(matches!(pods.caught_up().await, Err(Error::Stale { .. })), "after a write to what is gone");
}

/// Brings the cache up to date, once.
async fn follow_once(pods: &Resource<Pod>) {
    let before = pods.revision();
    let informer =
        tokio::spawn(pods.clone().run_informer(Environment::system(), watch::Sender::new(0), CancellationToken::new()));
    while pods.revision() == before {
        tokio::task::yield_now().await;
    }
    informer.abort();
}

#[tokio::test(start_paused = true)]
async fn a_list_of_many_pages_is_whole() {
    /// More than two pages.
    const MANY: usize = 2_100;
    let fake = Fake::new();
    (0..MANY).for_each(|number| drop(create(&fake, &format!("c{number}"))));
    let config_maps = config_maps(&fake);
    let shutdown = CancellationToken::new();
    let informer =
        tokio::spawn(config_maps.clone().run_informer(Environment::system(), watch::Sender::new(0), shutdown.clone()));
    while config_maps.revision() == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(config_maps.cache().keys().len(), MANY);
    assert_eq!(config_maps.list_fresh("shop").await.unwrap().len(), MANY);
    shutdown.cancel();
    informer.await.unwrap();
}
