//! Routes, backends and certificates: what the Ingresses ask for, with what can be served of it.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    net::SocketAddrV4,
    sync::Arc,
};

use drover_api::ingress::{CONTROLLER, OLD_CLASS, Options, is_plain_path};
use k8s_openapi::api::{
    core::v1::Service,
    discovery::v1::EndpointSlice,
    networking::v1::{HTTPIngressPath, Ingress, IngressBackend, IngressClass},
};

use crate::{digest, endpoints::SliceIndex};

/// Namespace and name.
pub type Owner = (String, String);

/// What the informers have seen.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Input {
    /// All Ingresses; those of other classes are nothing to us.
    pub ingresses: Vec<Arc<Ingress>>,
    /// All IngressClasses.
    pub classes: Vec<Arc<IngressClass>>,
    /// All Services.
    pub services: Vec<Arc<Service>>,
    /// All EndpointSlices.
    pub slices: Vec<Arc<EndpointSlice>>,
    /// Nodes whose hosts may be gone.
    pub doubted: BTreeSet<String>,
    /// Certificate and key in PEM, by the namespace and name of their Secret: those that fit together.
    pub certificates: BTreeMap<Owner, String>,
}

/// How a path of a rule is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PathKind {
    /// With the whole path.
    Exact,
    /// With its first elements. `ImplementationSpecific` is that, too.
    Prefix,
}

/// The port of a Service as a rule names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Port {
    /// By name.
    Name(String),
    /// By number.
    Number(i32),
}

/// A set of servers and how requests come to them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Backend {
    /// Of the Ingress and the Service.
    pub namespace: String,
    /// The Service.
    pub service: String,
    /// Its port.
    pub port: Port,
    /// What the Ingress asks for.
    pub options: Options,
    /// Whether only HTTPS is served.
    pub secure: bool,
    /// The path that a rewrite replaces.
    pub matched: Option<(PathKind, String)>,
}

/// One line of the routing table. The longest path of the most exact host wins; an exact path before a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// A host, `*.` with the rest of one, or the empty text for any.
    pub host: String,
    /// The path, without a slash at the end of a prefix.
    pub path: String,
    /// How it is compared.
    pub kind: PathKind,
    /// The name of the backend.
    pub backend: String,
}

/// A backend with its servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// The backend.
    pub backend: Backend,
    /// Where its requests go.
    pub servers: BTreeSet<SocketAddrV4>,
}

/// A certificate with its key.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Both in PEM.
    pub pem: String,
    /// The hosts that it is for; empty for those that it names itself.
    pub hosts: BTreeSet<String>,
}

impl std::fmt::Debug for Certificate {
    /// A key is nothing to print; a digest tells one from another.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate").field("digest", &digest(&self.pem)).field("hosts", &self.hosts).finish()
    }
}

/// Something that an Ingress asks for and does not get.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The Ingress.
    pub ingress: Owner,
    /// A word for machines.
    pub reason: &'static str,
    /// A sentence for people.
    pub message: String,
}

/// Everything that HAProxy must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Desired {
    /// The routing table.
    pub routes: Vec<Route>,
    /// The backends by name.
    pub backends: BTreeMap<String, Served>,
    /// The certificates, by the namespace and name of their Secret.
    pub certificates: BTreeMap<Owner, Certificate>,
    /// What is not served, and why.
    pub problems: Vec<Problem>,
}

impl Port {
    fn of(backend: &IngressBackend) -> Option<(String, Self)> {
        let service = backend.service.as_ref()?;
        let port = service.port.as_ref()?;
        let port = match (port.name.as_deref().filter(|name| !name.is_empty()), port.number) {
            (Some(name), _) => Self::Name(name.to_owned()),
            (None, number) => Self::Number(number?),
        };
        Some((service.name.clone(), port))
    }
}

impl std::fmt::Display for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}

impl Backend {
    /// A name that stands for exactly this. Names of objects have no `_`.
    pub fn name(&self) -> String {
        let plain = format!("{}_{}_{}", self.namespace, self.service, self.port);
        if self.options == Options::default() && !self.secure {
            return plain;
        }
        format!("{plain}_{}", digest(self))
    }
}

