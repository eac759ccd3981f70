//! One policy rule: what it allows, and whether it covers another.

use serde_json::{Value, json};

use super::Attributes;

/// A `PolicyRule`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Rule {
    pub(crate) verbs: Vec<String>,
    pub(crate) api_groups: Vec<String>,
    pub(crate) resources: Vec<String>,
    pub(crate) resource_names: Vec<String>,
    pub(crate) non_resource_urls: Vec<String>,
}

impl Rule {
    /// Reads `rules` of a Role or ClusterRole.
    pub(crate) fn list(role: &Value) -> Vec<Self> {
        role["rules"].as_array().into_iter().flatten().map(Self::read).collect()
    }

    /// The rules of a member of `system:masters`.
    pub(crate) fn everything() -> Vec<Self> {
        let all = || vec!["*".to_owned()];
        vec![
            Self { verbs: all(), api_groups: all(), resources: all(), ..Self::default() },
            Self { verbs: all(), non_resource_urls: all(), ..Self::default() },
        ]
    }

    /// Returns the wire form.
    pub(crate) fn to_value(&self) -> Value {
        let mut rule = json!({"verbs": self.verbs});
        for (key, list) in [
            ("apiGroups", &self.api_groups),
            ("resources", &self.resources),
            ("resourceNames", &self.resource_names),
            ("nonResourceURLs", &self.non_resource_urls),
        ] {
            if !list.is_empty() {
                rule[key] = list.clone().into();
            }
        }
        rule
    }

    /// Whether the rule allows the request.
    pub(crate) fn allows(&self, attributes: &Attributes) -> bool {
        if !has(&self.verbs, &attributes.verb) {
            return false;
        }
        match &attributes.path {
            Some(path) => self.non_resource_urls.iter().any(|pattern| path_matches(pattern, path)),
            None => {
                has(&self.api_groups, &attributes.api_group)
                    && self.resources.iter().any(|own| resource_matches(own, attributes))
                    && (self.resource_names.is_empty()
                        || self.resource_names.contains(&attributes.name)
                        || (attributes.name.is_empty() && drover_api::mutants::active("A21-names-do-not-bind-lists")))
            }
        }
    }

    /// Splits the rule into rules of one verb, group, resource and name (or path) each.
    pub(crate) fn atoms(&self) -> Vec<Self> {
        let mut atoms = Vec::new();
        let names: Vec<Vec<String>> = match self.resource_names.as_slice() {
            [] => vec![Vec::new()],
            names => names.iter().map(|name| vec![name.clone()]).collect(),
        };
        for verb in &self.verbs {
            for group in &self.api_groups {
                for resource in &self.resources {
                    atoms.extend(names.iter().map(|names| Self {
                        verbs: vec![verb.clone()],
                        api_groups: vec![group.clone()],
                        resources: vec![resource.clone()],
                        resource_names: names.clone(),
                        non_resource_urls: Vec::new(),
                    }));
                }
            }
            atoms.extend(self.non_resource_urls.iter().map(|url| Self {
                verbs: vec![verb.clone()],
                non_resource_urls: vec![url.clone()],
                ..Self::default()
            }));
        }
        atoms
    }

    /// Whether the rule gives everything that an atom gives.
    pub(crate) fn covers(&self, atom: &Self) -> bool {
        let within = |own: &[String], wanted: &[String]| wanted.iter().all(|want| has(own, want));
        if !within(&self.verbs, &atom.verbs) {
            return false;
        }
        if let [url] = atom.non_resource_urls.as_slice() {
            return self.non_resource_urls.iter().any(|own| own == url || path_matches(own, url));
        }
        let names = self.resource_names.is_empty()
            || (!atom.resource_names.is_empty()
                && atom.resource_names.iter().all(|name| self.resource_names.contains(name)));
        let resource = |own: &String| atom.resources.iter().all(|wanted| resource_covers(own, wanted));
        within(&self.api_groups, &atom.api_groups) && self.resources.iter().any(resource) && names
    }

    fn read(rule: &Value) -> Self {
        let list = |key: &str| -> Vec<String> {
            let items = rule.get(key).and_then(Value::as_array);
            items.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
        };
        Self {
            verbs: list("verbs"),
            api_groups: list("apiGroups"),
            resources: list("resources"),
            resource_names: list("resourceNames"),
            non_resource_urls: list("nonResourceURLs"),
        }
    }
}

/// Whether a list names `wanted` or everything.
fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|item| item == "*" || item == wanted)
}

/// `*`, `pods`, `pods/log`, `*/scale`.
fn resource_matches(own: &str, attributes: &Attributes) -> bool {
    if own == "*" {
        return true;
    }
    let (resource, subresource) = own.split_once('/').unwrap_or((own, ""));
    subresource == attributes.subresource
        && (resource == attributes.resource || (resource == "*" && !subresource.is_empty()))
}

fn resource_covers(own: &str, wanted: &str) -> bool {
    let any_with = own.strip_prefix("*/").is_some_and(|sub| wanted.split_once('/').is_some_and(|(_, own)| own == sub));
    own == "*" || own == wanted || any_with
}

/// `/healthz`, `/apis/*`, `*`.
fn path_matches(pattern: &str, path: &str) -> bool {
    pattern == path || pattern.strip_suffix('*').is_some_and(|prefix| path.starts_with(prefix))
}
