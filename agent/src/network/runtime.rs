//! Registers `drover-runc` as a runtime of the engine, without restarting the engine.
//!
//! The engine's process is found through its socket; its `daemon.json` is merged, never replaced, and SIGHUP makes the
//! engine read it. Every precondition that does not hold is an error with a reason: the node then works in bridge mode.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::{
        ffi::OsStringExt,
        fs::{MetadataExt, PermissionsExt, chown},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use bollard::Docker;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::net::UnixStream;

use super::daemon_json::{DaemonJsonError, with_runtime, without_empty_runtimes, without_runtime};

/// Where an engine without `--config-file` reads its configuration.
const DAEMON_JSON: &str = "/etc/docker/daemon.json";

/// Written by an engine whose socket was opened by systemd, so that the socket's owner is not the engine.
const PID_FILE: &str = "/var/run/docker.pid";

/// How long an engine may take to read its configuration; it does so within milliseconds unless it hangs.
const RELOAD: Duration = Duration::from_secs(10);

/// How often it is asked meanwhile.
const ASK: Duration = Duration::from_millis(20);

/// What is registered, and with which engine.
#[derive(Debug, Clone)]
pub struct RuntimeConfig {
    /// The runtime's name in the engine: `drover`.
    pub name: String,
    /// The wrapper as built or shipped; copied to `program`.
    pub source: PathBuf,
    /// Where the wrapper is installed: `/usr/local/lib/drover/drover-runc`.
    pub program: PathBuf,
    /// The engine's unix socket.
    pub socket: PathBuf,
}

/// A finished registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// The engine's process.
    pub engine: i32,
    /// The file that names the runtime.
    pub daemon_json: PathBuf,
    /// Whether anything had to be changed.
    pub changed: bool,
}

