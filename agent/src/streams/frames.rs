//! The frames of exec and attach: `[channel u8][length u32 big endian][payload]`, channels as in v5.channel.k8s.io.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

pub(super) const STDIN: u8 = 0;
pub(super) const STDOUT: u8 = 1;
pub(super) const STDERR: u8 = 2;
pub(super) const ERROR: u8 = 3;
pub(super) const RESIZE: u8 = 4;
pub(super) const CLOSE: u8 = 255;

const HEADER_BYTES: usize = 5;
/// A resize or close message is a few bytes; what claims more is not one.
const CONTROL_BYTES_MAX: usize = 4096;

/// What a client sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Input {
    /// Bytes for standard input; a long frame arrives in pieces.
    Stdin(Bytes),
    /// The terminal's new size.
    Resize { width: u16, height: u16 },
    /// Standard input has ended.
    StdinClosed,
}

/// Why input cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    #[error("a client may not send on channel {0}")]
    Channel(u8),
    #[error("a control message of {0} bytes is too long")]
    TooLong(usize),
    #[error("a resize message is not {{\"Width\":w,\"Height\":h}}")]
    Resize,
}

/// Takes bytes in any portions and gives input out. Never holds more of standard input than it was given last.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    buffer: BytesMut,
    /// What is still to come of a standard input frame.
    stdin_left: usize,
}

impl Decoder {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Returns the next input, or `None` until more bytes come.
    pub(super) fn next(&mut self) -> Result<Option<Input>, FrameError> {
        loop {
            if self.stdin_left > 0 {
                let n = self.stdin_left.min(self.buffer.len());
                self.stdin_left -= n;
                let piece = self.buffer.split_to(n).freeze();
                return Ok((!piece.is_empty()).then_some(Input::Stdin(piece)));
            }
            let Some((&channel, rest)) = self.buffer.split_first() else { return Ok(None) };
            let Some(length) = rest.first_chunk::<4>() else { return Ok(None) };
            let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
            match channel {
                STDIN => {
                    self.buffer.advance(HEADER_BYTES);
                    self.stdin_left = length;
                    if length == 0 {
                        continue;
                    }
                }
                RESIZE | CLOSE => {
                    if length > CONTROL_BYTES_MAX {
                        return Err(FrameError::TooLong(length));
                    }
                    if self.buffer.len() < HEADER_BYTES + length {
                        return Ok(None);
                    }
                    self.buffer.advance(HEADER_BYTES);
                    let payload = self.buffer.split_to(length);
                    match control(channel, &payload)? {
                        Some(input) => return Ok(Some(input)),
                        None => continue,
                    }
                }
                other => return Err(FrameError::Channel(other)),
            }
        }
    }
}

fn control(channel: u8, payload: &[u8]) -> Result<Option<Input>, FrameError> {
    if channel == CLOSE {
        return Ok((payload.first() == Some(&STDIN)).then_some(Input::StdinClosed));
    }
    let size: serde_json::Value = serde_json::from_slice(payload).map_err(|_| FrameError::Resize)?;
    let side = |name: &str| size.get(name).and_then(serde_json::Value::as_u64).and_then(|n| u16::try_from(n).ok());
    match (side("Width"), side("Height")) {
        (Some(width), Some(height)) => Ok(Some(Input::Resize { width, height })),
        (None, _) | (_, None) => Err(FrameError::Resize),
    }
}

/// Puts a payload into a frame.
pub(super) fn encode(channel: u8, payload: &[u8]) -> Bytes {
    let length = u32::try_from(payload.len()).expect("engine chunks and statuses are far below 4 GiB");
    let mut frame = BytesMut::with_capacity(HEADER_BYTES + payload.len());
    frame.put_u8(channel);
    frame.put_u32(length);
    frame.put_slice(payload);
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode_in_portions(bytes: &[u8], portion: usize) -> Result<(Vec<u8>, Vec<Input>), FrameError> {
        let (mut decoder, mut stdin, mut others) = (Decoder::default(), Vec::new(), Vec::new());
        for piece in bytes.chunks(portion) {
            decoder.push(piece);
            while let Some(input) = decoder.next()? {
                match input {
                    Input::Stdin(bytes) => stdin.extend_from_slice(&bytes),
                    other @ (Input::Resize { .. } | Input::StdinClosed) => others.push(other),
                }
            }
        }
        Ok((stdin, others))
    }

    #[test]
    fn frames_decode_alike_in_whatever_portions_they_come() {
        let mut bytes = Vec::new();
        for (channel, payload) in [
            (STDIN, b"ab\0c".as_slice()),
            (RESIZE, br#"{"Width":80,"Height":24}"#),
            (STDIN, b""),
            (STDIN, b"\xff\x00"),
            (CLOSE, b"\x01"),
            (CLOSE, b"\x00"),
        ] {
            bytes.extend_from_slice(&encode(channel, payload));
        }
        for portion in 1..bytes.len() {
            let (stdin, others) = decode_in_portions(&bytes, portion).unwrap();
            assert_eq!(stdin, b"ab\0c\xff\x00");
            assert_eq!(others, [Input::Resize { width: 80, height: 24 }, Input::StdinClosed]);
        }
    }

    #[test]
    fn what_is_no_input_is_refused_with_a_reason() {
        let table = [
            (encode(STDOUT, b"x"), FrameError::Channel(STDOUT)),
            (encode(RESIZE, b"80x24"), FrameError::Resize),
            (encode(RESIZE, br#"{"Width":-1,"Height":2}"#), FrameError::Resize),
            (encode(RESIZE, &[b' '; 5000]), FrameError::TooLong(5000)),
        ];
        for (bytes, error) in table {
            assert_eq!(decode_in_portions(&bytes, 4096).unwrap_err(), error);
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>, portion in 1_usize..64) {
            // Errors are fine; a panic is not.
            let _ = decode_in_portions(&bytes, portion);
        }
    }
}
