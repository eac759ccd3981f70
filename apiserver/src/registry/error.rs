//! The one place where the store's errors become the API's.

use drover_api::status::ApiError;
use drover_store::Error;
use serde_json::json;

/// Maps a store error to what the client is told.
pub fn from_store(error: &Error) -> ApiError {
    match error {
        Error::Compacted { oldest } => {
            ApiError::expired(format!("The resourceVersion for the provided list is too old. (oldest is {oldest})"))
        }
        Error::Future { asked, newest } => crate::cache::too_large(*asked, *newest),
        Error::Full(text) => ApiError::new(507, "InsufficientStorage", format!("the store is full: {text}")),
        Error::Unavailable(text) => {
            let mut answer = ApiError::new(503, "ServiceUnavailable", format!("the store is unavailable: {text}"));
            answer.details = json!({"retryAfterSeconds": 1});
            answer
        }
        Error::Locked(text) | Error::Broken(text) => {
            tracing::error!(error = %text, "the store does not accept writes");
            ApiError::new(503, "ServiceUnavailable", "the store does not accept requests, see the server's log")
        }
    }
}
