//! `pods/log`: the agent's text, passed on as it comes.

use drover_api::status::ApiError;
use http::Method;

use super::{Streams, agent, target};
use crate::{
    front::{Body, Response, text_response},
    request::RequestInfo,
};

impl Streams {
    pub(super) async fn log(&self, info: &RequestInfo) -> Result<Response, ApiError> {
        if info.verb != "get" {
            return Err(crate::request::method_not_allowed());
        }
        let options = Options::read(info)?;
        let (pod, target) = self.target(info)?;
        if target.node.is_empty() {
            return Ok(text_response(200, Body::empty()));
        }
        let mut query = vec![("uid", target.uid.as_str())];
        query.extend(options.pairs.iter().map(|(key, value)| (*key, value.as_str())));
        let path = format!("logs/{}", agent::container_path(&target));
        let request = agent::request(Method::GET, &path, &query, Body::empty());
        match agent::ask(&self.tunnels, &target.node, request).await {
            Ok(body) => Ok(text_response(200, Body::new(body))),
            Err(error) => {
                let explained = matches!(error.code, 404 | 503);
                let why = explained.then(|| target::why_no_logs(&pod, &target.container, options.previous)).flatten();
                Err(why.unwrap_or(error))
            }
        }
    }
}

/// Checked query parameters, ready to be passed on.
struct Options {
    previous: bool,
    pairs: Vec<(&'static str, String)>,
}

impl Options {
    fn read(info: &RequestInfo) -> Result<Self, ApiError> {
        let mut pairs = Vec::new();
        for key in ["follow", "previous", "timestamps"] {
            pairs.push((key, info.flag(key)?.to_string()));
        }
        for (key, least) in [("sinceSeconds", 1), ("tailLines", 0), ("limitBytes", 1)] {
            if let Some(text) = info.query(key) {
                let number = text.parse::<i64>().ok().filter(|number| *number >= least);
                let number =
                    number.ok_or_else(|| invalid(key, text, &format!("must be an integer of at least {least}")))?;
                pairs.push((key, number.to_string()));
            }
        }
        if let Some(text) = info.query("sinceTime") {
            if info.query("sinceSeconds").is_some() {
                return Err(invalid(
                    "sinceTime",
                    text,
                    "at most one of `sinceTime` or `sinceSeconds` may be specified",
                ));
            }
            let time: jiff::Timestamp =
                text.parse().map_err(|_| invalid("sinceTime", text, "must be an RFC 3339 time"))?;
            pairs.push(("sinceTime", time.to_string()));
        }
        Ok(Self { previous: info.flag("previous")?, pairs })
    }
}

fn invalid(field: &str, value: &str, why: &str) -> ApiError {
    ApiError::new(422, "Invalid", format!("PodLogOptions \"\" is invalid: {field}: Invalid value: {value:?}: {why}"))
}
