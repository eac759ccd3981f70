//! ICMP echo (RFC 792) over a raw socket.

use std::{io, net::Ipv4Addr};

use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, socket_with};
use tokio::net::UdpSocket;

const REQUEST: u8 = 8;
const REPLY: u8 = 0;
const HEADER_BYTES: usize = 8;
/// Tells our echoes from those of others on this host, of whom the kernel shows us the answers, too.
const SECRET_BYTES: usize = 16;

/// Asks, and hears the answers.
pub(super) struct Echo {
    /// A raw socket: the calls for datagrams are the same.
    socket: UdpSocket,
    secret: [u8; SECRET_BYTES],
}

impl Echo {
    /// Opens the socket, in the calling thread's network name space.
    pub(super) async fn open(secret: [u8; SECRET_BYTES]) -> io::Result<Self> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::INET, SocketType::RAW, flags, Some(ipproto::ICMP))?;
        let socket = UdpSocket::from_std(socket.into())?;
        // The runtime takes no socket for writable before the kernel has said so.
        socket.writable().await?;
        Ok(Self { socket, secret })
    }

    /// Sends one question. One that cannot be sent is one that is not answered.
    pub(super) fn ask(&self, host: Ipv4Addr, number: u16) {
        if let Err(error) = self.socket.try_send_to(&request(number, &self.secret), (host, 0).into()) {
            tracing::trace!(%error, %host, "a question to a neighbour");
        }
    }

    /// Waits until there may be answers.
    pub(super) async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// Takes all answers that have come.
    pub(super) fn answers(&self) -> io::Result<Vec<Ipv4Addr>> {
        let (mut found, mut buffer) = (Vec::new(), [0; 512]);
        loop {
            match self.socket.try_recv(&mut buffer) {
                Ok(length) => found.extend(answer(&buffer[..length], &self.secret)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(found),
                Err(error) => return Err(error),
            }
        }
    }
}

fn request(number: u16, secret: &[u8; SECRET_BYTES]) -> [u8; HEADER_BYTES + SECRET_BYTES] {
    let mut packet = [0; HEADER_BYTES + SECRET_BYTES];
    packet[0] = REQUEST;
    packet[6..8].copy_from_slice(&number.to_be_bytes());
    packet[HEADER_BYTES..].copy_from_slice(secret);
    let sum = checksum(&packet);
    packet[2..4].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// Returns who answers, if the packet is an answer to us. A raw socket shows the IP header, too.
fn answer(packet: &[u8], secret: &[u8; SECRET_BYTES]) -> Option<Ipv4Addr> {
    let header = usize::from(packet.first()? & 0x0f) * 4;
    let source = <[u8; 4]>::try_from(packet.get(12..16)?).ok()?;
    let message = packet.get(header..)?;
    let ours = message.first() == Some(&REPLY) && message.get(HEADER_BYTES..) == Some(secret.as_slice());
    ours.then(|| Ipv4Addr::from(source))
}

/// The Internet checksum (RFC 1071) of an even number of bytes.
fn checksum(packet: &[u8]) -> u16 {
    let sum: u32 = packet.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: [u8; SECRET_BYTES] = *b"0123456789abcdef";

    fn reply(message: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; 20];
        packet[0] = 0x45;
        packet[12..16].copy_from_slice(&[192, 168, 7, 2]);
        packet.extend_from_slice(message);
        packet[20] = REPLY;
        packet
    }

    #[test]
    fn the_checksum_of_a_question_with_its_checksum_is_zero() {
        for number in [0, 1, 0x1234, 0xffff] {
            assert_eq!(checksum(&request(number, &SECRET)), 0, "{number}");
        }
    }

    #[test]
    fn only_an_answer_to_our_own_question_counts() {
        let ours = reply(&request(7, &SECRET));
        assert_eq!(answer(&ours, &SECRET), Some(Ipv4Addr::new(192, 168, 7, 2)));
        assert_eq!(answer(&reply(&request(7, b"fedcba9876543210")), &SECRET), None);
        let mut question = ours.clone();
        question[20] = REQUEST;
        assert_eq!(answer(&question, &SECRET), None, "our own question on the loopback");
        for length in 0..ours.len() {
            assert_eq!(answer(&ours[..length], &SECRET), None, "{length} bytes");
        }
        assert_eq!(answer(&[0x4f; 40], &SECRET), None);
    }

    #[tokio::test]
    async fn this_host_answers_itself() {
        // Without CAP_NET_RAW there is no such socket; the agent runs as root.
        let Ok(echo) = Echo::open(SECRET).await else { return };
        echo.ask(Ipv4Addr::LOCALHOST, 1);
        loop {
            echo.readable().await.expect("a socket");
            if echo.answers().expect("a socket").contains(&Ipv4Addr::LOCALHOST) {
                return;
            }
        }
    }
}
