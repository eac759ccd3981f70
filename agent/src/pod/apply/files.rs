//! The files we bind into containers: hosts, resolv.conf, hostname, and the file for the termination message.

use std::{
    io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use k8s_openapi::api::core::v1::{Container, Pod};

use crate::{
    network::{hostname, hosts_file, resolver_file},
    pod::context::termination_log,
    seams::Sandbox,
};

/// Writes the files of one attempt and returns them with their places in the container.
pub(super) async fn write(
    pod_dir: &Path,
    pod: &Pod,
    container: &Container,
    attempt: u32,
    sandbox: Option<&Sandbox>,
) -> io::Result<Vec<(PathBuf, String)>> {
    let (pod, dir) = (pod.clone(), pod_dir.to_owned());
    let message = termination_log(pod_dir, &container.name, attempt);
    let message_target =
        container.termination_message_path.clone().unwrap_or_else(|| "/dev/termination-log".to_owned());
    let address: Option<Ipv4Addr> = sandbox.map(|sandbox| sandbox.address);
    let nameserver = sandbox.and_then(|sandbox| sandbox.nameserver);
    let write = move || -> io::Result<Vec<(PathBuf, String)>> {
        std::fs::create_dir_all(dir.join("termination"))?;
        let host = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let mut files = Vec::new();
        let texts = [
            ("etc-hosts", "/etc/hosts", hosts_file(&pod, address, &host("/etc/hosts"))),
            ("resolv.conf", "/etc/resolv.conf", resolver_file(&pod, nameserver, &host("/etc/resolv.conf"))),
            ("hostname", "/etc/hostname", format!("{}\n", hostname(&pod))),
        ];
        for (name, target, text) in texts {
            let path = dir.join(name);
            // Containers hold the file by inode: it is written once and stays.
            if !path.exists() {
                std::fs::write(&path, text)?;
            }
            files.push((path, target.to_owned()));
        }
        std::fs::write(&message, "")?;
        // Any user of the container may write its last words.
        std::fs::set_permissions(&message, std::os::unix::fs::PermissionsExt::from_mode(0o666))?;
        files.push((message, message_target));
        Ok(files)
    };
    tokio::task::spawn_blocking(write).await.unwrap_or_else(|panic| Err(io::Error::other(panic)))
}
