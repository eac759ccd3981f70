//! The protobuf wire: tagged values, read without trust in a single length.

/// Why bytes are not a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Problem {
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    Magic,
    #[error("proto: the object is encoded in a way that is not supported")]
    Encoding,
    #[error("proto: unexpected end of the message")]
    Truncated,
    #[error("proto: a number is longer than ten bytes")]
    Overflow,
    #[error("proto: illegal tag")]
    Tag,
    #[error("proto: a value has another wire type than its field")]
    WireType,
    #[error("proto: a string is not UTF-8")]
    Utf8,
    #[error("proto: a time is out of range")]
    Time,
    #[error("proto: embedded JSON does not parse")]
    Json,
    #[error("proto: exceeded max depth")]
    Depth,
}

/// One value as the wire has it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wire<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    /// Eight or four bytes: no field of the table has such a type.
    Fixed,
}

impl<'a> Wire<'a> {
    pub(super) fn varint(self) -> Result<u64, Problem> {
        if let Self::Varint(value) = self { Ok(value) } else { Err(Problem::WireType) }
    }

    pub(super) fn bytes(self) -> Result<&'a [u8], Problem> {
        if let Self::Bytes(bytes) = self { Ok(bytes) } else { Err(Problem::WireType) }
    }

    pub(super) fn text(self) -> Result<&'a str, Problem> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Problem::Utf8)
    }
}

/// Reads the fields of one message.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// Returns the number and value of the next field, `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<(u32, Wire<'a>)>, Problem> {
        if self.is_at_end() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).ok().filter(|number| *number > 0).ok_or(Problem::Tag)?;
        let value = match tag & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => self.take(8).map(|_| Wire::Fixed)?,
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Problem::Truncated)?;
                Wire::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Wire::Fixed)?,
            // Groups are gone from protobuf since 2008, and 6 and 7 never were.
            _ => return Err(Problem::Tag),
        };
        Ok(Some((number, value)))
    }

    pub(super) fn varint(&mut self) -> Result<u64, Problem> {
        let mut value = 0_u64;
        for shift in (0..70).step_by(7) {
            let byte = self.take(1)?[0];
            // The tenth byte holds one bit.
            if shift == 63 && byte > 1 {
                return Err(Problem::Overflow);
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Problem::Overflow)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Problem> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Problem::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }
}
