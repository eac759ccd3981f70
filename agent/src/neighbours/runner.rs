//! Asks, hears, and tells.

use std::{collections::BTreeMap, io, net::Ipv4Addr, sync::Arc, time::Instant};

use k8s_openapi::api::core::v1::Node;
use tokio::{sync::watch, time::sleep_until};
use tokio_util::sync::CancellationToken;

use super::{Heard, Hearing, choose, echo::Echo};
use crate::network::fabric::Own;

/// Settings.
#[derive(Debug, Clone)]
pub struct NeighboursConfig {
    /// This node and its cluster.
    pub own: Own,
    /// Marks this process's questions.
    pub secret: [u8; 16],
}

/// Asks the neighbours among `nodes` until `stop` and tells what it hears.
///
/// # Errors
/// When no raw socket can be had, or it fails: then nothing more is said of anybody.
pub async fn run(
    config: NeighboursConfig,
    mut nodes: watch::Receiver<Option<Vec<Arc<Node>>>>,
    told: watch::Sender<Heard>,
    stop: CancellationToken,
) -> io::Result<()> {
    let outcome = ask(&config, &mut nodes, &told, &stop).await;
    told.send_replace(Heard::default());
    outcome
}

async fn ask(
    config: &NeighboursConfig,
    nodes: &mut watch::Receiver<Option<Vec<Arc<Node>>>>,
    told: &watch::Sender<Heard>,
    stop: &CancellationToken,
) -> io::Result<()> {
    let echo = Echo::open(config.secret).await?;
    let (mut neighbours, mut number) = (BTreeMap::new(), 0_u16);
    let mut is_fresh = true;
    loop {
        if is_fresh && let Some(list) = nodes.borrow_and_update().as_deref() {
            follow(&mut neighbours, choose(list, &config.own));
        }
        for host in echo.answers()? {
            neighbours.values_mut().filter(|(address, _)| *address == host).for_each(|(_, hearing)| hearing.answered());
        }
        let now = Instant::now();
        for (address, hearing) in neighbours.values_mut() {
            hearing.conclude(now);
            if hearing.next_question(now) <= now {
                number = number.wrapping_add(1);
                echo.ask(*address, number);
                hearing.asked(now);
            }
        }
        let heard = tell(&neighbours);
        told.send_if_modified(|before| std::mem::replace(before, heard.clone()) != heard);
        let next = neighbours.values().map(|(_, hearing)| hearing.next_question(now)).min();
        // Cancel-safe: a change or an answer that is not taken here is still there in the next round.
        is_fresh = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            changed = nodes.changed() => {
                if changed.is_err() {
                    stop.cancelled().await;
                    return Ok(());
                }
                true
            }
            readable = echo.readable() => {
                readable?;
                false
            }
            () = sleep_until(next.unwrap_or(now).into()), if next.is_some() => false,
        };
    }
}

/// Takes in who is to be asked. What is known of one that stays, at its address, is kept.
fn follow(neighbours: &mut BTreeMap<String, (Ipv4Addr, Hearing)>, chosen: BTreeMap<String, Ipv4Addr>) {
    neighbours.retain(|name, (address, _)| chosen.get(name) == Some(address));
    for (name, address) in chosen {
        neighbours.entry(name).or_insert_with(|| (address, Hearing::default()));
    }
}

fn tell(neighbours: &BTreeMap<String, (Ipv4Addr, Hearing)>) -> Heard {
    let mut heard = Heard::default();
    for (name, (_, hearing)) in neighbours {
        match hearing.is_heard() {
            Some(true) => heard.heard.insert(name.clone()),
            Some(false) => heard.lost.insert(name.clone()),
            None => false,
        };
    }
    heard
}
