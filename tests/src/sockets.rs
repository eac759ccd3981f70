//! What a process listens on, read from the kernel's own tables.

use std::{
    collections::BTreeSet,
    fs, io,
    net::{Ipv4Addr, Ipv6Addr},
    path::PathBuf,
};

use anyhow::{Context, Result};

/// TCP sockets that accept, in the kernel's words.
const LISTEN: &str = "0A";
/// UDP sockets that are bound and not connected.
const BOUND: &str = "07";
/// `__SO_ACCEPTCON` among the flags of a unix socket.
const ACCEPTS: u32 = 0x1_0000;

/// Returns every socket on which a process takes what others send: `tcp 127.0.0.1:6443`, `udp 10.0.0.1:53`,
/// `unix /path`.
///
/// # Errors
/// When the process has gone or may not be looked at.
pub fn listeners(pid: u32) -> Result<BTreeSet<String>> {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let own = inodes(&process.join("fd")).with_context(|| format!("sockets of process {pid}"))?;
    let mut found = BTreeSet::new();
    for (table, state) in [("tcp", LISTEN), ("tcp6", LISTEN), ("udp", BOUND), ("udp6", BOUND)] {
        let text = fs::read_to_string(process.join("net").join(table))?;
        for line in text.lines().skip(1) {
            let cells: Vec<&str> = line.split_whitespace().collect();
            let (Some(local), Some(remote), Some(inode)) = (cells.get(1), cells.get(2), cells.get(9)) else { continue };
            let unconnected = remote.ends_with(":0000");
            if cells.get(3) == Some(&state) && unconnected && own.contains(*inode) {
                found.insert(format!("{} {}", table.trim_end_matches('6'), address(local)?));
            }
        }
    }
    for line in fs::read_to_string(process.join("net/unix"))?.lines().skip(1) {
        let cells: Vec<&str> = line.split_whitespace().collect();
        let (Some(flags), Some(inode)) = (cells.get(3), cells.get(6)) else { continue };
        if u32::from_str_radix(flags, 16)? & ACCEPTS != 0 && own.contains(*inode) {
            found.insert(format!("unix {}", cells.get(7).unwrap_or(&"(no name)")));
        }
    }
    Ok(found)
}

fn inodes(folder: &std::path::Path) -> io::Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder)? {
        // A descriptor may close while we look.
        let Ok(target) = fs::read_link(entry?.path()) else { continue };
        let target = target.to_string_lossy().into_owned();
        found.extend(target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']')).map(str::to_owned));
    }
    Ok(found)
}

/// `0100007F:192B` is 127.0.0.1:6443: words of the host's byte order.
fn address(hex: &str) -> Result<String> {
    let (host, port) = hex.split_once(':').context("address:port")?;
    let port = u16::from_str_radix(port, 16)?;
    let words: Vec<u32> = (0..host.len() / 8)
        .map(|index| u32::from_str_radix(&host[index * 8..index * 8 + 8], 16).map(u32::swap_bytes))
        .collect::<Result<_, _>>()?;
    Ok(match words.as_slice() {
        [v4] => format!("{}:{port}", Ipv4Addr::from(*v4)),
        [a, b, c, d] => {
            let bits = [a, b, c, d].iter().fold(0_u128, |bits, word| bits << 32 | u128::from(**word));
            format!("[{}]:{port}", Ipv6Addr::from(bits))
        }
        _ => anyhow::bail!("{hex} is no address"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_listeners_are_found_and_connections_are_not() {
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let _unix = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let client = std::net::TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
        let found = listeners(std::process::id()).unwrap();
        for wanted in [
            format!("tcp {}", tcp.local_addr().unwrap()),
            format!("udp {}", udp.local_addr().unwrap()),
            format!("unix {}", path.display()),
        ] {
            assert!(found.contains(&wanted), "{wanted} in {found:?}");
        }
        assert!(!found.contains(&format!("tcp {}", client.local_addr().unwrap())));
    }
}