/// Why the wrapper is not registered; the text is shown on the Node.
#[derive(Debug, thiserror::Error)]
pub enum RegistrationError {
    /// A file or the socket could not be used.
    #[error("cannot {step} {}", path.display())]
    File {
        /// What was tried.
        step: &'static str,
        /// With which file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The process behind the socket is not a Docker Engine on this machine.
    #[error("no local dockerd is behind {}", socket.display())]
    NoEngine {
        /// The socket.
        socket: PathBuf,
    },
    /// The engine sees other mounts than this agent, hence not the pods' name spaces.
    #[error("the engine (pid {engine}) runs in another mount name space")]
    OtherMounts {
        /// Its process.
        engine: i32,
    },
    /// The engine was started with a flag that forbids `runtimes` in its configuration file.
    #[error("the engine was started with --add-runtime, which excludes runtimes in {}", daemon_json.display())]
    RuntimeFlag {
        /// Its configuration.
        daemon_json: PathBuf,
    },
    /// The engine's own runc could not be found.
    #[error("no runc on the engine's PATH")]
    NoRunc,
    /// The configuration cannot be edited.
    #[error("cannot edit {}", path.display())]
    Edit {
        /// The configuration.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: DaemonJsonError,
    },
    /// The engine could not be asked.
    #[error("the engine does not answer")]
    Engine(#[from] bollard::errors::Error),
    /// The engine did not take the runtime up.
    #[error("the engine has not taken up runtime {name} within {} s", RELOAD.as_secs())]
    NotTaken {
        /// The runtime.
        name: String,
    },
}

/// The engine's process as far as it matters here.
#[derive(Debug)]
struct Engine {
    pid: i32,
    daemon_json: PathBuf,
    arguments: Vec<String>,
}

/// Installs the wrapper and makes the engine know it. Repeating it changes nothing.
///
/// # Errors
/// A [`RegistrationError`] for each precondition or step that fails; what was done by then is harmless.
pub async fn register(config: &RuntimeConfig, docker: &Docker) -> Result<Registration, RegistrationError> {
    let engine = find_engine(&config.socket).await?;
    let flagged = engine.arguments.iter().any(|argument| argument.starts_with("--add-runtime"));
    if flagged {
        return Err(RegistrationError::RuntimeFlag { daemon_json: engine.daemon_json });
    }
    same_mounts(engine.pid)?;
    install(config, &find_runc(engine.pid, &config.program)?)?;
    let program = config.program.to_string_lossy();
    let changed = rewrite(&engine.daemon_json, |text| with_runtime(text, &config.name, &program))?;
    let registered = runtime_path(docker, &config.name).await? == Some(program.to_string());
    if changed || !registered {
        reload(engine.pid)?;
        wait_for(docker, &config.name, Some(&program)).await?;
    }
    Ok(Registration { engine: engine.pid, daemon_json: engine.daemon_json, changed: changed || !registered })
}

/// Puts the engine's configuration back and removes the wrapper. Containers that were created with the runtime cannot be
/// started any more: call it last.
///
/// # Errors
/// As [`register`].
pub async fn unregister(config: &RuntimeConfig, docker: &Docker) -> Result<(), RegistrationError> {
    let engine = find_engine(&config.socket).await?;
    if rewrite(&engine.daemon_json, |text| without_runtime(text, &config.name))? {
        reload(engine.pid)?;
        wait_for(docker, &config.name, None).await?;
    }
    rewrite(&engine.daemon_json, without_empty_runtimes)?;
    for path in [config.program.clone(), runc_path_file(&config.program)] {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(file("remove", &path)(error)),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

async fn find_engine(socket: &Path) -> Result<Engine, RegistrationError> {
    let stream = UnixStream::connect(socket).await.map_err(file("connect to", socket))?;
    let owner = stream.peer_cred().map_err(file("read the owner of", socket))?.pid();
    let written = fs::read_to_string(PID_FILE).ok().and_then(|text| text.trim().parse().ok());
    let pid = owner.into_iter().chain(written).find(|pid| is_dockerd(*pid));
    let pid = pid.ok_or_else(|| RegistrationError::NoEngine { socket: socket.to_owned() })?;
    let path = PathBuf::from(format!("/proc/{pid}/cmdline"));
    let bytes = fs::read(&path).map_err(file("read", &path))?;
    let arguments: Vec<String> =
        bytes.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    let daemon_json = config_file(&arguments).unwrap_or_else(|| DAEMON_JSON.to_owned()).into();
    Ok(Engine { pid, daemon_json, arguments })
}

/// Only dockerd may be sent a SIGHUP: with socket activation the socket's owner is systemd.
fn is_dockerd(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "dockerd")
}

fn config_file(arguments: &[String]) -> Option<String> {
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let Some(flag) = argument.strip_prefix("--config-file") else { continue };
        return if flag.is_empty() { rest.next().cloned() } else { flag.strip_prefix('=').map(str::to_owned) };
    }
    None
}

fn same_mounts(engine: i32) -> Result<(), RegistrationError> {
    let read = |path: &str| fs::read_link(path).map_err(file("read", Path::new(path)));
    match read(&format!("/proc/{engine}/ns/mnt"))? == read("/proc/self/ns/mnt")? {
        true => Ok(()),
        false => Err(RegistrationError::OtherMounts { engine }),
    }
}

/// The runc that the engine itself would run.
fn find_runc(engine: i32, wrapper: &Path) -> Result<PathBuf, RegistrationError> {
    let path = PathBuf::from(format!("/proc/{engine}/environ"));
    let environment = fs::read(&path).map_err(file("read", &path))?;
    let mut variables = environment.split(|byte| *byte == 0);
    let search = variables.find_map(|variable| variable.strip_prefix(b"PATH="));
    let search = OsString::from_vec(search.unwrap_or(b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin").to_vec());
    let mut found = std::env::split_paths(&search).map(|folder| folder.join("runc"));
    let executable = |path: &PathBuf| {
        let mode = fs::metadata(path).map(|data| data.permissions().mode());
        path.is_absolute() && path != wrapper && mode.is_ok_and(|mode| mode & 0o111 != 0)
    };
    found.find(executable).ok_or(RegistrationError::NoRunc)
}

/// Copies the wrapper, unless the same one is there, and writes down the runc it shall become.
fn install(config: &RuntimeConfig, runc: &Path) -> Result<(), RegistrationError> {
    let wrapper = fs::read(&config.source).map_err(file("read", &config.source))?;
    if let Some(folder) = config.program.parent() {
        fs::create_dir_all(folder).map_err(file("create", folder))?;
    }
    let path_file = runc_path_file(&config.program);
    replace(&path_file, runc.to_string_lossy().as_bytes(), 0o644).map_err(file("write", &path_file))?;
    if fs::read(&config.program).is_ok_and(|present| present == wrapper) {
        return Ok(());
    }
    replace(&config.program, &wrapper, 0o755).map_err(file("write", &config.program))
}

fn runc_path_file(program: &Path) -> PathBuf {
    program.with_file_name("runc.path")
}

/// Edits a file as a whole; `false` when nothing is to be changed. A missing file reads as empty.
fn rewrite(path: &Path, edit: impl FnOnce(&str) -> Result<String, DaemonJsonError>) -> Result<bool, RegistrationError> {
    // An administrator's link is followed, not replaced.
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let before = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        other => other.map_err(file("read", path))?,
    };
    let after = edit(&before).map_err(|source| RegistrationError::Edit { path: path.clone(), source })?;
    if after == before {
        return Ok(false);
    }
    let kept = fs::metadata(path).ok();
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(file("create", folder))?;
    }
    let mode = kept.as_ref().map_or(0o644, |data| data.permissions().mode() & 0o7777);
    replace(path, after.as_bytes(), mode).map_err(file("write", path))?;
    if let Some(data) = kept {
        chown(path, Some(data.uid()), Some(data.gid())).map_err(file("keep the owner of", path))?;
    }
    Ok(true)
}

/// Replaces a file at once: a reader, or the next start after a crash, sees the old or the new one.
fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".drover-new");
    let fresh = path.with_file_name(name);
    fs::write(&fresh, bytes)?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(mode))?;
    fs::File::open(&fresh)?.sync_all()?;
    fs::rename(&fresh, path)
}

