//! Asks the server whether the cluster was restored from a backup and what is newer must be kept.

use drover_api::restored::{STATE_PATH, Unconfirmed, unconfirmed};
use kube::Client;

/// Reads the state past every cache; `None` when everything may be ended that the API does not have.
///
/// # Errors
/// Those of the API. Whoever cannot ask must not end anything.
pub async fn unconfirmed_restore(client: &Client) -> Result<Option<Unconfirmed>, kube::Error> {
    let request = http::Request::get(STATE_PATH).body(Vec::new()).map_err(kube::Error::HttpError)?;
    match client.request::<serde_json::Value>(request).await {
        Ok(state) => Ok(unconfirmed(&state)),
        // Nothing was ever restored, or a server that knows no restores (403: it lets nodes read only what it knows).
        Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => Ok(None),
        Err(error) => Err(error),
    }
}
