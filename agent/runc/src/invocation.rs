//! What this call of the runtime is about: the container it starts, if any, and where its log goes.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::slice::Iter;

/// runc's global flags that take their value from the next argument.
const GLOBALS_WITH_VALUE: [&str; 5] = ["root", "log", "log-format", "criu", "rootless"];

/// Verbs that create a container's first process, and with it decide its namespaces.
const STARTING_VERBS: [&str; 3] = ["create", "run", "restore"];

/// The parts of a runc command line that matter here.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Invocation {
    /// The container that this call creates; `None` for every other verb.
    pub(crate) starting: Option<Start>,
    /// The file given with `--log`.
    pub(crate) log: Option<PathBuf>,
}

/// A container about to be created.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Start {
    /// Its id.
    pub(crate) id: String,
    /// Folder of its `config.json`; relative to the working folder, which is also the default.
    pub(crate) bundle: PathBuf,
}

impl Invocation {
    /// Reads a command line without the program's name. Whatever is not understood is left for runc to refuse.
    pub(crate) fn parse(arguments: &[OsString]) -> Self {
        let mut invocation = Self::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let Some(flag) = flag(argument) else {
                if STARTING_VERBS.iter().any(|verb| argument == verb) {
                    invocation.starting = Start::parse(rest);
                }
                break;
            };
            let name = flag.split_once('=').map_or(flag, |(name, _)| name);
            if GLOBALS_WITH_VALUE.contains(&name) {
                let value = value(flag, &mut rest);
                if name == "log" {
                    invocation.log = value.map(PathBuf::from);
                }
            }
        }
        invocation
    }
}

impl Start {
    /// Reads what follows the verb: flags, of which only the bundle matters, and the id as the last argument.
    fn parse(mut rest: Iter<'_, OsString>) -> Option<Self> {
        let id = container_id(rest.next_back()?)?;
        let mut bundle = PathBuf::from(".");
        while let Some(argument) = rest.next() {
            let Some(flag) = flag(argument) else { continue };
            if matches!(flag.split_once('=').map_or(flag, |(name, _)| name), "bundle" | "b") {
                bundle = PathBuf::from(value(flag, &mut rest)?);
            }
        }
        Some(Self { id, bundle })
    }
}

/// The flag without its dashes, or `None` for a word that is none.
fn flag(argument: &OsStr) -> Option<&str> {
    let text = argument.to_str()?;
    text.strip_prefix("--").or_else(|| text.strip_prefix('-'))
}

/// The value after the equals sign, else the next argument.
fn value(flag: &str, rest: &mut Iter<'_, OsString>) -> Option<OsString> {
    flag.split_once('=').map(|(_, value)| OsString::from(value)).or_else(|| rest.next().cloned())
}

/// The argument as a container id, in the alphabet runc allows. Anything else (a flag, a path) has no entry by definition.
fn container_id(argument: &OsStr) -> Option<String> {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"_+-.".contains(byte);
    let bytes = argument.as_bytes();
    let plain = !bytes.is_empty() && bytes.iter().all(allowed) && !matches!(bytes[0], b'-' | b'.');
    plain.then(|| argument.to_str().map(str::to_owned))?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Invocation {
        let arguments: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        Invocation::parse(&arguments)
    }

    fn starting(id: &str, bundle: &str, log: Option<&str>) -> Invocation {
        let start = Start { id: id.into(), bundle: bundle.into() };
        Invocation { starting: Some(start), log: log.map(PathBuf::from) }
    }

    #[test]
    fn finds_id_and_bundle_behind_the_shims_flags() {
        let line = "--root /var/run/docker/runtime-runc/moby --log /run/t/log.json --log-format json --systemd-cgroup \
                    create --bundle /run/t --pid-file /run/t/init.pid --console-socket /tmp/pty.sock 0123abc";
        assert_eq!(parse(line), starting("0123abc", "/run/t", Some("/run/t/log.json")));
    }

    #[test]
    fn accepts_equal_signs_and_single_dashes() {
        assert_eq!(parse("-root=/x --log=/l run -b /bundle web_1"), starting("web_1", "/bundle", Some("/l")));
        assert_eq!(parse("--debug restore --image-path /img -bundle=/b web"), starting("web", "/b", None));
    }

    #[test]
    fn the_bundle_is_the_working_folder_unless_named() {
        assert_eq!(parse("create web"), starting("web", ".", None));
    }

    #[test]
    fn a_flags_value_is_never_taken_for_the_verb() {
        assert_eq!(parse("--root create --log run state web"), Invocation { starting: None, log: Some("run".into()) });
    }

    #[test]
    fn other_verbs_pass_through() {
        for line in [
            "start web",
            "state web",
            "kill --all web 9",
            "delete --force web",
            "exec --process p web",
            "--version",
            "",
        ] {
            assert_eq!(parse(line).starting, None, "{line}");
        }
    }

    #[test]
    fn what_is_not_a_container_id_has_no_entry() {
        for line in ["create", "create --help", "run ../../etc/passwd", "run a/b", "create .", "create .."] {
            assert_eq!(parse(line).starting, None, "{line}");
        }
    }
}
