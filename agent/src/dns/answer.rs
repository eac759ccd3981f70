//! What a question is answered. Pure.

use std::net::Ipv4Addr;

use super::zone::{APEX, Data, Zone};

/// The type of a question, as far as it makes a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    A,
    Srv,
    Cname,
    Ptr,
    Any,
    /// A type that no name of ours has.
    Other,
}

/// What to do with a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// These records, each with its name, the addresses of SRV targets apart. Without records: the name exists (NODATA).
    Records {
        /// The answer section.
        answers: Vec<(String, Data)>,
        /// The additional section.
        additional: Vec<(String, Data)>,
    },
    /// An alias of a name that is not ours: to be completed by asking upstream.
    Alias {
        /// The name that was asked for.
        name: String,
        /// What it stands for.
        target: String,
    },
    /// There is no such name.
    NoName,
    /// It is none of our business.
    Forward,
}

/// The answer to a question for `name` (lower case, no last dot). `rotation` spreads clients that take the first address.
pub fn answer(zone: &Zone, name: &str, record_type: &str, rotation: usize) -> Answer {
    let kind = match record_type {
        "A" => Kind::A,
        "SRV" => Kind::Srv,
        "CNAME" => Kind::Cname,
        "PTR" => Kind::Ptr,
        "ANY" => Kind::Any,
        _ => Kind::Other,
    };
    if let Some(data) = zone.get(name) {
        return from_records(zone, name, data, kind, rotation);
    }
    if let Some(rest) = name.strip_suffix(APEX).filter(|rest| rest.ends_with('.')) {
        return pod_name(zone, name, rest, kind);
    }
    match reverse_address(name) {
        Some(address) if zone.covers(address) => Answer::NoName,
        Some(_) | None => Answer::Forward,
    }
}

fn from_records(zone: &Zone, name: &str, data: &[Data], kind: Kind, rotation: usize) -> Answer {
    if let Some(Data::Cname(target)) = data.first().filter(|_| kind != Kind::Cname) {
        return alias(zone, name, target, kind, rotation);
    }
    let mut answers: Vec<_> =
        data.iter().filter(|data| wanted(data, kind)).map(|data| (name.to_owned(), data.clone())).collect();
    if !answers.is_empty() {
        let by = rotation % answers.len();
        answers.rotate_left(by);
    }
    let targets = answers.iter().filter_map(|(_, data)| match data {
        Data::Srv(_, target) => Some(target),
        Data::A(_) | Data::Cname(_) | Data::Ptr(_) => None,
    });
    let mut additional = Vec::new();
    for target in targets {
        let addresses = zone.get(target).into_iter().flatten().filter(|data| matches!(data, Data::A(_)));
        additional.extend(addresses.map(|data| (target.clone(), data.clone())));
    }
    Answer::Records { answers, additional }
}

/// An alias within the cluster is followed once: aliases of aliases are the client's business, so no loop is possible.
fn alias(zone: &Zone, name: &str, target: &str, kind: Kind, rotation: usize) -> Answer {
    let own = (name.to_owned(), Data::Cname(target.to_owned()));
    let ours = target.strip_suffix(APEX).is_some_and(|rest| rest.ends_with('.'));
    let Some(data) = zone.get(target) else {
        return match ours {
            true => Answer::Records { answers: vec![own], additional: Vec::new() },
            false => Answer::Alias { name: name.to_owned(), target: target.to_owned() },
        };
    };
    let mut answers = vec![own];
    let mut behind: Vec<_> =
        data.iter().filter(|data| wanted(data, kind)).map(|data| (target.to_owned(), data.clone())).collect();
    if !behind.is_empty() {
        let by = rotation % behind.len();
        behind.rotate_left(by);
    }
    answers.extend(behind);
    Answer::Records { answers, additional: Vec::new() }
}

fn wanted(data: &Data, kind: Kind) -> bool {
    match data {
        Data::A(_) => matches!(kind, Kind::A | Kind::Any),
        Data::Srv(..) => matches!(kind, Kind::Srv | Kind::Any),
        Data::Cname(_) => matches!(kind, Kind::Cname | Kind::Any),
        Data::Ptr(_) => matches!(kind, Kind::Ptr | Kind::Any),
    }
}

/// `10-128-0-5.shop.pod.cluster.local` is the address it spells, if that is one of ours.
fn pod_name(zone: &Zone, name: &str, rest: &str, kind: Kind) -> Answer {
    let mut labels = rest.trim_end_matches('.').split('.');
    let parts = (labels.next(), labels.next(), labels.next(), labels.next());
    let (Some(spelled), Some(_namespace), Some("pod"), None) = parts else { return Answer::NoName };
    let address = spelled.replace('-', ".").parse().ok();
    let Some(address) = address.filter(|address| zone.covers(*address)) else { return Answer::NoName };
    let data = Data::A(address);
    let answers = if wanted(&data, kind) { vec![(name.to_owned(), data)] } else { Vec::new() };
    Answer::Records { answers, additional: Vec::new() }
}

fn reverse_address(name: &str) -> Option<Ipv4Addr> {
    let mut octets: Vec<&str> = name.strip_suffix(".in-addr.arpa")?.split('.').collect();
    octets.reverse();
    octets.join(".").parse().ok()
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
