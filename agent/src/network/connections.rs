//! Counts the established connections into a pod, from the kernel's tables of its name space.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
};

/// Established, and accepted but not yet acknowledged, in `/proc/net/tcp`.
const COUNTED_STATES: [&str; 2] = ["01", "03"];

/// Counts connections to the given local ports in a network name space.
///
/// # Errors
/// When the name space cannot be entered or its tables read.
pub(crate) async fn count_connections(netns: &Path, ports: BTreeSet<u16>) -> io::Result<u32> {
    let netns: PathBuf = netns.to_owned();
    let (done_tx, done_rx) = tokio::sync::oneshot::channel();
    // A thread of its own: it enters the name space and never comes back.
    std::thread::Builder::new().name("count-connections".to_owned()).spawn(move || {
        // The receiver may be gone by now; then nobody wants the number.
        let _ = done_tx.send(read_tables(&netns).map(|tables| count(&tables, &ports)));
    })?;
    done_rx.await.unwrap_or_else(|_| Err(io::Error::other("the counting thread ended early")))
}

fn read_tables(netns: &Path) -> io::Result<String> {
    let file = std::fs::File::open(netns)?;
    nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET)?;
    let mut tables = std::fs::read_to_string("/proc/thread-self/net/tcp")?;
    // Absent where IPv6 is off.
    tables.push_str(&std::fs::read_to_string("/proc/thread-self/net/tcp6").unwrap_or_default());
    Ok(tables)
}

fn count(tables: &str, ports: &BTreeSet<u16>) -> u32 {
    let counted = tables.lines().filter(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let port =
            fields.next().and_then(|local| local.rsplit(':').next()).and_then(|hex| u16::from_str_radix(hex, 16).ok());
        let state = fields.nth(1);
        port.is_some_and(|port| ports.contains(&port)) && state.is_some_and(|state| COUNTED_STATES.contains(&state))
    });
    u32::try_from(counted.count()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_established_connections_to_serving_ports_count() {
        let table = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1
   1: 0200800A:1F90 0100800A:C350 01 00000000:00000000 00:00000000 00000000     0        0 2
   2: 0200800A:1F90 0100800A:C351 06 00000000:00000000 00:00000000 00000000     0        0 3
   3: 0200800A:C352 0100800A:1F90 01 00000000:00000000 00:00000000 00000000     0        0 4
   4: 0200800A:1F90 0100800A:C353 03 00000000:00000000 00:00000000 00000000     0        0 5
";
        assert_eq!(count(table, &BTreeSet::from([8080])), 2);
        assert_eq!(count(table, &BTreeSet::from([9090])), 0);
    }

    #[tokio::test]
    async fn the_tables_of_a_name_space_can_be_read() {
        // Needs the right to enter name spaces, as the agent has.
        if nix::unistd::geteuid().is_root() {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
            let address = listener.local_addr().expect("address");
            let _client = std::net::TcpStream::connect(address).expect("connect");
            let own = Path::new("/proc/self/ns/net");
            let counted = count_connections(own, BTreeSet::from([address.port()])).await.expect("count");
            assert_eq!(counted, 1);
        }
    }
}
