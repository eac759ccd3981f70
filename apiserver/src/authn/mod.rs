//! Who asks: client certificates and bearer tokens.
//!
//! A request with no credential is anonymous (`None`); one with a bad credential is refused, never downgraded.

mod certificate;

use drover_api::status::ApiError;
use http::{HeaderMap, header};

pub(crate) use certificate::user_of;

use crate::{front::unauthorized, request::User};

/// Checks a bearer token; `None` for one that is not valid.
pub(crate) type TokenCheck = Box<dyn Fn(&str) -> Option<User> + Send + Sync>;

/// Whether the user of a client certificate is still who the certificate says.
pub(crate) type CertificateCheck = Box<dyn Fn(&User) -> bool + Send + Sync>;

/// Finds out who asks.
pub(crate) struct Authenticator {
    tokens: TokenCheck,
    certificates: CertificateCheck,
}

impl Authenticator {
    /// Builds an authenticator that checks bearer tokens with `tokens` and the users of client certificates, which the
    /// transport has verified, with `certificates`.
    pub(crate) fn new(tokens: TokenCheck, certificates: CertificateCheck) -> Self {
        Self { tokens, certificates }
    }

    /// Returns the user of a request; `None` when it carries no credential at all.
    ///
    /// # Errors
    /// 401 for a certificate or token that is not valid, or an `Authorization` of another scheme.
    pub(crate) fn authenticate(
        &self,
        certificate: Option<&User>,
        headers: &HeaderMap,
    ) -> Result<Option<User>, ApiError> {
        if let Some(user) = certificate {
            return if (self.certificates)(user) { Ok(Some(user.clone())) } else { Err(unauthorized()) };
        }
        let Some(token) = bearer(headers)? else { return Ok(None) };
        let user = (self.tokens)(token);
        if drover_api::mutants::active("A19-bad-token-is-anonymous") {
            return Ok(user);
        }
        user.map(Some).ok_or_else(unauthorized)
    }
}

/// Returns the bearer token of a request; `None` where there is no `Authorization` at all.
///
/// # Errors
/// 401 for several, and for another scheme.
pub(crate) fn bearer(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().map_err(|_| unauthorized())?;
    let (scheme, token) = text.split_once(' ').ok_or_else(unauthorized)?;
    if values.next().is_some() || !scheme.eq_ignore_ascii_case("bearer") {
        return Err(unauthorized());
    }
    Ok(Some(token.trim()))
}
