//! `Impersonate-*` headers: acting as someone else, with the right to.

use std::collections::BTreeMap;

use drover_api::status::ApiError;
use http::{HeaderMap, header::HeaderName};

use crate::{
    authz::{Attributes, Authorizer},
    request::User,
};

const EXTRA_PREFIX: &str = "impersonate-extra-";
const SERVICE_ACCOUNT_PREFIX: &str = "system:serviceaccount:";

/// Returns the user to act as: `user` itself when no header asks for another.
///
/// # Errors
/// 400 for groups, uid or extra without a user; 403 for each part that `user` may not impersonate.
pub(super) fn resolve(authorizer: &Authorizer, user: User, headers: &HeaderMap) -> Result<User, ApiError> {
    let Some(wanted) = read(headers)? else { return Ok(user) };
    for attributes in rights_needed(&wanted) {
        authorizer.check(&user, &attributes)?;
    }
    Ok(complete(wanted))
}

fn read(headers: &HeaderMap) -> Result<Option<User>, ApiError> {
    let all = |name: &str| -> Result<Vec<String>, ApiError> {
        headers.get_all(name).iter().map(|value| text(value.as_bytes())).collect()
    };
    let extra = read_extra(headers)?;
    let (mut names, groups, mut uids) = (all("impersonate-user")?, all("impersonate-group")?, all("impersonate-uid")?);
    if names.len() > 1 || uids.len() > 1 {
        return Err(ApiError::bad_request("an impersonation header is given more than once"));
    }
    match names.pop().filter(|name| !name.is_empty()) {
        Some(name) => Ok(Some(User { name, uid: uids.pop().unwrap_or_default(), groups, extra })),
        None if groups.is_empty() && uids.is_empty() && extra.is_empty() => Ok(None),
        None => Err(ApiError::bad_request("requested impersonation without impersonating a user")),
    }
}

fn read_extra(headers: &HeaderMap) -> Result<BTreeMap<String, Vec<String>>, ApiError> {
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in headers {
        let Some(key) = HeaderName::as_str(name).strip_prefix(EXTRA_PREFIX) else { continue };
        extra.entry(key.replace("%2f", "/")).or_default().push(text(value.as_bytes())?);
    }
    Ok(extra)
}

fn text(bytes: &[u8]) -> Result<String, ApiError> {
    String::from_utf8(bytes.to_vec()).map_err(|_| ApiError::bad_request("an impersonation header is not UTF-8"))
}

fn rights_needed(wanted: &User) -> Vec<Attributes> {
    const AUTHENTICATION: &str = "authentication.k8s.io";
    let right = |group: &str, namespace: &str, resource: &str, subresource: &str, name: &str| Attributes {
        verb: "impersonate".to_owned(),
        api_group: group.to_owned(),
        namespace: namespace.to_owned(),
        resource: resource.to_owned(),
        subresource: subresource.to_owned(),
        name: name.to_owned(),
        ..Attributes::default()
    };
    let account = wanted.name.strip_prefix(SERVICE_ACCOUNT_PREFIX).and_then(|rest| rest.split_once(':'));
    let mut rights = vec![match account {
        Some((namespace, name)) => right("", namespace, "serviceaccounts", "", name),
        None => right("", "", "users", "", &wanted.name),
    }];
    rights.extend(wanted.groups.iter().map(|group| right("", "", "groups", "", group)));
    if !wanted.uid.is_empty() {
        rights.push(right(AUTHENTICATION, "", "uids", "", &wanted.uid));
    }
    for (key, values) in &wanted.extra {
        rights.extend(values.iter().map(|value| right(AUTHENTICATION, "", "userextras", key, value)));
    }
    rights
}

/// Adds the groups that authentication would have given.
fn complete(mut user: User) -> User {
    let account = user.name.strip_prefix(SERVICE_ACCOUNT_PREFIX).and_then(|rest| rest.split_once(':'));
    if let (Some((namespace, _)), true) = (account, user.groups.is_empty()) {
        user.groups = vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")];
    }
    let standard = if user.name == "system:anonymous" { "system:unauthenticated" } else { "system:authenticated" };
    if !user.in_group(standard) {
        user.groups.push(standard.to_owned());
    }
    user
}
