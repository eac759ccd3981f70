//! What moves endpoints, in the kernel's own words. Pure.
//!
//! `nft` reads every chain and set of the machine before it does anything: with 10,000 Services each change of one would
//! take 0.4 s, and their first entry most of a minute. So chains that spread over endpoints, elements, and the removal
//! of chains are encoded here (`linux/netfilter/nf_tables.h`), as `nft` would, and it reads them back. All else, which
//! changes rarely, is left to it.

use std::net::Ipv4Addr;

use super::tables::MAPS;

const NFNL_SUBSYS_NFTABLES: u16 = 10;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const NEW_CHAIN: u16 = 3;
const DELETE_CHAIN: u16 = 5;
const NEW_RULE: u16 = 6;
const DELETE_RULE: u16 = 8;
const NEW_SET: u16 = 9;
const NEW_ELEMENT: u16 = 12;
const DELETE_ELEMENT: u16 = 14;

const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;

const FAMILY_IPV4: u8 = 2;
/// An attribute that holds attributes.
const NESTED: u16 = 0x8000;
/// NFT_SET_ANONYMOUS, NFT_SET_CONSTANT, NFT_SET_MAP.
const ANONYMOUS_MAP: u32 = 0x1 | 0x2 | 0x8;
/// nft's numbers for the types `integer` and `ipv4_addr . inet_service`: they only tell a reader how to print.
const TYPE_INTEGER: u32 = 4;
const TYPE_ADDRESS_AND_PORT: u32 = (7 << 6) | 13;
/// nft's notes on such a map: keys in the host's byte order, data as it is, no intervals.
const MAP_NOTES: [u8; 18] = [0, 4, 1, 0, 0, 0, 1, 4, 0, 0, 0, 0, 6, 4, 0, 0, 0, 0];
const ANONYMOUS_NAME: &str = "__map%d";
/// The length of an attribute has 16 bits; the longest element takes some 100 bytes.
const ELEMENTS_MAX: usize = 400;
/// The longest text that nft keeps with a rule.
const COMMENT_MAX: usize = 127;

/// These nft commands as one transaction for the kernel; `None` when only nft can say one of them. The last message asks
/// for an answer.
pub(super) fn encode(commands: &[String], table: &str) -> Option<Vec<u8>> {
    let mut batch = Batch { bytes: Vec::new(), table, sequence: 0, last: 0 };
    batch.frame(BATCH_BEGIN);
    for command in commands {
        batch.command(command)?;
    }
    let flags = batch.last + 6;
    batch.bytes[flags] |= ACK.to_ne_bytes()[0];
    batch.frame(BATCH_END);
    Some(batch.bytes)
}

/// Whether a rule of a chain can be said here.
pub(super) fn is_spread(rule: &str) -> bool {
    Spread::parse(rule).is_some()
}

/// A rule that spreads over endpoints.
struct Spread<'a> {
    protocol: u8,
    targets: Vec<[u8; 8]>,
    comment: &'a str,
}

impl<'a> Spread<'a> {
    /// Reads `meta l4proto tcp dnat ip to numgen random mod 1 map { 0 : 10.128.0.2 . 8080 } comment "a/b:c"`.
    fn parse(rule: &'a str) -> Option<Self> {
        let (name, rest) = rule.strip_prefix("meta l4proto ")?.split_once(" dnat ip to numgen random mod ")?;
        let (count, rest) = rest.split_once(" map { ")?;
        let (elements, rest) = rest.split_once(" } comment \"")?;
        let comment = rest.strip_suffix('"').filter(|comment| comment.len() < COMMENT_MAX)?;
        let target = |(index, element): (usize, &str)| {
            let (number, target) = element.split_once(" : ")?;
            let bytes = concatenation("ipv4_addr . inet_service", target)?;
            (number == index.to_string()).then(|| bytes.try_into().ok())?
        };
        let targets = elements.split(", ").enumerate().map(target).collect::<Option<Vec<_>>>()?;
        (count == targets.len().to_string()).then_some(())?;
        Some(Self { protocol: protocol(name)?, targets, comment })
    }
}

struct Batch<'a> {
    bytes: Vec<u8>,
    table: &'a str,
    sequence: u32,
    /// Where the last message begins.
    last: usize,
}

