//! What a token says, and whether it still holds: pure.

use drover_api::object;
use serde_json::Value;

use super::ISSUER;
use crate::{
    objects::{NODES, Objects, PODS, Resource, SECRETS, SERVICE_ACCOUNTS},
    request::User,
};

/// Clocks of servers that share a key may differ a little.
const SKEW_SECS: i64 = 10;

/// An object by name and identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bound {
    pub(super) name: String,
    pub(super) uid: String,
}

/// The claims of a service account token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claims {
    pub(super) namespace: String,
    pub(super) account: Bound,
    pub(super) pod: Option<Bound>,
    pub(super) secret: Option<Bound>,
    pub(super) node: Option<Bound>,
    pub(super) audiences: Vec<String>,
    pub(super) id: String,
    not_before: i64,
    expires: i64,
}

impl Claims {
    /// Reads the claims; `None` when one that every token of ours has is missing or contradicts another.
    pub(super) fn read(claims: &Value) -> Option<Self> {
        let own = claims.get("kubernetes.io")?;
        let bound = |key: &str| own.get(key).map(Bound::read);
        let optional = |key: &str| bound(key).map_or(Some(None), |bound| bound.map(Some));
        let namespace = own.get("namespace")?.as_str()?.to_owned();
        let account = bound("serviceaccount")??;
        let subject = format!("system:serviceaccount:{namespace}:{}", account.name);
        if claims.get("iss")? != ISSUER || *claims.get("sub")? != subject.as_str() {
            return None;
        }
        let audiences = match claims.get("aud")? {
            Value::String(one) => vec![one.clone()],
            Value::Array(many) => many.iter().map(|one| one.as_str().map(str::to_owned)).collect::<Option<_>>()?,
            _ => return None,
        };
        Some(Self {
            namespace,
            account,
            pod: optional("pod")?,
            secret: optional("secret")?,
            node: optional("node")?,
            audiences,
            id: claims.get("jti")?.as_str()?.to_owned(),
            not_before: claims.get("nbf")?.as_i64()?,
            expires: claims.get("exp")?.as_i64()?,
        })
    }

    pub(super) fn check_time(&self, now_secs: i64) -> Result<(), &'static str> {
        if now_secs >= self.expires {
            return Err("the token has expired");
        }
        if now_secs + SKEW_SECS < self.not_before {
            return Err("the token is not valid yet");
        }
        Ok(())
    }

    /// Returns the audiences wanted that the token has; `None` when there are none.
    pub(super) fn common_audiences(&self, wanted: &[String]) -> Option<Vec<String>> {
        if drover_api::mutants::active("A34-any-audience") {
            return Some(wanted.to_vec());
        }
        let common: Vec<String> = wanted.iter().filter(|one| self.audiences.contains(one)).cloned().collect();
        (!common.is_empty()).then_some(common)
    }

    /// Checks that everything the token is bound to is still there, the same and not on its way out.
    pub(super) fn check_bound_objects(&self, objects: &dyn Objects) -> Result<(), &'static str> {
        let holds = |resource: Resource, namespace: &str, bound: &Bound| {
            let by_name = drover_api::mutants::active("A77-token-by-name");
            let found = objects.find(resource, namespace, &bound.name);
            found.is_some_and(|found| object::uid(&found) == bound.uid || by_name)
        };
        if !holds(SERVICE_ACCOUNTS, &self.namespace, &self.account) {
            return Err("the service account of the token is gone");
        }
        let gone = |resource, bound: &Option<Bound>| {
            bound.as_ref().is_some_and(|bound| !holds(resource, &self.namespace, bound))
        };
        let outlives = drover_api::mutants::active("A34-token-outlives-its-pod");
        if (gone(PODS, &self.pod) || gone(SECRETS, &self.secret)) && !outlives {
            return Err("the object that the token is bound to is gone");
        }
        // A node is named for information unless the token is bound to nothing nearer.
        let only_node = self.pod.is_none() && self.secret.is_none();
        if only_node && self.node.as_ref().is_some_and(|node| !holds(NODES, "", node)) {
            return Err("the node that the token is bound to is gone");
        }
        Ok(())
    }

    pub(super) fn user(&self) -> User {
        let namespace = &self.namespace;
        let groups = ["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")];
        let mut user = User::new(
            format!("system:serviceaccount:{namespace}:{}", self.account.name),
            &groups.each_ref().map(String::as_str),
        );
        user.uid.clone_from(&self.account.uid);
        let mut add = |key: &str, value: String| {
            user.extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value]);
        };
        add("credential-id", format!("JTI={}", self.id));
        for (kind, bound) in [("pod", &self.pod), ("node", &self.node)] {
            if let Some(bound) = bound {
                add(&format!("{kind}-name"), bound.name.clone());
                add(&format!("{kind}-uid"), bound.uid.clone());
            }
        }
        user
    }
}

impl Bound {
    fn read(value: &Value) -> Option<Self> {
        let text = |key: &str| value.get(key)?.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        Some(Self { name: text("name")?, uid: text("uid")? })
    }
}
