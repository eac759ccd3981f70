//! What answers requests, wired together once.

use std::sync::Arc;

use futures::FutureExt;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    administration::Administration,
    audit::Audit,
    authn::Authenticator,
    authz::Authorizer,
    discovery::Discovery,
    front::{Fairness, Front, Identities},
    health::Health,
    join::{self, Joins},
    metrics::{Requests, Usage},
    objects::Objects,
    registry::{Environment, Registry},
    rest,
    restore::{Gate, Restores},
    reviews::Reviews,
    servers::Servers,
    streams::Streams,
    tokens::Tokens,
    tunnel::Tunnels,
};

/// What the front is built from.
pub(super) struct Parts<'a> {
    pub(super) url: &'a str,
    pub(super) environment: &'a Arc<dyn Environment>,
    pub(super) registry: &'a Arc<Registry>,
    pub(super) tokens: Tokens,
    pub(super) gate: &'a Arc<Gate>,
    pub(super) cluster: &'a str,
    pub(super) tunnels: &'a Arc<Tunnels>,
    pub(super) servers: Option<Arc<Servers>>,
    pub(super) tasks: &'a TaskTracker,
    pub(super) shutdown: &'a CancellationToken,
    pub(super) audit: Audit,
    pub(super) administration: Administration,
    /// Lets nodes in; `None` for a server without keys.
    pub(super) joins: Option<Arc<Joins>>,
}

/// Puts the front together from its parts.
pub(super) fn build_front(parts: Parts<'_>) -> Front {
    let Parts {
        url,
        environment,
        registry,
        tokens,
        gate,
        cluster,
        tunnels,
        servers,
        tasks,
        shutdown,
        audit,
        administration,
        joins,
    } = parts;
    let restores = Restores {
        gate: Arc::clone(gate),
        registry: Arc::clone(registry),
        cluster: cluster.to_owned(),
        environment: Arc::clone(environment),
    };
    let objects: Arc<dyn Objects> = registry.clone();
    let state = Arc::new(rest::State { registry: Arc::clone(registry) });
    let tokens = Arc::new(tokens);
    let authorizer = Arc::new(Authorizer::new(Arc::clone(&objects)));
    let (checker, registered) = (Arc::clone(&tokens), Arc::clone(registry));
    let identities = Arc::new(Identities {
        authenticator: Authenticator::new(
            Box::new(move |token| checker.authenticate(token)),
            Box::new(move |user| join::is_registered(&registered, user)),
        ),
        authorizer: Arc::clone(&authorizer),
    });
    Front {
        identities,
        fairness: Fairness::default(),
        authorizer: Arc::clone(&authorizer),
        health: Arc::new(Health::default()),
        discovery: Discovery::new(url.trim_start_matches("https://")),
        resources: Arc::new(move |user, info, request| rest::route(Arc::clone(&state), user, info, request).boxed()),
        usage: Usage {
            objects: Arc::clone(&objects),
            tunnels: Arc::clone(tunnels),
            environment: Arc::clone(environment),
        },
        requests: Requests::default(),
        streams: Streams { objects, tunnels: Arc::clone(tunnels), tasks: tasks.clone(), shutdown: shutdown.clone() },
        reviews: Reviews { authorizer, tokens: Arc::clone(&tokens) },
        tokens,
        registry: Arc::clone(registry),
        restores,
        servers,
        shutdown: shutdown.clone(),
        audit,
        administration,
        joins,
    }
}
