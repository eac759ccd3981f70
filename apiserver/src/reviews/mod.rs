//! Questions about identities and rights: the SubjectAccessReview family, SelfSubjectReview, TokenReview.
//!
//! Nothing is stored; each answer is the question with its status filled in.

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

use drover_api::{
    object::{self, str_at},
    status::ApiError,
};
use serde_json::{Value, json};

use crate::{
    authz::{Attributes, Authorizer},
    request::{RequestInfo, User},
    tokens::{ISSUER, Tokens},
};

/// What reviews are answered from.
pub(crate) struct Reviews {
    pub(crate) authorizer: Arc<Authorizer>,
    pub(crate) tokens: Arc<Tokens>,
}

impl Reviews {
    /// Returns the schema type of a review's body; `None` for a request that is not a review.
    pub(crate) fn type_name(info: &RequestInfo) -> Option<&'static str> {
        if info.api_version != "v1" || !info.subresource.is_empty() || !info.name.is_empty() {
            return None;
        }
        let namespaced = !info.namespace.is_empty();
        Some(match (info.api_group.as_str(), info.resource.as_str()) {
            ("authorization.k8s.io", "localsubjectaccessreviews") if namespaced => {
                "authorization.v1.LocalSubjectAccessReview"
            }
            (_, _) if namespaced => return None,
            ("authorization.k8s.io", "selfsubjectaccessreviews") => "authorization.v1.SelfSubjectAccessReview",
            ("authorization.k8s.io", "selfsubjectrulesreviews") => "authorization.v1.SelfSubjectRulesReview",
            ("authorization.k8s.io", "subjectaccessreviews") => "authorization.v1.SubjectAccessReview",
            ("authentication.k8s.io", "selfsubjectreviews") => "authentication.v1.SelfSubjectReview",
            ("authentication.k8s.io", "tokenreviews") => "authentication.v1.TokenReview",
            _ => return None,
        })
    }

    /// Answers a review.
    ///
    /// # Errors
    /// 400 and 422 for questions that cannot be answered.
    pub(crate) fn answer(&self, user: &User, info: &RequestInfo, mut review: Value) -> Result<Value, ApiError> {
        let status = match info.resource.as_str() {
            "selfsubjectreviews" => json!({"userInfo": user_info(user)}),
            "selfsubjectrulesreviews" => self.rules(user, &review)?,
            "selfsubjectaccessreviews" => self.access(user, &review["spec"])?,
            "tokenreviews" => self.token(&review["spec"])?,
            "localsubjectaccessreviews" => {
                let namespace = str_at(&review, &["spec", "resourceAttributes", "namespace"]);
                if namespace != info.namespace {
                    let text = format!(
                        "spec.resourceAttributes.namespace: Invalid value: {namespace:?}: must match metadata.namespace"
                    );
                    return Err(ApiError::new(422, "Invalid", text));
                }
                self.access(&subject(&review["spec"])?, &review["spec"])?
            }
            _ => self.access(&subject(&review["spec"])?, &review["spec"])?,
        };
        // Questions may come without a `metadata`, answers never do.
        object::metadata_mut(&mut review).entry("creationTimestamp").or_insert(Value::Null);
        review["status"] = status;
        Ok(review)
    }

    fn access(&self, user: &User, spec: &Value) -> Result<Value, ApiError> {
        let attributes = attributes(spec)?;
        Ok(match self.authorizer.decide(user, &attributes) {
            Ok(()) => json!({"allowed": true}),
            Err(reason) if reason.is_empty() => json!({"allowed": false}),
            Err(reason) => json!({"allowed": false, "reason": reason}),
        })
    }

    fn rules(&self, user: &User, review: &Value) -> Result<Value, ApiError> {
        let namespace = str_at(review, &["spec", "namespace"]);
        if namespace.is_empty() {
            return Err(ApiError::bad_request("no namespace on request"));
        }
        let rules = self.authorizer.rules_for(user, namespace);
        let (paths, resources): (Vec<_>, Vec<_>) = rules.iter().partition(|rule| rule.resources.is_empty());
        let values = |rules: Vec<&crate::authz::rbac::Rule>| -> Vec<Value> {
            rules.into_iter().map(crate::authz::rbac::Rule::to_value).collect()
        };
        Ok(json!({"resourceRules": values(resources), "nonResourceRules": values(paths), "incomplete": false}))
    }

    fn token(&self, spec: &Value) -> Result<Value, ApiError> {
        let token = str_at(spec, &["token"]);
        if token.is_empty() {
            return Err(ApiError::bad_request("token is required for TokenReview in authentication"));
        }
        let mut audiences = strings(&spec["audiences"]);
        if audiences.is_empty() {
            audiences.push(ISSUER.to_owned());
        }
        Ok(match self.tokens.verify(token, &audiences) {
            Ok(verified) => json!({
                "authenticated": true, "user": user_info(&verified.user), "audiences": verified.audiences,
            }),
            Err(why) => json!({"user": {}, "error": why}),
        })
    }
}

fn attributes(spec: &Value) -> Result<Attributes, ApiError> {
    let (resource, path) = (spec.get("resourceAttributes"), spec.get("nonResourceAttributes"));
    let text = |value: &Value, key: &str| str_at(value, &[key]).to_owned();
    match (resource, path) {
        (Some(resource), None) => Ok(Attributes {
            verb: text(resource, "verb"),
            api_group: text(resource, "group"),
            namespace: text(resource, "namespace"),
            resource: text(resource, "resource"),
            subresource: text(resource, "subresource"),
            name: text(resource, "name"),
            field_selector: str_at(resource, &["fieldSelector", "rawSelector"]).to_owned(),
            path: None,
        }),
        (None, Some(path)) => {
            Ok(Attributes { verb: text(path, "verb"), path: Some(text(path, "path")), ..Attributes::default() })
        }
        (_, _) => Err(ApiError::new(
            422,
            "Invalid",
            "spec.resourceAttributes: Invalid value: exactly one of nonResourceAttributes or resourceAttributes must be specified",
        )),
    }
}

fn subject(spec: &Value) -> Result<User, ApiError> {
    let (name, groups) = (str_at(spec, &["user"]), strings(&spec["groups"]));
    if name.is_empty() && groups.is_empty() {
        let text = "spec.user: Invalid value: \"\": at least one of user or group must be specified";
        return Err(ApiError::new(422, "Invalid", text));
    }
    let extra = spec.get("extra").and_then(Value::as_object).into_iter().flatten();
    let extra: BTreeMap<String, Vec<String>> = extra.map(|(key, list)| (key.clone(), strings(list))).collect();
    Ok(User { name: name.to_owned(), uid: str_at(spec, &["uid"]).to_owned(), groups, extra })
}

fn user_info(user: &User) -> Value {
    let mut info = json!({"username": user.name, "groups": user.groups});
    if !user.uid.is_empty() {
        info["uid"] = user.uid.as_str().into();
    }
    if !user.extra.is_empty() {
        info["extra"] = json!(user.extra);
    }
    info
}

fn strings(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}
