//! The flags.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result, bail, ensure};

/// What to measure; [`Options::default`] is what `make bench` runs.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// Replicas of an arm.
    pub(crate) replicas: usize,
    /// Containers for each step of the sweep, and for our warm-up.
    pub(crate) sweep_count: usize,
    /// Calls in flight to try for the direct client.
    pub(crate) sweep: Vec<usize>,
    /// How often all arms are run, in turn.
    pub(crate) repeat: usize,
    /// Image of every container; must be present.
    pub(crate) image: String,
    /// Grace period of a removal, the same for every arm.
    pub(crate) grace_secs: u32,
    /// The engine's socket.
    pub(crate) socket: PathBuf,
    /// Leaves `drover up` out.
    pub(crate) peer_only: bool,
    /// Starts of `drover up` on a fresh and on a used data directory.
    pub(crate) starts: usize,
    /// Time without work before the idle figures.
    pub(crate) settle: Duration,
    /// Time over which the idle CPU is taken.
    pub(crate) idle: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            replicas: 200,
            sweep_count: 40,
            sweep: vec![1, 2, 4, 8, 12, 16, 24, 32],
            repeat: 1,
            image: "drover/hello:bench".to_owned(),
            grace_secs: 10,
            socket: PathBuf::from("/var/run/docker.sock"),
            peer_only: false,
            starts: 5,
            settle: Duration::from_secs(60),
            idle: Duration::from_secs(30),
        }
    }
}

impl Options {
    /// Reads `--flag value` pairs and `--peer-only`.
    ///
    /// # Errors
    /// On an unknown flag or a value that makes no sense.
    pub(crate) fn from_args(mut args: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self::default();
        while let Some(flag) = args.next() {
            if flag == "--peer-only" {
                options.peer_only = true;
                continue;
            }
            let value = args.next().with_context(|| format!("{flag} needs a value"))?;
            options.set(&flag, &value).with_context(|| format!("{flag} {value}"))?;
        }
        let counts = [options.replicas, options.sweep_count, options.repeat, options.starts];
        ensure!(counts.iter().all(|count| *count > 0), "every count must be at least 1");
        ensure!(!options.sweep.is_empty() && !options.sweep.contains(&0), "--sweep needs counts of at least 1");
        Ok(options)
    }

    fn set(&mut self, flag: &str, value: &str) -> Result<()> {
        match flag {
            "--replicas" => self.replicas = value.parse()?,
            "--sweep-count" => self.sweep_count = value.parse()?,
            "--sweep" => self.sweep = value.split(',').map(str::parse).collect::<Result<_, _>>()?,
            "--repeat" => self.repeat = value.parse()?,
            "--image" => value.clone_into(&mut self.image),
            "--grace-secs" => self.grace_secs = value.parse()?,
            "--socket" => self.socket = PathBuf::from(value),
            "--starts" => self.starts = value.parse()?,
            "--settle-secs" => self.settle = Duration::from_secs(value.parse()?),
            "--idle-secs" => self.idle = Duration::from_secs(value.parse()?),
            _ => bail!("unknown flag"),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options> {
        Options::from_args(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn flags_replace_defaults_one_by_one() {
        let options = parse("--replicas 20 --peer-only --sweep 1,3").expect("these flags are right");
        assert_eq!((options.replicas, options.peer_only, options.sweep), (20, true, vec![1, 3]));
        assert_eq!(options.repeat, Options::default().repeat);
    }

    #[test]
    fn flags_that_make_no_sense_are_refused() {
        for line in ["--replicas", "--replicas 0", "--sweep 0", "--sweep", "--nonsense 1", "--repeat x"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