fn reload(engine: i32) -> Result<(), RegistrationError> {
    let path = PathBuf::from(format!("/proc/{engine}"));
    kill(Pid::from_raw(engine), Signal::SIGHUP).map_err(|errno| file("signal the process of", &path)(errno.into()))
}

async fn wait_for(docker: &Docker, name: &str, program: Option<&str>) -> Result<(), RegistrationError> {
    let taken = async {
        while runtime_path(docker, name).await?.as_deref() != program {
            tokio::time::sleep(ASK).await;
        }
        Ok(())
    };
    let expired = |_| RegistrationError::NotTaken { name: name.to_owned() };
    tokio::time::timeout(RELOAD, taken).await.map_err(expired)?
}

async fn runtime_path(docker: &Docker, name: &str) -> Result<Option<String>, bollard::errors::Error> {
    let runtimes = docker.info().await?.runtimes.unwrap_or_default();
    Ok(runtimes.get(name).map(|runtime| runtime.path.clone().unwrap_or_default()))
}

fn file<'a>(step: &'static str, path: &'a Path) -> impl Fn(io::Error) -> RegistrationError + 'a {
    move |source| RegistrationError::File { step, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_own_configuration_file_is_found() {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(config_file(&words("dockerd --config-file /a.json -D")), Some("/a.json".into()));
        assert_eq!(config_file(&words("dockerd -D --config-file=/b.json")), Some("/b.json".into()));
        assert_eq!(config_file(&words("dockerd --config-files x")), None);
        assert_eq!(config_file(&words("dockerd")), None);
    }

    #[test]
    fn an_edit_keeps_mode_and_links_and_a_refused_one_keeps_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("real.json"), folder.path().join("daemon.json"));
        fs::write(&path, "{\"mtu\": 1400}").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(rewrite(&link, |text| with_runtime(text, "drover", "/p")).unwrap());
        assert!(!rewrite(&link, |text| with_runtime(text, "drover", "/p")).unwrap());
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        fs::write(&path, "{ not json").unwrap();
        rewrite(&link, |text| with_runtime(text, "drover", "/p")).unwrap_err();
        assert_eq!(fs::read_to_string(&path).unwrap(), "{ not json");
    }

    #[test]
    fn a_missing_file_is_made_and_taken_for_an_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("docker/daemon.json");
        assert!(rewrite(&path, |text| with_runtime(text, "drover", "/p")).unwrap());
        assert!(fs::read_to_string(&path).unwrap().contains("\"drover\""));
    }

    #[test]
    fn only_dockerd_is_taken_for_the_engine() {
        assert!(!is_dockerd(1));
        assert!(!is_dockerd(i32::try_from(std::process::id()).unwrap()));
    }
}
