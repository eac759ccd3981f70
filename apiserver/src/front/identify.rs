//! Who a request acts as: authentication, then impersonation. Asked at the start of every request, and again while a
//! stream lasts.

use std::sync::Arc;

use drover_api::status::ApiError;
use http::{HeaderMap, header};

use super::{Caller, impersonate};
use crate::{authn::Authenticator, authz::Authorizer, request::User};

/// Headers that say who asks, or as whom.
const IMPERSONATION_PREFIX: &str = "impersonate-";

/// Finds out who asks.
pub(crate) struct Identities {
    pub(crate) authenticator: Authenticator,
    pub(crate) authorizer: Arc<Authorizer>,
}

/// The two users of a request; they differ only under impersonation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    /// Whose credential it was: limits are theirs.
    pub(super) own: User,
    /// Whose rights count.
    pub(super) acting: User,
}

impl Identities {
    /// Returns the user whose credential a request carries; `None` when it carries none at all.
    ///
    /// # Errors
    /// 401 for a bad credential.
    pub(super) fn authenticate(&self, caller: &Caller, headers: &HeaderMap) -> Result<Option<User>, ApiError> {
        match caller {
            Caller::Local(user) => Ok(Some(User::clone(user))),
            Caller::Connection(certificate) => self.authenticator.authenticate(certificate.as_deref(), headers),
        }
    }

    /// Returns as whom a user acts.
    ///
    /// # Errors
    /// 400 and 403 for impersonation that is malformed or not allowed.
    pub(super) fn act(&self, own: User, headers: &HeaderMap) -> Result<Identity, ApiError> {
        let acting = impersonate::resolve(&self.authorizer, own.clone(), headers)?;
        Ok(Identity { own, acting })
    }

    /// Both in one; `None` without a credential.
    ///
    /// # Errors
    /// Theirs.
    pub(super) fn resolve(&self, caller: &Caller, headers: &HeaderMap) -> Result<Option<Identity>, ApiError> {
        let own = self.authenticate(caller, headers)?;
        own.map(|own| self.act(own, headers)).transpose()
    }
}

/// Returns the headers that [`Identities::resolve`] reads, for asking it again later.
pub(super) fn credentials(headers: &HeaderMap) -> HeaderMap {
    let told = headers
        .iter()
        .filter(|(name, _)| **name == header::AUTHORIZATION || name.as_str().starts_with(IMPERSONATION_PREFIX));
    let mut kept = HeaderMap::new();
    for (name, value) in told {
        kept.append(name.clone(), value.clone());
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_credentials_are_kept_of_a_request_and_all_of_them() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("authorization", "Bearer x"),
            ("impersonate-user", "a"),
            ("impersonate-group", "g"),
            ("impersonate-group", "h"),
            ("impersonate-extra-scopes", "s"),
            ("cookie", "c"),
            ("accept", "*/*"),
        ] {
            headers.append(http::HeaderName::from_static(name), value.parse().unwrap());
        }
        let kept = credentials(&headers);
        assert_eq!(kept.len(), 5);
        assert_eq!(kept.get_all("impersonate-group").iter().count(), 2);
    }
}
