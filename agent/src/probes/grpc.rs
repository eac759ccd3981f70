//! gRPC health checks: one unary call of grpc.health.v1.Health/Check, encoded by hand.

use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

/// `ServingStatus.SERVING` of the health protocol.
const SERVING: u64 = 1;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Asks a server whether a service (empty: the server itself) serves.
///
/// # Errors
/// The sentence for the event.
pub(super) async fn grpc_check(host: &str, port: u16, service: &str, limit: Duration) -> Result<(), String> {
    match tokio::time::timeout(limit, call(host, port, service)).await {
        Err(_) => Err(format!("timeout: health rpc did not complete within {limit:?}")),
        Ok(Err(error)) => Err(format!("error: health rpc probe failed: {error}")),
        Ok(Ok(SERVING)) => Ok(()),
        Ok(Ok(status)) => Err(format!("service unhealthy (responded with {status})")),
    }
}

async fn call(host: &str, port: u16, service: &str) -> Result<u64, BoxError> {
    let stream = TcpStream::connect((host, port)).await?;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let request = http::Request::post(format!("http://{host}:{port}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "kube-probe/1.33 drover")
        .body(Full::new(encode_request(service)))?;
    let outcome = async {
        let response = sender.send_request(request).await?;
        let headers = response.headers().clone();
        let body = http_body_util::Limited::new(response.into_body(), 16 * 1024).collect().await?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        let status = trailers.get("grpc-status").or_else(|| headers.get("grpc-status"));
        let code = status.and_then(|value| value.to_str().ok()).unwrap_or("none");
        if code != "0" {
            return Err(format!("grpc status {code}").into());
        }
        Ok(decode_response(&body.to_bytes()))
    };
    let outcome = outcome.await;
    driver.abort();
    outcome
}

/// `HealthCheckRequest { string service = 1 }` behind gRPC's five-byte prefix.
fn encode_request(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.put_u8((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        message.put_u8((length & 0x7f) as u8);
        message.put_slice(service.as_bytes());
    }
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put_slice(&message);
    frame.freeze()
}

/// `HealthCheckResponse { ServingStatus status = 1 }`; anything else reads as 0, UNKNOWN.
fn decode_response(frame: &[u8]) -> u64 {
    match frame.get(5..) {
        Some([0x08, status, ..]) => u64::from(*status),
        Some(_) | None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_follow_the_health_protocol() {
        assert_eq!(encode_request("").as_ref(), [0, 0, 0, 0, 0]);
        assert_eq!(encode_request("ab").as_ref(), [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        assert_eq!(decode_response(&[0, 0, 0, 0, 2, 8, 1]), SERVING);
        assert_eq!(decode_response(&[0, 0, 0, 0, 2, 8, 2]), 2);
        assert_eq!(decode_response(&[]), 0);
    }
}
