//! Talks to the kernel's packet filter: the commonest transactions and the generation through netlink, other transactions
//! and listings through `nft`.

use std::{io, process::Stdio, time::Duration};

use nix::sys::socket::{setsockopt, sockopt::SndBufForce};
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};
use tokio::{io::AsyncWriteExt, process::Command, time::timeout};

use super::{
    encode::encode,
    observe::{ObserveError, observe},
    tables::Observed,
};

/// A bound on one call of `nft`; the largest table takes a few seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// NFNL_SUBSYS_NFTABLES and NFT_MSG_GETGEN of linux/netfilter: asks for the generation of the rule set.
const GET_GENERATION: u16 = (10 << 8) | 16;

/// NLMSG_ERROR of linux/netlink.h.
const NLMSG_ERROR: u16 = 2;

/// What a socket has for sending at least.
const SEND_ROOM_MIN: usize = 1 << 18;

/// NLM_F_REQUEST of linux/netlink.h.
const REQUEST: u16 = 1;

/// A failed call.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// The program could not be run.
    #[error("cannot run nft")]
    Run(#[source] io::Error),
    /// It did not end in time.
    #[error("nft did not end within {} s", PATIENCE.as_secs())]
    Slow,
    /// It refused the commands.
    #[error("nft refused: {0}")]
    Refused(String),
    /// Its listing could not be read.
    #[error(transparent)]
    Listing(#[from] ObserveError),
    /// The kernel refused a transaction, or could not be asked.
    #[error("the kernel refused a transaction")]
    Kernel(#[source] io::Error),
    /// The kernel could not be asked for the generation.
    #[error("cannot ask for the generation of the rule set")]
    Generation(#[source] io::Error),
}

/// Applies all commands or none.
pub(super) async fn apply(commands: &[String], table: &str) -> Result<(), NftError> {
    match encode(commands, table) {
        Some(batch) => {
            let committed = tokio::task::spawn_blocking(move || commit(&batch)).await;
            committed.unwrap_or_else(|panic| Err(io::Error::other(panic))).map_err(NftError::Kernel)
        }
        None => nft(&["-f", "-"], &(commands.join("\n") + "\n")).await.map(drop),
    }
}

/// Hands a transaction to the kernel, which carries it out before it returns; its answers are there by then.
pub(super) fn commit(batch: &[u8]) -> io::Result<()> {
    let socket = open()?;
    // A transaction is one message to the socket, however large.
    let room = batch.len().saturating_mul(2).max(SEND_ROOM_MIN);
    setsockopt(&socket, SndBufForce, &room)?;
    socket.send(batch, 0)?;
    socket.set_non_blocking(true)?;
    let mut outcome = Err(io::Error::other("the kernel did not say whether it carried out a transaction"));
    loop {
        match socket.recv_from_full() {
            Ok((answer, _)) => match parse_error(&answer) {
                Some(0) => outcome = outcome.or(Ok(())),
                Some(code) => return Err(io::Error::from_raw_os_error(code)),
                None => {}
            },
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return outcome,
            Err(error) => return Err(error),
        }
    }
}

/// A socket to the kernel's packet filter.
fn open() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    Ok(socket)
}

/// Reads an answer of type NLMSG_ERROR: 0 stands for "done".
fn parse_error(answer: &[u8]) -> Option<i32> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    let code: [u8; 4] = answer.get(16..20)?.try_into().ok()?;
    (kind == NLMSG_ERROR).then(|| i32::from_ne_bytes(code).saturating_neg())
}

/// What the table holds; an absent table is an empty one.
pub(super) async fn list(table: &str) -> Result<Observed, NftError> {
    match nft(&["-j", "list", "table", "ip", table], "").await {
        Ok(listing) => Ok(observe(&listing)?),
        Err(NftError::Refused(message)) if message.contains("No such file or directory") => Ok(Observed::default()),
        Err(error) => Err(error),
    }
}

async fn nft(arguments: &[&str], input: &str) -> Result<String, NftError> {
    let mut command = Command::new("nft");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(NftError::Run)?;
    let mut stdin = child.stdin.take();
    let work = async {
        if let Some(pipe) = &mut stdin {
            pipe.write_all(input.as_bytes()).await?;
        }
        drop(stdin);
        child.wait_with_output().await
    };
    let output = timeout(PATIENCE, work).await.map_err(|_| NftError::Slow)?.map_err(NftError::Run)?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(NftError::Refused(String::from_utf8_lossy(&output.stderr).chars().take(400).collect())),
    }
}

/// The generation of the whole rule set: it grows by one with each transaction of anybody. Takes microseconds.
pub(super) fn generation() -> Result<u32, NftError> {
    ask_generation().map_err(NftError::Generation)
}

fn ask_generation() -> io::Result<u32> {
    let socket = open()?;
    let mut message = Vec::with_capacity(20);
    message.extend(20u32.to_ne_bytes());
    message.extend(GET_GENERATION.to_ne_bytes());
    message.extend(REQUEST.to_ne_bytes());
    // Sequence number, port, and the nfgenmsg header: all zero.
    message.extend([0; 12]);
    socket.send(&message, 0)?;
    let (answer, _) = socket.recv_from_full()?;
    parse_generation(&answer).ok_or_else(|| io::Error::other("the kernel's answer names no generation"))
}

/// Skips netlink header (16 bytes), nfgenmsg (4) and the first attribute's header (4): NFTA_GEN_ID, big-endian.
fn parse_generation(answer: &[u8]) -> Option<u32> {
    let attribute = answer.get(20..24)?;
    let kind = u16::from_ne_bytes([attribute[2], attribute[3]]);
    let value: [u8; 4] = answer.get(24..28)?.try_into().ok()?;
    (kind == 1).then(|| u32::from_be_bytes(value))
}