/// Whether an Ingress is of a class of ours.
pub fn is_ours(ingress: &Ingress, classes: &[Arc<IngressClass>]) -> bool {
    let annotations = ingress.metadata.annotations.as_ref();
    let old = || annotations.and_then(|annotations| annotations.get(OLD_CLASS));
    let named = ingress.spec.as_ref().and_then(|spec| spec.ingress_class_name.as_ref()).or_else(old);
    let ours = |class: &&Arc<IngressClass>| {
        class.spec.as_ref().and_then(|spec| spec.controller.as_deref()) == Some(CONTROLLER)
    };
    named.is_some_and(|named| classes.iter().filter(ours).any(|class| class.metadata.name.as_ref() == Some(named)))
}

/// What HAProxy must hold for these objects. Independent of their order; of two that ask for the same the older gets it.
pub fn desired(input: &Input) -> Desired {
    let mut ours: Vec<&Ingress> =
        input.ingresses.iter().map(AsRef::as_ref).filter(|ingress| is_ours(ingress, &input.classes)).collect();
    ours.sort_by_key(|ingress| (ingress.metadata.creation_timestamp.clone(), owner(ingress)));
    let mut table = Builder { input, services: services(input), taken: BTreeMap::new(), desired: Desired::default() };
    for ingress in &ours {
        table.add_rules(ingress);
        table.add_certificates(ingress);
    }
    // What no rule leads anywhere comes after all rules.
    for ingress in &ours {
        table.add_default(ingress);
    }
    let slices = SliceIndex::new(&input.slices, &input.doubted);
    let mut desired = table.desired;
    for served in desired.backends.values_mut() {
        let backend = &served.backend;
        let service = (backend.namespace.as_str(), backend.service.as_str());
        let port = table.services.get(&service).and_then(|service| port_name(service, &backend.port));
        let Some(port) = port else { continue };
        let chosen = slices.backends(service, (port, "TCP"), "").choose(false);
        served.servers = chosen.iter().map(|chosen| SocketAddrV4::new(chosen.address, chosen.port)).collect();
    }
    desired.routes.sort_by(|a, b| (&a.host, a.kind, &a.path).cmp(&(&b.host, b.kind, &b.path)));
    desired.problems.sort();
    desired.problems.dedup();
    desired
}

struct Builder<'a> {
    input: &'a Input,
    services: BTreeMap<(&'a str, &'a str), &'a Service>,
    /// Who has a host, path and kind.
    taken: BTreeMap<(String, String, PathKind), Owner>,
    desired: Desired,
}

impl Builder<'_> {
    fn add_rules(&mut self, ingress: &Ingress) {
        let Some(spec) = &ingress.spec else { return };
        for rule in spec.rules.iter().flatten() {
            let host = rule.host.clone().unwrap_or_default();
            for path in rule.http.iter().flat_map(|http| &http.paths) {
                self.add_path(ingress, &host, path);
            }
            if let Some(default) = &spec.default_backend
                && !host.is_empty()
            {
                // Lost to a rule for the whole host of the same Ingress, and then there is nothing to complain of.
                self.add_route(ingress, &host, ("", PathKind::Prefix), default, false);
            }
        }
    }

    fn add_default(&mut self, ingress: &Ingress) {
        if let Some(default) = ingress.spec.as_ref().and_then(|spec| spec.default_backend.as_ref()) {
            let alone = ingress.spec.as_ref().is_some_and(|spec| spec.rules.iter().flatten().next().is_none());
            self.add_route(ingress, "", ("", PathKind::Prefix), default, alone);
        }
    }

    fn add_path(&mut self, ingress: &Ingress, host: &str, path: &HTTPIngressPath) {
        let text = path.path.as_deref().unwrap_or_default();
        if !is_plain_path(text) {
            return self.complain(ingress, "PathUnusable", format!("no request has the path {text:?}"));
        }
        let place = match path.path_type.as_str() {
            "Exact" => (text, PathKind::Exact),
            _ => (text.trim_end_matches('/'), PathKind::Prefix),
        };
        self.add_route(ingress, host, place, &path.backend, true);
    }

    fn add_route(
        &mut self,
        ingress: &Ingress,
        host: &str,
        (path, kind): (&str, PathKind),
        backend: &IngressBackend,
        complains: bool,
    ) {
        let Some((service, port)) = Port::of(backend) else {
            return self.complain(ingress, "BackendUnsupported", "only Services can be backends".to_owned());
        };
        match self.taken.entry((host.to_owned(), path.to_owned(), kind)) {
            Entry::Vacant(free) => drop(free.insert(owner(ingress))),
            Entry::Occupied(_) if !complains => return,
            Entry::Occupied(holder) => {
                let (namespace, name) = holder.get();
                let led = match *holder.get() == owner(ingress) {
                    true => "is there twice; the first one counts".to_owned(),
                    false => format!("is led elsewhere by Ingress {namespace}/{name}, which is older"),
                };
                let (host, path) = (if host.is_empty() { "*" } else { host }, if path.is_empty() { "/" } else { path });
                return self.complain(ingress, "PathTaken", format!("{host}{path} {led}"));
            }
        }
        let (namespace, _) = owner(ingress);
        match self.services.get(&(&*namespace, &*service)) {
            None => self.complain(ingress, "ServiceNotFound", format!("there is no Service {service:?}")),
            Some(found) if port_name(found, &port).is_none() => {
                self.complain(ingress, "PortNotFound", format!("Service {service:?} has no TCP port {port}"));
            }
            Some(_) => {}
        }
        let options = options(ingress);
        let secure = !options.plain_http && is_secure(ingress, host);
        let matched = options.rewrite.as_ref().map(|_| (kind, path.to_owned()));
        let backend = Backend { namespace, service, port, options, secure, matched };
        let name = backend.name();
        let route = Route { host: host.to_owned(), path: path.to_owned(), kind, backend: name.clone() };
        self.desired.routes.push(route);
        self.desired.backends.entry(name).or_insert(Served { backend, servers: BTreeSet::new() });
    }

    fn add_certificates(&mut self, ingress: &Ingress) {
        for (key, hosts) in certificates(ingress) {
            let Some(pem) = self.input.certificates.get(&key) else { continue };
            let certificate = self.desired.certificates.entry(key);
            let certificate = certificate.or_insert_with(|| Certificate { pem: pem.clone(), hosts: BTreeSet::new() });
            certificate.hosts.extend(hosts.iter().cloned());
        }
    }

    fn complain(&mut self, ingress: &Ingress, reason: &'static str, message: String) {
        self.desired.problems.push(Problem { ingress: owner(ingress), reason, message });
    }
}

