//! What this call of the runtime is about: the container it starts, if any, and where its log goes.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// runc's global flags that take their value from the next argument.
const GLOBALS_WITH_VALUE: [&str; 5] = ["root", "log", "log-format", "criu", "rootless"];

/// Verbs that create a container's first process, and with it decide its namespaces.
const STARTING_VERBS: [&str; 3] = ["create", "run", "restore"];

/// The parts of a runc command line that matter here.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Invocation {
    /// Id of the container that this call creates; `None` for every other verb.
    pub(crate) starting: Option<String>,
    /// The file given with `--log`.
    pub(crate) log: Option<PathBuf>,
}

impl Invocation {
    /// Reads a command line without the program's name. Whatever is not understood is left for runc to refuse.
    pub(crate) fn parse(arguments: &[OsString]) -> Self {
        let mut invocation = Self::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let Some(flag) = flag_name(argument) else {
                let starts = STARTING_VERBS.iter().any(|verb| argument == verb);
                invocation.starting = rest.next_back().filter(|_| starts).and_then(|last| container_id(last));
                break;
            };
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(OsString::from(value))),
                None if GLOBALS_WITH_VALUE.contains(&flag) => (flag, rest.next().cloned()),
                None => (flag, None),
            };
            if name == "log" {
                invocation.log = value.map(PathBuf::from);
            }
        }
        invocation
    }
}

/// The flag's name without its dashes, or `None` for the verb.
fn flag_name(argument: &OsStr) -> Option<&str> {
    let text = argument.to_str()?;
    text.strip_prefix("--").or_else(|| text.strip_prefix('-'))
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

    fn starting(id: &str, log: Option<&str>) -> Invocation {
        Invocation { starting: Some(id.into()), log: log.map(PathBuf::from) }
    }

    #[test]
    fn finds_the_id_behind_the_shims_flags() {
        let line = "--root /var/run/docker/runtime-runc/moby --log /run/t/log.json --log-format json --systemd-cgroup \
                    create --bundle /run/t --pid-file /run/t/init.pid --console-socket /tmp/pty.sock 0123abc";
        assert_eq!(parse(line), starting("0123abc", Some("/run/t/log.json")));
    }

    #[test]
    fn accepts_equal_signs_and_single_dashes() {
        assert_eq!(parse("-root=/x --log=/l run -b /bundle web_1"), starting("web_1", Some("/l")));
        assert_eq!(parse("--debug restore --image-path /img web"), starting("web", None));
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
