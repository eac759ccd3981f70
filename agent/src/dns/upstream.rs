//! Forwards questions to the host's own resolvers, byte for byte.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

/// A bound on one resolver's answer; clients ask again after 5 s.
const PATIENCE: Duration = Duration::from_secs(2);

/// The largest DNS message.
const MESSAGE: usize = 65_535;

/// The resolvers of a `resolv.conf`, without our own address: asking ourselves would go round for ever.
pub fn resolvers(file: &str, ourselves: Ipv4Addr) -> Vec<SocketAddr> {
    let words = file.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let addresses = words.filter_map(|words| match words[..] {
        ["nameserver", address, ..] => address.parse::<IpAddr>().ok(),
        _ => None,
    });
    addresses.filter(|address| *address != IpAddr::V4(ourselves)).map(|address| SocketAddr::new(address, 53)).collect()
}

/// Asks one resolver after the other until one answers. The id of the answer is that of the question.
pub(super) async fn ask(resolvers: &[SocketAddr], question: &[u8], over_tcp: bool) -> Option<Vec<u8>> {
    for resolver in resolvers {
        let asked =
            async { if over_tcp { ask_tcp(*resolver, question).await } else { ask_udp(*resolver, question).await } };
        if let Ok(Ok(answer)) = timeout(PATIENCE, asked).await {
            return Some(answer);
        }
    }
    None
}

/// A socket for each question: its random port and the connection keep others from answering in the resolver's place.
async fn ask_udp(resolver: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let any: IpAddr = if resolver.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(resolver).await?;
    socket.send(question).await?;
    let mut buffer = vec![0; MESSAGE];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if answers(&buffer[..length], question) {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

async fn ask_tcp(resolver: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(resolver).await?;
    stream.write_all(&framed(question)?).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    answers(&answer, question).then_some(answer).ok_or_else(|| io::Error::other("an answer to another question"))
}

/// Whether a message is an answer with the question's id.
fn answers(message: &[u8], question: &[u8]) -> bool {
    message.len() >= 12 && message[2] & 0x80 != 0 && message.get(..2) == question.get(..2)
}

/// A message with its length in front, as on TCP.
pub(super) fn framed(message: &[u8]) -> io::Result<Vec<u8>> {
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    Ok([&length.to_be_bytes()[..], message].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_address_is_never_asked() {
        let file = "# x\nsearch a\nnameserver 10.128.0.1\nnameserver 192.0.2.53\nnameserver fd00::1\nnameserver bad\n";
        let found = resolvers(file, Ipv4Addr::new(10, 128, 0, 1));
        assert_eq!(found, ["192.0.2.53:53".parse().unwrap(), "[fd00::1]:53".parse().unwrap()]);
    }

    #[test]
    fn an_answer_carries_the_questions_id() {
        let question = [7, 8, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let mut message = question;
        assert!(!answers(&message, &question), "a question is no answer");
        message[2] = 0x81;
        assert!(answers(&message, &question));
        message[1] = 9;
        assert!(!answers(&message, &question));
        assert!(!answers(&[7, 8, 0x81], &question));
    }
}
