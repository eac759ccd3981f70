//! The real engine for tests: an image of our own making, and nothing left behind.

use std::{path::Path, process::Command};

/// A Docker Engine with an image that holds busybox. Dropping it removes the image and every container of the test.
pub(crate) struct RealEngine {
    image: String,
    unique: String,
}

impl RealEngine {
    pub(crate) const ENDPOINT: &'static str = "unix:///var/run/docker.sock";

    /// Imports the image; `None` where there is no engine or no static busybox to make it of.
    pub(crate) fn prepare() -> Option<Self> {
        let root = nix::unistd::geteuid().is_root();
        let there = Path::new("/var/run/docker.sock").exists() && Path::new("/bin/busybox").exists();
        if !root || !there {
            return None;
        }
        let unique = format!("{:016x}", rand::random::<u64>());
        let image = format!("drover-agent-test:{unique}");
        let pack = "set -e; d=$(mktemp -d); mkdir -p $d/bin $d/dev $d/etc $d/proc $d/sys $d/tmp; cp /bin/busybox $d/bin/; \
            for a in sh sleep echo tail cat; do ln -s busybox $d/bin/$a; done; \
            tar -C $d -c . | docker import - \"$1\" >/dev/null; rm -rf $d";
        let made = Command::new("sh").args(["-c", pack, "sh", &image]).status().expect("sh runs");
        assert!(made.success(), "the test image could not be imported");
        Some(Self { image, unique })
    }

    pub(crate) fn image(&self) -> &str {
        &self.image
    }

    pub(crate) fn unique(&self) -> &str {
        &self.unique
    }
}

impl Drop for RealEngine {
    fn drop(&mut self) {
        let clean = "docker ps -aq --filter ancestor=\"$1\" | xargs -r docker rm -fv >/dev/null; docker rmi -f \"$1\" >/dev/null";
        let _ = Command::new("sh").args(["-c", clean, "sh", &self.image]).status();
    }
}