fn services(input: &Input) -> BTreeMap<(&str, &str), &Service> {
    let services = input.services.iter().map(AsRef::as_ref);
    services
        .filter_map(|service: &Service| {
            let (namespace, name) = (service.metadata.namespace.as_deref()?, service.metadata.name.as_deref()?);
            Some(((namespace, name), service))
        })
        .collect()
}

/// The Secrets in which an Ingress has certificates, each with the hosts that it is for.
pub fn certificates(ingress: &Ingress) -> impl Iterator<Item = (Owner, &[String])> {
    let tls = ingress.spec.iter().flat_map(|spec| spec.tls.iter().flatten());
    tls.filter_map(|tls| {
        let secret = tls.secret_name.clone().filter(|name| !name.is_empty())?;
        Some(((owner(ingress).0, secret), tls.hosts.as_deref().unwrap_or_default()))
    })
}

/// Namespace and name of an Ingress.
pub fn owner(ingress: &Ingress) -> Owner {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    (text(&ingress.metadata.namespace), text(&ingress.metadata.name))
}

fn options(ingress: &Ingress) -> Options {
    let annotations = ingress.metadata.annotations.iter().flatten();
    Options::read(annotations.map(|(key, value)| (key.as_str(), value.as_str()))).0
}

/// Whether the Ingress has a certificate for the host: one that names it, or one for all its hosts.
fn is_secure(ingress: &Ingress, host: &str) -> bool {
    let tls = ingress.spec.iter().flat_map(|spec| spec.tls.iter().flatten());
    let mut hosts = tls.map(|tls| tls.hosts.as_deref().unwrap_or_default());
    hosts.any(|hosts| hosts.is_empty() || hosts.iter().any(|named| named == host))
}

/// The name under which EndpointSlices have a Service's port; `None` when it has no such TCP port.
fn port_name<'a>(service: &'a Service, port: &Port) -> Option<&'a str> {
    let spec = service.spec.as_ref().filter(|spec| spec.type_.as_deref() != Some("ExternalName"))?;
    let mut ports =
        spec.ports.iter().flatten().filter(|candidate| candidate.protocol.as_deref().unwrap_or("TCP") == "TCP");
    let found = ports.find(|candidate| match port {
        Port::Name(name) => candidate.name.as_ref() == Some(name),
        Port::Number(number) => candidate.port == *number,
    });
    Some(found?.name.as_deref().unwrap_or_default())
}