impl Batch<'_> {
    fn command(&mut self, command: &str) -> Option<()> {
        let (verb, rest) = command.split_once(" ip ")?;
        let rest = rest.strip_prefix(self.table)?.strip_prefix(' ')?;
        match verb {
            "add chain" => self.of_chain(NEW_CHAIN, CREATE, 3, rest),
            "delete chain" => self.of_chain(DELETE_CHAIN, 0, 3, rest),
            // A deletion that names no rule takes them all.
            "flush chain" => self.of_chain(DELETE_RULE, 0, 2, rest),
            "add rule" => {
                let (chain, rule) = rest.split_once(' ')?;
                self.spread(chain, &Spread::parse(rule)?);
                Some(())
            }
            "add element" => self.named_elements(NEW_ELEMENT, CREATE, rest),
            "delete element" => self.named_elements(DELETE_ELEMENT, 0, rest),
            _ => None,
        }
    }

    fn of_chain(&mut self, kind: u16, flags: u16, attribute: u16, name: &str) -> Option<()> {
        // A base chain has its hook in braces.
        (!name.contains(' ')).then_some(())?;
        self.message(kind, flags, |out| out.text(attribute, name));
        Some(())
    }

    fn spread(&mut self, chain: &str, spread: &Spread<'_>) {
        // Any number will do that is no other's in this transaction.
        let id = self.sequence + 1;
        let count = u32::try_from(spread.targets.len()).unwrap_or(u32::MAX);
        self.message(NEW_SET, CREATE, |out| {
            out.text(2, ANONYMOUS_NAME);
            out.number(3, ANONYMOUS_MAP);
            out.number(4, TYPE_INTEGER);
            out.number(5, 4);
            out.number(6, TYPE_ADDRESS_AND_PORT);
            out.number(7, 8);
            out.nested(9, |out| out.number(1, count));
            out.number(10, id);
            out.attribute(13, |out| out.extend(MAP_NOTES));
        });
        let elements: Vec<Element<'_>> = (0u32..)
            .zip(&spread.targets)
            .map(|(index, target)| (index.to_ne_bytes().to_vec(), Leads::To(target.to_vec())))
            .collect();
        self.elements(NEW_ELEMENT, CREATE, (ANONYMOUS_NAME, Some(id)), &elements);
        self.message(NEW_RULE, CREATE | APPEND, |out| {
            out.text(2, chain);
            out.nested(4, |out| expressions(out, spread.protocol, count, id));
            out.attribute(7, |out| {
                let text = spread.comment.as_bytes();
                out.extend([0, u8::try_from(text.len() + 1).unwrap_or(0)]);
                out.extend(text);
                out.push(0);
            });
        });
    }

    fn named_elements(&mut self, kind: u16, flags: u16, rest: &str) -> Option<()> {
        let (map, rest) = rest.split_once(" { ")?;
        let list = rest.strip_suffix(" }")?;
        let (_, definition) = MAPS.iter().find(|(name, _)| *name == map)?;
        let (_, types) = definition.split_once("{ type ")?;
        let types = types.split(';').next()?;
        let (keys, values) = types.split_once(" : ").map_or((types, None), |(keys, values)| (keys, Some(values)));
        let element = |text| -> Option<Element<'_>> {
            let (key, value) = match str::split_once(text, " : ") {
                Some((key, value)) => (key, Some(value)),
                None => (text, None),
            };
            let leads = match (value, values) {
                (None, _) => Leads::Nowhere,
                (Some(value), Some("verdict")) => Leads::Goto(value.strip_prefix("goto ")?),
                (Some(value), Some(types)) => Leads::To(concatenation(types, value)?),
                (Some(_), None) => return None,
            };
            Some((concatenation(keys, key)?, leads))
        };
        let elements = list.split(", ").map(element).collect::<Option<Vec<_>>>()?;
        self.elements(kind, flags, (map, None), &elements);
        Some(())
    }

    fn elements(&mut self, kind: u16, flags: u16, (set, id): (&str, Option<u32>), elements: &[Element<'_>]) {
        for elements in elements.chunks(ELEMENTS_MAX) {
            self.message(kind, flags, |out| {
                out.text(2, set);
                if let Some(id) = id {
                    out.number(4, id);
                }
                out.nested(3, |out| elements.iter().for_each(|(key, leads)| element(out, key, leads)));
            });
        }
    }

    /// One message about our table.
    fn message(&mut self, kind: u16, flags: u16, body: impl FnOnce(&mut Vec<u8>)) {
        let table = self.table;
        let kind = (NFNL_SUBSYS_NFTABLES << 8) | kind;
        self.raw(kind, flags, [FAMILY_IPV4, 0, 0, 0], |out| {
            out.text(1, table);
            body(out);
        });
    }

    fn frame(&mut self, kind: u16) {
        let [high, low] = NFNL_SUBSYS_NFTABLES.to_be_bytes();
        self.raw(kind, 0, [0, 0, high, low], |_| {});
    }

    fn raw(&mut self, kind: u16, flags: u16, family: [u8; 4], body: impl FnOnce(&mut Vec<u8>)) {
        self.last = self.bytes.len();
        self.bytes.extend([0; 4]);
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend((REQUEST | flags).to_ne_bytes());
        self.bytes.extend(self.sequence.to_ne_bytes());
        self.bytes.extend([0; 4]);
        self.bytes.extend(family);
        body(&mut self.bytes);
        let length = u32::try_from(self.bytes.len() - self.last).unwrap_or(u32::MAX);
        self.bytes[self.last..self.last + 4].copy_from_slice(&length.to_ne_bytes());
        self.sequence += 1;
    }
}

