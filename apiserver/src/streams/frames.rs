//! The frames between server and agent: `[channel u8][length u32 BE][payload]`.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Standard input, client to container.
pub(crate) const STDIN: u8 = 0;
/// Standard output.
pub(crate) const STDOUT: u8 = 1;
/// Standard error.
pub(crate) const STDERR: u8 = 2;
/// A `Status` at the end.
pub(crate) const ERROR: u8 = 3;
/// Terminal size.
pub(crate) const RESIZE: u8 = 4;
/// The payload names the channel that ended.
pub(crate) const CLOSE: u8 = 255;

const HEADER_BYTES: usize = 5;
/// A payload beyond this is not from an agent of ours: containers are read in far smaller pieces.
const PAYLOAD_BYTES_MAX: usize = 4 << 20;

/// Builds a frame.
pub(crate) fn encode(channel: u8, payload: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(HEADER_BYTES + payload.len());
    frame.put_u8(channel);
    frame.put_u32(u32::try_from(payload.len()).expect("payloads are messages of bounded size"));
    frame.put_slice(payload);
    frame.freeze()
}

/// Cuts a byte stream into frames.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    buffer: BytesMut,
}

impl Decoder {
    /// Takes more bytes.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Returns the next whole frame, `Ok(None)` when more bytes are needed.
    ///
    /// # Errors
    /// For a frame that is too long.
    pub(crate) fn next(&mut self) -> Result<Option<(u8, Bytes)>, TooLong> {
        if self.buffer.len() < HEADER_BYTES {
            return Ok(None);
        }
        let length = usize::try_from((&self.buffer[1..]).get_u32()).map_err(|_| TooLong)?;
        if length > PAYLOAD_BYTES_MAX {
            return Err(TooLong);
        }
        if self.buffer.len() < HEADER_BYTES + length {
            return Ok(None);
        }
        let channel = self.buffer[0];
        self.buffer.advance(HEADER_BYTES);
        Ok(Some((channel, self.buffer.split_to(length).freeze())))
    }
}

/// A frame longer than any agent sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame is longer than {PAYLOAD_BYTES_MAX} bytes")]
pub(crate) struct TooLong;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_any_cut() {
        let stream = [encode(STDOUT, b"hello"), encode(ERROR, b""), encode(STDERR, &[0, 255])].concat();
        for cut in 0..stream.len() {
            let (mut decoder, mut frames) = (Decoder::default(), Vec::new());
            for part in [&stream[..cut], &stream[cut..]] {
                decoder.push(part);
                while let Some(frame) = decoder.next().unwrap() {
                    frames.push(frame);
                }
            }
            let expected: [(u8, &[u8]); 3] = [(STDOUT, b"hello"), (ERROR, b""), (STDERR, &[0, 255])];
            assert_eq!(frames, expected.map(|(channel, payload)| (channel, Bytes::copy_from_slice(payload))));
        }
    }

    #[test]
    fn a_frame_of_absurd_length_is_refused_before_it_is_buffered() {
        let mut decoder = Decoder::default();
        decoder.push(&[STDOUT, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(decoder.next(), Err(TooLong));
    }
}
