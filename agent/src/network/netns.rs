//! Network name spaces that live as bind-mounted files, so that they need no process to hold them.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
};
use rustix::fs::statfs;
use tokio::sync::oneshot;

/// The file system type of name space files (`NSFS_MAGIC` in linux/magic.h).
const NSFS_MAGIC: u32 = 0x6e73_6673;

/// Set in each new name space. A pod's only neighbour is the gateway: a redirect could only lead it astray. Pods have no
/// IPv6 address yet, and without one the link needs no multicast chatter to come up.
const SETTINGS: [(&str, &str); 3] = [
    ("/proc/sys/net/ipv4/conf/all/accept_redirects", "0"),
    ("/proc/sys/net/ipv4/conf/default/accept_redirects", "0"),
    ("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1"),
];

/// A failed step on a name space.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// A system call on the file or the name space failed.
    #[error("cannot {step} name space {}", path.display())]
    Step {
        /// What was tried.
        step: &'static str,
        /// The name space's file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// No thread could be had to enter the name space.
    #[error("cannot start a thread for name space {}", path.display())]
    Thread {
        /// The name space's file.
        path: PathBuf,
    },
}

/// Makes the name space at `path` unless it is there already, runs `inside` in it and returns its result.
pub(super) async fn ensure<T: Send + 'static>(
    path: PathBuf,
    inside: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, NetnsError> {
    on_own_thread(path, move |path| {
        if exists(path) {
            enter(path)?
        } else {
            create(path)?
        }
        inside().map_err(failed("work in", path))
    })
    .await
}

/// Holds the name space of a running process at `path`, in place of any other that is held there; `true` when it was not
/// the one held already.
pub(super) fn hold(path: &Path, pid: u32) -> Result<bool, NetnsError> {
    let source = PathBuf::from(format!("/proc/{pid}/ns/net"));
    let wanted = identity(&source).map_err(failed("find", path))?;
    if wanted == identity(Path::new("/proc/thread-self/ns/net")).map_err(failed("compare", path))? {
        return Err(failed("hold", path)(io::Error::other("the process is in the host's network")));
    }
    if exists(path) && identity(path).is_ok_and(|held| held == wanted) {
        return Ok(false);
    }
    remove(path)?;
    File::create(path).map_err(failed("make the file of", path))?;
    let bound = mount(Some(&source), path, None::<&str>, MsFlags::MS_BIND, None::<&str>);
    bound.map_err(|errno| failed("mount", path)(errno.into()))?;
    Ok(true)
}

/// Whether the process is in the name space held at `path`.
pub(super) fn holds(path: &Path, pid: u32) -> bool {
    let process = identity(Path::new(&format!("/proc/{pid}/ns/net")));
    exists(path) && process.ok().zip(identity(path).ok()).is_some_and(|(process, held)| process == held)
}

/// What tells two name spaces apart.
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::metadata(path).map(|data| (data.dev(), data.ino()))
}

/// Removes the name space's file. The kernel frees the name space when the last process has left it.
pub(super) fn remove(path: &Path) -> Result<(), NetnsError> {
    // Detached, for something may hold the file open; repeated, for a crash may have mounted over a mount.
    while exists(path) {
        umount2(path, MntFlags::MNT_DETACH).map_err(|errno| failed("unmount", path)(errno.into()))?;
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Whether a name space is mounted at `path`; a plain file is what a crash between two steps leaves.
pub(super) fn exists(path: &Path) -> bool {
    statfs(path).is_ok_and(|data| u32::try_from(data.f_type).is_ok_and(|kind| kind == NSFS_MAGIC))
}

fn create(path: &Path) -> Result<(), NetnsError> {
    OpenOptions::new().write(true).create(true).truncate(false).open(path).map_err(failed("make the file of", path))?;
    unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| failed("create", path)(errno.into()))?;
    for (setting, value) in SETTINGS {
        match fs::write(setting, value) {
            // A kernel without IPv6 lacks the file.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("configure", path)(error)),
            Ok(()) | Err(_) => {}
        }
    }
    let bound = mount(Some("/proc/thread-self/ns/net"), path, None::<&str>, MsFlags::MS_BIND, None::<&str>);
    bound.map_err(|errno| failed("mount", path)(errno.into()))
}

fn enter(path: &Path) -> Result<(), NetnsError> {
    let file = File::open(path).map_err(failed("open", path))?;
    setns(file, CloneFlags::CLONE_NEWNET).map_err(|errno: Errno| failed("enter", path)(errno.into()))
}

/// A thread that changed its name space must never run anything else: each gets its own, which ends afterwards.
async fn on_own_thread<T: Send + 'static>(
    path: PathBuf,
    work: impl FnOnce(&Path) -> Result<T, NetnsError> + Send + 'static,
) -> Result<T, NetnsError> {
    let (done, result) = oneshot::channel();
    let runtime = tokio::runtime::Handle::current();
    let name = path.clone();
    let thread = std::thread::Builder::new().name("pod-netns".to_owned()).spawn(move || {
        let _runtime = runtime.enter();
        // The receiver is gone only when the caller gave up; then nobody wants the result.
        let _ = done.send(work(&path));
    });
    let thread_error = || NetnsError::Thread { path: name.clone() };
    thread.map_err(|_| thread_error())?;
    result.await.map_err(|_| thread_error())?
}

fn failed<'a>(step: &'static str, path: &'a Path) -> impl Fn(io::Error) -> NetnsError + 'a {
    move |source| NetnsError::Step { step, path: path.to_owned(), source }
}