/// An element's key, and where it leads.
type Element<'a> = (Vec<u8>, Leads<'a>);

enum Leads<'a> {
    Nowhere,
    Goto(&'a str),
    To(Vec<u8>),
}

fn element(out: &mut Vec<u8>, key: &[u8], leads: &Leads<'_>) {
    /// NFT_GOTO as the kernel's two's complement.
    const GOTO: u32 = -4i32 as u32;
    out.nested(1, |out| {
        out.nested(1, |out| out.attribute(1, |out| out.extend(key)));
        match leads {
            Leads::Nowhere => {}
            Leads::To(value) => out.nested(2, |out| out.attribute(1, |out| out.extend(value))),
            Leads::Goto(chain) => out.nested(2, |out| {
                out.nested(2, |out| {
                    out.number(1, GOTO);
                    out.text(2, chain);
                });
            }),
        }
    });
}

/// `meta l4proto P dnat ip to numgen random mod COUNT map @ID`.
fn expressions(out: &mut Vec<u8>, protocol: u8, count: u32, id: u32) {
    /// NFT_META_L4PROTO.
    const L4PROTO: u32 = 16;
    expression(out, "meta", |out| {
        out.number(2, L4PROTO);
        out.number(1, 1);
    });
    expression(out, "cmp", |out| {
        out.number(1, 1);
        out.number(2, 0);
        out.nested(3, |out| out.attribute(1, |out| out.push(protocol)));
    });
    expression(out, "numgen", |out| {
        out.number(1, 1);
        out.number(2, count);
        out.number(3, 1);
        out.number(4, 0);
    });
    expression(out, "lookup", |out| {
        out.number(2, 1);
        out.number(3, 1);
        out.text(1, ANONYMOUS_NAME);
        out.number(4, id);
    });
    // The address is in the first register, the port in the 32 bits after it, which have the number 9.
    expression(out, "nat", |out| {
        out.number(1, 1);
        out.number(2, u32::from(FAMILY_IPV4));
        out.number(3, 1);
        out.number(5, 9);
    });
}

fn expression(out: &mut Vec<u8>, name: &str, data: impl FnOnce(&mut Vec<u8>)) {
    out.nested(1, |out| {
        out.text(1, name);
        out.nested(2, data);
    });
}

/// Values joined by ` . `, each of which takes four bytes.
fn concatenation(types: &str, values: &str) -> Option<Vec<u8>> {
    let (types, values): (Vec<&str>, Vec<&str>) = (types.split(" . ").collect(), values.split(" . ").collect());
    (types.len() == values.len()).then_some(())?;
    let fields = types.iter().zip(values).map(|(kind, value)| match *kind {
        "ipv4_addr" => value.parse().ok().map(|address: Ipv4Addr| address.octets()),
        "inet_proto" => protocol(value).map(|number| [number, 0, 0, 0]),
        "inet_service" => value.parse().ok().map(u16::to_be_bytes).map(|[high, low]| [high, low, 0, 0]),
        _ => None,
    });
    Some(fields.collect::<Option<Vec<_>>>()?.concat())
}

fn protocol(name: &str) -> Option<u8> {
    match name {
        "tcp" => Some(6),
        "udp" => Some(17),
        "sctp" => Some(132),
        number => number.parse().ok(),
    }
}

/// Netlink's attributes: length, kind, contents, padded to four bytes.
trait Attributes {
    fn attribute(&mut self, kind: u16, body: impl FnOnce(&mut Vec<u8>));

    fn nested(&mut self, kind: u16, body: impl FnOnce(&mut Vec<u8>)) {
        self.attribute(kind | NESTED, body);
    }

    fn number(&mut self, kind: u16, number: u32) {
        self.attribute(kind, |out| out.extend(number.to_be_bytes()));
    }

    fn text(&mut self, kind: u16, text: &str) {
        self.attribute(kind, |out| {
            out.extend(text.as_bytes());
            out.push(0);
        });
    }
}

impl Attributes for Vec<u8> {
    fn attribute(&mut self, kind: u16, body: impl FnOnce(&mut Vec<u8>)) {
        let begin = self.len();
        self.extend([0; 2]);
        self.extend(kind.to_ne_bytes());
        body(self);
        let length = u16::try_from(self.len() - begin).unwrap_or(u16::MAX);
        self[begin..begin + 2].copy_from_slice(&length.to_ne_bytes());
        self.resize(self.len().next_multiple_of(4), 0);
    }
}
