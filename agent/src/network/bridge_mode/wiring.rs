//! Kernel settings of the engine's bridge, without which Services do not work on it.
//!
//! Pods on a bridge reach each other without the host's IP stack. So the answer of a backend would never pass the place
//! where its Service's address is put back, unless the bridge hands its frames to the IP hooks; and a pod that comes
//! back to itself through a Service needs its frame sent out of the port by which it came.

use std::{fs, io, path::PathBuf, process::Command};

use crate::network::{
    BridgeError,
    bridge::{write, write_settings},
};

/// Makes the bridge hand its frames to the IP hooks, whatever the host-wide switch says.
pub(super) fn ensure(bridge: &str) -> Result<(), BridgeError> {
    write_settings(bridge)?;
    let hooks = PathBuf::from("/sys/class/net").join(bridge).join("bridge/nf_call_iptables");
    if !PathBuf::from("/proc/sys/net/bridge").exists() {
        // Without the module the switch does nothing. That it is still absent afterwards is reported as such.
        drop(Command::new("modprobe").arg("br_netfilter").output());
        if !PathBuf::from("/proc/sys/net/bridge").exists() {
            let source = io::Error::other("kernel module br_netfilter is not loaded");
            return Err(BridgeError::Setting { path: hooks, source });
        }
    }
    write(hooks, "1")?;
    hairpin(bridge)
}

/// Lets every port of the bridge send frames back where they came from.
pub(super) fn hairpin(bridge: &str) -> Result<(), BridgeError> {
    let ports = PathBuf::from("/sys/class/net").join(bridge).join("brif");
    let entries = fs::read_dir(&ports).map_err(|source| BridgeError::Setting { path: ports, source })?;
    for entry in entries.filter_map(Result::ok) {
        match write(entry.path().join("hairpin_mode"), "1") {
            // A port may go while we look; the next look tells.
            Err(BridgeError::Setting { path, .. }) if !path.exists() => {}
            other => other?,
        }
    }
    Ok(())
}
