//! What the Ingresses of all namespaces, their Services and their certificates come to, at every change.

use std::collections::{BTreeMap, BTreeSet};

use drover_routing::ingress::{Input, Owner, certificates, is_ours};
use futures::StreamExt as _;
use k8s_openapi::api::{
    core::v1::{Secret, Service},
    discovery::v1::EndpointSlice,
    networking::v1::{Ingress, IngressClass},
};
use kube::{Api, Client, runtime::watcher};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::certificates::pem_of;
use crate::{chance::Chance, run::Others, source::Informer};

/// Where everything comes from.
pub(crate) struct Sources {
    pub(crate) client: Client,
    pub(crate) services: Informer<Service>,
    pub(crate) slices: Informer<EndpointSlice>,
    pub(crate) others: Others,
}

/// An input, and the EndpointSlice revision that it reflects.
pub(crate) type Fed = (u64, Input);

/// Certificates that are watched, one by one: a node reads only those that Ingresses name.
#[derive(Default)]
struct Certificates {
    watched: BTreeMap<Owner, (Informer<Secret>, DropGuard)>,
    /// What was said of them last.
    complaints: BTreeMap<Owner, String>,
}

/// Sends what HAProxy is made from whenever it changes, while `chosen` says so, until `stop`. A node that does not serve
/// watches none of it.
pub(crate) async fn feed(
    sources: Sources,
    mut chosen: watch::Receiver<Option<bool>>,
    input: watch::Sender<Option<Fed>>,
    stop: CancellationToken,
) {
    let mut turn = async |is_chosen: bool| chosen.wait_for(|now| *now == Some(is_chosen)).await.map(drop);
    loop {
        // Cancel-safe: a watch and a token.
        tokio::select! {
            () = stop.cancelled() => return,
            turned = turn(true) => if turned.is_err() { return },
        }
        let end = stop.child_token();
        let _ends_the_watches = end.clone().drop_guard();
        // Cancel-safe: what is dropped here begins anew.
        tokio::select! {
            () = feed_until(&sources, &input, end) => return,
            turned = turn(false) => if turned.is_err() { return },
        }
        input.send_replace(None);
    }
}

async fn feed_until(sources: &Sources, input: &watch::Sender<Option<Fed>>, stop: CancellationToken) {
    let (ingresses, classes) = (watch_all::<Ingress>(sources, &stop), watch_all::<IngressClass>(sources, &stop));
    let mut wake = sources.others.changes();
    let ready = async {
        ingresses.synced().await;
        classes.synced().await;
        sources.services.synced().await;
        sources.slices.synced().await;
    };
    // Cancel-safe: waiting takes nothing from an informer.
    tokio::select! {
        () = stop.cancelled() => return,
        () = ready => {}
    }
    let (changed, mut changes) = watch::channel(());
    let mut certificates = Certificates::default();
    for informer in
        [ingresses.subscribe(), classes.subscribe(), sources.services.subscribe(), sources.slices.subscribe()]
    {
        forward(informer, changed.clone(), stop.clone());
    }
    loop {
        // The revision is read first: the objects are then at least that new.
        let revision = sources.slices.state().revision;
        let mut now = Input {
            ingresses: ingresses.list(),
            classes: classes.list(),
            services: sources.services.list(),
            slices: sources.slices.list(),
            doubted: sources.others.doubted(),
            certificates: BTreeMap::new(),
        };
        certificates.follow(&now, &sources.client, &changed, &stop);
        if certificates.complete() {
            now.certificates = certificates.read();
            input.send_replace(Some((revision, now)));
        }
        // Cancel-safe: watches and a token.
        tokio::select! {
            () = stop.cancelled() => return,
            Ok(()) = changes.changed() => {}
            Some(()) = wake.next() => {}
        }
    }
}

fn watch_all<K>(sources: &Sources, stop: &CancellationToken) -> Informer<K>
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Send + Sync + 'static,
{
    let api = Api::all(sources.client.clone());
    Informer::spawn(api, watcher::Config::default(), Chance::System, stop.clone()).0
}

/// Passes every change on as one of `to`.
fn forward<T: Clone + Send + Sync + 'static>(from: watch::Receiver<T>, to: watch::Sender<()>, stop: CancellationToken) {
    tokio::spawn(async move {
        let mut changes = WatchStream::from_changes(from);
        // Cancel-safe: a watch and a token.
        while let Some(_change) = tokio::select! {
            () = stop.cancelled() => None,
            change = changes.next() => change,
        } {
            to.send_replace(());
        }
    });
}

impl Certificates {
    /// Watches the Secrets that are named and no others.
    fn follow(&mut self, input: &Input, client: &Client, changed: &watch::Sender<()>, stop: &CancellationToken) {
        let named = named(input);
        self.watched.retain(|secret, _| named.contains(secret));
        for (namespace, name) in named {
            self.watched.entry((namespace.clone(), name.clone())).or_insert_with(|| {
                let end = stop.child_token();
                let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
                let api = Api::namespaced(client.clone(), &namespace);
                let (informer, _) = Informer::spawn(api, config, Chance::System, end.clone());
                forward(informer.subscribe(), changed.clone(), end.clone());
                (informer, end.drop_guard())
            });
        }
    }

    /// Whether all have been looked for: one that is only late must not be taken away by a restart of the agent. What
    /// cannot be read counts as looked for.
    fn complete(&self) -> bool {
        self.watched.values().all(|(informer, _)| {
            let state = informer.state();
            state.lists > 0 || state.failing
        })
    }

    fn read(&mut self) -> BTreeMap<Owner, String> {
        let mut good = BTreeMap::new();
        let mut complaints = BTreeMap::new();
        for ((namespace, name), (informer, _)) in &self.watched {
            let key = (namespace.clone(), name.clone());
            let secret = informer.get(namespace, name).ok_or_else(|| "there is none".to_owned());
            match secret.and_then(|secret| pem_of(&secret)) {
                Ok(pem) => drop(good.insert(key, pem)),
                Err(why) => drop(complaints.insert(key, why)),
            }
        }
        for ((namespace, name), why) in &complaints {
            if self.complaints.get(&(namespace.clone(), name.clone())) != Some(why) {
                tracing::warn!("the certificate in Secret {namespace}/{name} is not served: {why}");
            }
        }
        self.complaints = complaints;
        good
    }
}

/// The Secrets that Ingresses of ours name.
fn named(input: &Input) -> BTreeSet<Owner> {
    let ours = input.ingresses.iter().filter(|ingress| is_ours(ingress, &input.classes));
    ours.flat_map(|ingress| certificates(ingress).map(|(secret, _)| secret)).collect()
}
