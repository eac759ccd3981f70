//! DNS messages: what is asked, and how an answer is written.

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, ResponseCode},
    rr::{
        DNSClass, Name, RData, Record,
        rdata::{A, CNAME, PTR, SOA, SRV},
    },
};

use super::zone::{APEX, Data};

/// How long a client may keep an answer, in seconds. Short, for endpoints move; not zero, for a busy client asks often.
const TTL: u32 = 5;

/// The payload we offer and accept at most over UDP: it fits every path without fragments.
const UDP_PAYLOAD: u16 = 1232;

/// The limit without EDNS (RFC 1035).
const PLAIN_PAYLOAD: usize = 512;

/// A question that can be answered.
#[derive(Debug)]
pub(super) struct Question {
    /// The name, in lower case and without the last dot.
    pub(super) name: String,
    /// The type as text: `A`, `AAAA`, ….
    pub(super) record_type: String,
    message: Message,
}

/// What came in.
#[derive(Debug)]
pub(super) enum Incoming {
    /// A question.
    Question(Box<Question>),
    /// Something to be refused with this message.
    Refuse(Vec<u8>),
    /// Nothing that deserves an answer.
    Ignore,
}

/// Reads a message.
pub(super) fn read(bytes: &[u8]) -> Incoming {
    let Ok(message) = Message::from_vec(bytes) else { return unreadable(bytes) };
    if message.metadata.message_type != MessageType::Query {
        return Incoming::Ignore;
    }
    let refuse = |code| {
        let refusal = Message::error_msg(message.metadata.id, message.metadata.op_code, code);
        refusal.to_vec().map_or(Incoming::Ignore, Incoming::Refuse)
    };
    if message.metadata.op_code != OpCode::Query {
        return refuse(ResponseCode::NotImp);
    }
    let [query] = &message.queries[..] else { return refuse(ResponseCode::FormErr) };
    if query.query_class() != DNSClass::IN {
        return refuse(ResponseCode::NotImp);
    }
    let name = query.name().to_lowercase().to_ascii().trim_end_matches('.').to_owned();
    let record_type = query.query_type().to_string();
    Incoming::Question(Box::new(Question { name, record_type, message }))
}

/// A query whose header can be read gets a format error; an answer or less than a header gets nothing.
fn unreadable(bytes: &[u8]) -> Incoming {
    match bytes {
        [high, low, flags, ..] if bytes.len() >= 12 && flags & 0x80 == 0 => {
            let id = u16::from_be_bytes([*high, *low]);
            let refusal = Message::error_msg(id, OpCode::Query, ResponseCode::FormErr);
            refusal.to_vec().map_or(Incoming::Ignore, Incoming::Refuse)
        }
        _ => Incoming::Ignore,
    }
}

impl Question {
    /// The message's id: a small random number of the client's.
    pub(super) fn id(&self) -> u16 {
        self.message.metadata.id
    }

    /// The largest answer the client takes over UDP.
    pub(super) fn payload(&self) -> usize {
        let offered = self.message.edns.as_ref().map(|edns| usize::from(edns.max_payload().min(UDP_PAYLOAD)));
        offered.unwrap_or(PLAIN_PAYLOAD).max(PLAIN_PAYLOAD)
    }

    /// The same question for another name, with an id of its own.
    pub(super) fn for_target(&self, target: &str, id: u16) -> Option<Vec<u8>> {
        let mut message = self.message.clone();
        message.metadata.id = id;
        message.queries.first_mut()?.set_name(name(target)?);
        message.to_vec().ok()
    }

    /// An answer with these records.
    pub(super) fn records(&self, answers: &[(String, Data)], additional: &[(String, Data)]) -> Message {
        let mut response = self.response(ResponseCode::NoError);
        response.answers = answers.iter().filter_map(record).collect();
        response.additionals = additional.iter().filter_map(record).collect();
        if answers.is_empty() {
            response.authorities.extend(authority());
        }
        response
    }

    /// The answer that there is no such name.
    pub(super) fn no_name(&self) -> Message {
        let mut response = self.response(ResponseCode::NXDomain);
        response.authorities.extend(authority());
        response
    }

    /// An alias with what upstream answered for its target.
    pub(super) fn alias(&self, target: &str, upstream: Option<&[u8]>) -> Message {
        let own = [(self.name.clone(), Data::Cname(target.to_owned()))];
        let mut response = self.records(&own, &[]);
        if let Some(found) = upstream.and_then(|bytes| Message::from_vec(bytes).ok()) {
            response.answers.extend(found.answers);
        }
        response
    }

    /// The answer that this server cannot answer now.
    pub(super) fn failure(&self) -> Message {
        let mut response = self.response(ResponseCode::ServFail);
        response.metadata.authoritative = false;
        response
    }

    fn response(&self, code: ResponseCode) -> Message {
        let mut response = Message::response(self.message.metadata.id, OpCode::Query);
        response.metadata.authoritative = true;
        response.metadata.recursion_desired = self.message.metadata.recursion_desired;
        response.metadata.recursion_available = true;
        response.metadata.response_code = code;
        response.queries.clone_from(&self.message.queries);
        if self.message.edns.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(UDP_PAYLOAD);
            response.set_edns(edns);
        }
        response
    }
}

/// The message as bytes of at most `limit`, cut and marked as such when it is longer.
pub(super) fn write(mut message: Message, limit: usize) -> Option<Vec<u8>> {
    let bytes = message.to_vec().ok()?;
    if bytes.len() <= limit {
        return Some(bytes);
    }
    // Addresses of SRV targets are a courtesy; without them it may fit.
    message.additionals.clear();
    let bytes = message.to_vec().ok()?;
    if bytes.len() <= limit {
        return Some(bytes);
    }
    message.answers.clear();
    message.metadata.truncation = true;
    message.to_vec().ok()
}

fn record((owner, data): &(String, Data)) -> Option<Record> {
    let data = match data {
        Data::A(address) => RData::A(A(*address)),
        Data::Srv(port, target) => RData::SRV(SRV::new(0, 100, *port, name(target)?)),
        Data::Cname(target) => RData::CNAME(CNAME(name(target)?)),
        Data::Ptr(target) => RData::PTR(PTR(name(target)?)),
    };
    Some(Record::from_rdata(name(owner)?, TTL, data))
}

/// The SOA record that says how long a negative answer holds (RFC 2308).
fn authority() -> Option<Record> {
    let host = name(&format!("ns.dns.{APEX}"))?;
    let soa = SOA::new(host.clone(), name(&format!("hostmaster.{APEX}"))?, 1, 7200, 1800, 86400, TTL);
    Some(Record::from_rdata(name(APEX)?, TTL, RData::SOA(soa)))
}

fn name(text: &str) -> Option<Name> {
    Name::from_ascii(format!("{text}.")).ok()
}
