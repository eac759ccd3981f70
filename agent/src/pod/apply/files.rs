//! The files we bind into containers: hosts, resolv.conf, hostname, and the file for the termination message.

use std::{
    io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use async_trait::async_trait;

use crate::{
    network::{hostname, hosts_file, resolver_file},
    seams::{FilesRequest, PodFiles},
};

/// [`PodFiles`] on this host.
#[derive(Debug, Clone, Copy, Default)]
pub struct HostFiles;

#[async_trait]
impl PodFiles for HostFiles {
    async fn write(&self, request: &FilesRequest<'_>) -> io::Result<Vec<(PathBuf, String)>> {
        let (pod, dir) = (request.pod.clone(), request.pod_dir.to_owned());
        let (message, message_target) = (request.termination_log.to_owned(), request.termination_target());
        let address: Option<Ipv4Addr> = request.sandbox.map(|sandbox| sandbox.address);
        let nameserver = request.sandbox.and_then(|sandbox| sandbox.nameserver);
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

    async fn last_words(&self, log: &Path) -> Option<Vec<u8>> {
        tokio::fs::read(log).await.ok()
    }

    async fn remove(&self, pod_dir: &Path) -> io::Result<()> {
        match tokio::fs::remove_dir_all(pod_dir).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}
