//! Which of the two modes this node works in, and the network in it.

use std::{
    fmt, fs, io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{BridgeNetwork, HostNetwork, PodHostPorts, RecordError, records::Records};
use crate::seams::{NetworkMode, PodNetwork};

/// What the operator asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ModeChoice {
    /// The wrapper where it can be registered, else the engine's bridge.
    #[default]
    Auto,
    /// The wrapper, or no pods.
    Wrapper,
    /// The engine's bridge.
    Bridge,
}

/// The text names no mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is none of auto, wrapper, bridge")]
pub struct ModeChoiceError(String);

impl FromStr for ModeChoice {
    type Err = ModeChoiceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "wrapper" => Ok(Self::Wrapper),
            "bridge" => Ok(Self::Bridge),
            other => Err(ModeChoiceError(other.to_owned())),
        }
    }
}

impl fmt::Display for ModeChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Wrapper => "wrapper",
            Self::Bridge => "bridge",
        })
    }
}

/// The choice that counts. A node changes its mode only while it has no pods: those that it has would lose their network.
pub fn settle(asked: ModeChoice, of_pods: Option<NetworkMode>) -> ModeChoice {
    match of_pods {
        Some(NetworkMode::Wrapper) => ModeChoice::Wrapper,
        Some(NetworkMode::Bridge) => ModeChoice::Bridge,
        None => asked,
    }
}

/// The mode of the pods that are on this host; `None` when there are none.
///
/// # Errors
/// When the records under `run_dir` cannot be read.
pub fn mode_of_pods(run_dir: &Path) -> Result<Option<NetworkMode>, RecordError> {
    if Records::open(run_dir)?.load()?.is_empty() {
        return Ok(None);
    }
    let path = mode_path(run_dir);
    match fs::read_to_string(&path) {
        Ok(text) if text == NetworkMode::Bridge.as_str() => Ok(Some(NetworkMode::Bridge)),
        Ok(_) => Ok(Some(NetworkMode::Wrapper)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Some(NetworkMode::Wrapper)),
        Err(source) => Err(RecordError::File { path, source }),
    }
}

/// Writes the mode down before the first pod is there.
///
/// # Errors
/// When the file cannot be written.
pub fn record_mode(run_dir: &Path, mode: NetworkMode) -> Result<(), RecordError> {
    let path = mode_path(run_dir);
    let fresh = path.with_extension("new");
    let written = fs::write(&fresh, mode.as_str()).and_then(|()| fs::rename(&fresh, &path));
    written.map_err(|source| RecordError::File { path, source })
}

fn mode_path(run_dir: &Path) -> PathBuf {
    run_dir.join("mode")
}

/// The pod network in its mode.
#[derive(Debug, Clone)]
pub enum NodeNetwork {
    /// Name spaces of ours, containers brought in by the wrapper.
    Wrapper(Arc<HostNetwork>),
    /// The engine's bridge.
    Bridge(Arc<BridgeNetwork>),
}

impl NodeNetwork {
    /// Default gateway and name server of the pods.
    pub fn gateway(&self) -> Ipv4Addr {
        match self {
            Self::Wrapper(network) => network.gateway(),
            Self::Bridge(network) => network.gateway(),
        }
    }

    /// The host ports that pods have asked for, for the service proxy.
    pub fn host_ports(&self) -> watch::Receiver<PodHostPorts> {
        match self {
            Self::Wrapper(network) => network.host_ports(),
            Self::Bridge(network) => network.host_ports(),
        }
    }

    /// Repairs the network at intervals until `stop`.
    pub async fn maintain(&self, stop: CancellationToken) {
        match self {
            Self::Wrapper(network) => network.maintain(stop).await,
            Self::Bridge(network) => network.maintain(stop).await,
        }
    }

    /// The network as the life cycle uses it.
    pub fn into_pod_network(self) -> Arc<dyn PodNetwork> {
        match self {
            Self::Wrapper(network) => network,
            Self::Bridge(network) => network,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_keeps_its_mode_while_it_has_pods() {
        use ModeChoice::{Auto, Bridge, Wrapper};
        let table = [
            (Auto, None, Auto),
            (Wrapper, None, Wrapper),
            (Bridge, None, Bridge),
            (Auto, Some(NetworkMode::Wrapper), Wrapper),
            (Auto, Some(NetworkMode::Bridge), Bridge),
            (Bridge, Some(NetworkMode::Wrapper), Wrapper),
            (Wrapper, Some(NetworkMode::Bridge), Bridge),
        ];
        for (asked, of_pods, counts) in table {
            assert_eq!(settle(asked, of_pods), counts, "{asked} with {of_pods:?}");
        }
    }

    #[test]
    fn the_mode_counts_as_long_as_there_is_a_record() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(mode_of_pods(folder.path()).unwrap(), None);
        record_mode(folder.path(), NetworkMode::Bridge).unwrap();
        assert_eq!(mode_of_pods(folder.path()).unwrap(), None, "no pods yet");
        fs::write(folder.path().join("pods/u-1"), r#"{"address":"10.0.0.2","hostPorts":[]}"#).unwrap();
        assert_eq!(mode_of_pods(folder.path()).unwrap(), Some(NetworkMode::Bridge));
        fs::remove_file(mode_path(folder.path())).unwrap();
        assert_eq!(mode_of_pods(folder.path()).unwrap(), Some(NetworkMode::Wrapper), "an earlier agent wrote no mode");
    }

    #[test]
    fn the_flags_words_are_read() {
        for choice in [ModeChoice::Auto, ModeChoice::Wrapper, ModeChoice::Bridge] {
            assert_eq!(choice.to_string().parse(), Ok(choice));
        }
        assert!("docker".parse::<ModeChoice>().is_err());
    }
}
